"""Take an image file apart into its blocks, without decoding a pixel.

JPEG, PNG, WebP and TIFF are walked here, block by block; Pillow reads the header of the others.
Every walk is bounded in the number of blocks, and every block in the bytes that are kept of it.
"""

from __future__ import annotations

import io
import logging
import re
import struct
import zlib
from dataclasses import dataclass, field
from itertools import islice

from PIL import Image

from cifake_lib.images import FORMATS
from cifake_lib.metadata_exif import PICTURES_TAG, XMP_TAG, read_tags, text
from cifake_lib.metadata_jpeg import encoder_facts, quantisation_tables

MAX_BLOCKS = 20_000  # PNG and WebP
MAX_SEGMENTS = 1000  # JPEG, where a segment can be long
MAX_BLOCK = 2**20  # bytes kept of EXIF, XMP and text
MAX_TEXTS = 32

_MODES = {
    "1": "black and white",
    "L": "greyscale",
    "LA": "greyscale with transparency",
    "P": "palette",
    "RGB": "RGB colour",
    "RGBA": "RGB colour with transparency",
    "CMYK": "CMYK colour",
}
_PNG_COLOURS = {0: "L", 2: "RGB", 3: "P", 4: "LA", 6: "RGBA"}
_TIFF_COLOURS = {0: "L", 1: "L", 2: "RGB", 3: "P", 5: "CMYK"}
_TIFF_COMPRESSIONS = {1: "none", 5: "LZW", 7: "JPEG", 8: "Deflate", 32773: "PackBits"}
_XMP_KEY = b"XML:com.adobe.xmp"
_MARKER = re.compile(rb"\xff+([^\xff])")  # any number of fill bytes may stand before it

logger = logging.getLogger(__name__)


@dataclass
class Contents:
    """The blocks of an image file.

    Attributes:
        format: "JPEG", "PNG" and so on; "" if nothing recognises the file.
        mode: Colour model in words.
        size: Width and height in pixels; (0, 0) if unknown.
        encoder: What the header tells about the encoder, values by name.
        exif: EXIF block from the TIFF header on, b"" if there is none.
        xmp: XMP packet, b"" if there is none.
        texts: Text blocks and comments as (key, text), in the order of the file.
        index: List of further pictures in the file, such as depth and brightness maps of a phone
            (MPF, source: CIPA DC-007, section 5); built like EXIF.
        thumbnails: Small versions outside the EXIF block.
        damaged: Whether the file broke off or did not make sense; what was read before is kept.
    """

    format: str = ""
    mode: str = ""
    size: tuple[int, int] = (0, 0)
    encoder: dict[str, str] = field(default_factory=dict)
    exif: bytes = b""
    xmp: bytes = b""
    texts: list[tuple[str, str]] = field(default_factory=list)
    index: bytes = b""
    thumbnails: int = 0
    damaged: bool = False


def read_contents(data: bytes) -> Contents:
    """Take an image file apart.

    Args:
        data: The whole file, untrusted.

    Returns:
        What could be read. Never raises.
    """
    contents = Contents()
    try:
        _reader(data)(data, contents)
    except Exception as error:
        logger.info("The file breaks off or makes no sense: %r", error)
        contents.damaged = True
    return contents


def _reader(data: bytes):
    if data.startswith(b"\xff\xd8\xff"):
        return _read_jpeg
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return _read_png
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return _read_webp
    if data.startswith((b"II*\0", b"MM\0*")):
        return _read_tiff
    return _read_header


