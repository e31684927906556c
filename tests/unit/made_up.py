"""Made-up pictures that several tests take."""

import numpy as np
from PIL import Image


def smooth_pictures(count, size=32, seed=0):
    """Smooth random pictures: neighbours alike, as in photographs, so that hashes are stable."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    return np.stack(
        [
            np.array(Image.fromarray(one).resize((size, size), Image.Resampling.BICUBIC))
            for one in small
        ]
    )
