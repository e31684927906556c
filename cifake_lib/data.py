"""Find a data set, index its images as a table and split them: `load_dataset`.

A data set is any folder with one folder per class (`REAL` and `FAKE`, `real` and `fake`, `ai`),
with or without `train`, `test` and `validation` folders above. FAKE is the positive class, label 1.
"""

import hashlib
import logging
import os
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from tqdm.auto import tqdm

from cifake_lib import archives, paths, splits
from cifake_lib.images import ImageError, decode_image

logger = logging.getLogger(__name__)

CLASS_NAMES = ("REAL", "FAKE")
KNOWN_ORIGIN = "known"  # of the images of the data set that models were trained on
KAGGLE_HANDLE = "birdy654/cifake-real-and-ai-generated-synthetic-images"
# In this order on Kaggle: the number in `0001 (7).jpg`, absent for 1, is the CIFAR-10 class.
OBJECT_CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
_LABELS = {"real": 0, "fake": 1, "ai": 1}
_SPLITS = {"train": "train", "test": "test", "val": "validation", "validation": "validation"}
_CIFAKE_NAME = re.compile(r"\d{4}(?: \(([2-9]|10)\))?")


class DatasetError(ValueError):
    """A data set cannot be found or used; the message names the folder and says what to do."""


@dataclass(frozen=True)
class Dataset:
    """An indexed and split data set.

    Attributes:
        name: What was asked for: `sample`, `full` or the name of the folder or archive.
        folder: Where the images lie.
        table: One row per image: `path` (relative to `folder`), `label` (0 REAL, 1 FAKE),
            `object_class` ("" when the name does not tell it), `content_hash` (SHA-256),
            `official_split` ("" where the folder has none), `split`, and `crosses_split` (an exact
            copy lies on another side of an official boundary).
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
    data_dir: str | Path = "sample", *, split_seed: int = 0, max_images: int = 0
) -> Dataset:
    """Find, index and split a data set.

    Args:
        data_dir: A folder, zip or tar; `sample`, the images that ship with the project; `full`, the
            whole CIFAKE, downloaded from Kaggle if need be, with its official test split;
            `cifake-train`, only its training folder, split by content hash as the sample and the
            released models are; or `auto`, a downloaded copy if there is one, else the sample.
        split_seed: Seed of the split.
        max_images: Use about this many images, 0 for all. Their split does not change.

    Returns:
        The data set. Its split is written beside its index in the cache folder.

    Raises:
        DatasetError: Nothing found, a failed download, fewer than two classes, or an empty class.
        archives.ArchiveError: The archive is damaged or unsafe.
    """
    name, folder = find_dataset(data_dir)
    index, skipped = index_images(folder)
    table = splits.take(splits.assign_splits(index, seed=split_seed), max_images)
    table = table.reset_index(drop=True)
    dataset = Dataset(name, folder, table, skipped, splits.split_hash(table))
    split_file = paths.cache_dir() / "splits" / f"{dataset.split_hash}.csv"
    if not split_file.is_file():
        _write_atomically(split_file, table.to_csv(index=False))
    return dataset


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


def index_images(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Index the images of a data set, reading each file once.

    The index is kept in the cache folder and used again while no file's name, size or time changes.

    Args:
        folder: Folder of the data set.

    Returns:
        The index, columns `path`, `label`, `object_class`, `content_hash` and `official_split`,
        sorted by path; and the files left out, columns `path` and `reason`.

    Raises:
        DatasetError: Fewer than two classes, or a class (of an official split) without a readable
            image.
    """
    files = [
        (path.relative_to(folder).as_posix(), label, split, path.stat())
        for split, label, class_folder in _class_folders(folder)
        for path in sorted(class_folder.rglob("*"))
        if path.name != "Thumbs.db"
        and not any(part.startswith(".") for part in path.relative_to(class_folder).parts)
        and path.is_file()
    ]
    state = "\n".join(f"{name}\t{stat.st_size}\t{stat.st_mtime_ns}" for name, _, _, stat in files)
    key = hashlib.sha256(f"{folder.resolve()}\n{state}".encode()).hexdigest()[:32]
    stored = paths.cache_dir() / "indexes" / f"{key}.csv"
    if not stored.is_file():
        _write_atomically(stored, _read_index(folder, files).to_csv(index=False))
    # Always read back, so that the first call and the next ones see the very same table.
    index = pd.read_csv(stored, dtype={"label": int}, keep_default_na=False)
    left_out = index["reason"] != ""
    skipped = index.loc[left_out, ["path", "reason"]].reset_index(drop=True)
    index = index.loc[~left_out].drop(columns="reason").reset_index(drop=True)
    if len(skipped):
        logger.warning(
            "%d of %d files in %s were left out; the first: %s (%s)",
            len(skipped),
            len(files),
            folder,
            *skipped.iloc[0],
        )
    for split, part in [*index.groupby("official_split"), ("", index)]:
        for label, name in enumerate(CLASS_NAMES):
            if not (part["label"] == label).any():
                raise DatasetError(
                    f"Expected images of the class {name} in {folder}"
                    f"{f' for the split {split}' if split else ''}, found none that can be read "
                    f"({len(skipped)} files were left out)."
                )
    return index, skipped


def _class_folders(folder: Path) -> list[tuple[str, int, Path]]:
    """List `(official split, label, folder)`, looking through a single wrapping folder."""
    children = _folders(folder)
    direct = [("", _LABELS[name], path) for name, path in children if name in _LABELS]
    nested = [
        (_SPLITS[split], _LABELS[name], path)
        for split, parent in children
        if split in _SPLITS
        for name, path in _folders(parent)
        if name in _LABELS
    ]
    found = direct or nested
    if not found and len(children) == 1:
        return _class_folders(children[0][1])
    if {label for _, label, _ in found} != {0, 1}:
        raise DatasetError(
            f"Expected the folders REAL and FAKE in {folder} (or in its folders train and test), "
            f"found {sorted(path.name for _, path in children)}."
        )
    return found


def _folders(folder: Path) -> list[tuple[str, Path]]:
    children = sorted(path for path in folder.iterdir() if path.is_dir())
    return [(path.name.lower(), path) for path in children if path.name[0] not in "._"]


def _read_index(folder: Path, files: list) -> pd.DataFrame:
    def read(name: str) -> tuple[str, str]:
        try:
            data = (folder / name).read_bytes()
            decode_image(data, name=name)
        except (ImageError, OSError) as error:
            return "", str(error)
        return hashlib.sha256(data).hexdigest(), ""

    names = [name for name, *_ in files]
    # Threads: Pillow decodes large images outside the interpreter lock.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(
            tqdm(pool.map(read, names), "Checking images", len(names), unit="image", delay=1)
        )
    numbers = [_CIFAKE_NAME.fullmatch(Path(name).stem) for name in names]
    # Four digits alone could be anyone's file names; CIFAKE's carry numbers in brackets too.
    is_cifake = all(numbers) and any(match[1] for match in numbers)
    index = pd.DataFrame(
        {
            "path": names,
            "label": [label for _, label, _, _ in files],
            "object_class": [
                OBJECT_CLASSES[int(match[1] or 1) - 1] if is_cifake else "" for match in numbers
            ],
            "content_hash": [content_hash for content_hash, _ in found],
            "official_split": [split for _, _, split, _ in files],
            "reason": [reason for _, reason in found],
        }
    ).sort_values("path", ignore_index=True)
    readable = index["reason"] == ""
    labels = index[readable].groupby("content_hash")["label"].transform("nunique")
    index.loc[labels.index[labels > 1], "reason"] = "The same file lies in both classes."
    return index


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


def _write_atomically(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
