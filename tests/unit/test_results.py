"""From a trained model to stored weights, predictions and costs."""

import h5py
import numpy as np
import pandas as pd
import pytest

from cifake_lib import data, results, runs, training
from cifake_lib.framework import keras

ARGUMENTS = {"image_size": 32, "augmentation": [], "filters": [4, 4], "dense_units": 4}


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def model():
    from cifake_lib import models

    keras.utils.set_random_seed(0)
    built = models.build_model("baseline_cnn", **ARGUMENTS)
    training.compile_model(built, training.Phase("x", epochs=1, learning_rate=0.01), steps=1)
    return built


@pytest.fixture
def dataset(images):
    table = pd.DataFrame(
        {
            "path": [f"{row:02d}.png" for row in range(40)],
            "label": [0, 1] * 20,
            "object_class": "",
            "content_hash": [f"{row:064x}" for row in range(40)],
            "official_split": "",
            "split": ["train"] * 16 + ["validation"] * 12 + ["test"] * 12,
            "crosses_split": [False] * 39 + [True],
        }
    )
    skipped = pd.DataFrame(columns=["path", "reason"])
    return data.Dataset("made", runs.paths.project_root(), table, skipped, "0" * 64)


@pytest.fixture
def finished(monkeypatch, tmp_path, model, images, dataset):
    monkeypatch.setenv("CIFAKE_RUNS", str(tmp_path / "runs"))
    run = runs.start_run("baseline_cnn", run_id="one")
    history = pd.DataFrame({"seconds": [2.0], "images_per_second": [8.0], "peak_memory_mb": [9.0]})
    return results.finish_model_run(run, model, dataset, images, history, arguments=ARGUMENTS)


def test_logits_are_in_row_order_whatever_the_batches(model, images, monkeypatch):
    monkeypatch.setattr(results, "PREDICT_BATCH_SIZE", 7)
    rows = np.array([5, 3, 38, 0, 17, 2, 9, 11, 30])
    expected = model(images[rows]).numpy().ravel()
    np.testing.assert_allclose(results.predict_logits(model, images, rows), expected, atol=1e-5)


def test_stored_kernels_are_half_precision_and_nothing_else_is_stored(model, tmp_path):
    results.save_weights(model, tmp_path / "model.weights.h5")
    kinds = {}
    with h5py.File(tmp_path / "model.weights.h5") as file:
        file.visititems(
            lambda name, item: (
                kinds.update({name: item.dtype}) if isinstance(item, h5py.Dataset) else None
            )
        )
    assert len(kinds) == len(model.weights), "the optimiser's variables are not part of a model"
    assert {str(kind) for name, kind in kinds.items() if name.endswith("/0")} == {"float16"}
    assert {str(kind) for name, kind in kinds.items() if name.endswith("/1")} == {"float32"}


def test_a_finished_run_answers_like_the_model(finished, model, images):
    found = runs.find_run("baseline_cnn", "one")
    np.testing.assert_allclose(
        runs.load_model(found).predict(images, verbose=0),
        model.predict(images, verbose=0),
        atol=5e-3,
    )
    assert found.manifest["model"]["parameters"] == model.count_params()
    assert found.manifest["training"]["seconds"] == 2.0


def test_only_validation_images_are_looked_at_in_training(finished, dataset):
    stored = finished.read_csv("predictions.csv")
    validation = dataset.table[dataset.table["split"] == "validation"]
    assert stored["path"].tolist() == validation["path"].tolist()
    assert finished.read_json("metrics.json")["count"] == len(validation)


def test_the_comparison_scores_the_test_images_and_adds_costs(finished, dataset, images):
    found = {"baseline_cnn": finished}
    predictions = results.predict_test_split(found, dataset, images)
    assert predictions["path"].tolist() == [f"{row:02d}.png" for row in range(28, 40)]
    assert predictions["crosses_split"].tolist() == [False] * 11 + [True]
    p_fake = results.predictor(finished)(images[28:])
    np.testing.assert_allclose(predictions["baseline_cnn_p_fake"], p_fake, atol=1e-6)
    np.testing.assert_allclose(predictions["ensemble_p_fake"], p_fake, atol=1e-6)

    metrics = results.compare(found, predictions)
    right = (p_fake >= 0.5) == (predictions["label"] == 1)
    assert metrics["baseline_cnn"]["accuracy"] == pytest.approx(right.mean())
    assert metrics["ensemble"]["training_seconds"] == 2.0
    assert metrics["baseline_cnn"]["images_per_second_batch_256"] > 1

    run = results.finish_comparison(
        runs.start_run("evaluation"),
        found,
        dataset,
        images,
        predictions[~predictions["crosses_split"]],
        metrics,
        examples_per_class=3,
    )
    examples = np.load(run.checked("examples.npz"))
    assert sorted(examples["labels"]) == [0, 0, 0, 1, 1, 1]
    for image, label in zip(examples["images"], examples["labels"], strict=True):
        (row,) = np.flatnonzero((images == image).all(axis=(1, 2, 3)))
        assert 28 <= row < 39 and dataset.table["label"][row] == label


def test_speed_is_measured_in_images_per_second(model):
    fast = results.images_per_second(model, image_size=32, batch_size=64, seconds=0.05)
    assert 10 < fast < 1e7
