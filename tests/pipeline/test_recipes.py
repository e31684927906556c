"""The recipes of others, on few images and for one pass: their notebooks with their parameters.

One is run by its command. The others are run cell by cell in this process, which spares a kernel
for each notebook, and with networks of few layers in the place of the large ones of
`keras.applications`: their graphs alone take minutes, and `test_backbones` has them.
"""

import json

import nbformat
import numpy as np
import pytest
from IPython.core.inputtransformer2 import TransformerManager
from PIL import Image

from cifake_lib import names, runs
from cifake_lib.framework import keras
from cifake_lib.plan import make_plan

SEARCH = ("tuned_cnn.tuner=random", "tuned_cnn.search_trials=1", "tuned_cnn.search_epochs=1")


@pytest.fixture(scope="module")
def web_images(tmp_path_factory):
    """Sixty noisy pictures of mixed shapes and formats; FAKE ones have dark stripes."""
    folder = tmp_path_factory.mktemp("web-images")
    generator = np.random.default_rng(0)
    for number in range(60):
        name, suffix = ("REAL", "FAKE")[number % 2], ("jpg", "png", "webp")[number % 3]
        height, width = generator.integers(40, 90, 2)
        pixels = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
        pixels[:: 2 if name == "FAKE" else 9] //= 2
        target = folder / name / f"{number}.{suffix}"
        target.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(target)
    return folder


def few_layers(module, *last):
    """Make a network of `keras.applications` that has only its last layers, each a convolution."""

    def build(*, input_tensor, include_top, weights):
        assert (include_top, weights) == (False, None)
        x = input_tensor
        for name in last:
            x = keras.layers.Conv2D(8, 3, strides=4, padding="same", name=name)(x)
        return keras.Model(keras.utils.get_source_inputs(input_tensor), x)

    build.__module__ = f"keras.src.applications.{module}"
    return build


@pytest.fixture
def recipe(web_images, tmp_path, monkeypatch):
    """`recipe(profile, *overrides)` runs a profile and returns its runs by stage."""
    monkeypatch.setenv("CIFAKE_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("CIFAKE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(names, "_DISPLAY_NAMES", dict(names._DISPLAY_NAMES))
    resnet50 = few_layers("resnet", "conv4_block6_out", "conv5_block3_out")
    monkeypatch.setattr(keras.applications, "ResNet50", resnet50)
    monkeypatch.setattr(keras.applications, "EfficientNetB0", few_layers("efficientnet", "top"))
    policy = keras.mixed_precision.dtype_policy()

    def run(profile, *overrides):
        overrides = [f"data_dir={web_images}", "epochs=1", *overrides]
        found = {}
        for step in make_plan(profile, overrides=overrides, run_id="one").steps:
            scope = {"display": lambda *_: None}
            for cell in nbformat.read(step.notebook, 4).cells:
                if cell.cell_type == "code":
                    exec(TransformerManager().transform_cell(cell.source), scope)
                if "parameters" in cell.metadata.get("tags", []):
                    scope |= step.changed | {"run_id": step.run_id}
            found[step.stage] = runs.find_run(step.stage, "one")
        return found

    yield run
    keras.mixed_precision.set_global_policy(policy)


def facts(run):
    return run.manifest["model"]


def test_three_convolutions_at_32_pixels(run_pipeline, web_images, tmp_path, monkeypatch):
    monkeypatch.setenv("CIFAKE_CACHE", str(tmp_path / "cache"))
    options = ("-p", f"data_dir={web_images}", "-p", "epochs=1", "--run-id", "one")
    result = run_pipeline(tmp_path / "runs", "--profile", "cnn-32-three-conv", *options)
    assert result.returncode == 0, result.stdout + result.stderr
    (file,) = (tmp_path / "runs").glob("*/one/manifest.json")
    manifest = json.loads(file.read_text())
    assert (manifest["stage"], manifest["model"]["builder"]) == ("baseline_cnn", "three_conv_cnn")
    assert manifest["model"]["display_name"] == "Three-convolution CNN"
    assert (manifest["model"]["input_size"], manifest["model"]["crop"]) == (32, "squash")
    assert manifest["data"]["counts"] == {
        "train": {"REAL": 21, "FAKE": 21},
        "validation": {"REAL": 6, "FAKE": 6},
        "test": {"REAL": 3, "FAKE": 3},
    }
    assert manifest["training"]["class_weights"] == {"REAL": 1.0, "FAKE": 1.0}


def test_a_dense_head_on_resnet50(recipe):
    (run,) = recipe("resnet50-dense-head-32", "initial_weights=none").values()
    assert facts(run)["display_name"] == "ResNet-50, dense head"
    assert facts(run)["arguments"] == {
        **{"image_size": 32, "input_size": 32, "stem": "7x7", "stages": 5, "head": "dense"},
        **{"augmentation": ["horizontal_flip", "vertical_flip"], "dropout": 0.5},
    }
    assert run.manifest["parameters"]["patience"] == 3


def test_a_searched_efficientnet(recipe):
    (step,) = make_plan("efficientnet-b0-224").steps
    assert step.parameters["image_size"] == 224
    assert step.parameters["initial_weights"] == "imagenet"
    options = ("initial_weights=none", "image_size=32", "promoted_epochs=1")
    (run,) = recipe("efficientnet-b0-224", *options, *SEARCH).values()
    assert (run.stage, facts(run)["display_name"]) == ("tuned_cnn", "EfficientNet-B0, tuned")
    trials = run.read_csv("trials.csv")
    assert {"batch_size", "dropout", "learning_rate"} <= set(trials)
    assert set(facts(run)["arguments"]["augmentation"]) == {
        *("horizontal_flip", "vertical_flip", "rotation", "colour")
    }


def test_three_models_are_compared(recipe):
    options = ("promoted_trials=1", "promoted_epochs=1", "robustness_images=4")
    found = recipe("three-model-comparison", *options, *SEARCH)
    assert set(found) == {*runs.MODEL_STAGES, "evaluation"}
    compared = found["evaluation"].read_json("metrics.json")["models"]
    assert [compared[stage]["display_name"] for stage in runs.MODEL_STAGES] == [
        *("Two-convolution CNN", "Two-convolution CNN, tuned", "ResNet-50")
    ]
    assert found["evaluation"].manifest["upstream"] == dict.fromkeys(runs.MODEL_STAGES, "one")
    assert found["resnet50"].manifest["parameters"]["initial_weights"] == "none"
