"""The files of an uploaded zip, one by one, in memory, from bytes that nobody vouches for.

`archives` unpacks a data set into a folder, completely or not at all. Here nothing is written, a
path is only ever a text to show, and one bad file costs its own row, not the others.
"""

from __future__ import annotations

import io
import logging
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from PIL import Image

from cifake_lib.images import FORMATS, MAX_BYTES

_HEAD = 16  # bytes that tell what a file is
_STEP = 2**16
_LOCAL_FILE, _DIRECTORY_ENTRY = b"PK\x03\x04", b"PK\x01\x02"
# The other methods are decompressed without a bound on what one call returns.
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_SYSTEM_FILES = {"__macosx", ".ds_store", "thumbs.db"}
_SHOWN_LENGTH = 200

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Member:
    """A file out of a zip, or one that was no zip.

    Attributes:
        name: To show (not escaped); of a file in a zip the path there. Never a path to open.
        content: The file; None if it could not be had.
        error: Why not, in one sentence (not escaped); "" if there is a content.
    """

    name: str
    content: bytes | None
    error: str = ""


@dataclass
class Limits:
    """What the zips of one choice of files may hold together; make one a choice, it counts.

    Attributes:
        entries: Files, without folders and what systems leave behind.
        total_bytes: Bytes when unpacked.
        used_entries: Files so far.
        used_bytes: Bytes that came out so far, those of damaged files too.
    """

    entries: int = 1000
    total_bytes: int = 500 * 2**20
    used_entries: int = 0
    used_bytes: int = 0


class _TooMuch(Exception):
    """The total is used up."""


def members(name: str, content: bytes, *, limits: Limits) -> Iterator[Member]:
    """Yield the images in a zip, sorted by path; yield any other file as it is.

    A file is a zip by its bytes, unless its first bytes are those of an image. The ratio of a
    compression is not looked at, since flat pictures compress as well as bombs do: what comes out
    is counted, a file at a time, and nothing beyond the limits is decompressed. Files in a zip
    that are no images share one sentence at the end, for an office document has dozens of them.

    Args:
        name: Of the file.
        content: The file.
        limits: What may still come out; counted up.

    Yields:
        One member for each image, one with a sentence for each that could not be had.
    """
    if not _is_zip(content):
        yield Member(name, content)
        return
    try:
        # Reading the directory makes an object of 500 bytes for each entry.
        if content.count(_DIRECTORY_ENTRY) > 20 * limits.entries:
            yield Member(name, None, f"{_too_many(name, limits)}; none was taken.")
            return
        archive = zipfile.ZipFile(io.BytesIO(content))
    except Exception as error:  # zipfile raises struct.error, UnicodeDecodeError and others, too.
        logger.info("%r does not open: %r", name, error)
        sentence = f"{name} is a damaged or incomplete zip: please download or make it again."
        yield Member(name, None, sentence)
        return
    with archive:
        yield from _expand(name, archive, limits)


def count(content: bytes, *, limits: Limits) -> int:
    """Return how many files `members` will go through at most, for a display of progress."""
    if not _is_zip(content) or content.count(_DIRECTORY_ENTRY) > 20 * limits.entries:
        return 1
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return sum(not _is_left_behind(info) for info in archive.infolist())
    except Exception:  # As above; `members` says what is wrong.
        return 1


def shown_name(path: str) -> str:
    """Return a stranger's path as a text to show.

    Without root, drive, `..` and characters that cannot be seen, among them those that turn the
    direction of writing; of a very long one the end.
    """
    visible = "".join(c if c.isprintable() else " " for c in path.replace("\\", "/"))
    parts = [part.strip() for part in visible.split("/")]
    kept = [p for p in parts if p not in ("", ".", "..") and not re.fullmatch("[A-Za-z]:", p)]
    return "/".join(kept)[-_SHOWN_LENGTH:] or "unnamed file"


