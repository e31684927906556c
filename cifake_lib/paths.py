"""Where things live: the project root and its standard folders.

Every folder can be moved by an environment variable, which is how tests, servers and shared
machines keep their files apart.
"""

import os
from pathlib import Path


def project_root() -> Path:
    """Find the folder that holds `notebooks/` and `data/`.

    Returns:
        `CIFAKE_HOME` if set; else the checkout this package lies in; else the nearest folder
        above the working directory with a `notebooks` folder and `pyproject.toml` (a checkout used
        with an installed package); else the working directory itself.
    """
    if home := os.environ.get("CIFAKE_HOME"):
        return Path(home).expanduser().resolve()
    here = Path.cwd().resolve()
    for folder in (Path(__file__).resolve().parent.parent, here, *here.parents):
        if (folder / "notebooks").is_dir() and (folder / "pyproject.toml").is_file():
            return folder
    return here


def _folder(variable: str, *default: str) -> Path:
    if value := os.environ.get(variable):
        return Path(value).expanduser().resolve()
    return project_root().joinpath(*default)


def data_dir() -> Path:
    """Folder of the embedded sample and of downloaded data sets (`CIFAKE_DATA`)."""
    return _folder("CIFAKE_DATA", "data")


def cache_dir() -> Path:
    """Folder of unpacked archives, indexes and decoded images (`CIFAKE_CACHE`); safe to delete."""
    return _folder("CIFAKE_CACHE", "data", "cache")


def notebooks_dir() -> Path:
    """Folder of the notebook sources and `profiles.yaml`."""
    return project_root() / "notebooks"


def runs_dir() -> Path:
    """Folder of what you train: `<stage>/<run_id>/` (`CIFAKE_RUNS`)."""
    return _folder("CIFAKE_RUNS", "artifacts", "runs")


def released_dir() -> Path:
    """Folder of the models that ship with the project (`CIFAKE_RELEASED`)."""
    return _folder("CIFAKE_RELEASED", "artifacts", "released")


def resolve(path: str | Path) -> Path:
    """Find a path that a user gave: as it stands, or else below the project root.

    Notebooks start in different folders, so a relative path that holds in all of them is one from
    the project root.
    """
    given = Path(path).expanduser()
    return given if given.is_absolute() or given.exists() else project_root() / given


def shown(path: Path) -> str:
    """Write a path relative to the project root where possible, so that output names no machine."""
    path = Path(path).resolve()
    root = project_root()
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