def _read_jpeg(data: bytes, contents: Contents) -> None:
    """Walk the segments up to the first scan. Source: ITU-T T.81, annex B; JFIF 1.02."""
    contents.format = "JPEG"
    position, tables, frame = 2, {}, None
    for _ in range(MAX_SEGMENTS):
        marker = _MARKER.match(data, position)
        if marker is None:
            raise ValueError("expected a marker")
        kind, position = marker[1][0], marker.end()
        if kind in (0xD9, 0xDA):
            break
        (length,) = struct.unpack_from(">H", data, position)
        body = data[position + 2 : position + length]
        position += length
        if kind == 0xDB:
            tables |= quantisation_tables(body)
        elif 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):
            frame = kind, body
            height, width = struct.unpack_from(">HH", body, 1)
            contents.size = width, height
            contents.mode = _MODES[{1: "L", 4: "CMYK"}.get(body[5], "RGB")]
        elif kind == 0xFE:
            _add_text(contents, "JPEG comment", text(body[:MAX_BLOCK]))
        else:
            _read_application_segment(kind, body, contents)
    if frame:
        contents.encoder |= encoder_facts(*frame, tables)
    pictures = read_tags(contents.index).main.get(PICTURES_TAG)
    if isinstance(pictures, int) and pictures > 1:
        contents.encoder["Further pictures (MPF)"] = str(pictures - 1)


def _read_application_segment(kind: int, body: bytes, contents: Contents) -> None:
    if kind == 0xE1 and body.startswith(b"Exif\0"):
        # A block over 64 kB goes on in the next segment.
        contents.exif = (contents.exif + body[6:])[:MAX_BLOCK]
    elif kind == 0xE1 and body.startswith(b"http://ns.adobe.com/xap/1.0/\0"):
        contents.xmp = contents.xmp or body[29:]
    elif kind == 0xE0 and body.startswith(b"JFIF\0"):
        contents.thumbnails += len(body) > 13 and body[12] * body[13] > 0
    elif kind == 0xE0 and body.startswith(b"JFXX\0"):
        contents.thumbnails += 1
    elif kind == 0xED and body.startswith(b"Photoshop 3.0\0"):
        contents.thumbnails += body.count(b"8BIM\x04\x0c") + body.count(b"8BIM\x04\x09")
    elif kind == 0xE2 and body.startswith(b"MPF\0"):
        contents.index = contents.index or body[4:]


def _read_png(data: bytes, contents: Contents) -> None:
    """Walk all chunks: text may stand behind the pixels. Source: PNG, third edition, section 5."""
    contents.format = "PNG"
    position, texts = 8, 0
    for _ in range(MAX_BLOCKS):
        length, kind = struct.unpack_from(">I4s", data, position)
        start, end = position + 8, position + 8 + length
        position = end + 4
        if kind == b"IHDR":
            width, height, depth, colour, _, _, interlace = struct.unpack_from(
                ">IIBBBBB", data, start
            )
            contents.size = width, height
            contents.mode = _MODES.get(_PNG_COLOURS.get(colour, ""), f"unknown ({colour})")
            contents.encoder["Bit depth"] = f"{depth} bits per sample"
            contents.encoder["Interlaced"] = "yes (Adam7)" if interlace else "no"
        elif kind == b"acTL":
            contents.encoder["Animated"] = "yes"
        elif kind == b"eXIf":
            contents.exif = contents.exif or _kept(data, start, end)
        elif kind in (b"tEXt", b"zTXt", b"iTXt") and texts < MAX_TEXTS:
            texts += 1
            _read_png_text(kind, _kept(data, start, end), contents)
        elif kind == b"IEND":
            return
    raise ValueError(f"expected at most {MAX_BLOCKS} chunks")


def _read_png_text(kind: bytes, body: bytes, contents: Contents) -> None:
    """Read a keyword and its text. Source: PNG, third edition, section 11.3.3."""
    key, _, rest = body.partition(b"\0")
    if kind == b"zTXt":
        rest = _unpacked(rest[1:])
    elif kind == b"iTXt":
        compressed, rest = rest[:1] == b"\1", rest[2:].split(b"\0", 2)[-1]
        rest = _unpacked(rest) if compressed else rest
    if key == _XMP_KEY:
        contents.xmp = contents.xmp or rest
    else:
        # A tEXt chunk should be Latin-1, but several generators write UTF-8 into it.
        _add_text(contents, text(key), text(rest))


def _unpacked(data: bytes) -> bytes:
    """Decompress at most `MAX_BLOCK` bytes, however many there are."""
    try:
        return zlib.decompressobj().decompress(data, MAX_BLOCK)
    except zlib.error:
        return b"(unreadable: damaged compression)"


