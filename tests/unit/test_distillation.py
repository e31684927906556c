"""Distillation: the teacher answers what the student sees, once, and nothing leaks."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from cifake_lib import batches, data, distillation, results, runs
from cifake_lib.framework import keras

ARGUMENTS = {"image_size": 32, "augmentation": [], "filters": [4, 4]}
HISTORY = pd.DataFrame({"seconds": [2.0], "images_per_second": [8.0], "peak_memory_mb": [9.0]})


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def dataset():
    table = pd.DataFrame(
        {
            "path": [f"{row:02d}.png" for row in range(40)],
            "label": [0, 1] * 20,
            "object_class": "",
            "content_hash": [f"{row:064x}" for row in range(40)],
            "official_split": "",
            "split": ["train"] * 20 + ["validation"] * 10 + ["test"] * 10,
            "crosses_split": False,
        }
    )
    skipped = pd.DataFrame(columns=["path", "reason"])
    return data.Dataset("made", runs.paths.project_root(), table, skipped, "0" * 64)


@pytest.fixture
def teacher(monkeypatch, tmp_path, images, dataset):
    from cifake_lib import models

    monkeypatch.setenv("CIFAKE_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("CIFAKE_CACHE", str(tmp_path / "cache"))
    keras.utils.set_random_seed(0)
    model = models.build_model("baseline_cnn", **ARGUMENTS)
    run = runs.start_run("baseline_cnn", run_id="one")
    run = results.finish_model_run(run, model, dataset, images, HISTORY, arguments=ARGUMENTS)
    # An untrained model's is at its bound, and all its answers one half.
    run.manifest["temperature"] = 0.02
    return run


@pytest.fixture
def plain(dataset, images):
    """Batches of the training images as they are, without corruption."""
    train, _ = batches.training_batches(dataset, images, batch_size=8, seed=3)
    return train


def answers_of(teacher, images):
    logits = results.predict_logits(runs.load_model(teacher), images)
    return 1 / (1 + np.exp(-logits / teacher.manifest["temperature"]))


def epoch_of(taught):
    parts = [taught[index] for index in range(len(taught))]
    return [np.concatenate(column) for column in zip(*parts, strict=True)]


def test_targets_are_the_teachers_answers_to_what_the_student_sees(teacher, dataset, images):
    mixed, _ = batches.training_batches(
        dataset, images, batch_size=8, seed=3, corruption_share=0.5, cutmix_share=1.0
    )
    taught = distillation.taught_batches(teacher, dataset, mixed, passes=2)
    views, targets = epoch_of(taught)
    assert views.shape == (20, 32, 32, 3) and targets.dtype == np.float32
    # Now and then the rectangle lies outside, or comes from the image itself.
    assert sum((views == image).all((1, 2, 3)).any() for image in images) < 8
    np.testing.assert_allclose(targets[:, 0], answers_of(teacher, views), atol=5e-3)
    assert np.std(targets) > 0.02


def test_views_are_of_training_images_only(teacher, dataset, images, plain):
    taught = distillation.taught_batches(teacher, dataset, plain, passes=1)
    views, _ = epoch_of(taught)
    trained = images[dataset.rows("train").to_numpy()]
    assert sorted(view.sum() for view in views) == sorted(image.sum() for image in trained)


def test_epochs_go_round_in_the_passes_each_in_an_order_of_its_own(teacher, dataset, images):
    mixed, _ = batches.training_batches(dataset, images, batch_size=8, seed=3, cutmix_share=1.0)
    taught = distillation.taught_batches(teacher, dataset, mixed, passes=2)
    seen = []
    for epoch in range(3):
        taught.start_epoch(epoch)
        seen.append([view.tobytes() for view in epoch_of(taught)[0]])
    assert set(seen[0]) == set(seen[2]) and seen[0] != seen[2]
    assert len(set(seen[0]) & set(seen[1])) < 8  # some rectangles lie outside


def test_teacher_is_asked_once_for_students_of_any_seed(
    teacher, dataset, images, plain, monkeypatch
):
    first = distillation.taught_batches(teacher, dataset, plain, passes=1)
    other, _ = batches.training_batches(dataset, images, batch_size=8, seed=4)
    monkeypatch.setattr(results, "predict_logits", None)
    again = distillation.taught_batches(teacher, dataset, other, passes=1)
    np.testing.assert_array_equal(again.labels, first.labels)
    assert not np.array_equal(again[0][0], first[0][0])


def test_other_views_are_answered_anew(teacher, dataset, images, plain, monkeypatch):
    distillation.taught_batches(teacher, dataset, plain, passes=1)
    mixed, _ = batches.training_batches(dataset, images, batch_size=8, seed=3, cutmix_share=0.5)
    monkeypatch.setattr(results, "predict_logits", None)
    for changed, passes, seed in ((mixed, 1, 0), (plain, 2, 0), (plain, 1, 1)):
        with pytest.raises(TypeError):
            distillation.taught_batches(teacher, dataset, changed, passes=passes, seed=seed)


def test_a_kill_while_answering_keeps_the_views(teacher, dataset, plain, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(results, "predict_logits", None)
        with pytest.raises(TypeError):
            distillation.taught_batches(teacher, dataset, plain, passes=1)
    monkeypatch.setattr(distillation, "_render", None)
    assert len(distillation.taught_batches(teacher, dataset, plain, passes=1)) == 3


def test_teacher_of_another_split_is_refused(teacher, dataset, plain):
    other = dataclasses.replace(dataset, split_hash="f" * 64)
    with pytest.raises(ValueError, match=r"same split \(f+….*received baseline_cnn/one"):
        distillation.taught_batches(teacher, other, plain, passes=1)


def test_no_passes_are_refused(teacher, dataset, plain):
    with pytest.raises(ValueError, match=r"at least one pass, received 0"):
        distillation.taught_batches(teacher, dataset, plain, passes=0)
