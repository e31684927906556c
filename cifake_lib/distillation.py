"""Soft targets for a small model from a large one (Hinton, Vinyals & Dean 2015)."""

import hashlib
from pathlib import Path

import numpy as np

from cifake_lib import calibration, paths, results, runs
from cifake_lib.data import Dataset


def soft_targets(
    teacher: runs.Run, dataset: Dataset, images: np.ndarray, *, weight: float
) -> np.ndarray:
    """Mix the labels of the training split with a trained model's probabilities for them.

    A probability of .6 says of an image what its label cannot: that it is a hard one. Corrupted
    copies of an image keep its target, so that the small model also learns to answer them as the
    large one answers the original.

    Args:
        teacher: A complete run, trained on the same split.
        dataset: What the small model is trained on.
        images: Of the whole data set, row for row.
        weight: Of the teacher, 0–1; the rest is the label's.

    Returns:
        float32 `(images,)`, 0–1; the labels themselves outside the training split.

    Raises:
        ValueError: The weight is out of range, or the teacher knows another split: what it learned
            from images that are test images here would leak through its answers.
    """
    if not 0 <= weight <= 1:
        raise ValueError(f"Expected a weight from 0 to 1, received {weight}")
    known = teacher.manifest["data"]["split_hash"]
    if known != dataset.split_hash:
        raise ValueError(
            f"Expected a teacher trained on the same split ({dataset.split_hash[:12]}…), received "
            f"{teacher.stage}/{teacher.run_id} of another ({known[:12]}…): train it on this data."
        )
    rows = dataset.rows("train").to_numpy()
    targets = dataset.table["label"].to_numpy(dtype=np.float32)
    targets[rows] += weight * (_probabilities(teacher, dataset, images, rows) - targets[rows])
    return targets


def _probabilities(
    teacher: runs.Run, dataset: Dataset, images: np.ndarray, rows: np.ndarray
) -> np.ndarray:
    stored = _cache_file(teacher, dataset, images.shape[1])
    if not stored.is_file():
        logits = results.predict_logits(
            runs.load_model(teacher), images, rows, name=f"teacher {teacher.stage}"
        )
        p_fake = calibration.probability(logits, teacher.manifest["temperature"])
        stored.parent.mkdir(parents=True, exist_ok=True)
        temporary = stored.with_name(f".{stored.name}")
        np.save(temporary, p_fake.astype(np.float32))
        temporary.replace(stored)
    return np.load(stored)


def _cache_file(teacher: runs.Run, dataset: Dataset, image_size: int) -> Path:
    parts = [teacher.manifest["files"][runs.WEIGHTS], dataset.split_hash, str(image_size)]
    parts += dataset.table["content_hash"].tolist()
    digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]
    return paths.cache_dir() / "teachers" / f"{digest}.npy"
