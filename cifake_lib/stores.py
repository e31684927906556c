"""Folders of images on this machine or elsewhere, by fsspec, and lists of what is in them."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import fsspec
import pyarrow
import pyarrow.parquet
from pyarrow.fs import FSSpecHandler, PyFileSystem
from tqdm.auto import tqdm

from cifake_lib import unpacking

LISTED_TOGETHER = 100_000  # images in a file of the listing


@dataclass(frozen=True)
class Store:
    """A folder, here or elsewhere.

    Attributes:
        url: As fsspec names it.
    """

    url: str

    def __post_init__(self):
        fsspec.core.url_to_fs(self.url)  # Says at once which package is missing.

    @property
    def _place(self) -> tuple[fsspec.AbstractFileSystem, str]:
        return fsspec.core.url_to_fs(self.url)

    @property
    def arrow(self) -> PyFileSystem:
        """The same for Arrow and Ray."""
        return PyFileSystem(FSSpecHandler(self._place[0]))

    def path(self, *names: str) -> str:
        """Return the path of what lies beneath, as the file system itself calls it."""
        return "/".join([self._place[1].rstrip("/"), *names])

    def images(self) -> Iterator[tuple[str, int]]:
        """Yield path and size in bytes of each image, folder after folder in the order of names.

        Raises:
            FileNotFoundError: There is no such folder.
        """
        files, root = self._place
        if not files.exists(root):
            raise FileNotFoundError(f"Expected a folder of images, found none at {self.url}.")
        for _, folders, found in files.walk(root, detail=True, topdown=True):
            for name in [name for name in folders if name.startswith((".", "__MACOSX"))]:
                del folders[name]
            for name in sorted(found):
                if not name.startswith(".") and unpacking.is_called_image(name):
                    yield found[name]["name"], found[name]["size"]

    def read(self, path: str) -> bytes:
        """Read a file, by the path that `images` gave."""
        return self._place[0].cat_file(path)


def write_listing(archive: Store, out: Store) -> int:
    """Write anew to `listing/` in a folder which images another holds: columns `path`, `bytes`.

    Returns:
        The number of its Parquet files, 0 where there is no image.

    Raises:
        FileNotFoundError: There is no such archive.
    """
    folder = out.path("listing")
    files = out.arrow.handler.fs
    if files.exists(folder):
        files.rm(folder, recursive=True)
    files.makedirs(folder)
    parts = 0
    with tqdm(desc="Listing", unit="file", delay=1) as progress:
        found = archive.images()
        for part in iter(lambda: list(islice(found, LISTED_TOGETHER)), []):
            paths, sizes = zip(*part, strict=True)
            table = pyarrow.table({"path": paths, "bytes": pyarrow.array(sizes, pyarrow.int64())})
            target = out.path("listing", f"{parts:06}.parquet")
            pyarrow.parquet.write_table(table, target, filesystem=out.arrow)
            parts += 1
            progress.update(len(part))
    return parts
