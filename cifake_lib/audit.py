"""What a data set gives away before a model looks: encoders, colours, spectra (see `copies`)."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, JpegImagePlugin, UnidentifiedImageError
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tqdm.auto import tqdm

from cifake_lib.data import Dataset
from cifake_lib.evaluation import scores
from cifake_lib.images import FORMATS, open_header
from cifake_lib.intervals import bootstrap_interval
from cifake_lib.pixels import parts_of

COMMONEST = 50  # values of a fact that count by themselves; the others are one
_SUBSAMPLINGS = {-1: "", 0: "4:4:4", 1: "4:2:2", 2: "4:2:0"}


def rows_to_measure(dataset: Dataset, at_most: int, *, seed: int = 0) -> np.ndarray:
    """Choose images to measure: all, or so many at random.

    Args:
        dataset: An indexed data set.
        at_most: Images at most, 0 for all.
        seed: Of the choice.

    Returns:
        Row numbers, in order.
    """
    count = len(dataset.table)
    if not at_most or at_most >= count:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).permutation(count)[:at_most])


def mean_colour(images: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return the mean of red, green and blue, 0–255, over some rows of images."""
    total = sum(part.sum(axis=(0, 1, 2), dtype=np.float64) for part in parts_of(images, rows))
    return total / (len(rows) * np.prod(images.shape[1:3]))


def encoders(dataset: Dataset, rows: np.ndarray | None = None) -> pd.DataFrame:
    """Read how files were encoded, with a progress display.

    Args:
        dataset: An indexed data set.
        rows: Row numbers of the images to look at; all if None.

    Returns:
        One row per image, indexed by its row number: `format`, `size` ("32×32"), `mode`,
        `subsampling` and `quantisation` (eight digits of a hash of the tables; "" where the format
        has none), and `bytes`.
    """
    paths = dataset.table["path"]
    paths, found = paths if rows is None else paths.loc[rows], []
    for name in tqdm(paths, desc="Reading headers", unit="file", delay=1):
        file = dataset.folder / name
        with _opened(file) as picture:
            tables, sampling = getattr(picture, "quantization", None), -1
            if isinstance(picture, JpegImagePlugin.JpegImageFile):
                sampling = JpegImagePlugin.get_sampling(picture)
            found.append(
                {
                    "format": picture.format,
                    "size": "×".join(map(str, picture.size)),
                    "mode": picture.mode,
                    "subsampling": _SUBSAMPLINGS[sampling],
                    "quantisation": _digest(tables) if tables else "",
                    "bytes": file.stat().st_size,
                }
            )
    return pd.DataFrame(found, index=paths.index)


def largest_side(dataset: Dataset, rows: np.ndarray) -> int:
    """Return the longer side in pixels of the largest images, but for one in a hundred.

    Args:
        dataset: An indexed data set.
        rows: Row numbers of the images to look at.
    """
    sizes = encoders(dataset, rows)["size"].str.split("×", expand=True).astype(int)
    return int(sizes.max(axis=1).quantile(0.99))


def _commonest(column: pd.Series) -> pd.Series:
    """Keep the commonest texts of a column; a data set of the web has thousands of sizes."""
    if pd.api.types.is_numeric_dtype(column) or column.nunique() <= COMMONEST:
        return column
    return column.where(column.isin(column.value_counts().index[:COMMONEST]), "other")


def _digest(tables: dict) -> str:
    return hashlib.sha256(repr(sorted(tables.items())).encode()).hexdigest()[:8]


def _opened(file: Path) -> Image.Image:
    """Open an image file, of which no more than the header is read."""
    try:
        return Image.open(file, formats=FORMATS)
    except UnidentifiedImageError:  # HEIC has an opener of its own, which reads the whole file.
        return open_header(file.read_bytes(), file.name)


def colour_statistics(images: np.ndarray, rows: np.ndarray | None = None) -> pd.DataFrame:
    """Return twelve brightness and colour statistics of every image.

    Args:
        images: uint8 `(N, height, width, 3)`, RGB; may be a memory map.
        rows: Row numbers of those to use, which become the index; all if None.

    Returns:
        One row per image: mean and standard deviation of red, green, blue, brightness, saturation
        and contrast between neighbours, all in 0–255 of full scale.
    """
    measured = [np.empty((0, 12))]
    for part in parts_of(images, rows):
        values = part.astype(np.float32)
        brightness = values @ np.float32([0.299, 0.587, 0.114])
        saturation = values.max(axis=-1) - values.min(axis=-1)
        steps = np.abs(np.diff(brightness, axis=2))
        features = []
        for channel in (*np.moveaxis(values, -1, 0), brightness, saturation, steps):
            features += [channel.mean(axis=(1, 2)), channel.std(axis=(1, 2))]
        measured.append(np.column_stack(features))
    names = ("red", "green", "blue", "brightness", "saturation", "contrast")
    columns = [f"{name}_{kind}" for name in names for kind in ("mean", "deviation")]
    return pd.DataFrame(np.concatenate(measured), columns=columns, index=rows)


def shortcut(
    features: pd.DataFrame,
    dataset: Dataset,
    *,
    train: Sequence[str] = ("train",),
    measured: str = "validation",
    seed: int = 0,
) -> dict[str, float]:
    """Measure how far a linear model gets with features that hold no picture.

    Args:
        features: One row per image, indexed by its row number; columns of text become one column a
            value, all values beyond the `COMMONEST` together one.
        dataset: What the features were computed from.
        train: Splits that the logistic regression is fitted on.
        measured: Split that it is measured on.
        seed: Of the interval.

    Returns:
        `features` (their number), `accuracy` with its 95 % interval `accuracy_low` to
        `accuracy_high`, `f1`, `roc_auc`.
    """
    table = pd.get_dummies(features.apply(_commonest))
    known = dataset.table.loc[features.index]
    label = known["label"].to_numpy()
    fitted = known["split"].isin(train).to_numpy()
    held_out = (known["split"] == measured).to_numpy()
    values = table.to_numpy(dtype=np.float64)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    p_fake = model.fit(values[fitted], label[fitted]).predict_proba(values[held_out])[:, 1]
    reached = scores(label[held_out], p_fake)
    low, high = bootstrap_interval(label[held_out], p_fake, "accuracy", seed=seed)
    return {
        "features": table.shape[1],
        "accuracy": reached["accuracy"],
        "accuracy_low": low,
        "accuracy_high": high,
        "f1": reached["f1"],
        "roc_auc": reached["roc_auc"],
    }
