"""Index the images of a data set as a table; every file is read once and remembered.

Which file shows which class is told by folders, one for each class, with or without `train`, `test`
and `validation` folders above; or by an `index.csv`. FAKE is the positive class, label 1.
"""

import hashlib
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
from tqdm.auto import tqdm

from cifake_lib import paths
from cifake_lib.images import ImageError, decode_image
from cifake_lib.index_file import SPLIT_NAMES, DatasetError, find_index_file, read_index_file

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
CIFAKE_NAME = re.compile(r"\d{4}(?: \(([2-9]|10)\))?")


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
        DatasetError: Fewer than two classes, a class without a readable image, or an `index.csv`
            that cannot be used.
    """
    names = [str(name) for name in class_names]
    index = _listed(folder, class_labels(class_names), names)
    index = index.merge(_contents(folder, index), on="path", how="left", suffixes=("", "_read"))
    index["reason"] = index["reason"].mask(index["reason"] == "", index.pop("reason_read"))
    index = index.sort_values("path", ignore_index=True)
    readable = index["reason"] == ""
    labels = index[readable].groupby("content_hash")["label"].transform("nunique")
    index.loc[labels.index[labels > 1], "reason"] = "The same file lies in both classes."
    left_out = index["reason"] != ""
    skipped = index.loc[left_out, ["path", "reason"]].reset_index(drop=True)
    _check_usable(folder, index, readable, names)
    index["object_class"] = _object_classes(index["path"])
    columns = ["path", "label", "object_class", "content_hash", "official_split", "source", "group"]
    index = index.loc[~left_out, columns].reset_index(drop=True)
    if len(skipped):
        logger.warning(
            "%d of %d files in %s were left out; the first: %s",
            len(skipped),
            len(left_out),
            folder,
            _said(*skipped.iloc[0]),
        )
    return index, skipped


def _check_usable(folder: Path, index: pd.DataFrame, readable: pd.Series, names: list[str]) -> None:
    """Say in one sentence why nothing can be done with these files, if that is so."""
    used = index[index["reason"] == ""]
    if used.empty and readable.any():
        raise DatasetError(
            f"Expected other images in {names[0]} than in {names[1]}, found the same files in both "
            f"classes of {folder} ({readable.sum()} of them)."
        )
    skipped = index[index["reason"] != ""]
    for label, name in enumerate(names):
        if not (used["label"] == label).any():
            first = [_said(*row) for row in skipped[["path", "reason"]].head(1).to_numpy()]
            raise DatasetError(
                f"Expected images of the class {name} in {folder}, found none that can be read: "
                f"{len(skipped)} files were left out{'; the first: ' + first[0] if first else '.'}"
            )


def _said(path: str, reason: str) -> str:
    return reason if path in reason else f"{path}: {reason}"


def write_atomically(path: Path, text: str) -> None:
    """Write a text file of the cache, so that nobody ever reads half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def _listed(folder: Path, labels: Mapping[str, int], names: list[str]) -> pd.DataFrame:
    """List files: `path`, `state` (size and time), `label`, `official_split`, `source`, `group`.

    And `reason`, why a file is not to be read, "" if it is. An index with labels names the files;
    one without adds to what folders say.
    """
    index_file = find_index_file(folder)
    if not index_file:
        return _in_class_folders(folder, labels, names)
    states = dict(_files(folder))
    named = read_index_file(index_file, beneath=folder, files=states.keys(), labels=labels)
    named["state"] = named["path"].map(states).fillna("")
    if "label" in named:
        return named
    listed = _in_class_folders(folder, labels, names).set_index("path")
    named = named.set_index("path")
    known = named.index.intersection(listed.index)
    for column in ("official_split", "source", "group", "reason"):
        given = named.loc[known, column]
        listed.loc[known, column] = given.where(given != "", listed.loc[known, column])
    elsewhere = named.loc[named.index.difference(known)].assign(label=-1)
    missing = f"It lies in no folder {names[0]} or {names[1]}, and index.csv has no labels."
    elsewhere["reason"] = elsewhere["reason"].replace("", missing)
    return pd.concat([listed, elsewhere]).reset_index()


def _in_class_folders(folder: Path, labels: Mapping[str, int], names: list[str]) -> pd.DataFrame:
    rows = []
    for split, label, class_folder in _class_folders(folder, labels, names):
        above = class_folder.relative_to(folder).as_posix()
        rows += [(f"{above}/{name}", state, label, split) for name, state in _files(class_folder)]
    listed = pd.DataFrame(rows, columns=["path", "state", "label", "official_split"])
    return listed.assign(source="", group="", reason="")


def _files(folder: Path | str, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield path (relative to the folder) and state of every file beneath it, but for clutter."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name[0] == "." or entry.name == "Thumbs.db":
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _files(entry.path, f"{prefix}{entry.name}/")
            elif entry.is_file():
                stat = entry.stat()
                yield prefix + entry.name, f"{stat.st_size}\t{stat.st_mtime_ns}"


def _class_folders(
    folder: Path, labels: Mapping[str, int], names: list[str]
) -> list[tuple[str, int, Path]]:
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
        return _class_folders(children[0][1], labels, names)
    if {label for _, label, _ in found} != {0, 1}:
        there = [path.name for _, path in children]
        raise DatasetError(
            f"Expected the folders {names[0]} and {names[1]} in {folder} (or in its folders train "
            f"and test), found {', '.join(there[:20]) or 'no folders'}. If yours are called "
            "otherwise, set class_names to their names, that of the photographs first."
        )
    return found


def _folders(folder: Path) -> list[tuple[str, Path]]:
    children = sorted(path for path in folder.iterdir() if path.is_dir())
    return [(path.name.lower(), path) for path in children if path.name[0] not in "._"]


def _contents(folder: Path, index: pd.DataFrame) -> pd.DataFrame:
    """Return `path`, `content_hash` and `reason`, "" if the file can be used; read or remembered.

    What index and folders say of a file is not kept: changing it must cost no second reading.
    """
    files = index.loc[index["reason"] == "", ["path", "state"]].sort_values("path")
    state = "\n".join(files["path"] + "\t" + files["state"])
    key = hashlib.sha256(f"contents\n{folder.resolve()}\n{state}".encode()).hexdigest()[:32]
    stored = paths.cache_dir() / "indexes" / f"{key}.csv"
    if not stored.is_file():
        write_atomically(stored, _read_contents(folder, list(files["path"])).to_csv(index=False))
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
    stems = (name.rpartition("/")[2].rpartition(".")[0] for name in names)
    numbers = [CIFAKE_NAME.fullmatch(stem) for stem in stems]
    # Four digits alone could be anyone's file names; CIFAKE's carry numbers in brackets too.
    if not (all(numbers) and any(match[1] for match in numbers)):
        return [""] * len(numbers)
    return [OBJECT_CLASSES[int(match[1] or 1) - 1] for match in numbers]
