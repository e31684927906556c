"""Find a data set, index its images as a table and split them: `load_dataset`.

A data set is any folder with one folder per class (`REAL` and `FAKE`, `real` and `fake`, `ai`),
with or without `train`, `test` and `validation` folders above. FAKE is the positive class, label 1.
"""

import difflib
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from cifake_lib import archives, paths, splits
from cifake_lib.indexing import CLASS_NAMES, DatasetError, index_images, write_atomically

KNOWN_ORIGIN = "known"  # of the images of the data set that models were trained on
KAGGLE_HANDLE = "birdy654/cifake-real-and-ai-generated-synthetic-images"


@dataclass(frozen=True)
class Dataset:
    """An indexed and split data set.

    Attributes:
        name: What was asked for: `sample`, `full` or the name of the folder or archive.
        folder: Where the images lie.
        table: One row per image: `path` (relative to `folder`), `label` (0 REAL, 1 FAKE),
            `object_class` ("" when the name does not tell it), `content_hash` (SHA-256),
            `official_split` ("" where the data set has none), `source` and `group` ("" where it
            names none), `split`, and `crosses_split` (an exact copy lies on another side of an
            official boundary).
        skipped: `path` and `reason` of each file that was left out.
        split_hash: SHA-256 of the split (see `splits.split_hash`).
    """

    name: str
    folder: Path
    table: pd.DataFrame = field(repr=False)
    skipped: pd.DataFrame = field(repr=False)
    split_hash: str

    def rows(self, split: str) -> pd.Series:
        """Return a boolean mask of the rows of one split, aligned with `table`."""
        return self.table["split"] == split

    def some_of_each(self, split: str, count: int) -> np.ndarray:
        """Return the rows of `count` images of each class, or of all, spread over a split."""
        rows, labels = np.flatnonzero(self.rows(split)), self.table["label"].to_numpy()
        of_class = [rows[labels[rows] == label] for label in (0, 1)]
        # Evenly: in path order the first ones may all be of one source.
        places = [
            np.linspace(0, len(every), min(count, len(every)), endpoint=False) for every in of_class
        ]
        return np.concatenate(
            [every[at.astype(int)] for every, at in zip(of_class, places, strict=True)]
        )

    def summary(self) -> pd.DataFrame:
        """Count images: splits × classes, with copies and copies that cross a boundary."""
        table = self.table.assign(
            label=self.table["label"].map(dict(enumerate(CLASS_NAMES))),
            copy=self.table.duplicated("content_hash"),
        )
        counts = pd.crosstab(table["split"], table["label"])
        counts = counts.reindex(index=splits.SPLITS, columns=CLASS_NAMES, fill_value=0)
        sums = table.groupby("split")[["copy", "crosses_split"]].sum()
        sums = sums.rename(
            columns={"copy": "exact copies", "crosses_split": "copies across splits"}
        )
        return counts.join(sums.reindex(splits.SPLITS, fill_value=0).astype(int))

    def manifest(self) -> dict:
        """Return the facts that a run's manifest keeps of its data."""
        return {
            "name": self.name,
            "source": self.folder.name,
            "split_hash": self.split_hash,
            "counts": {
                split: {name: int(row[name]) for name in CLASS_NAMES}
                for split, row in self.summary().iterrows()
            },
            "skipped": len(self.skipped),
        }


def load_dataset(
    data_dir: str | Path = "sample",
    *,
    class_names: Sequence[str] = CLASS_NAMES,
    split_shares: Sequence[float] = (),
    left_out_sources: Sequence[str] = (),
    split_seed: int = 0,
    max_images: int = 0,
) -> Dataset:
    """Find, index and split a data set.

    Args:
        data_dir: A folder, zip or tar; `sample`, the images that ship with the project; `full`, the
            whole CIFAKE, downloaded from Kaggle if need be, with its official test split;
            `cifake-train`, only its training folder, split by content hash as the sample and the
            released models are; or `auto`, a downloaded copy if there is one, else the sample.
        class_names: Names of the folders of photographs and of generated images, in any case; the
            default finds `ai` too. Everywhere else they are REAL and FAKE.
        split_shares: Of train, validation and test, to split anew by content hash; if empty, the
            data set keeps its own splits, and what it has none of is
            split .85, .05 and .10.
        left_out_sources: Sources that become the test split, whole; the rest is split into training
            and validation.
        split_seed: Seed of the split.
        max_images: Use about this many images, 0 for all. Their split does not change.

    Returns:
        The data set. Its split is written beside its index in the cache folder.

    Raises:
        DatasetError: Nothing found, a failed download, fewer than two classes, an empty class, or
            parameters that do not fit the data.
        archives.ArchiveError: The archive is damaged or unsafe.
    """
    name, folder = find_dataset(data_dir)
    index, skipped = index_images(folder, class_names=class_names)
    _check_sources(index, left_out_sources)
    try:
        table = splits.assign_splits(
            index, seed=split_seed, shares=split_shares, left_out_sources=left_out_sources
        )
    except ValueError as error:
        raise DatasetError(str(error)) from error
    _check_splits(folder, table, class_names, split_shares, left_out_sources)
    table = splits.take(table, max_images).reset_index(drop=True)
    dataset = Dataset(name, folder, table, skipped, splits.split_hash(table))
    split_file = paths.cache_dir() / "splits" / f"{dataset.split_hash}.csv"
    if not split_file.is_file():
        write_atomically(split_file, table.to_csv(index=False))
    return dataset


