"""EXIF: what a camera or a program noted about a picture, read from untrusted bytes.

Pillow has a reader too. This one exists because it is bounded: a small block can claim thousands of
entries that all point at the same long value, and here each costs at most `MAX_VALUE` bytes.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field
from fractions import Fraction

from PIL import ExifTags

from cifake_lib.metadata_facts import CAMERA, UNREADABLE, Fact, readable
from cifake_lib.metadata_origin import software_fact

MAX_ENTRIES = 128  # of a directory; cameras write about 60
MAX_VALUE = 20_000  # bytes of a value that are looked at
MAX_PACKET = 2**20  # the same for XMP, which a TIFF file holds in a tag
MAX_NUMBERS = 16
MAX_FACTS = 80

XMP_TAG, PICTURES_TAG = 0x02BC, 0xB001
_EXIF_TAG, _GPS_TAG, _THUMBNAIL_TAG, _COMMENT_TAG = 0x8769, 0x8825, 0x0201, 0x9286
_FORMATS = {1: "B", 3: "H", 4: "I", 5: "II", 6: "b", 8: "h", 9: "i", 10: "ii", 11: "f", 12: "d"}
_REAL = (int, float, Fraction)
_TEXT_KINDS = (2, 129)  # ASCII, and UTF-8 from Exif 3.0 on
_WINDOWS_TAGS = range(0x9C9B, 0x9CA0)  # XPTitle to XPSubject: UTF-16

_NAMES = {
    0x010F: "Camera make",
    0x0110: "Camera model",
    0xA434: "Lens",
    0x9003: "Taken on",
    0x9004: "Digitised on",
    0x0132: "File changed on",
    0x829A: "Exposure time",
    0x829D: "Aperture",
    0x8827: "ISO speed",
    0x920A: "Focal length",
    0xA405: "Focal length (35 mm film)",
    0x9286: "User comment",
    0x010E: "Description",
}
# Addresses inside the file and raw blocks, which tell a reader nothing.
_STRUCTURE = {0x0100, 0x0101, 0x0111, 0x0117, 0x0144, 0x0145, 0x014A, 0x0201, 0x0202, 0x02BC}
_STRUCTURE |= {0x8649, 0x8769, 0x8773, 0x83BB, 0x8825, 0xA005, 0xC4A5, 0xEA1C, 0xCD41}
_SOFTWARE_TAGS = {0x0131: "Software (EXIF)", 0x013C: "Host computer (EXIF)"}


@dataclass
class Tags:
    """The directories of an EXIF block, each as values by tag number.

    Attributes:
        main: The picture: make, model, software, size.
        exif: How it was taken.
        gps: Where.
        thumbnail: Its embedded small version.
        damaged: Whether the block broke off; what was read before is kept.
    """

    main: dict = field(default_factory=dict)
    exif: dict = field(default_factory=dict)
    gps: dict = field(default_factory=dict)
    thumbnail: dict = field(default_factory=dict)
    damaged: bool = False

    def texts(self) -> dict[str, str]:
        """Return the texts that generators are known to hide their parameters in."""
        values = {
            ExifTags.TAGS.get(tag, ""): value for tag, value in (self.main | self.exif).items()
        }
        names = ("UserComment", "ImageDescription", "Make", "Model", "XPComment")
        return {name: values[name] for name in names if isinstance(values.get(name), str)}

    def thumbnails(self) -> int:
        """Return how many small versions the block holds: 0 or 1."""
        return int(_THUMBNAIL_TAG in self.thumbnail)


def read_tags(block: bytes) -> Tags:
    """Read the directories of an EXIF block or a TIFF file.

    Source: TIFF 6.0, section 2; CIPA DC-008 (Exif 3.0), section 4.6.

    Args:
        block: Bytes from the TIFF header on. At most 4 × `MAX_ENTRIES` entries of at most
            `MAX_VALUE` bytes are read, wherever they point.

    Returns:
        What could be read; text as str, numbers as int, float or Fraction (tuples of them where
        there are several, None for a division by zero), other values as bytes. Never raises.
    """
    tags = Tags()
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(bytes(block[:4]))
    if order is None:
        return Tags(damaged=True)
    try:
        (offset,) = struct.unpack_from(order + "I", block, 4)
        following = _read_directory(block, offset, order, tags.main)
        for pointer, directory in ((_EXIF_TAG, tags.exif), (_GPS_TAG, tags.gps)):
            if isinstance(offset := tags.main.get(pointer), int):
                _read_directory(block, offset, order, directory)
        if following:
            _read_directory(block, following, order, tags.thumbnail)
    except (struct.error, ValueError, OverflowError):
        tags.damaged = True
    return tags


def _read_directory(block: bytes, offset: int, order: str, found: dict) -> int:
    """Fill `found` as far as the block allows; return the address of the next directory."""
    (count,) = struct.unpack_from(order + "H", block, offset)
    for entry in range(offset + 2, offset + 2 + 12 * min(count, MAX_ENTRIES), 12):
        tag, kind, number = struct.unpack_from(order + "HHI", block, entry)
        width = struct.calcsize(f"={_FORMATS.get(kind, 'B')}")
        size = number * width
        start = entry + 8
        if size > 4:
            (start,) = struct.unpack_from(order + "I", block, start)
        limit = MAX_PACKET if tag == XMP_TAG else MAX_VALUE
        raw = bytes(block[start : start + min(size, limit)])
        if raw:
            found[tag] = _decode(tag, kind, raw, width, order)
    end = offset + 2 + 12 * count
    return struct.unpack_from(order + "I", block, end)[0] if end + 4 <= len(block) else 0


def _decode(tag: int, kind: int, raw: bytes, width: int, order: str) -> object:
    if tag == _COMMENT_TAG:
        return _comment(raw)
    if tag in _WINDOWS_TAGS:
        return _plain(raw.decode("utf-16-le", "replace"))
    if kind in _TEXT_KINDS:
        return _plain(text(raw))
    if kind not in _FORMATS or (kind == 1 and len(raw) > MAX_NUMBERS):
        return raw
    number = min(len(raw) // width, MAX_NUMBERS)
    values = struct.unpack_from(f"{order}{_FORMATS[kind] * number}", raw)
    if kind in (5, 10):
        pairs = zip(values[::2], values[1::2], strict=True)
        values = tuple(Fraction(top, bottom) if bottom else None for top, bottom in pairs)
    return values[0] if len(values) == 1 else values


def text(raw: bytes) -> str:
    """Decode text that says nothing about its encoding: UTF-8 if it can be, else Latin-1."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _comment(raw: bytes) -> str:
    """Decode a UserComment: eight bytes name the character set, then comes the text."""
    code, body = raw[:8], raw[8:]
    if code.startswith(b"UNICODE"):
        # The specification leaves the byte order open: it is where the zero bytes of Latin are.
        big = body[::2].count(0) >= body[1::2].count(0)
        return _plain(body.decode("utf-16-be" if big else "utf-16-le", "replace"))
    return _plain(text(body if code in (b"ASCII\0\0\0", b"\0" * 8) else raw))


