"""The light engine says what Keras says, and needs no TensorFlow to say it."""

import shutil
import subprocess
import sys

import numpy as np
import pytest

from cifake_lib import engine, explain, models, runs
from cifake_lib.framework import keras

pytest.importorskip("ai_edge_litert")
CASES = {
    "baseline_cnn": {"filters": (8, 16)},
    "tuned_cnn": {"blocks": 2, "width": 8, "pooling": "flatten"},
    "resnet50": {"input_size": 64, "stages": 4},
}


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (11, 32, 32, 3), dtype=np.uint8)


@pytest.fixture(scope="module", params=CASES)
def pair(request, tmp_path_factory):
    """A network in Keras, and the same converted and loaded."""
    keras.utils.set_random_seed(1)
    model = models.build_model(request.param, **CASES[request.param])
    folder = tmp_path_factory.mktemp(request.param)
    # Half precision moves random weights more than trained ones.
    engine.export(model, folder / engine.FILE, kernels="float32")
    return models.view_averaged(model), engine.Network(run_of(folder))


def run_of(folder):
    files = {engine.FILE: runs.file_hash(folder / engine.FILE)}
    manifest = {"run_id": "x", "files": files, "model": {"view_averaged": True}}
    return runs.Run("baseline_cnn", folder, manifest)


def test_logits_are_those_of_keras_for_any_number_of_images(pair, images):
    model, network = pair
    expected = model.predict(images, verbose=0)
    for count in (1, 11, 2):
        found = network.predict_on_batch(images[:count])
        assert found.shape == (count, 1) and found.dtype == np.float32
        np.testing.assert_allclose(found, expected[:count], atol=1e-3)


def test_features_are_those_before_the_last_layer(pair, images):
    model, network = pair
    inside = explain.unwrapped(model)
    expected = keras.Model(inside.input, inside.get_layer("logit").input).predict(images, verbose=0)
    features, _ = network.look(images)
    np.testing.assert_allclose(features, expected, atol=1e-3)


def test_heat_adds_up_to_the_logit_and_is_grad_cam_above_zero(pair, images):
    model, network = pair
    inside = explain.unwrapped(model)
    _, heat = network.look(images)
    bias = inside.get_layer("logit").bias.numpy()
    logits = inside.predict(images, verbose=0)
    np.testing.assert_allclose(heat.sum(axis=(1, 2))[:, None] + bias, logits, atol=1e-3)


def test_a_changed_file_is_refused(pair, tmp_path):
    _, network = pair
    shutil.copy(network.run.folder / engine.FILE, tmp_path / engine.FILE)
    run = run_of(tmp_path)
    (tmp_path / engine.FILE).write_bytes(b"another")
    with pytest.raises(runs.RunDamaged, match="damaged or was changed"):
        engine.Network(run)


def test_fewer_bits_make_a_smaller_file_that_says_nearly_the_same(tmp_path, images):
    keras.utils.set_random_seed(1)
    model = models.build_model("baseline_cnn")
    sizes, logits = {}, {}
    for kernels in engine.KERNELS:
        folder = tmp_path / kernels
        folder.mkdir()
        engine.export(model, folder / engine.FILE, kernels=kernels)
        sizes[kernels] = (folder / engine.FILE).stat().st_size
        logits[kernels] = engine.Network(run_of(folder)).logits(images)
    assert sizes["float16"] < 0.6 * sizes["float32"] and sizes["int8"] < 0.6 * sizes["float16"]
    scale = np.abs(logits["float32"]).mean()
    for kernels, far in (("float16", 0.01), ("int8", 0.1)):
        assert np.abs(logits[kernels] - logits["float32"]).max() < far * scale
    with pytest.raises(ValueError, match="int8.*received 'int4'"):
        engine.export(model, tmp_path / engine.FILE, kernels="int4")


def test_asking_needs_no_tensorflow_and_says_nothing(pair, images, tmp_path):
    _, network = pair
    np.save(tmp_path / "images.npy", images)
    script = f"""
import sys, json, numpy as np
from pathlib import Path
from cifake_lib import engine, runs
run = runs.Run("baseline_cnn", Path({str(network.run.folder)!r}), {network.run.manifest!r})
found = engine.Network(run).predict_on_batch(np.load({str(tmp_path / "images.npy")!r}))
assert not {{"tensorflow", "keras"}} & set(sys.modules)
print(found.sum())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")  # A red box under a cell, if there were any.
    expected = network.predict_on_batch(images).sum()
    assert float(done.stdout) == pytest.approx(float(expected), abs=1e-2)
