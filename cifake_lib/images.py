"""Untrusted bytes to an RGB image, with every refusal one clear sentence.

Whatever a visitor uploads goes through `decode_image`, and whatever a model looks at goes through
`fit_image`: training cache and dashboard share them, so that both show a model the same pixels.
"""

from __future__ import annotations

import io
import logging
import time

import numpy as np
from PIL import (  # noqa: F401  Importing a plugin is what makes its format readable.
    AvifImagePlugin,
    BmpImagePlugin,
    ExifTags,
    GifImagePlugin,
    Image,
    ImageOps,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from cifake_lib.colour import to_srgb
from cifake_lib.crops import margin

MAX_BYTES = 30 * 2**20
MAX_PIXELS = 100_000_000
MAX_SIDE = 30_000  # The longest panoramas of telephones have about 20,000.
MAX_SECONDS = 15  # An ordinary file at the limits above takes 1 to 6.

# A closed list: Pillow knows dozens of formats, and some of them (EPS) start other programs.
# Two more come with these: the plugin of JPEG opens MPO, and `_open_heic` opens HEIC.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "AVIF")
READABLE = "JPEG, PNG, WebP, HEIC, AVIF, GIF, BMP or TIFF"

_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_OTHER_KINDS = {
    b"%PDF": "a PDF document",
    b"8BPS": "a Photoshop document",
    b"PK\x03\x04": "a zip archive or an office document",
    b"\xff\x0a": "a JPEG XL picture, which cannot be read here",
    b"\0\0\0\x0cJXL ": "a JPEG XL picture, which cannot be read here",
    b"\0\0\0\x0cjP  ": "a JPEG 2000 picture, which cannot be read here",
}
_NEW_SUBFILE_TYPE = 254  # tag of TIFF
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

logger = logging.getLogger(__name__)


class ImageError(ValueError):
    """A file that cannot be used as an image; its text is one sentence for the user."""


class _PatientFile(io.BytesIO):
    """A file that refuses to be read on when decoding it has taken `MAX_SECONDS`.

    Some formats are decoded by loops in Python over single bytes, which a file can be made for:
    30 MB of them take minutes. Every such loop reads, so it ends here.
    """

    def __init__(self, data: bytes, name: str):
        super().__init__(data)
        self._called = name
        # The time this thread computes, so that a busy machine refuses nothing.
        self._deadline = time.thread_time() + MAX_SECONDS

    def read(self, size: int | None = -1, /) -> bytes:
        if time.thread_time() > self._deadline:
            raise ImageError(_too_slow(self._called))
        return super().read(size)


def decode_image(data: bytes, *, name: str = "image") -> Image.Image:
    """Decode the bytes of an untrusted file into an upright sRGB image.

    The size is read from the header and checked before any pixel is decoded, and of an animated or
    multi-page file only the first picture is decoded. EXIF orientation is applied, colours are
    converted from an embedded profile to sRGB, transparency is laid on white, and 16-bit samples
    keep their high byte. The pixels of an 8-bit RGB or grey file with neither of these, such as
    the images of CIFAKE, are those that Pillow decodes. HEIC needs the package pillow-heif.

    Args:
        data: The whole file, at most `MAX_BYTES` bytes.
        name: How the sentence of a refusal calls the file. It is used as it is: escape the
            sentence before putting it into HTML.

    Returns:
        An image of mode "RGB" with at most `MAX_PIXELS` pixels and `MAX_SIDE` pixels a side, fully
        loaded, without metadata. Decoding the largest takes up to 2.5 GB meanwhile.

    Raises:
        ImageError: The file is empty, too large, no image, damaged, of an unreadable kind, or made
            so that decoding it would take too long.
    """
    if len(data) == 0:
        raise ImageError(
            f"{name} is empty: expected an image, received 0 bytes; "
            "please download or export it again."
        )
    if len(data) > MAX_BYTES:
        raise ImageError(
            f"{name} is too large: expected at most {MAX_BYTES / 2**20:.0f} MB, "
            f"received {len(data) / 2**20:.1f} MB; please choose a smaller copy."
        )
    try:
        with open_header(data, name) as image:
            _check_header(image, data, name)
            image.load()
            return _to_rgb(_upright(image), image.format, name)
    except ImageError:
        raise
    except Exception as error:
        # Damaged files make Pillow's plugins raise nearly anything: OSError, SyntaxError,
        # ValueError, struct.error, IndexError, MemoryError.
        logger.info("%r does not decode: %r", name, error)
        if "MAX_TEXT" in str(error):
            raise ImageError(
                f"{name} holds text or a colour profile of more than 1 MB: "
                "please save it again without metadata."
            ) from error
        raise ImageError(
            f"{name} is damaged or incomplete and cannot be read: "
            "please download or export it again."
        ) from error


def fit_image(image: Image.Image, size: int, crop: str = "centre") -> np.ndarray:
    """Bring an image to the square that a model looks at.

    Args:
        image: An image of any size and mode.
        size: Side of the result in pixels.
        crop: One of `crops.CROPS`.

    Returns:
        uint8 array of shape `(size, size, 3)`, RGB, 0–255; the very pixels of an image that
        already has this size, unless `random` crops them.
    """
    edge = margin(size, crop)
    side = size + 2 * edge
    image = image.convert("RGB")
    if image.size != (side, side):
        # Pillow widens its bicubic filter when shrinking, so this is antialiased.
        bicubic = Image.Resampling.BICUBIC
        if crop == "squash":
            image = image.resize((side, side), bicubic)
        else:
            image = ImageOps.fit(image, (side, side), method=bicubic)
    return np.array(image)[edge : edge + size, edge : edge + size]


def open_header(data: bytes, name: str) -> Image.Image:
    """Read the header of an image file of a format in `READABLE`; its pixels are not decoded yet.

    Raises:
        ImageError: The file is none of these; the message says what it is.
    """
    file = _PatientFile(data, name)
    try:
        return Image.open(file, formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(_too_many_pixels(name, "more")) from error
    except UnidentifiedImageError as error:
        if data[4:8] == b"ftyp" and data[8:12] in _HEIC_BRANDS:
            return _open_heic(file, name)
        raise ImageError(f"{name} is {_kind(data)}: please choose a {READABLE} file.") from error


def _open_heic(file: io.BytesIO, name: str) -> Image.Image:
    try:
        # Not `register_heif_opener`, which would change Pillow for the whole process.
        from pillow_heif import HeifImageFile
    except ImportError as error:
        raise ImageError(
            f"{name} is an HEIC picture, which needs the package pillow-heif: please export it as "
            "JPEG, or install the package with `pip install pillow-heif`."
        ) from error
    file.seek(0)
    return HeifImageFile(file)


def _kind(data: bytes) -> str:
    """Say what a file is that no plugin takes."""
    start = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith(b"<") and b"<svg" in start:
        return "an SVG drawing, which has no pixels to examine"
    if data[4:8] == b"ftyp" and data[8:11] in (b"iso", b"mp4", b"avc", b"M4V", b"qt ", b"3gp"):
        return "a video"
    kinds = (kind for signature, kind in _OTHER_KINDS.items() if data.startswith(signature))
    return next(kinds, "not an image that can be read")


def _check_header(image: Image.Image, data: bytes, name: str) -> None:
    """Refuse what is too much to decode."""
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ImageError(_too_many_pixels(name, f"{width:,} × {height:,}"))
    if max(width, height) > MAX_SIDE:
        raise ImageError(
            f"{name} is too long: expected at most {MAX_SIDE:,} pixels a side, "
            f"received {width:,} × {height:,}; please crop it or choose a smaller copy."
        )
    if image.format in ("JPEG", "MPO"):
        # A progressive JPEG goes over all pixels once for each of its scans, of which usual ones
        # have ten and a small file may have thousands.
        if width * height * data.count(b"\xff\xda") > 100 * MAX_PIXELS:
            raise ImageError(_too_slow(name))
    elif image.format == "TIFF":
        tags = image.tag_v2
        if tags.get(_NEW_SUBFILE_TYPE, 0) & 1:
            raise ImageError(
                f"{name} begins with a small preview, as raw files of cameras do: "
                "please export the picture as JPEG."
            )
        # A tile is decoded whole, however little of it the picture shows.
        tile = (tags.get(TiffImagePlugin.TILEWIDTH, 0), tags.get(TiffImagePlugin.TILELENGTH, 0))
        if any(length > max(side, 4096) for length, side in zip(tile, image.size, strict=True)):
            raise ValueError(f"tiles of {tile} pixels in a picture of {image.size}")


def _too_many_pixels(name: str, received: str) -> str:
    return (
        f"{name} has too many pixels: expected at most {MAX_PIXELS // 10**6} million, "
        f"received {received}; please choose a smaller copy."
    )


def _too_slow(name: str) -> str:
    return (
        f"{name} takes too long to decode: expected a file that decodes within {MAX_SECONDS} "
        "seconds, received an unusual one; please save it again as PNG or JPEG."
    )


def _upright(image: Image.Image) -> Image.Image:
    """Apply the EXIF orientation; a file with unreadable EXIF data is taken as it is."""
    try:
        method = _UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation))
    except Exception as error:
        logger.info("EXIF orientation ignored: %r", error)
        return image
    return image if method is None else image.transpose(method)


