"""Teach a small model what a large one answers (Hinton, Vinyals & Dean 2015)."""

import copy
import hashlib
import os
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from cifake_lib import calibration, models, paths, results, runs
from cifake_lib.batches import ImageBatches
from cifake_lib.data import Dataset


def taught_batches(
    teacher: runs.Run, dataset: Dataset, batches: ImageBatches, *, passes: int, seed: int = 0
) -> ImageBatches:
    """Replace the labels of training batches by a trained model's answers to their very images.

    The teacher sees what the student sees: the image after corruption and mixing (Beyer et al.
    2022, "Knowledge distillation: a good teacher is patient and consistent"). Mixed images are new
    to it too, so its answers are not those that it learned by heart. It is slow, so only some
    passes are rendered, answered and kept in the cache; the student goes round in them.

    Args:
        teacher: A complete run, trained on the same split. Answers with its calibrated probability,
            without averaging over mirror images.
        dataset: What the student is trained on.
        batches: Shuffled training batches; their labels are not used.
        passes: Different views of each image, at least 1. Takes 3 kB of disk a view at 32 px.
        seed: Of the views alone: students that differ in the seed of `batches` share the answers.

    Returns:
        Batches of uint8 images and float32 probabilities `(batch, 1)`; epoch `n` is pass
        `n mod passes` in an order of its own.

    Raises:
        ValueError: No passes, or the teacher knows another split: what it learned from images that
            are test images here would leak through its answers.
    """
    if passes < 1:
        raise ValueError(f"Expected at least one pass, received {passes}")
    known = teacher.manifest["data"]["split_hash"]
    if known != dataset.split_hash:
        raise ValueError(
            f"Expected a teacher trained on the same split ({dataset.split_hash[:12]}…), received "
            f"{teacher.stage}/{teacher.run_id} of another ({known[:12]}…): train it on this data."
        )
    source = copy.copy(batches)
    source.seed = seed
    folder = paths.cache_dir() / "teachers" / _digest(teacher, dataset, source, passes)
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "views.npy").is_file():
        _render(source, passes, folder / "views.npy")
    views = np.load(folder / "views.npy", mmap_mode="r")
    if not (folder / "answers.npy").is_file():
        np.save(folder / "new.npy", _answers(teacher, views))
        (folder / "new.npy").replace(folder / "answers.npy")
    answers = np.load(folder / "answers.npy")
    size = batches.batch_size
    options = {"batch_size": size, "shuffle": True, "seed": batches.seed}
    weights = batches.class_weights
    return ImageBatches(views, answers, parts=passes, class_weights=weights, **options)


def _render(source: ImageBatches, passes: int, target: Path) -> None:
    shape = (passes * len(source.rows), *source.images.shape[1:])
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    temporary = target.with_name(f".{target.stem}.{os.getpid()}.npy")
    progress = tqdm(desc="Rendering views", total=shape[0], unit="image", delay=1)
    try:
        with progress, temporary.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            for epoch in range(passes):
                source.start_epoch(epoch)
                for index in range(len(source)):
                    images = source[index][0]
                    file.write(images.data)
                    progress.update(len(images))
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _answers(teacher: runs.Run, views: np.ndarray) -> np.ndarray:
    # Built anew and not by `runs.load_model`: in the precision of this training, which is that of
    # the student too, and on the image alone, it is four times as fast.
    facts = teacher.manifest["model"]
    model = models.build_model(facts["builder"], **facts["arguments"])
    model.load_weights(teacher.checked(runs.WEIGHTS))
    logits = results.predict_logits(model, views, name=f"teacher {teacher.stage}")
    return calibration.probability(logits, teacher.manifest["temperature"]).astype(np.float32)


def _digest(teacher: runs.Run, dataset: Dataset, source: ImageBatches, passes: int) -> str:
    parts = [teacher.manifest["files"][runs.WEIGHTS], dataset.split_hash, source.images.shape]
    parts += [passes, source.seed, source.batch_size, source.transform, source.mix]
    if filename := getattr(source.images, "filename", ""):  # Says how they were cropped, too.
        parts.append(Path(filename).name)
    parts += dataset.table["content_hash"].tolist()
    return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()[:32]