def _plain(value: str) -> str:
    return value.replace("\0", " ").strip()


def exif_facts(tags: Tags) -> list[Fact]:
    """Write the tags as readable names and values, the usual ones first.

    Args:
        tags: As `read_tags` returns them.

    Returns:
        Facts of the groups camera and software. There is always one about the place.
    """
    values = tags.main | tags.exif
    known = [tag for tag in _NAMES if tag in values]
    others = [tag for tag in values if tag not in _NAMES and tag not in _STRUCTURE]
    facts = [
        software_fact(name, _write(tag, values[tag]))
        for tag, name in _SOFTWARE_TAGS.items()
        if tag in values
    ]
    for tag in (known + others)[:MAX_FACTS]:
        if tag not in _SOFTWARE_TAGS and (value := _write(tag, values[tag])):
            facts.append(Fact(CAMERA, _NAMES.get(tag) or _spaced(tag), value))
    facts.append(Fact(CAMERA, "Place (GPS)", _place(tags.gps)))
    if tags.damaged:
        facts.append(Fact(CAMERA, "Rest of the EXIF block", UNREADABLE))
    return facts


def _spaced(tag: int) -> str:
    """Split the name of the standard: "MeteringMode" → "Metering mode"."""
    name = ExifTags.TAGS.get(tag)
    if name is None:
        return f"Tag {tag:#06x}"
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).split()
    return " ".join([words[0], *(word if word.isupper() else word.lower() for word in words[1:])])


def _write(tag: int, value: object) -> str:
    if isinstance(value, bytes):
        return (
            f"binary, {len(value):,} bytes or more" if len(value) == MAX_VALUE else _binary(value)
        )
    if isinstance(value, tuple):
        return " ".join(_number(part) for part in value)
    if isinstance(value, str):
        return readable(value)
    if tag == 0x829A and isinstance(value, _REAL) and 1e-9 < value < 1:
        return f"1/{round(1 / value)} s"
    units = {0x829A: "{} s", 0x829D: "f/{}", 0x920A: "{} mm", 0xA405: "{} mm"}
    return units.get(tag, "{}").format(_number(value))


def _binary(value: bytes) -> str:
    """Show short values such as the version "0232", and count the bytes of long ones."""
    if len(value) <= 8 and value.isascii() and value.decode().isprintable():
        return value.decode()
    return f"binary, {len(value):,} bytes"


def _number(value: object) -> str:
    if value is None:
        return "undefined"
    return str(value) if isinstance(value, int) else f"{float(value):.6g}"


def _place(gps: dict) -> str:
    """Say whether there is a place, and where: latitude and longitude in degrees."""
    if not gps:
        return "none"
    latitude, longitude = _degrees(gps.get(2), 90), _degrees(gps.get(4), 180)
    if latitude is None or longitude is None:
        return "a GPS block without usable coordinates"
    south, west = (str(gps.get(tag, "")).strip().upper()[:1] for tag in (1, 3))
    return (
        f"{latitude:.5f}° {'S' if south == 'S' else 'N'}, "
        f"{longitude:.5f}° {'W' if west == 'W' else 'E'}"
    )


def _degrees(parts: object, largest: int) -> float | None:
    """Add up degrees, minutes and seconds."""
    if not isinstance(parts, tuple) or len(parts) != 3:
        return None
    if not all(isinstance(part, _REAL) for part in parts):
        return None
    degrees = float(parts[0]) + float(parts[1]) / 60 + float(parts[2]) / 3600
    return degrees if 0 <= degrees <= largest else None