def _to_rgb(image: Image.Image, file_format: str, name: str) -> Image.Image:
    """Bring any mode to sRGB on white."""
    profile = image.info.get("icc_profile")
    image = _to_eight_bits(image, file_format, name)
    alpha = None
    if image.has_transparency_data:
        image = image.convert("LA" if image.mode in ("1", "L", "LA", "La") else "RGBA")
        alpha = image.getchannel("A")
    if image.mode in ("1", "LA"):
        image = image.convert("L")
    elif image.mode not in ("L", "RGB", "CMYK"):
        image = image.convert("RGB")
    image = to_srgb(image, profile).convert("RGB")
    if alpha:
        white = Image.new("RGB", image.size, "white")
        white.paste(image, mask=alpha)
        image = white
    # The old profile would be wrong now, and whoever saves the picture would put it in again.
    image.info = {}
    return image


def _to_eight_bits(image: Image.Image, file_format: str, name: str) -> Image.Image:
    """Keep the high byte of 16-bit samples; transparent ones of a grey image become white."""
    transparent = image.info.get("transparency")
    if image.mode.startswith("I;16") or (image.mode == "I" and file_format in ("PNG", "PPM")):
        # Pillow's own conversion clips 16-bit grey at 255; its 16-bit RGB keeps the high byte.
        samples = np.asarray(image)
        grey = (samples >> 8).astype(np.uint8)
        if isinstance(transparent, int):
            grey[samples == transparent] = 255
        return Image.fromarray(grey)
    if image.mode in ("I", "F"):
        raise ImageError(
            f"{name} holds measurements (32-bit numbers) with no fixed white: "
            "please save it with 8 or 16 bits per channel."
        )
    if isinstance(transparent, tuple) and max(transparent) > 255:
        image.info["transparency"] = tuple(sample >> 8 for sample in transparent)
    return image
