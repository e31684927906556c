"""Embedded colour profiles: from the colours a file means to sRGB, which models and screens expect.

A profile comes out of an untrusted file. What it can cost is limited, and one that is broken, or
that does not fit its image, is ignored: the picture is then shown as if it had none.
"""

from __future__ import annotations

import functools
import io
import logging

import numpy as np
from PIL import Image, ImageCms

# The largest profiles in use, of printing presses, have about 3 MB.
MAX_PROFILE_BYTES = 4 * 2**20

# Profiles of the same sRGB by different makers differ by rounding.
_SAME_COLOUR = 2

_MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}

logger = logging.getLogger(__name__)


def to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Convert the colours of an image from those of its embedded profile to sRGB.

    Args:
        image: An image of mode "L", "RGB" or "CMYK".
        profile: The ICC profile in the file, of RGB, grey or CMYK colours; None if it has none.

    Returns:
        An image of mode "RGB", or the very image given if there is nothing to convert: no profile,
        one that says what sRGB says (within 2 of 255 levels), or one that cannot be used.
    """
    if not profile:
        return image
    try:
        mode, transform = _transform(profile)
        if (mode, image.mode) == ("RGB", "L"):
            # Programs that turn a picture grey often leave the profile of its colours in it.
            return transform.apply(image.convert("RGB")) if transform else image
        if mode != image.mode:
            raise ValueError(f"a profile of {mode} colours in a picture of {image.mode} colours")
        return transform.apply(image) if transform else image
    except Exception as error:
        # Damaged profiles fail in many ways: PyCMSError, OSError, KeyError, ValueError.
        logger.info("Colour profile ignored: %r", error)
        return image


@functools.lru_cache(maxsize=8)
def _transform(profile: bytes) -> tuple[str, ImageCms.ImageCmsTransform | None]:
    """Return the mode of the images a profile is for, and the way to sRGB if there is one to go."""
    if len(profile) > MAX_PROFILE_BYTES:
        raise ValueError(f"expected at most {MAX_PROFILE_BYTES} bytes, received {len(profile)}")
    if b"mpet" in profile:
        # Chains of processing steps, which cameras, screens and presses hardly ever use. 4 MB may
        # hold half a million steps, and preparing them takes minutes.
        raise ValueError("it holds multi-process elements")
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    mode = _MODES[source.profile.xcolor_space.strip()]
    target = ImageCms.createProfile("sRGB")
    transform = ImageCms.buildTransform(source, target, mode, "RGB")
    return mode, None if _is_srgb(transform, mode) else transform


def _is_srgb(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    """Tell by some colours, not by a name anyone may write, whether a transform changes nothing."""
    if mode == "CMYK":
        return False
    levels = np.linspace(0, 255, 18 if mode == "RGB" else 256).round().astype(np.uint8)
    bands = np.meshgrid(*[levels] * len(mode)) if mode == "RGB" else [levels]
    probe = Image.merge(mode, [Image.fromarray(band.reshape(1, -1)) for band in bands])
    before = np.asarray(probe.convert("RGB"), dtype=int)
    return np.abs(np.asarray(transform.apply(probe), dtype=int) - before).max() <= _SAME_COLOUR
