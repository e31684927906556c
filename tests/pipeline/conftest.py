"""Images for tests that start processes of their own."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="session")
def small_images(tmp_path_factory) -> Path:
    """A folder of a hundred noisy images of 8 × 8 pixels; FAKE ones have dark stripes."""
    folder = tmp_path_factory.mktemp("small-images")
    generator = np.random.default_rng(0)
    for number in range(100):
        name = ("REAL", "FAKE")[number % 2]
        pixels = generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        pixels[:: 2 if name == "FAKE" else 9] //= 2
        target = folder / name / f"{number}.png"
        target.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(target)
    return folder
