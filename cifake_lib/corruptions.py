"""Image corruptions at five severities: one implementation for training, evaluation and dashboard.

The idea of named families at five fixed severities is that of Hendrycks & Dietterich 2019
("Benchmarking neural network robustness to common corruptions and perturbations"). The families
here are what happens to a picture between its source and a detector: re-saving, shrinking,
cropping, filters.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageEnhance

CHAIN_JPEG_QUALITY = 50  # what a thumbnail server writes
HUE_DEGREES = 60.0  # hue turn of the colour corruption at level 1
HIDING_SIGMA = 4.0  # px of a blur that hides all a detector could use and leaves the colour


@dataclass(frozen=True)
class Corruption:
    """One family of corruptions.

    Attributes:
        name: key in `CORRUPTIONS`.
        levels: the parameter at severity 1 (mild) to 5 (strong).
        unit: what a level counts, for tables and axis labels.
        function: `(image uint8 (H, W, 3), level, rng) -> uint8 (H, W, 3)`.
    """

    name: str
    levels: tuple[float, float, float, float, float]
    unit: str
    function: Callable[[np.ndarray, float, np.random.Generator], np.ndarray]


def _to_uint8(values):
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def blurred(images: np.ndarray, sigma: float) -> np.ndarray:
    """Return images after a Gaussian blur.

    Args:
        images: uint8 array, shape (..., H, W, 3).
        sigma: in pixels.
    """
    from scipy import ndimage  # 28 MB, for this one.

    return _to_uint8(ndimage.gaussian_filter(images.astype(np.float32), sigma, axes=(-3, -2)))


def _jpeg(image, level, rng):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="JPEG", quality=int(level))
    return np.array(Image.open(buffer))


def _blur(image, level, rng):
    return blurred(image, level)


def _noise(image, level, rng):
    return _to_uint8(image + rng.normal(scale=255 * level, size=image.shape))


def _resize(image, level, rng):
    height, width = image.shape[:2]
    smaller = (max(1, round(width * level)), max(1, round(height * level)))
    shrunk = Image.fromarray(image).resize(smaller, Image.Resampling.BICUBIC)
    return np.array(shrunk.resize((width, height), Image.Resampling.BICUBIC))


def _crop(image, level, rng):
    height, width = image.shape[:2]
    kept_height, kept_width = max(1, round(height * level)), max(1, round(width * level))
    top, left = (height - kept_height) // 2, (width - kept_width) // 2
    kept = Image.fromarray(image[top : top + kept_height, left : left + kept_width])
    return np.array(kept.resize((width, height), Image.Resampling.BICUBIC))


def _colour(image, level, rng):
    saturation, hue = rng.choice([-1, 1], size=2) * level
    luma = image @ np.array([0.299, 0.587, 0.114])
    # The two colour differences of YCbCr as one complex number: its length is the saturation and
    # its angle the hue, so a single factor changes both and leaves the brightness alone.
    chroma = (image[..., 2] - luma) / 1.772 + 1j * (image[..., 0] - luma) / 1.402
    chroma *= (1 + saturation) * np.exp(1j * np.deg2rad(HUE_DEGREES * hue))
    red, blue = luma + 1.402 * chroma.imag, luma + 1.772 * chroma.real
    green = (luma - 0.299 * red - 0.114 * blue) / 0.587
    return _to_uint8(np.stack([red, green, blue], axis=-1))


def _brightness(image, level, rng):
    factor = 1 + rng.choice([-1, 1]) * level
    return np.array(ImageEnhance.Brightness(Image.fromarray(image)).enhance(factor))


def _resize_jpeg(image, level, rng):
    return _jpeg(_resize(image, level, rng), CHAIN_JPEG_QUALITY, rng)


CORRUPTIONS: dict[str, Corruption] = {
    corruption.name: corruption
    for corruption in (
        Corruption("jpeg", (90, 75, 50, 30, 10), "JPEG quality", _jpeg),
        Corruption("blur", (0.5, 0.75, 1.0, 1.5, 2.0), "Gaussian σ (px)", _blur),
        Corruption("noise", (0.01, 0.025, 0.05, 0.10, 0.20), "Gaussian σ (of full scale)", _noise),
        Corruption("resize", (0.9, 0.75, 0.5, 0.35, 0.25), "factor, there and back", _resize),
        Corruption("crop", (0.95, 0.9, 0.8, 0.7, 0.6), "side kept, enlarged back", _crop),
        Corruption("colour", (0.1, 0.2, 0.3, 0.4, 0.5), "± saturation, ± 60° hue", _colour),
        Corruption("brightness", (0.1, 0.2, 0.3, 0.4, 0.5), "± brightness", _brightness),
        Corruption(
            "resize_jpeg",
            (0.9, 0.75, 0.5, 0.35, 0.25),
            f"factor, then JPEG {CHAIN_JPEG_QUALITY}",
            _resize_jpeg,
        ),
    )
}

# What a robust model must withstand: the (name, severity) pairs that results are reported on.
CONDITIONS: tuple[tuple[str, int], ...] = (
    ("jpeg", 3),
    ("jpeg", 4),
    ("blur", 1),
    ("blur", 3),
    ("blur", 4),
    ("resize", 2),
    ("resize", 3),
    ("resize", 5),
    ("noise", 3),
    ("noise", 4),
    ("crop", 3),
    ("colour", 2),
    ("resize_jpeg", 3),
)


# What pictures go through on their way to somebody who doubts them: the steps of each way, as
# (name, level) pairs. A resize above 1 enlarges first, as a screen does.
DELIVERIES: dict[str, tuple[tuple[str, float], ...]] = {
    "messenger": (("resize", 0.75), ("jpeg", 60)),
    "forwarded": (("resize", 0.75), ("jpeg", 60), ("resize", 0.9), ("jpeg", 60)),
    "social_feed": (("crop", 0.9), ("resize", 0.75), ("jpeg", 70)),
    "screenshot": (("resize", 1.5), ("crop", 0.95)),
    "screenshot_sent": (("resize", 1.5), ("crop", 0.95), ("resize", 0.75), ("jpeg", 60)),
    "thumbnail": (("resize", 0.5), ("jpeg", CHAIN_JPEG_QUALITY)),
}


def deliver_batch(images: np.ndarray, name: str, *, seed: int = 0) -> np.ndarray:
    """Return a stack of images as they arrive after a delivery.

    Args:
        images: uint8 array, shape (N, H, W, 3), RGB.
        name: a key of `DELIVERIES`.
        seed: of what is random in a step; image `i` has its own generator, as in `corrupt_batch`.

    Returns:
        uint8 array, shape (N, H, W, 3).

    Raises:
        ValueError: unknown name.
    """
    if name not in DELIVERIES:
        raise ValueError(f"expected a delivery out of {', '.join(DELIVERIES)}, received {name!r}")
    delivered = np.empty_like(images)
    for index, image in enumerate(images):
        rng = np.random.default_rng([seed, index])
        for step, level in DELIVERIES[name]:
            image = CORRUPTIONS[step].function(image, level, rng)
        delivered[index] = image
    return delivered


@dataclass(frozen=True)
class RandomCorruption:
    """Corrupt a share of each training batch, as the `transform` of `batches.ImageBatches`.

    Attributes:
        share: Share of the images that are corrupted, 0–1; the rest stays untouched.
        unseen: Families that never occur, so that they can measure how robustness carries over to
            a corruption nobody thought of.
    """

    share: float
    unseen: tuple[str, ...] = ()

    def __post_init__(self):
        if not 0 <= self.share <= 1:
            raise ValueError(f"expected a share from 0 to 1, received {self.share}")
        if unknown := set(self.unseen) - set(CORRUPTIONS):
            raise ValueError(
                f"expected corruptions out of {', '.join(CORRUPTIONS)}, received {sorted(unknown)}"
            )

    def __call__(self, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return a copy of a batch in which some images are corrupted.

        Family and severity are uniform, the severity continuous from 1 to 5.

        Args:
            images: uint8 array, shape (N, H, W, 3), RGB.
            rng: decides everything random.

        Returns:
            uint8 array, shape (N, H, W, 3).
        """
        families = [family for name, family in CORRUPTIONS.items() if name not in self.unseen]
        corrupted = images.copy()
        for index in np.flatnonzero(rng.random(len(images)) < self.share):
            family = families[rng.integers(len(families))]
            level = np.interp(rng.uniform(1, 5), range(1, 6), family.levels)
            corrupted[index] = family.function(images[index], level, rng)
        return corrupted


