"""Measure how fast the models train: the suite's way against a tutorial's plain way.

Plain: float32, `image_dataset_from_directory` with its defaults (batches of 32, every image decoded
again in every epoch), Keras's own batch normalisation, `compile(optimizer="adam")`, `fit`.

Suite: `data.load_dataset`, `batches.load_images` (decodes once, into a cache that is empty here),
`batches.training_batches` of 128, the precision that suits the device, `training.compile_model`.

Both train the same architecture with the same augmentation on the same files from random weights,
each measurement in a process of its own. The first call of the training step, which traces it, is
timed apart, on one or two batches before the first epoch.
"""

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from reporting import in_fresh_process, machine, machine_line, say, table, timed, write

from cifake_lib import data, plots, runs

# Images in a batch by way; 32 is the default of `image_dataset_from_directory`.
BATCH_SIZES = {"plain": 32, "suite": 128}
WAYS = tuple(BATCH_SIZES)
SEED = 0
# What `image_dataset_from_directory` looks at; it passes over other files without a word.
PLAIN_FORMATS = (".bmp", ".gif", ".jpeg", ".jpg", ".png")
OUTPUT = Path(__file__).with_suffix(".json")


@dataclass(frozen=True)
class Case:
    """One measurement.

    Attributes:
        way: One of `WAYS`.
        model: Key of `models.BUILDERS`.
        arguments: Of its builder.
        folder: The image files, `<split>/<class>/`.
        cache: An empty folder for what the suite keeps.
        epochs: Passes over the training images, 2 or more.
    """

    way: str
    model: str
    arguments: dict
    folder: Path
    cache: Path
    epochs: int

    @property
    def batch_size(self) -> int:
        """Images in a batch."""
        return BATCH_SIZES[self.way]

    def warm_up_images(self, images: int) -> int:
        """Images of a whole batch and of the last one: a compiler may treat each shape apart."""
        return min(images, self.batch_size + images % self.batch_size)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure every model both ways; write JSON and Markdown."""
    options = _parse(argv)
    facts, measured = machine(), {}
    for model in options.models:
        images = options.resnet_images if model == "resnet50" else options.images
        measured[model] = compare(model, options.data_dir, images=images, epochs=options.epochs)
    first = next(iter(measured.values()))["plain"]
    report = {
        "machine": facts | {name: first[name] for name in ("backend", "device")},
        "settings": {
            "data": options.data_dir,
            "images": options.images,
            "resnet_images": options.resnet_images,
            "epochs": options.epochs,
        },
        "models": measured,
    }
    write(options.output, report, as_markdown(report))


def compare(model: str, data_dir: str, *, images: int, epochs: int) -> dict:
    """Measure one model both ways on the same files.

    Args:
        model: Key of `models.BUILDERS`.
        data_dir: See `data.load_dataset`.
        images: About this many images of the data set; those of its training split are trained on.
        epochs: Passes over them, 2 or more.

    Returns:
        `arguments` of the builder, one entry a way as `measure` returns it, and `ratio`, suite's
        images per second over plain's, for `first_epoch` and `steady`.

    Raises:
        RuntimeError: The two ways did not train the same network on the same images.
    """
    result = {"arguments": released_arguments(model)}
    with tempfile.TemporaryDirectory() as temporary:
        folder, cache = Path(temporary, "images"), Path(temporary, "cache")
        copy_images(data.load_dataset(data_dir, max_images=images), folder)
        for way in WAYS:
            case = Case(way, model, result["arguments"], folder, cache, epochs)
            result[way] = in_fresh_process(measure, case)
    for name in ("images", "parameters"):
        if result["plain"][name] != result["suite"][name]:
            raise RuntimeError(
                f"Expected the same number of {name} both ways, received "
                f"{result['plain'][name]} (plain) and {result['suite'][name]} (suite)."
            )
    plain, suite = (result[way]["images_per_second"] for way in WAYS)
    result["ratio"] = {name: round(suite[name] / plain[name], 3) for name in plain}
    return result


def released_arguments(model: str) -> dict:
    """Return the builder's arguments of the released model; {} for its defaults without one."""
    try:
        return runs.find_run(model, released=True).manifest["model"]["arguments"]
    except runs.RunNotFound:
        return {}


