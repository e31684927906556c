"""Measure what a large collection of photo size costs a laptop: seconds and memory, step by step.

Makes images of 224 pixels of two kinds, low-frequency pictures with and without grain, saved as
JPEG of several qualities, and takes them the way that the notebooks go: index and split, decode,
audit, a shuffled pass, scores of the test split. Each step is timed in a process of its own, which
also says its peak memory: it must not grow with the number of images, whereas seconds may.
"""

import argparse
import io
import os
import resource
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image
from reporting import in_fresh_process, machine, machine_line, say, table, timed, write

from cifake_lib.indexing import CLASS_NAMES

SIDE = 224
SCENES = 400  # pictures that all others are cut from
IMAGES = (10_000, 50_000)
LIMIT_MB = 2_000  # of memory for any step, whatever the number of images
AUDITED = 20_000  # images whose colours, spectra and encoders are measured, as in notebook 01
SEED = 0
OUTPUT = Path(__file__).with_suffix(".json")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure collections of several sizes; write JSON and Markdown; return the exit code."""
    options = _parse(argv)
    facts, measured = machine(), {}
    for images in options.images:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            measured[str(images)] = measure(Path(folder), images)
    report = {
        "machine": facts | in_fresh_process(frame),
        "settings": {
            "side": SIDE,
            "scenes": SCENES,
            "audited": AUDITED,
            "seed": SEED,
            "limit_mb": LIMIT_MB,
        },
        "images": measured,
    }
    write(options.output, report, as_markdown(report))
    missed = [
        f"{step} of {images} images: {values['peak_memory_mb']:,} MB"
        for images, steps in measured.items()
        for step, values in steps.items()
        if values["peak_memory_mb"] > LIMIT_MB
    ]
    for line in missed:
        say(f"Limit missed: {line}, expected at most {LIMIT_MB:,} MB")
    return 1 if options.check and missed else 0


def measure(folder: Path, images: int) -> dict:
    """Make a collection and go through all steps.

    Args:
        folder: Empty; what is made there takes some 170 kB an image.
        images: How many, half of each class.

    Returns:
        Step → `seconds` and `peak_memory_mb`.
    """
    seconds, _ = timed(lambda: make_images(folder / "collection", images))
    say(f"{images:,} images made in {seconds:.0f} s")
    results = {}
    for name, step in STEPS.items():
        results[name] = in_fresh_process(run_step, step, folder)
        say(f"{images:,} images, {name}: {results[name]}")
    return results


def make_images(folder: Path, images: int) -> None:
    """Write a collection of JPEG files, `REAL` with grain and `FAKE` without."""
    for name in CLASS_NAMES:
        (folder / name).mkdir(parents=True)
    parts = np.array_split(np.arange(images), max(1, images // 1000))
    with ProcessPoolExecutor() as pool:
        list(pool.map(_write_part, [folder] * len(parts), parts))


def _write_part(folder: Path, numbers: np.ndarray) -> None:
    rng = np.random.default_rng(SEED)
    coarse = rng.integers(0, 256, (SCENES, 12, 12, 3), dtype=np.uint8)
    grain = rng.normal(0, 5, (2 * SIDE, 2 * SIDE, 3)).astype(np.int16)
    for number in numbers.tolist():
        rng = np.random.default_rng((SEED, number))
        label = number % 2
        scene = Image.fromarray(coarse[rng.integers(SCENES)])
        left, top = rng.uniform(0, 4, 2)
        box = (left, top, left + rng.uniform(6, 8), top + rng.uniform(6, 8))
        pixels = np.asarray(
            scene.resize((SIDE, SIDE), Image.Resampling.BICUBIC, box=box), dtype=np.int16
        )
        down, right = rng.integers(0, SIDE, 2)
        noise = grain[down : down + SIDE, right : right + SIDE] // (1 + 3 * label)
        image = Image.fromarray(np.clip(pixels + noise, 0, 255).astype(np.uint8))
        content = io.BytesIO()
        image.save(content, "JPEG", quality=int(rng.integers(70, 96)))
        file = folder / CLASS_NAMES[label] / f"{number:06d}.jpg"
        file.write_bytes(content.getvalue())


def run_step(step: Callable[[Path], None], folder: Path) -> dict:
    """Run one step; return its seconds and the peak memory of the process, which is its own."""
    os.environ["CIFAKE_CACHE"] = str(folder / "cache")
    if step is not index:  # All others need the framework, whose start is not what is measured.
        from cifake_lib import batches  # noqa: F401
    seconds, _ = timed(lambda: step(folder / "collection"))
    # Not by `cifake_lib.device`, which brings the framework, as most steps do not.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "seconds": round(seconds, 1),
        "peak_memory_mb": round(peak / (2**20 if sys.platform == "darwin" else 2**10)),
    }


def frame() -> dict:
    """Return backend and device, for the facts of the machine."""
    from cifake_lib import device
    from cifake_lib.framework import keras

    return {"backend": keras.backend.backend(), "device": device.device_name()}


def _loaded(folder: Path):
    from cifake_lib import batches, data

    dataset = data.load_dataset(folder)
    return dataset, batches.load_images(dataset, image_size=SIDE)


def index(folder: Path) -> None:
    """Check, hash and split every file; the first time, or the second."""
    from cifake_lib import data

    data.load_dataset(folder)


def decode(folder: Path) -> None:
    """Decode every image into the array on disk."""
    _loaded(folder)


def find_copies(folder: Path) -> None:
    """Hash how images look, and count the pairs that look alike."""
    from cifake_lib import copies

    dataset, images = _loaded(folder)
    copies.alike(dataset, copies.perceptual_hashes(images))


def audit_all(folder: Path) -> None:
    """Measure colours, spectra and encoders, and what a linear model makes of them."""
    import pandas as pd

    from cifake_lib import audit, spectrum

    dataset, images = _loaded(folder)
    rows = audit.rows_to_measure(dataset, AUDITED)
    audit.mean_colour(images, rows)
    spectrum.mean_spectrum(images, rows)
    features = [
        audit.colour_statistics(images, rows),
        spectrum.radial_profiles(images, rows),
        audit.encoders(dataset, rows),
    ]
    audit.shortcut(pd.concat(features, axis=1), dataset)


def shuffled_pass(folder: Path) -> None:
    """Feed every training image once, in random order, as one epoch does."""
    from cifake_lib import batches

    dataset, images = _loaded(folder)
    train, _ = batches.training_batches(dataset, images, batch_size=32, seed=SEED)
    for number in range(len(train)):
        train[number]


def score_test_split(folder: Path) -> None:
    """Let a small network judge the test split, and look for copies of it in training."""
    from cifake_lib import copies, models, results

    dataset, images = _loaded(folder)
    model = models.build_model("baseline_cnn", image_size=SIDE, augmentation=[], filters=[8, 8])
    results.predict_logits(model, images, dataset.rows("test").to_numpy())
    copies.near_training(dataset, images)


STEPS: dict[str, Callable[[Path], None]] = {
    "index and split": index,
    "index again": index,
    "decode": decode,
    "copies": find_copies,
    "colours, spectra, encoders": audit_all,
    "one shuffled pass": shuffled_pass,
    "scores and copies of the test split": score_test_split,
}


def as_markdown(report: dict) -> str:
    """Return the report as Markdown: seconds and memory of each step, the machine."""
    measured = report["images"]
    rows = []
    for step in STEPS:
        values = [steps[step] for steps in measured.values()]
        rows.append(
            [
                step,
                *[f"{value['seconds']:,.0f}" for value in values],
                *[f"{value['peak_memory_mb']:,}" for value in values],
            ]
        )
    sizes = [f"{int(images):,}" for images in measured]
    header = ["step", *[f"{size}: s" for size in sizes], *[f"{size}: MB" for size in sizes]]
    settings = report["settings"]
    return "\n\n".join(
        [
            "# Large collections",
            f"Seconds and peak memory of each step, in a process of its own, with collections of "
            f"{' and '.join(sizes)} images of {settings['side']} pixels; colours, spectra and "
            f"encoders are measured on {settings['audited']:,} of them at most. Memory includes "
            "the libraries, TensorFlow among them from decoding on; that of no step may exceed "
            f"{settings['limit_mb']:,} MB. Made by `large_dataset.py`.",
            table(header, rows),
            machine_line(report["machine"]),
        ]
    )


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="exit with 1 if a limit is missed")
    parser.add_argument("--images", type=int, nargs="+", default=IMAGES, help="of each collection")
    parser.add_argument(
        "--folder", type=Path, help="where to make them, some 170 kB an image; deleted at the end"
    )
    parser.add_argument("--output", type=Path, default=OUTPUT, help="JSON; Markdown lies beside it")
    options = parser.parse_args(argv)
    if min(options.images) < 100:
        parser.error(f"argument --images: expected 100 or more, received {min(options.images)}")
    return options


if __name__ == "__main__":
    sys.exit(main())