def _check_sources(index: pd.DataFrame, left_out_sources: Sequence[str]) -> None:
    known = sorted(set(index["source"]) - {""})
    for name in left_out_sources:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1, cutoff=0)
            raise DatasetError(
                f"Expected left_out_sources to name sources of index.csv, received {name!r}; "
                + (f"the nearest is {near[0]!r}." if near else "it names none.")
            )


def _check_splits(
    folder: Path, table: pd.DataFrame, class_names, split_shares, left_out_sources
) -> None:
    """Say in one sentence why a split lacks a class, if one does."""
    counts = pd.crosstab(table["split"], table["label"])
    counts = counts.reindex(index=splits.SPLITS, columns=[0, 1], fill_value=0)
    for split, label in ((split, label) for split in splits.SPLITS for label in (0, 1)):
        if counts.loc[split, label]:
            continue
        if left_out_sources and split == "test":
            raise DatasetError(
                "Expected left_out_sources with images of both classes to test on, received "
                f"{list(left_out_sources)}, which hold no {class_names[label]}."
            )
        if (table["official_split"] == split).any() and not split_shares:
            raise DatasetError(
                f"Expected images of the class {class_names[label]} in {folder} for the split "
                f"{split}, found none that can be read. Add some, or set split_shares to split all "
                "images anew."
            )
        different = splits.units(table).groupby(table["label"]).nunique()
        raise DatasetError(
            f"Expected at least 3 different images of each class in {folder} (or 3 groups, where "
            "index.csv names groups), one each to train, validate and test on; found no "
            f"{class_names[label]} for {split}: there are {different[0]} different of "
            f"{class_names[0]} and {different[1]} of {class_names[1]}."
        )


def find_dataset(data_dir: str | Path = "sample") -> tuple[str, Path]:
    """Find the folder of a data set; see `load_dataset` for `data_dir`.

    Returns:
        Its name and its folder, unpacked if it was an archive.
    """
    asked = str(data_dir)
    if asked in ("full", "auto"):
        if copy := _downloaded_copy():
            return "full", _as_folder(copy)
        if asked == "full":
            return "full", _download()
        asked = "sample"
    if asked == "cifake-train":
        return asked, find_dataset("full")[1] / "train"
    if asked == "sample":
        sample = paths.data_dir() / "sample.zip"
        if not sample.is_file():
            raise DatasetError(
                f"Expected the embedded sample at {sample}, found nothing. Restore it from the "
                "repository, or set data_dir to a folder, zip or tar of your own."
            )
        return "sample", _as_folder(sample)
    path = paths.resolve(asked)
    if not path.exists():
        raise DatasetError(
            f"Expected data_dir to be a folder, a zip or tar file, 'sample', 'full', "
            f"'cifake-train' or 'auto'; received {asked!r}, and there is no such file or folder."
        )
    return path.name, _as_folder(path)


def _as_folder(path: Path) -> Path:
    """Return a folder as it is; unpack an archive into the cache, once."""
    if path.is_dir():
        return path
    state = path.stat()
    text = f"{path.resolve()}\t{state.st_size}\t{state.st_mtime_ns}"
    key = hashlib.sha256(text.encode()).hexdigest()[:16]
    stem = path.name.split(".")[0]
    return archives.unpack(path, paths.cache_dir() / "unpacked" / f"{stem}-{key}")


def _downloaded_copy() -> Path | None:
    """Find CIFAKE where a user or kagglehub puts it."""
    for pattern in ("cifake", "cifake*.zip", "cifake*.tar*", "archive.zip"):
        for path in sorted(paths.data_dir().glob(pattern)):
            # A browser's unfinished download is neither.
            if path.is_dir() or archives.is_archive(path):
                return path
    home = Path(os.environ.get("KAGGLEHUB_CACHE", "~/.cache/kagglehub")).expanduser()
    downloads = home / "datasets" / KAGGLE_HANDLE
    # kagglehub unpacks in place and writes `<version>.complete` at the end.
    finished = [path.stem for path in downloads.glob("*.complete") if path.stem.isdigit()]
    for version in sorted(finished, key=int, reverse=True):
        if (downloads / "versions" / version).is_dir():
            return downloads / "versions" / version
    return None


def _download() -> Path:
    try:
        import kagglehub

        return Path(kagglehub.dataset_download(KAGGLE_HANDLE))
    except Exception as error:  # kagglehub and its HTTP client raise many kinds.
        raise DatasetError(
            f"CIFAKE could not be downloaded from Kaggle ({type(error).__name__}: {error}). "
            f"Download https://www.kaggle.com/datasets/{KAGGLE_HANDLE} by hand and put the zip "
            f"into {paths.data_dir()} as cifake.zip, or set data_dir to its path."
        ) from error