def _read_webp(data: bytes, contents: Contents) -> None:
    """Walk the chunks. Source: RFC 9649 (container, lossless pictures), RFC 6386 (lossy ones)."""
    contents.format = "WebP"
    compressions, alpha, frames = set(), False, 0
    for kind, start, end in _webp_chunks(data, 12, len(data)):
        if kind == b"VP8X":
            alpha = bool(data[start] & 16)
            sides = data[start + 4 : start + 7], data[start + 7 : start + 10]
            contents.size = tuple(1 + int.from_bytes(side, "little") for side in sides)
        elif kind == b"EXIF":
            block = _kept(data, start, end)
            contents.exif = contents.exif or block.removeprefix(b"Exif\0\0")
        elif kind == b"XMP ":
            contents.xmp = contents.xmp or _kept(data, start, end)
        elif kind == b"ANMF":
            frames += 1
            inner = islice(_webp_chunks(data, start + 16, end), 4)
            compressions |= {part for part, _, _ in inner} & {b"VP8 ", b"VP8L"}
        elif kind in (b"VP8 ", b"VP8L"):
            compressions.add(kind)
            size, transparent = _webp_size(kind, data, start)
            alpha |= transparent
            contents.size = contents.size if any(contents.size) else size
    contents.mode = _MODES["RGBA" if alpha else "RGB"]
    names = {b"VP8 ": "lossy", b"VP8L": "lossless"}
    contents.encoder["Compression"] = " and ".join(sorted(names[c] for c in compressions))
    if frames:
        contents.encoder["Animated"] = f"yes, {frames:,} frames"
    if not compressions:
        raise ValueError("expected a picture")


def _webp_chunks(data: bytes, position: int, end: int):
    for _ in range(MAX_BLOCKS):
        if position + 8 > end:
            return
        kind, size = struct.unpack_from("<4sI", data, position)
        yield kind, position + 8, min(position + 8 + size, end)
        position += 8 + size + size % 2


def _webp_size(kind: bytes, data: bytes, start: int) -> tuple[tuple[int, int], bool]:
    """Read width, height and transparency from the header of a picture."""
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, start + 1)
        return (1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)), bool(bits >> 28 & 1)
    width, height = struct.unpack_from("<HH", data, start + 6)
    return (width & 0x3FFF, height & 0x3FFF), False


def _read_tiff(data: bytes, contents: Contents) -> None:
    contents.format = "TIFF"
    contents.exif = data
    main = read_tags(data).main
    packet = main.get(XMP_TAG)
    contents.xmp = packet if isinstance(packet, bytes) else b""
    contents.mode = _MODES.get(_TIFF_COLOURS.get(main.get(0x0106), ""), "")
    compression = _TIFF_COMPRESSIONS.get(main.get(0x0103))
    contents.encoder |= {"Compression": compression} if compression else {}
    contents.size = int(main[0x0100]), int(main[0x0101])


def _read_header(data: bytes, contents: Contents) -> None:
    """Let Pillow read the header of any other format that the dashboard opens."""
    Image.init()
    formats = [name for name in (*FORMATS, "HEIF") if name in Image.OPEN]
    with Image.open(io.BytesIO(data), formats=formats) as image:
        contents.format = image.format or ""
        contents.mode = _MODES.get(image.mode, image.mode)
        contents.size = image.size
        for key, value in (("exif", image.info.get("exif")), ("xmp", image.info.get("xmp"))):
            if isinstance(value, bytes):
                setattr(contents, key, value[:MAX_BLOCK].removeprefix(b"Exif\0\0"))
        if isinstance(comment := image.info.get("comment"), bytes):
            _add_text(contents, "Comment", text(comment[:MAX_BLOCK]))


def _kept(data: bytes, start: int, end: int) -> bytes:
    return data[start : min(end, start + MAX_BLOCK)]


def _add_text(contents: Contents, key: str, value: str) -> None:
    if len(contents.texts) < MAX_TEXTS:
        contents.texts.append((key, value))
