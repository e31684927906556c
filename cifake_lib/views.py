"""Several views of one photograph, of which a model's logits are averaged.

A photograph shrunk to what a network looks at loses the fine traces of a generator, and a part cut
out of it loses what is shown. So a network sees both: the whole, and parts at a larger scale.
"""

import numpy as np
from PIL import Image

from cifake_lib.images import fit_image

SHARE = 224 / 256  # side of a part relative to the shorter side of the picture, as is usual
MOST_ALONG = 3  # parts along the longer side; of a panorama some is not looked at


def photo_views(image: Image.Image, side: int) -> np.ndarray:
    """Make the views of a photograph.

    Args:
        image: Of any size and mode.
        side: Of each view, in pixels.

    Returns:
        uint8 `(views, side, side, 3)`, RGB: first the central square, shrunk, as `fit_image` makes
        it; then parts from the corners, and of a long picture from between them too, at a scale at
        which the shorter side is `side / SHARE`.
    """
    image = image.convert("RGB")
    shorter = round(side / SHARE)
    factor = shorter / min(image.size)
    width, height = (max(shorter, round(length * factor)) for length in image.size)
    scaled = image
    if image.size != (width, height):
        scaled = image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=3)
    parts = [
        np.asarray(scaled.crop((left, top, left + side, top + side)))
        for top in _places(height, side)
        for left in _places(width, side)
    ]
    return np.stack([fit_image(image, side), *parts])


def _places(length: int, side: int) -> list[int]:
    """Return where parts begin along one side: at both ends, and evenly between."""
    count = min(MOST_ALONG, max(2, -(-length // side)))
    return np.linspace(0, length - side, count).round().astype(int).tolist()
