"""Mix images of a training batch, and their labels with them."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class CutMix:
    """Paste a rectangle of another image into a share of a batch (Yun et al. 2019).

    The label becomes the mean of both labels, weighted by area. The model then has to judge every
    part of the image for itself, and cannot learn the training images by heart.

    Attributes:
        share: Share of the images that receive a rectangle, 0–1.
    """

    share: float

    def __post_init__(self):
        if not 0 <= self.share <= 1:
            raise ValueError(f"expected a share from 0 to 1, received {self.share}")

    def __call__(
        self, images: np.ndarray, labels: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return copies of a batch in which some images and their labels are mixed.

        Args:
            images: uint8 `(N, height, width, 3)`.
            labels: float32 `(N, 1)`, 0–1.
            rng: decides everything random.

        Returns:
            Images and labels of the same shapes and types.
        """
        mixed, mixed_labels = images.copy(), labels.copy()
        height, width = images.shape[1:3]
        donors = rng.permutation(len(images))
        for index in np.flatnonzero(rng.random(len(images)) < self.share):
            # A uniform share of the area, its centre anywhere; the image's edges cut it off.
            side = rng.random() ** 0.5
            y, x = rng.uniform(0, height), rng.uniform(0, width)
            rows = slice(*_span(y, side * height, height))
            columns = slice(*_span(x, side * width, width))
            donor = donors[index]
            mixed[index, rows, columns] = images[donor, rows, columns]
            area = (rows.stop - rows.start) * (columns.stop - columns.start) / (height * width)
            mixed_labels[index] += area * (labels[donor] - labels[index])
        return mixed, mixed_labels


def _span(centre: float, length: float, limit: int) -> tuple[int, int]:
    return max(0, round(centre - length / 2)), min(limit, round(centre + length / 2))
