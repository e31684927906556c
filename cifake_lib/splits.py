"""Split images by the hash of their content, so that exact copies always share a side.

Above `SMALL` images the split of an image depends on its content hash and the seed alone: it is the
same on any machine, and every subset of a data set agrees with the whole.
"""

import hashlib

import numpy as np
import pandas as pd

SPLITS = ("train", "validation", "test")
TEST_SHARE = 0.10
VALIDATION_SHARE = 0.05
SMALL = 2_000


def bucket(content_hash: str, *, seed: int = 0) -> float:
    """Map a content hash to [0, 1), evenly and reproducibly.

    Args:
        content_hash: SHA-256 of the file in hexadecimal.
        seed: Another seed gives an independent split.
    """
    digest = hashlib.sha256(f"{seed}:{content_hash}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def assign_splits(table: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """Assign each image of an index to train, validation or test.

    An official test or validation folder is kept as it is. Of all other images those in buckets
    under .10 are the test split (where there is no official one) and those in [.10, .15) the
    validation split (likewise); the rest is for training. Under `SMALL` images, where hash buckets
    would leave the shares to chance, each class's groups of copies are ranked by bucket and cut at
    the same shares, at least one group each.

    Args:
        table: Columns `label`, `content_hash` and `official_split` ("" where there is none).
        seed: Seed of the split.

    Returns:
        A copy with the columns `split` and `crosses_split`: an exact copy of the image lies on
        another side of an official boundary, so evaluation can leave it out.
    """
    official = table["official_split"]
    ours = ~official.isin(["test", "validation"])
    buckets = {value: bucket(value, seed=seed) for value in table["content_hash"].unique()}
    if len(table) < SMALL:
        buckets = _ranked(table[ours], buckets)
    position = table["content_hash"].map(buckets)
    has_test, has_validation = ((official == name).any() for name in ("test", "validation"))
    split = pd.Series("train", index=table.index)
    if not has_validation:
        validation = position.between(TEST_SHARE, TEST_SHARE + VALIDATION_SHARE, inclusive="left")
        split[validation] = "validation"
    if not has_test:
        split[position < TEST_SHARE] = "test"
    split = split.where(ours, official)
    sides = split.groupby(table["content_hash"]).transform("nunique")
    return table.assign(split=split, crosses_split=sides > 1)


def split_hash(table: pd.DataFrame) -> str:
    """Return the SHA-256 of a split: path, content hash, label and split, in path order."""
    rows = table.sort_values("path")[["path", "content_hash", "label", "split"]]
    text = rows.to_csv(index=False, header=False, lineterminator="\n")
    return hashlib.sha256(text.encode()).hexdigest()


def take(table: pd.DataFrame, max_images: int) -> pd.DataFrame:
    """Take a smaller part of a split table with about the same shares of split and class.

    Args:
        table: Columns `label`, `content_hash` and `split`.
        max_images: Size of the part; at least one image of each split and class is kept.

    Returns:
        Some rows of the table, in its order; the same for the same images on any machine.
    """
    if max_images <= 0 or max_images >= len(table):
        return table
    share = max_images / len(table)
    ranked = table.assign(position=table["content_hash"].map(bucket)).sort_values("position")
    kept = [
        part.head(max(1, round(share * len(part))))
        for _, part in ranked.groupby(["split", "label"])
    ]
    return table.loc[sorted(pd.concat(kept).index)]


def _ranked(table: pd.DataFrame, buckets: dict[str, float]) -> dict[str, float]:
    """Move the lowest buckets of each class below the cuts, one bucket per group of copies."""
    groups = table.drop_duplicates("content_hash")
    order = groups["content_hash"].map(buckets).groupby(groups["label"]).rank(method="first")
    size = groups.groupby("label")["content_hash"].transform("size")
    test = (TEST_SHARE * size).round().clip(lower=1)
    validation = (VALIDATION_SHARE * size).round().clip(lower=1)
    ends = [order <= test, order <= test + validation]
    positions = np.select(ends, [0.0, TEST_SHARE], default=1.0)
    return dict(zip(groups["content_hash"], positions, strict=True))
