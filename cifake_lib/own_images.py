"""Collections of your own: an example of one, and what trained models say about it."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from tqdm.auto import tqdm

from cifake_lib import data, evaluation, paths
from cifake_lib.detector import Detector
from cifake_lib.images import decode_image

SCORE = "_p_fake"  # ends the name of a column of scores, after the model's key
_FORMATS = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}
_TOGETHER = 32  # images decoded and asked about in one call
_VEHICLES = ("airplane", "automobile", "ship", "truck")


def collection(data_dir: str) -> str | Path:
    """Return `data_dir`, or for "sample" the example, which is written if it is not there."""
    return write_example(paths.cache_dir() / "own_images") if data_dir == "sample" else data_dir


def write_example(folder: Path, *, count: int = 300, seed: int = 0) -> Path:
    """Write a collection of REAL and FAKE images, with an `index.csv` beside them.

    Each image of 32 px is enlarged to 64–200 px, cropped to another aspect ratio, and saved as
    JPEG, PNG or WebP; both classes alike, so that size and format tell nothing. Its source is what
    it shows, animals or vehicles. One file is cut short, as in every collection. All come from the
    sample's test split, which the released models have not learned from.

    Args:
        folder: To be made; if it is there, it is taken as it is.
        count: Images of both classes together, at most as many as the sample tests with.
        seed: Of the choice and of the changes.

    Returns:
        The folder.
    """
    if folder.is_dir():
        return folder
    sample = data.load_dataset("sample")
    table = sample.table[sample.rows("test")]
    generator = np.random.default_rng(seed)
    chosen = pd.concat(
        part.sample(min(len(part), count // 2), random_state=seed)
        for _, part in table.groupby("label")
    )
    unfinished = folder.with_name(f".{folder.name}")
    rows = []
    for number, row in enumerate(chosen.itertuples()):
        label = data.CLASS_NAMES[row.label]
        image = decode_image((sample.folder / row.path).read_bytes(), name=row.path)
        suffix = str(generator.choice(list(_FORMATS)))
        name = f"{label}/{number:04}.{suffix}"
        (unfinished / label).mkdir(parents=True, exist_ok=True)
        (unfinished / name).write_bytes(_as_found(image, _FORMATS[suffix], generator))
        source = "vehicles" if row.object_class in _VEHICLES else "animals"
        rows.append({"path": name, "label": label, "source": source})
    whole = (unfinished / rows[0]["path"]).read_bytes()
    rows.append(rows[0] | {"path": "REAL/broken.jpg"})
    (unfinished / "REAL/broken.jpg").write_bytes(whole[: len(whole) // 2])
    pd.DataFrame(rows).to_csv(unfinished / "index.csv", index=False)
    # Last, by rename: what was cut short must not be taken for the collection.
    unfinished.rename(folder)
    return folder


def ask(detector: Detector, dataset: data.Dataset) -> pd.DataFrame:
    """Ask trained models about the test images, each as it was found.

    Args:
        detector: The models.
        dataset: An indexed data set.

    Returns:
        One row a test image: `path`, `label`, and `<model>_p_fake` of each model and of the
        ensemble, 0–1.
    """
    table = dataset.table.loc[dataset.rows("test"), ["path", "label"]].reset_index(drop=True)
    rows = []
    with tqdm(desc="Asking the models", total=len(table), unit="image", delay=1) as bar:
        for start in range(0, len(table), _TOGETHER):
            paths = table["path"][start : start + _TOGETHER]
            images = [decode_image((dataset.folder / p).read_bytes(), name=p) for p in paths]
            for verdict in detector.predict(images):
                said = {key: own.p_fake for key, own in verdict.models.items()}
                rows.append(said | {"ensemble": verdict.p_fake})
            bar.update(len(paths))
    return table.join(pd.DataFrame(rows).add_suffix(SCORE))


def compare(said: pd.DataFrame) -> pd.DataFrame:
    """Measure every model of a table of scores; see `evaluation.comparison_table`.

    Args:
        said: As `ask` returns it, perhaps with the scores of further models.
    """
    scores = said.filter(like=SCORE).clip(1e-6, 1 - 1e-6)
    logits = {key.removesuffix(SCORE): np.log(p / (1 - p)) for key, p in scores.items()}
    metrics = evaluation.evaluate_models(
        said["label"].to_numpy(), logits, dict.fromkeys(logits, 1.0)
    )
    return evaluation.comparison_table(metrics)


def calls(said: pd.DataFrame) -> dict[str, np.ndarray]:
    """Return for each model of a table of scores whether it calls the images FAKE."""
    scores = said.filter(like=SCORE)
    return {key.removesuffix(SCORE): (p >= 0.5).to_numpy() for key, p in scores.items()}


def _as_found(image: Image.Image, kind: str, generator: np.random.Generator) -> bytes:
    long, share = generator.integers(64, 201), generator.uniform(0.8, 1.0)
    sides = [long, round(long * share)]
    generator.shuffle(sides)
    scale = max(sides) / 32
    enlarged = image.resize((round(32 * scale),) * 2, Image.Resampling.BICUBIC)
    left, top = ((enlarged.width - side) // 2 for side in sides)
    cropped = enlarged.crop((left, top, left + int(sides[0]), top + int(sides[1])))
    buffer = io.BytesIO()
    cropped.save(buffer, kind, quality=int(generator.integers(70, 96)))
    return buffer.getvalue()