def copy_images(dataset: data.Dataset, folder: Path) -> None:
    """Copy the files of a data set to `folder/<split>/<class>/`.

    With folders for all splits the suite keeps to them, so that both ways train on `train`.

    Raises:
        SystemExit: A file is in a format that only the suite reads.
    """
    for image in dataset.table.itertuples():
        source = dataset.folder / image.path
        suffix = source.suffix.lower()
        if suffix not in PLAIN_FORMATS:
            raise SystemExit(f"Expected files of the formats {PLAIN_FORMATS}, received {source}")
        target = folder / image.split / data.CLASS_NAMES[image.label]
        target.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target / f"{image.Index:06d}{suffix}")


def measure(case: Case) -> dict:
    """Train as a case says; runs in a fresh process.

    Returns:
        `images` (trained on in an epoch), `parameters`, `batch_size`, `precision`, `backend`,
        `device`, `peak_memory_mb`, `seconds` (`index` the files, `decode` them into the cache,
        `warm_up`, and the list `epochs`) and `images_per_second`: `first_epoch` from the files to
        the end of the first epoch, warm-up aside, and `steady`, the median of the later epochs.
    """
    os.environ["CIFAKE_CACHE"] = str(case.cache)
    if case.way == "plain":
        import tensorflow  # noqa: F401  # before the suite chooses its kernels

    from cifake_lib import device
    from cifake_lib.framework import keras

    result = (train_plain if case.way == "plain" else train_suite)(case)
    seconds = result["seconds"]
    rates = {
        "first_epoch": seconds["index"] + seconds["decode"] + seconds["epochs"][0],
        "steady": statistics.median(seconds["epochs"][1:]),
    }
    return {
        **result,
        "batch_size": case.batch_size,
        "precision": keras.mixed_precision.dtype_policy().name,
        "backend": keras.backend.backend(),
        "device": device.device_name(),
        "peak_memory_mb": round(device.peak_memory_mb()),
        "images_per_second": {
            name: round(result["images"] / spent, 2) for name, spent in rates.items()
        },
    }


def train_plain(case: Case) -> dict:
    """Train as a tutorial does; return `images`, `parameters` and `seconds` (see `measure`)."""
    from cifake_lib.framework import keras

    keras.mixed_precision.set_global_policy("float32")
    model = build_plain(case.model, case.arguments)
    index, dataset = timed(
        lambda: keras.utils.image_dataset_from_directory(
            case.folder / "train",
            class_names=list(data.CLASS_NAMES),
            image_size=model.input_shape[1:3],
            verbose=False,
        )
    )
    images = len(dataset.file_paths)
    model.compile(optimizer="adam", loss=keras.losses.BinaryCrossentropy(from_logits=True))
    few = dataset.unbatch().take(case.warm_up_images(images)).batch(case.batch_size)
    return {
        "images": images,
        "parameters": model.count_params(),
        "seconds": {"index": index, "decode": 0.0, **fit(model, few, dataset, case, images)},
    }


def build_plain(name: str, arguments: dict):
    """Build a model of the registry with Keras's own batch normalisation."""
    from cifake_lib import models
    from cifake_lib.framework import keras
    from cifake_lib.layers import BatchNormalization

    def plain(layer):
        own = isinstance(layer, BatchNormalization)
        kind = keras.layers.BatchNormalization if own else type(layer)
        return kind.from_config(layer.get_config())

    return keras.models.clone_model(models.build_model(name, **arguments), clone_function=plain)


def train_suite(case: Case) -> dict:
    """Train as the suite does; return `images`, `parameters` and `seconds` (see `measure`)."""
    from cifake_lib import batches, models, training

    training.prepare(SEED)
    model = models.build_model(case.model, **case.arguments)
    index, dataset = timed(lambda: data.load_dataset(case.folder))
    size = model.input_shape[1]
    decode, pixels = timed(lambda: batches.load_images(dataset, image_size=size))
    options = {"batch_size": case.batch_size, "seed": SEED}
    train, _ = batches.training_batches(dataset, pixels, **options)
    images = len(train.rows)
    rows = train.rows[: case.warm_up_images(images)]
    few = batches.ImageBatches(
        pixels, train.labels, rows=rows, transform=train.transform, **options
    )
    phase = training.Phase("benchmark", epochs=case.epochs, learning_rate=1e-3, weight_decay=0.01)
    training.compile_model(model, phase, steps=case.epochs * len(train))
    return {
        "images": images,
        "parameters": model.count_params(),
        "seconds": {"index": index, "decode": decode, **fit(model, few, train, case, images)},
    }


