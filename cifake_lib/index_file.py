"""`index.csv` beside the images: what somebody knows of each file that its folder does not tell.

    path,label,split,source,group
    cats/0001.jpg,REAL,train,camera A,cat 1

`path` (or `file`) is relative to the index; all other columns are optional, and may be empty.
Labels and splits are those of folders. A `source` is where images come from (a camera, a web site,
a generator); a `group` holds images of one scene or prompt, which must not be trained and tested
on both. Further columns are ignored.
"""

import csv
import posixpath
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

NAME = "index.csv"
SPLIT_NAMES = {
    "train": "train",
    "test": "test",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
}
_KNOWN = ("label", "split", "source", "group")


class DatasetError(ValueError):
    """A data set cannot be found or used; the message names the folder and says what to do."""


def find_index_file(folder: Path) -> Path | None:
    """Find the `index.csv` of a data set, looking through folders that wrap a single one."""
    while not (folder / NAME).is_file():
        children = [path for path in folder.iterdir() if path.is_dir() and path.name[0] not in "._"]
        if len(children) != 1:
            return None
        folder = children[0]
    return folder / NAME


def read_index_file(
    file: Path, *, beneath: Path, files: set[str], labels: Mapping[str, int]
) -> pd.DataFrame:
    """Read an `index.csv`.

    Args:
        file: The file.
        beneath: Folder of the data set.
        files: Paths of all files of the data set, relative to that folder, with `/`.
        labels: Name of a class in small letters → label.

    Returns:
        One row for each path that it names, in its order: `path` relative to the folder of the data
        set, `label` (only if it has such a column; -1 unknown), `official_split`, `source` and
        `group` ("" where it names none), `reason` why the file cannot be used ("" if it can).

    Raises:
        DatasetError: It cannot be read, has no column of paths, names no file that is there, or
            not both classes.
    """
    table = _read(file)
    prefix = file.parent.relative_to(beneath).as_posix()
    there = {_plain(name): name for name in files}
    names = [_plain(posixpath.join(prefix, name)) for name in table["path"]]
    found = pd.DataFrame({"path": [there.get(name, "") for name in names]})
    missing = found["path"] == ""
    if missing.all():
        first = "no rows" if table.empty else f"no such file: {table['path'][0]!r}"
        raise DatasetError(
            f"Expected {file} to name images by their path from its own folder, found {first}."
        )
    found["reason"] = missing.map({True: f"{NAME} names it, and there is no such file.", False: ""})
    found["path"] = found["path"].where(~missing, table["path"])
    for column in ("source", "group"):
        found[column] = table.get(column, "")
    found["official_split"] = ""
    if "split" in table:
        split = table["split"].str.lower()
        found["official_split"] = split.map(SPLIT_NAMES).fillna("")
        unknown = (split != "") & ~split.isin(SPLIT_NAMES)
        _note(found, unknown, table["split"], "the split", "train, validation or test")
    if "label" in table:
        label = table["label"].str.lower()
        found["label"] = label.map(labels).fillna(-1).astype(int)
        expected = _either(labels)
        if set(found["label"]) - {-1} != {0, 1}:
            raise DatasetError(
                f"Expected the labels {expected.replace(' or ', ' and ')} in {file}, found "
                f"{sorted(table['label'].unique())[:10]}; set class_names to what yours are "
                "called, that of the photographs first."
            )
        _note(found, found["label"] < 0, table["label"], "the label", expected)
    found = found.drop_duplicates(ignore_index=True)
    twice = found.duplicated("path", keep=False)
    _note(found, twice, None, "it twice, differently", "")
    return found.drop_duplicates("path", ignore_index=True)


def read_origins(file: Path, *, beneath: Path) -> pd.DataFrame:
    """Read what an `index.csv` tells of where its files come from, for those who must name that.

    Args:
        file: The file.
        beneath: Folder of the data set.

    Returns:
        One row a file: `path` relative to the folder of the data set, and those of the columns
        `kind`, `repository`, `commit` and `licence` that it has, as text.
    """
    table = _read(file, ("kind", "repository", "commit", "licence"))
    prefix = file.parent.relative_to(beneath).as_posix()
    return table.assign(path=[_plain(posixpath.join(prefix, name)) for name in table["path"]])


def _read(file: Path, columns: Sequence[str] = _KNOWN) -> pd.DataFrame:
    """Read known columns of a CSV file as text, whatever its separator."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            separator = max(",;\t", key=lines.readline().count)
        table = pd.read_csv(
            file, sep=separator, dtype=str, keep_default_na=False, encoding="utf-8-sig"
        )
    except (OSError, ValueError, csv.Error) as error:
        raise DatasetError(
            f"Expected {file} to be a table with commas in UTF-8, received: {error}"
        ) from error
    table.columns = table.columns.str.strip().str.lower()
    path = next((name for name in ("path", "file") if name in table), None)
    if path is None:
        raise DatasetError(
            f"Expected a column path or file in {file}, found {', '.join(table.columns) or 'none'}."
        )
    known = [name for name in columns if name in table]
    table = table[[path, *known]].rename(columns={path: "path"})
    return table.apply(lambda column: column.fillna("").str.strip())


def _plain(name: str) -> str:
    """Write a path in one way: macOS decomposes letters, Windows has backslashes."""
    return posixpath.normpath(unicodedata.normalize("NFC", name.replace("\\", "/")))


def _note(found: pd.DataFrame, rows: pd.Series, given: pd.Series | None, what: str, expected: str):
    """Write why rows cannot be used, unless a reason is there already."""
    rows = rows & (found["reason"] == "")
    if given is None:
        found.loc[rows, "reason"] = f"{NAME} names {what}."
    else:
        texts = f"{NAME} gives it {what} '" + given[rows] + f"', expected {expected}."
        found.loc[rows, "reason"] = texts


def _either(labels: Mapping[str, int]) -> str:
    first = {label: name for name, label in reversed(labels.items())}
    return f"{first[0]} or {first[1]}"
