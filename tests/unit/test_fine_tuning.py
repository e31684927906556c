from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from cifake_lib.data import Dataset
from cifake_lib.fine_tuning import FineTuning, Seen
from cifake_lib.framework import keras


@pytest.fixture
def collection(tmp_path):
    """Forty images, the fakes brighter: a data set and its pixels."""
    labels = np.arange(40) % 2
    split = np.select([np.arange(40) < 24, np.arange(40) < 32], ["train", "validation"], "test")
    table = pd.DataFrame({"path": labels.astype(str), "label": labels, "split": split})
    generator = np.random.default_rng(0)
    images = generator.integers(0, 128, (40, 32, 32, 3)) + 100 * labels[:, None, None, None]
    return Dataset("own", tmp_path, table, table[:0], ""), images.astype(np.uint8)


def weights(model):
    return {
        layer.name: [np.copy(value) for value in layer.get_weights()]
        for layer in model.layers
        if layer.get_weights()
    }


def tiny(tuning):
    """A small network of which two layers count as pretrained."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((32, 32, 3))
    x = keras.layers.Rescaling(1 / 255)(inputs)
    x = keras.layers.Conv2D(4, 3, strides=4, name="conv")(x)
    x = keras.layers.BatchNormalization(name="bn")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(1, name="logit")(x)), ["conv", "bn"]


@pytest.mark.parametrize(("epochs", "moving"), [(0, {"logit"}), (3, {"conv", "logit"})])
def test_the_head_comes_first_and_then_all_but_known_statistics(
    collection, tmp_path, monkeypatch, epochs, moving
):
    monkeypatch.setattr(FineTuning, "build", tiny)
    gently = FineTuning(
        *("any", {}, "imagenet"), head_epochs=2, epochs=epochs, batch_size=12, learning_rate=1e-2
    )
    before = weights(tiny(gently)[0])
    model, history = gently.train(*collection, checkpoints=tmp_path)
    assert list(history["phase"]) == ["head"] * 2 + ["fine_tune"] * epochs
    after = weights(model)
    moved = {name for name in before if not all(map(np.array_equal, before[name], after[name]))}
    assert moved == moving


def test_without_pretrained_layers_there_is_no_first_phase(collection, tmp_path):
    arguments = {"image_size": 32, "augmentation": [], "filters": [4, 4]}
    plain = FineTuning("baseline_cnn", arguments, "none", head_epochs=3, epochs=2, batch_size=12)
    model, history = plain.train(*collection, checkpoints=tmp_path)
    assert list(history["phase"]) == ["fine_tune", "fine_tune"]
    assert model.name == "baseline_cnn"


def test_photographs_are_learned_from_parts_after_random_deliveries(collection, tmp_path):
    dataset, images = collection
    dataset.table["source"] = ["a", "b"] * 20
    arguments = {"image_size": 24, "augmentation": [], "filters": [4, 4]}
    options = {"epochs": 2, "batch_size": 12, "delivered": True}
    model, history = FineTuning("baseline_cnn", arguments, "none", **options).train(
        dataset, images, checkpoints=tmp_path
    )
    assert model.input_shape[1] == 24 and len(history) == 2


def sources(dataset):
    return replace(dataset, table=dataset.table.assign(source=["a", "b"] * 20))


def test_the_output_layer_starts_from_a_regression_on_the_features(collection, tmp_path):
    """Bright images are the fakes: the layer alone knows it, and no other weight has moved."""
    dataset, images = sources(collection[0]), collection[1]
    arguments = {"image_size": 32, "augmentation": [], "filters": [4, 4]}
    tuning = FineTuning("baseline_cnn", arguments, "none", head_epochs=0, epochs=0, delivered=True)
    before = tuning.build()[0].get_weights()
    seen = Seen.through(tuning.build()[0], images, passes=2)
    assert seen.values.shape[:2] == (2, 40)
    assert not np.array_equal(*seen.values), "every pass delivers anew"
    model, history = tuning.train(dataset, images, checkpoints=tmp_path, seen=seen)
    *body, kernel, bias = zip(before, model.get_weights(), strict=True)
    assert all(np.array_equal(*pair) for pair in body)
    assert not np.array_equal(*kernel) and not np.array_equal(*bias)
    labels = dataset.table["label"].to_numpy()
    logits = np.asarray(model.predict_on_batch(images)).ravel()
    assert roc_auc_score(labels, logits) == 1
    assert history["phase"].tolist() == ["regression"] and history["accuracy"].item() > 0.9
    assert history["seconds"].item() >= seen.seconds


def test_the_regression_knows_no_image_of_the_test_split(collection):
    dataset = sources(collection[0])
    model, _ = tiny(None)
    values = np.random.default_rng(0).normal(size=(1, 40, 4)).astype(np.float32)
    layers = []
    for changed in (0, 100):
        values[:, dataset.rows("test")] += changed
        Seen(values, 1.0).fit_output(model, dataset)
        layers.append(model.get_layer("logit").get_weights()[0])
    np.testing.assert_array_equal(*layers)


def test_some_layers_are_never_trained_and_an_interrupted_training_is_not_fitted_anew(
    collection, tmp_path, monkeypatch
):
    monkeypatch.setattr(FineTuning, "build", tiny)
    fitted = []
    monkeypatch.setattr(Seen, "fit_output", lambda *_, **__: fitted.append(1))
    tuning = FineTuning(
        *("any", {}, "imagenet"),
        frozen=["con"],
        learning_rate=1e-2,
        head_epochs=0,
        epochs=2,
        batch_size=12,
    )
    before, seen = weights(tiny(tuning)[0]), Seen(np.zeros((1, 40, 4)), 1.0)
    model, _ = tuning.train(*collection, checkpoints=tmp_path, seen=seen)
    after = weights(model)
    assert np.array_equal(before["conv"][0], after["conv"][0])
    assert not np.array_equal(before["logit"][0], after["logit"][0])
    tuning.train(*collection, checkpoints=tmp_path, seen=seen)
    assert fitted == [1]
