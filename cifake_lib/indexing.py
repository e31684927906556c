"""Index the images of a data set as a table; every file is read once and remembered.

Which file shows which class is told by folders: one for each class, with or without `train`, `test`
and `validation` folders above. FAKE is the positive class, label 1.
"""

import hashlib
import logging
import os
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
from tqdm.auto import tqdm

from cifake_lib import paths
from cifake_lib.images import ImageError, decode_image

logger = logging.getLogger(__name__)

CLASS_NAMES = ("REAL", "FAKE")
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
SPLIT_NAMES = {"train": "train", "test": "test", "val": "validation", "validation": "validation"}
CIFAKE_NAME = re.compile(r"\d{4}(?: \(([2-9]|10)\))?")


class DatasetError(ValueError):
    """A data set cannot be found or used; the message names the folder and says what to do."""


def class_labels(class_names: Sequence[str]) -> dict[str, int]:
    """Return name in small letters → label, of what folders may be called.

    Args:
        class_names: Name of the photographs and of the generated images; `CLASS_NAMES` stands for
            `ai` too.

    Raises:
        DatasetError: They are not two different names.
    """
    names = [name.strip().lower() if isinstance(name, str) else "" for name in class_names]
    if isinstance(class_names, str) or len(set(names)) != 2 or len(names) != 2 or not all(names):
        raise DatasetError(
            "Expected class_names to be two different names, that of the photographs and that of "
            f"the generated images, received {class_names!r}."
        )
    known = {name: label for label, name in enumerate(names)}
    return known | {"ai": 1} if known == {"real": 0, "fake": 1} else known


def index_images(
    folder: Path, *, class_names: Sequence[str] = CLASS_NAMES
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Index the images of a data set, reading each file once.

    What was read is kept in the cache folder and used again while no file's name, size or time
    changes.

    Args:
        folder: Folder of the data set.
        class_names: See `class_labels`.

    Returns:
        The index, columns `path`, `label`, `object_class`, `content_hash`, `official_split`,
        `source` and `group`, sorted by path; and the files left out, columns `path` and `reason`.

    Raises:
        DatasetError: Fewer than two classes, or a class (of an official split) without a readable
            image.
    """
    index = _listed(folder, class_labels(class_names))
    index = index.merge(_contents(folder, index["path"]), on="path", validate="one_to_one")
    index = index.sort_values("path", ignore_index=True)
    readable = index["reason"] == ""
    labels = index[readable].groupby("content_hash")["label"].transform("nunique")
    index.loc[labels.index[labels > 1], "reason"] = "The same file lies in both classes."
    left_out = index["reason"] != ""
    skipped = index.loc[left_out, ["path", "reason"]].reset_index(drop=True)
    index["object_class"] = _object_classes(index["path"])
    columns = ["path", "label", "object_class", "content_hash", "official_split", "source", "group"]
    index = index.loc[~left_out, columns].reset_index(drop=True)
    if len(skipped):
        logger.warning(
            "%d of %d files in %s were left out; the first: %s (%s)",
            len(skipped),
            len(left_out),
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


def write_atomically(path: Path, text: str) -> None:
    """Write a text file of the cache, so that nobody ever reads half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def _listed(folder: Path, labels: Mapping[str, int]) -> pd.DataFrame:
    """List the files of the class folders: `path`, `label`, `official_split`, `source`, `group`."""
    rows = [
        (path.relative_to(folder).as_posix(), label, split)
        for split, label, class_folder in _class_folders(folder, labels)
        for path in sorted(class_folder.rglob("*"))
        if path.name != "Thumbs.db"
        and not any(part.startswith(".") for part in path.relative_to(class_folder).parts)
        and path.is_file()
    ]
    listed = pd.DataFrame(rows, columns=["path", "label", "official_split"])
    return listed.assign(source="", group="")


def _class_folders(folder: Path, labels: Mapping[str, int]) -> list[tuple[str, int, Path]]:
    """List `(official split, label, folder)`, looking through a single wrapping folder."""
    children = _folders(folder)
    direct = [("", labels[name], path) for name, path in children if name in labels]
    nested = [
        (SPLIT_NAMES[split], labels[name], path)
        for split, parent in children
        if split in SPLIT_NAMES
        for name, path in _folders(parent)
        if name in labels
    ]
    found = direct or nested
    if not found and len(children) == 1:
        return _class_folders(children[0][1], labels)
    if {label for _, label, _ in found} != {0, 1}:
        raise DatasetError(
            f"Expected the folders REAL and FAKE in {folder} (or in its folders train and test), "
            f"found {sorted(path.name for _, path in children)}."
        )
    return found


def _folders(folder: Path) -> list[tuple[str, Path]]:
    children = sorted(path for path in folder.iterdir() if path.is_dir())
    return [(path.name.lower(), path) for path in children if path.name[0] not in "._"]


def _contents(folder: Path, names: pd.Series) -> pd.DataFrame:
    """Return `path`, `content_hash` and `reason`, "" if the file can be used; read or remembered.

    What index and folders say of a file is not kept: changing it must cost no second reading.
    """
    stats = [(folder / name).stat() for name in names]
    state = "\n".join(
        f"{name}\t{stat.st_size}\t{stat.st_mtime_ns}"
        for name, stat in zip(names, stats, strict=True)
    )
    key = hashlib.sha256(f"contents\n{folder.resolve()}\n{state}".encode()).hexdigest()[:32]
    stored = paths.cache_dir() / "indexes" / f"{key}.csv"
    if not stored.is_file():
        write_atomically(stored, _read_contents(folder, list(names)).to_csv(index=False))
    # Always read back, so that the first call and the next ones see the very same table.
    return pd.read_csv(stored, dtype=str, keep_default_na=False)


def _read_contents(folder: Path, names: list[str]) -> pd.DataFrame:
    def read(name: str) -> tuple[str, str]:
        try:
            data = (folder / name).read_bytes()
            decode_image(data, name=name)
        except (ImageError, OSError) as error:
            return "", str(error)
        return hashlib.sha256(data).hexdigest(), ""

    # Threads: Pillow decodes large images outside the interpreter lock.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(
            tqdm(pool.map(read, names), "Checking images", len(names), unit="image", delay=1)
        )
    contents = pd.DataFrame(found, columns=["content_hash", "reason"])
    return contents.assign(path=names)


def _object_classes(names: pd.Series) -> list[str]:
    numbers = [CIFAKE_NAME.fullmatch(Path(name).stem) for name in names]
    # Four digits alone could be anyone's file names; CIFAKE's carry numbers in brackets too.
    if not (all(numbers) and any(match[1] for match in numbers)):
        return [""] * len(numbers)
    return [OBJECT_CLASSES[int(match[1] or 1) - 1] for match in numbers]