def fit(model, few, batches, case: Case, images: int) -> dict:
    """Fit on a few batches, then for the epochs of a case on all of them.

    Returns:
        Seconds: `warm_up` and the list `epochs`.
    """
    from cifake_lib.framework import keras

    # Said to Keras, since a data set that was batched anew does not know its length.
    steps = -(-case.warm_up_images(images) // case.batch_size)
    options = {"shuffle": False, "verbose": 0}  # both kinds of batches shuffle themselves
    warm_up, _ = timed(lambda: model.fit(few, steps_per_epoch=steps, **options))
    say(f"{case.model}, {case.way}: warm-up {warm_up:.1f} s")
    marks = []

    def mark(epoch, logs):
        marks.append(time.perf_counter())
        rate = images / (marks[-1] - marks[-2])
        say(f"{case.model}, {case.way}: epoch {epoch + 1}/{case.epochs}, {rate:.1f} images/s")

    clock = keras.callbacks.LambdaCallback(
        on_train_begin=lambda logs: marks.append(time.perf_counter()), on_epoch_end=mark
    )
    model.fit(batches, epochs=case.epochs, callbacks=[clock], **options)
    return {"warm_up": warm_up, "epochs": [round(end - start, 4) for start, end in pairwise(marks)]}


def as_markdown(report: dict) -> str:
    """Return the report as Markdown: speeds, where the time went, the machine."""
    models = report["models"]
    speeds = table(
        [
            "model",
            *[f"{phase}: {name}" for phase in ("first epoch", "steady") for name in (*WAYS, "×")],
        ],
        [[plots.display_name(name), *_speeds(model)] for name, model in models.items()],
    )
    header = ["model", "way", "images", "parameters", "batch", "precision"]
    times = table(
        [*header, "index, s", "decode, s", "warm-up, s", "epochs, s", "peak memory, MB"],
        [_times(name, way, model[way]) for name, model in models.items() for way in WAYS],
    )
    return "\n\n".join(
        [
            "# Training speed",
            "Images per second of training by the suite's way and by a tutorial's plain way, and "
            "suite over plain (×). First epoch: from the files to the end of the first epoch, "
            "warm-up aside. Steady: median of the later epochs. Made by `training_speed.py`.",
            speeds,
            "Where the time went:",
            times,
            machine_line(report["machine"]),
        ]
    )


def _speeds(model: dict) -> list[str]:
    cells = []
    for phase in ("first_epoch", "steady"):
        cells += [f"{model[way]['images_per_second'][phase]:,.1f}" for way in WAYS]
        cells.append(f"{model['ratio'][phase]:.2f}")
    return cells


def _times(name: str, way: str, result: dict) -> list[str]:
    seconds = result["seconds"]
    return [
        plots.display_name(name),
        way,
        *[f"{result[key]:,}" for key in ("images", "parameters", "batch_size")],
        result["precision"],
        *[f"{seconds[key]:.2f}" for key in ("index", "decode", "warm_up")],
        ", ".join(f"{epoch:.2f}" for epoch in seconds["epochs"]),
        f"{result['peak_memory_mb']:,}",
    ]


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    about = "about this many images, of which the training split is trained on"
    parser.add_argument("--data-dir", default="sample", help="a folder, or see data.load_dataset")
    parser.add_argument(
        "--models", nargs="+", choices=runs.MODEL_STAGES, default=runs.MODEL_STAGES, metavar="MODEL"
    )
    parser.add_argument("--images", type=int, default=4000, help=about)
    parser.add_argument("--resnet-images", type=int, default=640, help=f"for resnet50, {about}")
    parser.add_argument("--epochs", type=int, default=3, help="passes, 2 or more")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="JSON; Markdown lies beside it")
    options = parser.parse_args(argv)
    if options.epochs < 2:
        parser.error(f"argument --epochs: expected 2 or more, received {options.epochs}")
    return options


if __name__ == "__main__":
    main()