def _expand(name: str, archive: zipfile.ZipFile, limits: Limits) -> Iterator[Member]:
    images, others, cut = 0, [], ""
    wanted = (info for info in archive.infolist() if not _is_left_behind(info))
    for info in sorted(wanted, key=lambda info: info.filename):
        if limits.used_entries == limits.entries:
            cut = f"{_too_many(name, limits)}; the rest was left out."
            break
        limits.used_entries += 1
        try:
            member = _read(archive, info, limits)
        except _TooMuch:
            cut = (
                f"{name} unpacks to too much: expected at most {limits.total_bytes / 2**20:.0f} MB "
                "in zips at once; the rest was left out."
            )
            break
        if member is None:
            others.append(shown_name(info.filename))
        else:
            images += 1
            yield member
    if cut:
        yield Member(name, None, cut)
    if others:
        count = f"{len(others):,} other files" if others[1:] else "1 other file"
        has = f"also holds {count}" if images else f"holds no image but {count}"
        first = f"{others[0]} …" if others[1:] else others[0]
        yield Member(name, None, f"{name} {has}, left out as no image: {first}")
    elif not images and not cut:
        yield Member(name, None, f"{name} holds no image.")


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo, limits: Limits) -> Member | None:
    """Read one file; None if it is no image."""
    name = shown_name(info.filename)
    if info.flag_bits & 1:
        return Member(
            name, None, f"{name} is encrypted: please unpack the zip and choose its images."
        )
    if info.compress_type not in _METHODS:
        return Member(
            name,
            None,
            f"{name} is compressed in an unusual way: expected the zip method deflate; please "
            "make the zip again.",
        )
    try:
        with archive.open(info) as source:
            head = source.read(_HEAD)
            if head.startswith(_LOCAL_FILE):
                return Member(
                    name, None, f"{name} is a zip inside a zip: please choose it by itself."
                )
            if not _is_image(head) and not is_called_image(name):
                return None
            if info.file_size > MAX_BYTES:
                return Member(name, None, _too_large(name, info.file_size))
            # zipfile returns no more than the stated size, and then compares the checksum.
            parts = [head]
            limits.used_bytes += len(head)
            while part := source.read(_STEP):
                parts.append(part)
                limits.used_bytes += len(part)
                if limits.used_bytes > limits.total_bytes:
                    raise _TooMuch
            return Member(name, b"".join(parts))
    except _TooMuch:
        raise
    except Exception as error:  # Damage raises zlib, zip, struct and other errors.
        logger.info("%r in a zip cannot be read: %r", name, error)
        return Member(name, None, f"{name} is damaged in its zip: please make the zip again.")


def _is_zip(content: bytes) -> bool:
    if _is_image(content[:_HEAD]):
        return False
    # A zip cut off has its beginning only; one that unpacks itself has its end only.
    return content.startswith(_LOCAL_FILE) or zipfile.is_zipfile(io.BytesIO(content))


def _is_image(head: bytes) -> bool:
    """Tell by the first bytes whether `images` would try to decode a file."""
    if head[4:8] == b"ftyp":  # HEIC, or a video, of which `images` says that it is one
        return True
    head = head.ljust(_HEAD, b"\0")
    return any(Image.OPEN[file_format][1](head) for file_format in FORMATS)


def is_called_image(name: str) -> bool:
    """Tell by its name whether a file is meant to be an image."""
    suffix = PurePosixPath(name).suffix.lower()
    return suffix in (".heic", ".heif") or Image.EXTENSION.get(suffix) in FORMATS


def _is_left_behind(info: zipfile.ZipInfo) -> bool:
    parts = info.filename.lower().replace("\\", "/").split("/")
    return info.is_dir() or not _SYSTEM_FILES.isdisjoint(parts) or parts[-1].startswith("._")


def _too_many(name: str, limits: Limits) -> str:
    return f"{name} holds too many files: expected at most {limits.entries:,} in zips at once"


def _too_large(name: str, size: int) -> str:
    return (
        f"{name} is too large: expected at most {MAX_BYTES / 2**20:.0f} MB, received "
        f"{size / 2**20:.1f} MB; please choose a smaller copy."
    )
