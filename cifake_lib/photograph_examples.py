"""A small collection of photographs and synthetic pictures, to step through notebook 08 with.

The photographs are those that come with scikit-learn (`china` and `flower`, CC BY 2.0, by
danielbuechele and vultilion on Flickr) and with Matplotlib (`grace_hopper`, by the US Navy, public
domain), cut into parts. The synthetic pictures are drawn by `generated`: they stand for generators
and look like none.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.cbook import get_sample_data
from PIL import Image
from sklearn.datasets import load_sample_image

from cifake_lib import generated, paths

SIDE = 256  # of the pictures, in pixels
_SYNTHETIC = ("texture", "line_art", "text")


def collection(data_dir: str) -> str | Path:
    """Return `data_dir`, or for "sample" the example, which is written if it is not there."""
    return write_example(paths.cache_dir() / "photographs") if data_dir == "sample" else data_dir


def write_example(folder: Path, *, count: int = 40, seed: int = 0) -> Path:
    """Write photographs and synthetic pictures of three sources each, with an `index.csv`.

    Args:
        folder: To be made; if it is there, it is taken as it is.
        count: Pictures of a source.
        seed: Of the parts and of the drawing.

    Returns:
        The folder.
    """
    if folder.is_dir():
        return folder
    rng = np.random.default_rng(seed)
    pictures = {("REAL", name): _parts(image, count, rng) for name, image in _photographs().items()}
    blank = np.zeros((count, SIDE, SIDE, 3), np.uint8)  # what `strangers` would change, unused here
    drawn = generated.strangers(blank, count=count, seed=seed)
    pictures |= {("FAKE", name): drawn[name] for name in _SYNTHETIC}
    unfinished, rows = folder.with_name(f".{folder.name}"), []
    for (label, source), images in pictures.items():
        (unfinished / label).mkdir(parents=True, exist_ok=True)
        for number, image in enumerate(images):
            name = f"{label}/{source}-{number:02}.jpg"
            Image.fromarray(image).save(unfinished / name, quality=int(rng.integers(80, 96)))
            rows.append({"path": name, "label": label, "source": source})
    pd.DataFrame(rows).to_csv(unfinished / "index.csv", index=False)
    # Last, by rename: what was cut short must not be taken for the collection.
    unfinished.rename(folder)
    return folder


def _photographs() -> dict[str, Image.Image]:
    shown = {
        name: Image.fromarray(load_sample_image(f"{name}.jpg")) for name in ("china", "flower")
    }
    with get_sample_data("grace_hopper.jpg") as file:
        return shown | {"grace_hopper": Image.open(file).convert("RGB")}


def _parts(image: Image.Image, count: int, rng: np.random.Generator) -> list[np.ndarray]:
    parts = []
    for _ in range(count):
        side = int(rng.integers(160, min(image.size), endpoint=True))
        left, top = (int(rng.integers(0, length - side, endpoint=True)) for length in image.size)
        part = image.crop((left, top, left + side, top + side))
        parts.append(np.asarray(part.resize((SIDE, SIDE), Image.Resampling.BICUBIC)))
    return parts