def corrupt(image: np.ndarray, name: str, *, severity: int, seed: int = 0) -> np.ndarray:
    """Return a corrupted copy of one image.

    Args:
        image: uint8 array, shape (H, W, 3), RGB.
        name: a key of `CORRUPTIONS`.
        severity: 1 (mild) to 5 (strong).
        seed: decides the noise and the sign of the colour and brightness changes.

    Returns:
        uint8 array, shape (H, W, 3); the same for the same image, seed and severity on any machine
        with the same Pillow JPEG library.

    Raises:
        ValueError: unknown name, severity outside 1–5, or an array that is no uint8 RGB image.
    """
    return corrupt_batch(np.asarray(image)[np.newaxis], name, severity=severity, seed=seed)[0]


def corrupt_batch(images: np.ndarray, name: str, *, severity: int, seed: int = 0) -> np.ndarray:
    """Return corrupted copies of a stack of images.

    Image `i` draws from its own generator, seeded with `(seed, i)`: the result does not depend on
    how many images follow it.

    Args:
        images: uint8 array, shape (N, H, W, 3), RGB.
        name: a key of `CORRUPTIONS`.
        severity: 1 (mild) to 5 (strong).
        seed: decides the noise and the sign of the colour and brightness changes.

    Returns:
        uint8 array, shape (N, H, W, 3).

    Raises:
        ValueError: unknown name, severity outside 1–5, or an array that is no stack of uint8 RGB
            images.
    """
    if name not in CORRUPTIONS:
        raise ValueError(
            f"expected a corruption out of {', '.join(CORRUPTIONS)}, received {name!r}"
        )
    if severity not in (1, 2, 3, 4, 5):
        raise ValueError(f"expected a severity from 1 to 5, received {severity!r}")
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
        raise ValueError(
            "expected uint8 RGB images of shape (height, width, 3), "
            f"received {images.dtype} of shape {images.shape[1:]}"
        )
    corruption = CORRUPTIONS[name]
    level = corruption.levels[severity - 1]
    corrupted = np.empty_like(images)
    for index, image in enumerate(images):
        corrupted[index] = corruption.function(image, level, np.random.default_rng([seed, index]))
    return corrupted
