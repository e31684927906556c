"""What a data set gives away before a model looks: copies, encoders, colours, spectra."""

import hashlib
import io
from collections.abc import Sequence

import imagehash
import numpy as np
import pandas as pd
from PIL import Image, JpegImagePlugin
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tqdm.auto import tqdm

from cifake_lib.data import CLASS_NAMES, Dataset
from cifake_lib.evaluation import scores
from cifake_lib.intervals import bootstrap_interval
from cifake_lib.spectrum import parts_of

HASH_BITS = 64
_SUBSAMPLINGS = {-1: "", 0: "4:4:4", 1: "4:2:2", 2: "4:2:0"}


def perceptual_hashes(images: np.ndarray) -> np.ndarray:
    """Return a difference hash of every image, with a progress display.

    Source: `imagehash.dhash`, after Krawetz 2013, "Kind of like that": in a grey 9×8 thumbnail each
    pixel is brighter than its right neighbour or not.

    Args:
        images: uint8 `(N, height, width, 3)`, RGB.

    Returns:
        uint64 `(N,)`; the Hamming distance between two tells how alike the images look.
    """
    hashes = np.empty(len(images), dtype=np.uint64)
    for index, image in enumerate(tqdm(images, desc="Hashing", unit="image", delay=1)):
        bits = imagehash.dhash(Image.fromarray(image)).hash
        hashes[index] = np.packbits(bits).view(">u8")[0]
    return hashes


def near_copies(hashes: np.ndarray, *, max_distance: int = 4) -> pd.DataFrame:
    """Find all pairs of images whose hashes differ in few bits.

    Two hashes that differ in at most `d` bits agree in at least one of `d + 1` parts, so that only
    images with a part in common have to be compared.

    Args:
        hashes: uint64 `(N,)`, see `perceptual_hashes`.
        max_distance: Bits that may differ, 0–15 of 64.

    Returns:
        One row per pair: row numbers `first` < `second`, and `distance` in bits; closest first.
    """
    hashes = np.asarray(hashes, dtype=np.uint64)
    edges = np.linspace(0, HASH_BITS, max_distance + 2).round().astype(int)
    found = [np.empty((0, 2), dtype=np.int64)]
    for low, high in zip(edges[:-1], edges[1:], strict=True):
        part = (hashes >> np.uint64(low)) & np.uint64((1 << int(high - low)) - 1)
        order = np.argsort(part, kind="stable")
        starts = np.flatnonzero(np.diff(part[order], prepend=part[order][:1] + np.uint64(1)))
        for group in np.split(order, starts[1:]):
            # Row by row: all pairs of a large group at once would not fit into memory.
            for position, first in enumerate(group[:-1]):
                others = group[position + 1 :]
                near = np.bitwise_count(hashes[others] ^ hashes[first]) <= max_distance
                others = others[near]
                found.append(np.column_stack([np.full(len(others), first), others]))
    pairs = np.unique(np.sort(np.concatenate(found), axis=1), axis=0)
    distances = np.bitwise_count(hashes[pairs[:, 0]] ^ hashes[pairs[:, 1]])
    table = pd.DataFrame({"first": pairs[:, 0], "second": pairs[:, 1], "distance": distances})
    return table.sort_values(["distance", "first", "second"], ignore_index=True)


def copies(dataset: Dataset, pairs: pd.DataFrame) -> pd.DataFrame:
    """Count copies: exact ones by content hash, and near ones among pairs of images.

    Args:
        dataset: An indexed data set.
        pairs: Of its rows, as `near_copies` returns them.

    Returns:
        Index `images`: exact and near copies; columns: REAL, FAKE, both classes (one of each), and
        how many of the pairs lie in two splits. An exact copy is an image that an earlier one
        equals; near copies are counted as pairs that are not equal.
    """
    table = dataset.table
    label, split = table["label"].to_numpy(), table["split"].to_numpy()
    digest = table["content_hash"].to_numpy()
    first, second = pairs["first"].to_numpy(), pairs["second"].to_numpy()
    equal = digest[first] == digest[second]

    def counted(chosen):
        same = label[first] == label[second]
        row = {
            name: int((chosen & same & (label[first] == value)).sum())
            for value, name in enumerate(CLASS_NAMES)
        }
        row["both classes"] = int((chosen & ~same).sum())
        row["across splits"] = int((chosen & (split[first] != split[second])).sum())
        return row

    rows = {"exact pairs": counted(equal), "near pairs": counted(~equal)}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("images")


def encoders(dataset: Dataset) -> pd.DataFrame:
    """Read how every file was encoded, with a progress display.

    Returns:
        One row per image, aligned with `dataset.table`: `format`, `size` ("32×32"), `mode`,
        `subsampling` and `quantisation` (eight digits of a hash of the tables; "" where the format
        has none), and `bytes`.
    """
    rows = []
    for name in tqdm(dataset.table["path"], desc="Reading headers", unit="file", delay=1):
        content = (dataset.folder / name).read_bytes()
        with Image.open(io.BytesIO(content)) as picture:
            tables, sampling = getattr(picture, "quantization", None), -1
            if isinstance(picture, JpegImagePlugin.JpegImageFile):
                sampling = JpegImagePlugin.get_sampling(picture)
            rows.append(
                {
                    "format": picture.format,
                    "size": "×".join(map(str, picture.size)),
                    "mode": picture.mode,
                    "subsampling": _SUBSAMPLINGS[sampling],
                    "quantisation": _digest(tables) if tables else "",
                    "bytes": len(content),
                }
            )
    return pd.DataFrame(rows, index=dataset.table.index)


def _digest(tables: dict) -> str:
    return hashlib.sha256(repr(sorted(tables.items())).encode()).hexdigest()[:8]


def colour_statistics(images: np.ndarray) -> pd.DataFrame:
    """Return twelve brightness and colour statistics of every image.

    Args:
        images: uint8 `(N, height, width, 3)`, RGB.

    Returns:
        One row per image: mean and standard deviation of red, green, blue, brightness, saturation
        and contrast between neighbours, all in 0–255 of full scale.
    """
    rows = [np.empty((0, 12))]
    for part in parts_of(images):
        values = part.astype(np.float32)
        brightness = values @ np.float32([0.299, 0.587, 0.114])
        saturation = values.max(axis=-1) - values.min(axis=-1)
        steps = np.abs(np.diff(brightness, axis=2))
        features = []
        for channel in (*np.moveaxis(values, -1, 0), brightness, saturation, steps):
            features += [channel.mean(axis=(1, 2)), channel.std(axis=(1, 2))]
        rows.append(np.column_stack(features))
    names = ("red", "green", "blue", "brightness", "saturation", "contrast")
    columns = [f"{name}_{kind}" for name in names for kind in ("mean", "deviation")]
    return pd.DataFrame(np.concatenate(rows), columns=columns)


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
        features: One row per image of the data set; columns of text become one column a value.
        dataset: What the features were computed from.
        train: Splits that the logistic regression is fitted on.
        measured: Split that it is measured on.
        seed: Of the interval.

    Returns:
        `features` (their number), `accuracy` with its 95 % interval `accuracy_low` to
        `accuracy_high`, `f1`, `roc_auc`.
    """
    table = pd.get_dummies(features)
    label = dataset.table["label"].to_numpy()
    fitted = dataset.table["split"].isin(train).to_numpy()
    held_out = dataset.rows(measured).to_numpy()
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
