"""The power spectrum of images: how much of them is coarse, and how much is fine."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

BINS = 16


def mean_spectrum(images: np.ndarray) -> np.ndarray:
    """Return the mean power spectrum of images.

    Args:
        images: uint8 `(N, S, S, 3)`, RGB; may be a memory map.

    Returns:
        float64 `(S, S)`: mean log10 of the power of the brightness, frequency 0 in the middle.
    """
    total = sum(_log_power(part).sum(axis=0, dtype=np.float64) for part in parts_of(images))
    return total / len(images)


def radial_profiles(images: np.ndarray, *, bins: int = BINS) -> pd.DataFrame:
    """Return every image's power spectrum, averaged over all directions.

    Args:
        images: uint8 `(N, S, S, 3)`, RGB; may be a memory map.
        bins: Rings of equal width from frequency 0 to half a cycle per pixel.

    Returns:
        One row per image: mean log10 power in `ring_0`, the lowest frequencies, and so on.
    """
    frequency = np.fft.fftshift(np.fft.fftfreq(images.shape[1]))
    radius = np.hypot(*np.meshgrid(frequency, frequency)).ravel()
    rings = [(radius >= low / bins / 2) & (radius < (low + 1) / bins / 2) for low in range(bins)]
    rows = [np.empty((0, bins))]
    for part in parts_of(images):
        flat = _log_power(part).reshape(len(part), -1).astype(np.float64)
        rows.append(np.column_stack([flat[:, ring].mean(axis=1) for ring in rings]))
    return pd.DataFrame(np.concatenate(rows), columns=[f"ring_{index}" for index in range(bins)])


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


def parts_of(images: np.ndarray, count: int = 2048) -> Iterator[np.ndarray]:
    """Cut many images into parts that fit into memory, with a progress display."""
    if len(images) <= count:  # In a dashboard every display leaves its widgets behind.
        yield images
        return
    with tqdm(desc="Measuring", total=len(images), unit="image", delay=1) as progress:
        for start in range(0, len(images), count):
            yield images[start : start + count]
            progress.update(len(images[start : start + count]))
