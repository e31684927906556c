"""Soft targets: a mean of label and teacher on training images, and no leak between splits."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from cifake_lib import batches, data, distillation, results, runs

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
    model = models.build_model("baseline_cnn", **ARGUMENTS)
    run = runs.start_run("baseline_cnn", run_id="one")
    return results.finish_model_run(run, model, dataset, images, HISTORY, arguments=ARGUMENTS)


def test_targets_are_between_label_and_teacher_on_training_images_only(teacher, dataset, images):
    labels = dataset.table["label"].to_numpy()
    logits = results.predict_logits(runs.load_model(teacher), images)
    p_fake = 1 / (1 + np.exp(-logits / teacher.manifest["temperature"]))
    train = dataset.rows("train").to_numpy()
    for weight in (0.0, 0.25, 1.0):
        targets = distillation.soft_targets(teacher, dataset, images, weight=weight)
        expected = np.where(train, (1 - weight) * labels + weight * p_fake, labels)
        np.testing.assert_allclose(targets, expected, atol=1e-5)
        assert targets.dtype == np.float32


def test_teacher_is_asked_once(teacher, dataset, images, monkeypatch):
    first = distillation.soft_targets(teacher, dataset, images, weight=0.5)
    monkeypatch.setattr(results, "predict_logits", None)
    again = distillation.soft_targets(teacher, dataset, images, weight=0.5)
    np.testing.assert_array_equal(again, first)


def test_batches_train_towards_the_targets_and_validate_on_labels(dataset, images):
    labels = dataset.table["label"].to_numpy()
    train, validation = batches.training_batches(
        dataset, images, batch_size=64, seed=0, targets=np.full(40, 0.25)
    )
    assert set(train[0][1].ravel()) == {0.25}
    assert validation[0][1].ravel().tolist() == labels[dataset.rows("validation")].tolist()


def test_teacher_of_another_split_is_refused(teacher, dataset, images):
    other = dataclasses.replace(dataset, split_hash="f" * 64)
    with pytest.raises(ValueError, match=r"same split \(f+….*received baseline_cnn/one"):
        distillation.soft_targets(teacher, other, images, weight=0.5)


def test_weight_out_of_range_is_refused(teacher, dataset, images):
    with pytest.raises(ValueError, match=r"weight from 0 to 1, received 2"):
        distillation.soft_targets(teacher, dataset, images, weight=2)
