"""What may happen to a photograph between its source and a detector, at random.

Format, size and sharpness tell the label in every collection: one class was JPEG, the other PNG.
Where both labels went through the same random chain, they tell nothing, and what a model learns
survives what is done to pictures.
"""

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

_RESAMPLING = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS)
_ENHANCED = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)


@dataclass(frozen=True)
class RandomDelivery:
    """Take every image of a batch through a random chain, as the `transform` of `ImageBatches`.

    In this order, each step with its own probability: rescale, soften or sharpen, cut out a square,
    mirror, change brightness, contrast and saturation, add noise, save once or twice as JPEG or
    WebP. What is cut out keeps the scale that the rescaling gave it.

    Attributes:
        side: Of the square that is cut out, in pixels; at most that of the images.
        scales: Smallest and largest factor of the rescaling; never below what leaves `side`.
        qualities: Lowest and highest of JPEG and WebP, 0–100.
    """

    side: int
    scales: tuple[float, float] = (0.5, 1.2)
    qualities: tuple[int, int] = (40, 95)

    def __call__(self, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return what becomes of images.

        Args:
            images: uint8 `(N, S, S, 3)`, RGB.
            rng: Decides everything random.

        Returns:
            uint8 `(N, side, side, 3)`.

        Raises:
            ValueError: The images are smaller than `side`.
        """
        if images.shape[1] < self.side:
            raise ValueError(
                f"Expected images of at least {self.side} pixels, received {images.shape[1]}"
            )
        return np.stack([self._delivered(Image.fromarray(image), rng) for image in images])

    def _delivered(self, image: Image.Image, rng: np.random.Generator) -> np.ndarray:
        if rng.random() < 0.8:
            smallest = max(self.scales[0], self.side / image.width)
            side = round(image.width * rng.uniform(smallest, self.scales[1]))
            image = image.resize((side, side), _RESAMPLING[rng.integers(len(_RESAMPLING))])
        image = _focused(image, rng)
        left, top = rng.integers(0, image.width - self.side, 2, endpoint=True).tolist()
        image = image.crop((left, top, left + self.side, top + self.side))
        if rng.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if rng.random() < 0.5:
            for enhance in _ENHANCED:
                image = enhance(image).enhance(rng.uniform(0.8, 1.2))
        if rng.random() < 0.15:
            noise = rng.normal(scale=rng.uniform(1, 8), size=(self.side, self.side, 3))
            noisy = np.rint(np.asarray(image) + noise)
            image = Image.fromarray(noisy.clip(0, 255).astype(np.uint8))
        for probability in (0.85, 0.25):
            if rng.random() < probability:
                image = self._saved(image, rng)
        return np.asarray(image)

    def _saved(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        quality = int(rng.integers(*self.qualities, endpoint=True))
        buffer = io.BytesIO()
        if rng.random() < 0.25:
            image.save(buffer, "WEBP", quality=quality, method=0)
        else:
            # Colour at full or at half resolution, as cameras and web sites do.
            image.save(buffer, "JPEG", quality=quality, subsampling=int(rng.choice([0, 2])))
        return Image.open(buffer).convert("RGB")


def _focused(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    drawn = rng.random()
    if drawn < 0.15:
        return image.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.2)))
    if drawn < 0.3:
        sharpened = ImageFilter.UnsharpMask(
            radius=rng.uniform(0.5, 2), percent=int(rng.uniform(30, 150)), threshold=0
        )
        return image.filter(sharpened)
    return image
