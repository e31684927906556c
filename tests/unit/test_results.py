"""From a trained model to stored weights, predictions and costs."""

import h5py
import numpy as np
import pandas as pd
import pytest

from cifake_lib import batches, data, models, results, runs, training
from cifake_lib.framework import keras

ARGUMENTS = {"image_size": 32, "augmentation": [], "filters": [4, 4]}
HISTORY = pd.DataFrame({"seconds": [2.0], "images_per_second": [8.0], "peak_memory_mb": [9.0]})


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def model():
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
    return results.finish_model_run(run, model, dataset, images, HISTORY, arguments=ARGUMENTS)


def test_logits_are_in_row_order_whatever_the_batches(model, images, monkeypatch):
    monkeypatch.setattr(results, "images_together", lambda side: 7)
    rows = np.array([5, 3, 38, 0, 17, 2, 9, 11, 30])
    expected = model(images[rows]).numpy().ravel()
    np.testing.assert_allclose(results.predict_logits(model, images, rows), expected, atol=1e-5)


def test_stored_kernels_are_half_precision_and_nothing_else_is_stored(model, tmp_path):
    results.save_weights(model, tmp_path / "model.weights.h5")
    results.halve_weights(tmp_path / "model.weights.h5")
    stored = []
    with h5py.File(tmp_path / "model.weights.h5") as file:
        file.visititems(
            lambda name, item: (
                stored.append((item.ndim, item.dtype)) if isinstance(item, h5py.Dataset) else None
            )
        )
    assert len(stored) == len(model.weights), "the optimiser's variables are not part of a model"
    assert {str(kind) for size, kind in stored if size > 1} == {"float16"}
    assert {str(kind) for size, kind in stored if size == 1} == {"float32"}


def test_kernels_with_fewer_bits_are_rounded_to_the_nearest_and_compressed(tmp_path):
    arguments = ARGUMENTS | {"filters": [64, 128]}
    model = models.build_model("baseline_cnn", **arguments)
    whole, short = tmp_path / "whole.weights.h5", tmp_path / "short.weights.h5"
    for path, mantissa in ((whole, 10), (short, 7)):
        results.save_weights(model, path)
        results.halve_weights(path, mantissa=mantissa)
    exact = {weight.path: weight.numpy() for weight in model.weights}
    other = models.build_model("baseline_cnn", **arguments)
    other.load_weights(short)
    for weight, value in zip(other.weights, exact.values(), strict=True):
        if value.ndim > 1:
            # Half a step of the last of 7 bits after half a step of the last of 10; below 2 ** -14
            # half precision has equal steps.
            steps = np.abs(value) * (2**-8 + 2**-11) + 2**-21
            assert (np.abs(weight.numpy() - value) <= steps).all()
            assert np.unique(weight.numpy()).size < np.unique(value.astype(np.float16)).size
        else:
            assert (weight.numpy() == value).all()
    kernels = sum(value.size for value in exact.values() if value.ndim > 1)
    assert short.stat().st_size < whole.stat().st_size - 0.1 * 2 * kernels


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
    stored = finished.read_csv("validation_predictions.csv")
    validation = dataset.table[dataset.table["split"] == "validation"]
    assert stored["path"].tolist() == validation["path"].tolist()
    assert finished.read_json("validation_metrics.json")["count"] == len(validation)


def test_speed_on_large_images_is_measured_by_and_by():
    class Counting:
        seen = []

        def predict_on_batch(self, images):
            self.seen.append(len(images))

    results.images_per_second(Counting(), image_size=320, batch_size=25, seconds=0)
    warm, measured = Counting.seen[:2], Counting.seen[2:]
    assert warm == [10, 5]  # each size once: a compiler may treat it apart
    assert measured == [10, 10, 5]


def test_speed_is_measured_in_images_per_second(model):
    fast = results.images_per_second(model, image_size=32, batch_size=64, seconds=0.05)
    assert 10 < fast < 1e7


