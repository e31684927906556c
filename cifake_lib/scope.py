"""Whether an image is like those a model knows: a check before any verdict.

A detector answers every image, also a drawing, a text or a blurred photograph it has never seen the
like of. Two distances to the training images tell: of the spectrum (sharpness, texture) and of the
features inside the network (what it sees). The farther of the two, measured against validation
images, decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cifake_lib.crops import images_together
from cifake_lib.spectrum import ring_means

if TYPE_CHECKING:
    import keras

    from cifake_lib import engine

FILE = "scope.npz"
FALSE_ALARMS = 0.05  # share of validation images that the threshold calls unlike


def features(model: keras.Model | engine.Network, images: np.ndarray) -> np.ndarray:
    """Return what the network saw before its last layer.

    Args:
        model: One logit, in Keras or the light engine; for a model that averages over views the
            network inside is used.
        images: uint8 `(N, S, S, 3)`, RGB.

    Returns:
        float32 `(N, features)`.
    """
    if hasattr(model, "look"):
        return model.look(images)[0]
    count = 4 * images_together(images.shape[1])  # one view of each
    seen = _up_to_features(model).predict(images, batch_size=count, verbose=0)
    return seen.astype(np.float32)  # from bfloat16 in mixed precision


@lru_cache(maxsize=2)  # A new model would be compiled anew at each call, for seconds.
def _up_to_features(model: keras.Model) -> keras.Model:
    from cifake_lib import explain
    from cifake_lib.framework import keras

    model = explain.unwrapped(model)
    return keras.Model(model.input, model.get_layer("logit").input)


@dataclass(frozen=True)
class Gaussian:
    """A normal distribution, and how far from it a point lies.

    Attributes:
        means: `(classes, D)`; the nearest counts.
        precision: `(D, D)`, inverse of the covariance that all classes share.
        basis: `(features, D)`, what values are projected on before; None for as they are.
    """

    means: np.ndarray
    precision: np.ndarray
    basis: np.ndarray | None = None

    @classmethod
    def fit(cls, values: np.ndarray, labels: np.ndarray, *, components: int = 0) -> Gaussian:
        """Fit one mean per class and one covariance (Lee et al. 2018).

        The covariance is shrunk (Ledoit & Wolf 2004): features outnumber what a sample of images
        can tell about them.

        Args:
            values: `(N, features)`.
            labels: `(N,)`, classes.
            components: Look only at so many principal components; at all values if 0. The inverse
                of a covariance of thousands of features would be larger than the network.
        """
        basis = None
        if 0 < components < values.shape[1]:
            spread = np.cov(values, rowvar=False)
            basis = np.linalg.eigh(spread)[1][:, -components:]
            values = values @ basis
        from sklearn.covariance import LedoitWolf  # Only those who fit need it.

        classes, of_class = np.unique(labels, return_inverse=True)
        means = np.stack([values[labels == name].mean(axis=0) for name in classes])
        estimate = LedoitWolf(assume_centered=True).fit(values - means[of_class])
        return cls(means, estimate.precision_, basis)

    def distance(self, values: np.ndarray) -> np.ndarray:
        """Return the Mahalanobis distance to the nearest mean, `(N,)`."""
        if self.basis is not None:
            values = values @ self.basis
        squared = []
        for mean in self.means:
            away = values - mean
            squared.append(((away @ self.precision) * away).sum(axis=1))
        return np.sqrt(np.maximum(np.min(squared, axis=0), 0))


@dataclass(frozen=True)
class Scope:
    """What is known of the training images, fitted once and kept with a run.

    Attributes:
        spectrum: Of the rings of the power spectrum, see `spectrum.ring_means`.
        content: Of the network's features.
        known_spectrum: Sorted distances of the validation images by spectrum.
        known_content: The same by content.
        threshold: An image is outside if its strangeness is above.
        largest: Longer side in pixels of the largest training images before they became squares, 0
            if that is not known; what was shrunk much more is another kind of picture.
    """

    spectrum: Gaussian
    content: Gaussian
    known_spectrum: np.ndarray
    known_content: np.ndarray
    threshold: float
    largest: int = 0

    @classmethod
    def fit(
        cls,
        model: keras.Model,
        train: tuple[np.ndarray, np.ndarray],
        validation: np.ndarray,
        *,
        false_alarms: float = FALSE_ALARMS,
        largest: int = 0,
        components: int = 0,
    ) -> Scope:
        """Fit to training images; choose the threshold on validation images.

        Args:
            model: Whose features are used.
            train: uint8 images `(N, S, S, 3)` and their labels `(N,)`; a few thousand are enough.
            validation: uint8 images `(M, S, S, 3)`.
            false_alarms: Share of the validation images to be called outside, 0–1.
            largest: See the attribute.
            components: Of the network's features, see `Gaussian.fit`.
        """
        images, labels = train
        spectrum = Gaussian.fit(ring_means(images), labels)
        content = Gaussian.fit(features(model, images), labels, components=components)
        by_spectrum = spectrum.distance(ring_means(validation))
        by_content = content.distance(features(model, validation))
        known_spectrum, known_content = np.sort(by_spectrum), np.sort(by_content)
        strangeness = np.maximum(
            _rank(by_spectrum, known_spectrum), _rank(by_content, known_content)
        )
        threshold = float(np.quantile(strangeness, 1 - false_alarms))
        return cls(spectrum, content, known_spectrum, known_content, threshold, largest)

    def strangeness(self, model: keras.Model | engine.Network, images: np.ndarray) -> np.ndarray:
        """Return how strange images are next to the validation images.

        Args:
            model: The one it was fitted with.
            images: uint8 `(N, S, S, 3)`, RGB, of the size it was fitted with.

        Returns:
            float64 `(N,)`: the share of validation images that are nearer to the training images,
            by spectrum or by content, whichever is more; beyond all of them 1 plus the part by
            which the image is farther than the farthest.
        """
        by_spectrum = self.spectrum.distance(ring_means(images))
        by_content = self.content.distance(features(model, images))
        return np.maximum(
            _rank(by_spectrum, self.known_spectrum), _rank(by_content, self.known_content)
        )

    def outside(self, model: keras.Model | engine.Network, images: np.ndarray) -> np.ndarray:
        """Return which images are unlike those the model knows, bool `(N,)`."""
        return self.strangeness(model, images) > self.threshold

    def save(self, path: Path) -> None:
        """Write to an `.npz` file, numbers in half the precision they were fitted in."""
        np.savez_compressed(
            path,
            **{
                f"{name}_{part}": getattr(getattr(self, name), part).astype(np.float32)
                for name in ("spectrum", "content")
                for part in ("means", "precision", "basis")
                if getattr(getattr(self, name), part) is not None
            },
            known_spectrum=self.known_spectrum.astype(np.float32),
            known_content=self.known_content.astype(np.float32),
            threshold=self.threshold,
            largest=self.largest,
        )

    @classmethod
    def load(cls, path: Path) -> Scope:
        """Read what `save` wrote."""
        with np.load(path) as stored:
            gaussians = [
                Gaussian(
                    stored[f"{name}_means"],
                    stored[f"{name}_precision"],
                    stored.get(f"{name}_basis"),
                )
                for name in ("spectrum", "content")
            ]
            return cls(
                *gaussians,
                stored["known_spectrum"],
                stored["known_content"],
                float(stored["threshold"]),
                int(stored["largest"]) if "largest" in stored else 0,
            )


def _rank(distances: np.ndarray, known: np.ndarray) -> np.ndarray:
    share = np.searchsorted(known, distances) / len(known)
    return share + np.maximum(distances / known[-1] - 1, 0)
