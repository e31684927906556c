"""The power spectrum of images: how much of them is coarse, and how much is fine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cifake_lib.pixels import parts_of

if TYPE_CHECKING:
    import pandas as pd

BINS = 16


def mean_spectrum(images: np.ndarray, rows: np.ndarray | None = None) -> np.ndarray:
    """Return the mean power spectrum of images.

    Args:
        images: uint8 `(N, S, S, 3)`, RGB; may be a memory map.
        rows: Row numbers of those to use; all if None.

    Returns:
        float64 `(S, S)`: mean log10 of the power of the brightness, frequency 0 in the middle.
    """
    total = sum(_log_power(part).sum(axis=0, dtype=np.float64) for part in parts_of(images, rows))
    return total / (len(images) if rows is None else len(rows))


def radial_profiles(
    images: np.ndarray, rows: np.ndarray | None = None, *, bins: int = BINS
) -> pd.DataFrame:
    """Return every image's power spectrum, averaged over all directions.

    Args:
        images: uint8 `(N, S, S, 3)`, RGB; may be a memory map.
        rows: Row numbers of those to use, which become the index; all if None.
        bins: Rings of equal width from frequency 0 to half a cycle per pixel.

    Returns:
        One row per image: mean log10 power in `ring_0`, the lowest frequencies, and so on.
    """
    import pandas as pd  # 38 MB that the dashboard can spare.

    columns = [f"ring_{index}" for index in range(bins)]
    return pd.DataFrame(ring_means(images, rows, bins=bins), columns=columns, index=rows)


def ring_means(
    images: np.ndarray, rows: np.ndarray | None = None, *, bins: int = BINS
) -> np.ndarray:
    """Return the numbers of `radial_profiles`, float64 `(images, bins)`."""
    frequency = np.fft.fftshift(np.fft.fftfreq(images.shape[1]))
    radius = np.hypot(*np.meshgrid(frequency, frequency)).ravel()
    rings = [(radius >= low / bins / 2) & (radius < (low + 1) / bins / 2) for low in range(bins)]
    profiles = [np.empty((0, bins))]
    for part in parts_of(images, rows):
        flat = _log_power(part).reshape(len(part), -1).astype(np.float64)
        profiles.append(np.column_stack([flat[:, ring].mean(axis=1) for ring in rings]))
    return np.concatenate(profiles)


def _log_power(images: np.ndarray) -> np.ndarray:
    """Log10 of the power of each image's brightness, float32 (N, S, S).

    A Hann window hides the step between opposite edges; the mean under it is taken away first.
    """
    window = np.outer(np.hanning(images.shape[1]), np.hanning(images.shape[1]))
    brightness = images.astype(np.float32) @ np.float32([0.299, 0.587, 0.114])
    mean = (brightness * window).sum(axis=(1, 2), keepdims=True) / window.sum()
    spectrum = np.fft.fft2((brightness - mean) * window)
    power = np.abs(np.fft.fftshift(spectrum, axes=(1, 2))) ** 2
    return np.log10(power + 1).astype(np.float32)
