"""Untrusted bytes to an RGB image, with every refusal one clear sentence.

Whatever a visitor uploads goes through `decode_image`, and whatever a model looks at goes through
`fit_image`: training cache and dashboard share them, so that both show a model the same pixels.
"""

from __future__ import annotations

import io
import logging

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

MAX_BYTES = 30 * 2**20
MAX_PIXELS = 100_000_000

# A closed list: Pillow knows dozens of formats, and some of them (EPS) start other programs.
FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "AVIF")
READABLE = "JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF"

logger = logging.getLogger(__name__)


class ImageError(ValueError):
    """A file that cannot be used as an image; its text is one sentence for the user."""


def decode_image(data: bytes, *, name: str = "image") -> Image.Image:
    """Decode the bytes of an untrusted file into an upright RGB image.

    The size is read from the header and checked before any pixel is decoded. EXIF orientation is
    applied, transparency is laid on white, 16-bit samples keep their high byte, and of an animated
    or multi-page file the first picture is taken. Embedded colour profiles are ignored, as they
    are in the training data.

    Args:
        data: The whole file, at most `MAX_BYTES` bytes.
        name: How the sentence of a refusal calls the file. It is used as it is: escape the
            sentence before putting it into HTML.

    Returns:
        An image of mode "RGB" with at most `MAX_PIXELS` pixels, fully loaded.

    Raises:
        ImageError: The file is empty, too large, no image, damaged, or of an unreadable kind.
    """
    if len(data) == 0:
        raise ImageError(f"{name} is empty.")
    if len(data) > MAX_BYTES:
        raise ImageError(
            f"{name} is too large: expected at most {MAX_BYTES / 2**20:.0f} MB, "
            f"received {len(data) / 2**20:.1f} MB."
        )
    try:
        with _open(data, name) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise ImageError(_too_many_pixels(name))
            image.load()
            return _to_rgb(_upright(image), image.format, name)
    except ImageError:
        raise
    except Exception as error:
        # Damaged files make Pillow's plugins raise nearly anything: OSError, SyntaxError,
        # ValueError, struct.error, IndexError, MemoryError.
        logger.info("%r does not decode: %r", name, error)
        raise ImageError(f"{name} is damaged or incomplete and cannot be read.") from error


def fit_image(image: Image.Image, size: int) -> np.ndarray:
    """Crop an image to its central square and resize it to what a model looks at.

    Args:
        image: An image of any size and mode.
        size: Side of the result in pixels.

    Returns:
        uint8 array of shape `(size, size, 3)`, RGB, 0–255; the very pixels of an image that
        already has this size.
    """
    image = image.convert("RGB")
    if image.size != (size, size):
        # Pillow widens its bicubic filter when shrinking, so this is antialiased.
        image = ImageOps.fit(image, (size, size), method=Image.Resampling.BICUBIC)
    return np.array(image)


def _open(data: bytes, name: str) -> Image.Image:
    """Read the header."""
    Image.init()
    try:
        return Image.open(io.BytesIO(data), formats=[key for key in FORMATS if key in Image.OPEN])
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(_too_many_pixels(name)) from error
    except UnidentifiedImageError as error:
        start = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
        if start.startswith(b"<svg") or (start.startswith(b"<") and b"<svg" in start):
            kind = "an SVG drawing, which has no pixels to examine"
        elif data[4:8] == b"ftyp" and data[8:12] in (b"heic", b"heix", b"mif1", b"hevc", b"msf1"):
            kind = "an HEIC picture, which cannot be read here"
        else:
            kind = "not an image that can be read"
        raise ImageError(f"{name} is {kind}: please choose a {READABLE} file.") from error


def _too_many_pixels(name: str) -> str:
    return f"{name} has too many pixels: at most {MAX_PIXELS // 10**6} million can be read."


def _upright(image: Image.Image) -> Image.Image:
    """Apply the EXIF orientation; a file with unreadable EXIF data is taken as it is."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception as error:
        logger.info("EXIF orientation ignored: %r", error)
        return image


def _to_rgb(image: Image.Image, file_format: str, name: str) -> Image.Image:
    """Bring any mode to RGB on white."""
    transparent = image.info.get("transparency")
    if image.mode.startswith("I;16") or (image.mode == "I" and file_format in ("PNG", "PPM")):
        # Pillow's own conversion clips 16-bit grey at 255; its 16-bit RGB keeps the high byte.
        samples = np.asarray(image)
        grey = (samples >> 8).astype(np.uint8)
        if isinstance(transparent, int):
            grey[samples == transparent] = 255
        return Image.fromarray(grey).convert("RGB")
    if image.mode in ("I", "F"):
        raise ImageError(
            f"{name} holds measurements (32-bit numbers) with no fixed white: "
            "please save it with 8 or 16 bits per channel."
        )
    if isinstance(transparent, tuple) and max(transparent) > 255:
        image.info["transparency"] = tuple(sample >> 8 for sample in transparent)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")
