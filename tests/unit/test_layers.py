"""The fused batch normalisation is Keras's, only faster."""

import numpy as np
import pytest

from cifake_lib.framework import keras
from cifake_lib.layers import BatchNormalization


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    return (rng.normal(size=(6, 5, 4, 3)) * [1, 4, 0.2] + [0, 7, -2]).astype("float32")


def pair(batch, **options):
    """Keras's layer and ours with the same weights."""
    layers = keras.layers.BatchNormalization(**options), BatchNormalization(**options)
    rng = np.random.default_rng(1)
    for layer in layers:
        layer.build(batch.shape)
    weights = [rng.uniform(0.5, 2, weight.shape) for weight in layers[0].get_weights()]
    for layer in layers:
        layer.set_weights(weights)
    return layers


@pytest.mark.parametrize("training", [False, True])
def test_outputs_and_moving_statistics_are_those_of_keras(batch, training):
    theirs, ours = pair(batch, momentum=0.8, epsilon=1e-3)
    expected, found = (np.array(layer(batch, training=training)) for layer in (theirs, ours))
    np.testing.assert_allclose(found, expected, atol=2e-5)
    unbiased = len(batch) * 20 / (len(batch) * 20 - 1)
    for name, factor in (("moving_mean", 1), ("moving_variance", unbiased if training else 1)):
        before = pair(batch, momentum=0.8)[0]
        start, after = (np.array(getattr(layer, name)) for layer in (before, theirs))
        expected = start * 0.8 + (after - start * 0.8) * factor if training else start
        np.testing.assert_allclose(np.array(getattr(ours, name)), expected, rtol=1e-4, atol=1e-5)


def test_a_frozen_layer_keeps_to_its_moving_statistics(batch):
    theirs, ours = pair(batch)
    theirs.trainable = ours.trainable = False
    before = ours.get_weights()
    np.testing.assert_allclose(ours(batch, training=True), theirs(batch, training=True), atol=1e-5)
    for old, new in zip(before, ours.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_a_model_trains_to_the_same_weights_with_either_layer(batch):
    labels = (batch.mean(axis=(1, 2, 3)) > batch.mean()).astype("float32")[:, None]
    trained = []
    for kind in (keras.layers.BatchNormalization, BatchNormalization):
        keras.utils.set_random_seed(0)
        inputs = keras.Input((5, 4, 3))
        x = keras.layers.Conv2D(4, 3, dtype="float32")(inputs)
        x = kind(dtype="float32")(x)
        x = keras.layers.Flatten()(keras.layers.ReLU()(x))
        model = keras.Model(inputs, keras.layers.Dense(1, dtype="float32")(x))
        model.compile(keras.optimizers.SGD(0.1), keras.losses.BinaryCrossentropy(from_logits=True))
        model.fit(batch, labels, epochs=3, batch_size=6, verbose=0)
        trained.append([np.array(weight) for weight in model.trainable_weights])
    for theirs, ours in zip(*trained, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_half_precision_in_half_precision_out(batch):
    layer = BatchNormalization(dtype="mixed_bfloat16")
    outputs = layer(batch.astype("float32"), training=True)
    assert str(outputs.dtype).endswith("bfloat16'>") or "bfloat16" in str(outputs.dtype)
    assert str(layer.moving_mean.dtype) == "float32"


def test_weights_of_either_layer_load_into_the_other(batch, tmp_path):
    models = []
    for kind in (keras.layers.BatchNormalization, BatchNormalization):
        inputs = keras.Input((5, 4, 3))
        models.append(keras.Model(inputs, kind()(inputs)))
    models[0].set_weights([np.full(3, value) for value in (2.0, 3.0, 4.0, 5.0)])
    models[0].save_weights(tmp_path / "a.weights.h5")
    models[1].load_weights(tmp_path / "a.weights.h5")
    for theirs, ours in zip(models[0].get_weights(), models[1].get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
