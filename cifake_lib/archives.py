"""Unpack zip and tar archives that are not trusted: once, atomically, and only below the target."""

import bz2
import contextlib
import gzip
import lzma
import shutil
import stat
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from tqdm.auto import tqdm

MAX_UNPACKED_BYTES = 200 * 2**30
MAX_MEMBERS = 5_000_000
_COPY_BYTES = 2**20


class ArchiveError(ValueError):
    """The archive cannot be unpacked safely; the message names it and says why."""


def is_archive(path: Path) -> bool:
    """Tell whether a file is a zip or tar archive, by its content."""
    return path.is_file() and (zipfile.is_zipfile(path) or tarfile.is_tarfile(path))


def unpack(archive: Path, target: Path, *, max_bytes: int = MAX_UNPACKED_BYTES) -> Path:
    """Unpack an archive into a new folder.

    Files are written beside the target and moved there by one rename at the end, so an interrupted
    unpacking leaves nothing that looks complete. An existing target is returned as it is.

    Args:
        archive: A zip or tar file (also gzip, bzip2 or xz).
        target: Folder to make.
        max_bytes: Refuse to write more than this many bytes.

    Returns:
        The target.

    Raises:
        ArchiveError: The file is no archive, is damaged, holds a path outside the target, a link or
            a device, or unpacks to more than the limits.
    """
    if target.is_dir():
        return target
    if not is_archive(archive):
        raise ArchiveError(f"Expected a zip or tar archive, received {archive}")
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        _write_members(archive, staging, max_bytes)
        # Another process may have finished the same archive meanwhile; theirs is as good.
        with contextlib.suppress(OSError):
            staging.rename(target)
        if not target.is_dir():
            raise ArchiveError(f"{archive} could not be moved to {target}")
    except ArchiveError:
        raise
    except Exception as error:  # Damage and encryption raise zlib, lzma, tar, zip and other errors.
        raise ArchiveError(f"{archive} could not be unpacked: {error}") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return target


def _write_members(archive: Path, folder: Path, max_bytes: int) -> None:
    written = 0
    progress = tqdm(desc=f"Unpacking {archive.name}", unit="file", delay=1)
    with progress, contextlib.closing(_members(archive)) as members:
        for count, (name, source) in enumerate(members, start=1):
            if count > MAX_MEMBERS:
                raise ArchiveError(f"{archive} holds more than {MAX_MEMBERS:,} files")
            path = folder / _safe_name(archive, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                # Count what really comes out: the sizes an archive states may be lies.
                while chunk := source.read(_COPY_BYTES):
                    written += len(chunk)
                    if written > max_bytes:
                        raise ArchiveError(
                            f"{archive} unpacks to more than {max_bytes / 2**30:.2f} GiB"
                        )
                    file.write(chunk)
            progress.update()


def _members(archive: Path) -> Iterator[tuple[str, BinaryIO]]:
    """Yield the name and content of each regular file; folders are skipped, links refused."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as file:
            for info in file.infolist():
                if stat.S_ISLNK(info.external_attr >> 16):
                    raise ArchiveError(f"{archive} holds a link: {info.filename!r}")
                if not info.is_dir():
                    with file.open(info) as source:
                        yield info.filename, source
        return
    # Streaming reads each compressed byte once; seeking back in .tar.xz would start over.
    with _decompressed(archive) as stream, tarfile.open(fileobj=stream, mode="r|") as file:
        for info in file:
            if info.isdir():
                continue
            if not info.isreg():
                raise ArchiveError(f"{archive} holds a link or device: {info.name!r}")
            yield info.name, file.extractfile(info)
        # The checksum of the compression is compared at its end, beyond the last member.
        while stream.read(_COPY_BYTES):
            pass


def _decompressed(archive: Path) -> BinaryIO:
    """Open a tar for reading; unlike tarfile's own streams these compare the checksums of gzip."""
    with archive.open("rb") as file:
        start = file.read(6)
    openers = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}
    for signature, opener in openers.items():
        if start.startswith(signature):
            return opener(archive)
    return archive.open("rb")


def _safe_name(archive: Path, name: str) -> PurePosixPath:
    path = PurePosixPath(name.replace("\\", "/"))
    windows_drive = ":" in path.parts[0] if path.parts else False
    if path.is_absolute() or ".." in path.parts or windows_drive or "\0" in name or not path.parts:
        raise ArchiveError(f"{archive} holds a path outside its folder: {name!r}")
    return path