def test_view_averaging_is_part_of_the_stored_model(monkeypatch, tmp_path, model, images, dataset):
    monkeypatch.setenv("CIFAKE_RUNS", str(tmp_path / "runs"))
    run = results.finish_model_run(
        runs.start_run("baseline_cnn"),
        *(model, dataset, images, HISTORY),
        arguments=ARGUMENTS,
        view_average=True,
    )
    assert run.manifest["model"]["view_averaged"]
    loaded = runs.load_model(run)
    averaged = models.view_averaged(model).predict(images, verbose=0)
    np.testing.assert_allclose(loaded.predict(images, verbose=0), averaged, atol=5e-3)
    mirrored = loaded.predict(images[:, :, ::-1], verbose=0)
    np.testing.assert_allclose(loaded.predict(images, verbose=0), mirrored, atol=1e-5)
    stored = run.read_csv("validation_predictions.csv")["logit"]
    validation = images[(dataset.table["split"] == "validation").to_numpy()]
    np.testing.assert_allclose(stored, loaded.predict(validation, verbose=0).ravel(), atol=1e-5)


def test_a_reopened_run_is_finished_anew_without_training(monkeypatch, tmp_path, images, dataset):
    monkeypatch.setenv("CIFAKE_RUNS", str(tmp_path / "runs"))
    phases = [training.Phase("one", 1, 0.01), training.Phase("two", 1, 0.001)]

    def notebook(view_average):
        run = runs.start_run("baseline_cnn", run_id="one", parameters={"views": view_average})
        model = models.build_model("baseline_cnn", **ARGUMENTS)
        fed = batches.training_batches(dataset, images, batch_size=8, seed=0)
        history = training.train(model, phases, *fed, checkpoints=run.checkpoints, seed=0)
        made = {"arguments": ARGUMENTS, "view_average": view_average}
        run.notes += [] if view_average else ["Made by hand."]
        return results.finish_model_run(run, model, dataset, images, history, **made)

    first = notebook(view_average=False)
    history, trained = first.read_csv("history.csv"), runs.load_model(first)
    results.reopen(first, views=True)
    with pytest.raises(runs.RunNotFound):
        runs.find_run("baseline_cnn", "one")
    again = notebook(view_average=True)
    assert again.manifest["started_utc"] == first.manifest["started_utc"]
    assert again.manifest["duration_seconds"] < first.manifest["duration_seconds"] + 60
    assert again.manifest["training"] == first.manifest["training"]
    assert again.manifest["notes"] == ["Made by hand."]
    pd.testing.assert_frame_equal(again.read_csv("history.csv"), history)
    expected = models.view_averaged(trained).predict(images, verbose=0)
    found = runs.load_model(again).predict(images, verbose=0)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert not (again.folder / runs.CHECKPOINTS).exists()


def test_weights_stay_whole_where_half_precision_costs_too_much(
    monkeypatch, tmp_path, model, images, dataset
):
    monkeypatch.setenv("CIFAKE_RUNS", str(tmp_path / "runs"))
    sizes = {}
    for limit in (0.0005, -1.0):
        monkeypatch.setattr(results, "HALF_PRECISION_LOSS", limit)
        run = results.finish_model_run(
            runs.start_run("baseline_cnn"),
            *(model, dataset, images, HISTORY),
            arguments=ARGUMENTS,
        )
        facts = run.manifest["model"]["half_precision"]
        assert abs(facts["log_loss_added"]) < 0.0005
        assert facts["used"] == (limit > 0)
        sizes[limit] = run.checked(runs.WEIGHTS).stat().st_size
        logits = runs.load_model(run).predict(images, verbose=0).ravel()
        stored = run.read_csv("validation_predictions.csv")["logit"]
        validation = (dataset.table["split"] == "validation").to_numpy()
        np.testing.assert_allclose(stored, logits[validation], atol=1e-5)
    assert sizes[0.0005] < sizes[-1.0]
