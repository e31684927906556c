"""The benchmarks compare like with like, and report what they measured."""

import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cifake_lib import runs

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
FAST = {
    "load_seconds": 1.5,
    "one_image_ms": 30.0,
    "many_images_seconds": 5.0,
    "first_image_ms": 900.0,
    "peak_memory_mb": 1200,
    "models": dict.fromkeys(runs.MODEL_STAGES, "made-up"),
    "backend": "tensorflow",
    "device": "CPU",
}


def command(script, *arguments, **environment):
    """Run a benchmark as its README says."""
    return subprocess.run(
        [sys.executable, FOLDER / script, *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture
def load(monkeypatch):
    """Import a script of the benchmarks folder."""
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module


@pytest.fixture(scope="module")
def training(tmp_path_factory):
    """The benchmark of training in little: its process and where its output lies."""
    folder = tmp_path_factory.mktemp("training")
    sizes = ["--models", "baseline_cnn", "--images", "128", "--epochs", "2"]
    output = folder / "speed.json"
    result = command(
        "training_speed.py",
        *sizes,
        "--output",
        output,
        CIFAKE_CACHE=str(folder / "cache"),
        CIFAKE_RELEASED=str(folder / "nothing"),
    )
    assert result.returncode == 0, result.stderr
    return result, output


@pytest.fixture
def released(tmp_path):
    """A released set of three small networks."""
    from cifake_lib import models

    arguments = {"blocks": 1, "convolutions_per_block": 1, "width": 4}
    facts = {"builder": "tuned_cnn", "arguments": arguments, "input_size": 32}
    for stage in runs.MODEL_STAGES:
        folder = tmp_path / "released" / stage
        folder.mkdir(parents=True)
        models.build_model("tuned_cnn", **arguments).save_weights(folder / runs.WEIGHTS)
        manifest = {
            "run_id": f"small-{stage}",
            "model": facts,
            "temperature": 1.0,
            "files": {runs.WEIGHTS: runs.file_hash(folder / runs.WEIGHTS)},
        }
        runs.write_json(folder / "manifest.json", manifest)
    return tmp_path / "released"


def test_both_ways_train_the_same_network_on_the_same_images(training):
    model = json.loads(training[1].read_text())["models"]["baseline_cnn"]
    plain, suite = model["plain"], model["suite"]
    assert plain["images"] == suite["images"] > 64
    assert plain["parameters"] == suite["parameters"] > 0
    assert (plain["precision"], plain["batch_size"], suite["batch_size"]) == ("float32", 32, 128)


def test_rates_follow_from_the_seconds_measured(training):
    model = json.loads(training[1].read_text())["models"]["baseline_cnn"]
    for way in (model["plain"], model["suite"]):
        seconds, rates = way["seconds"], way["images_per_second"]
        first, second = seconds["epochs"]
        assert min(first, second, seconds["index"], seconds["warm_up"]) > 0
        assert rates["steady"] == pytest.approx(way["images"] / second, rel=1e-3)
        ready = seconds["index"] + seconds["decode"] + first
        assert rates["first_epoch"] == pytest.approx(way["images"] / ready, rel=1e-3)
    assert model["plain"]["seconds"]["decode"] == 0 < model["suite"]["seconds"]["decode"]


def test_the_ratio_shown_is_suite_over_plain(training):
    result, output = training
    model = json.loads(output.read_text())["models"]["baseline_cnn"]
    (row,) = re.findall(r"\| Baseline CNN \| (\d.*) \|", result.stdout)
    shown = [float(cell.replace(",", "")) for cell in row.split(" | ")]
    for (plain, suite, ratio), phase in zip(
        (shown[:3], shown[3:]), ("first_epoch", "steady"), strict=True
    ):
        speeds = [model[way]["images_per_second"][phase] for way in ("plain", "suite")]
        assert [plain, suite] == pytest.approx(speeds, abs=0.06)
        assert model["ratio"][phase] == pytest.approx(speeds[1] / speeds[0], abs=1e-3)
        assert ratio == pytest.approx(model["ratio"][phase], abs=0.006)


def test_progress_goes_to_standard_error_and_the_table_beside_the_json(training):
    result, output = training
    assert output.with_suffix(".md").read_text() == result.stdout
    for way in ("plain", "suite"):
        lines = [line for line in result.stderr.splitlines() if f"baseline_cnn, {way}:" in line]
        assert len(lines) == 3, result.stderr
    machine = json.loads(output.read_text())["machine"]
    assert {"git_commit", "processor", "versions", "device", "backend"} <= set(machine)


def test_the_plain_network_differs_in_its_batch_normalisation_only(load):
    from cifake_lib import models
    from cifake_lib.framework import keras
    from cifake_lib.layers import BatchNormalization

    arguments = {"blocks": 2, "width": 8}
    plain = load("training_speed").build_plain("tuned_cnn", arguments)
    suite = models.build_model("tuned_cnn", **arguments)
    expected = [
        keras.layers.BatchNormalization if type(layer) is BatchNormalization else type(layer)
        for layer in suite.layers
    ]
    assert [type(layer) for layer in plain.layers] == expected
    for ours, theirs in zip(suite.layers, plain.layers, strict=True):
        # The names are counted on within a process.
        assert theirs.get_config() | {"name": ""} == ours.get_config() | {"name": ""}


def test_the_released_shape_is_trained_and_the_default_without_one(released, load, monkeypatch):
    arguments = load("training_speed").released_arguments
    monkeypatch.setenv("CIFAKE_RELEASED", str(released))
    assert arguments("resnet50") == {"blocks": 1, "convolutions_per_block": 1, "width": 4}
    monkeypatch.setenv("CIFAKE_RELEASED", str(released / "nothing"))
    assert arguments("resnet50") == {}


def test_one_epoch_has_no_steady_rate(load, capsys):
    with pytest.raises(SystemExit):
        load("training_speed").main(["--epochs", "1"])
    assert "expected 2 or more, received 1" in capsys.readouterr().err


def test_inference_reports_what_the_released_models_take(released, tmp_path):
    output = tmp_path / "speed.json"
    result = command(
        "inference_speed.py", "--check", "--output", output, CIFAKE_RELEASED=str(released)
    )
    report = json.loads(output.read_text())
    measured, limits = report["measured"], report["limits"]
    assert limits == {"load_seconds": 4, "one_image_ms": 150, "many_images_seconds": 20}
    assert all(measured[name] > 0 for name in (*limits, "first_image_ms", "peak_memory_mb"))
    assert measured["models"] == {key: f"small-{key}" for key in runs.MODEL_STAGES}
    assert report["passed"] == {name: measured[name] <= limits[name] for name in limits}
    assert result.returncode == (0 if all(report["passed"].values()) else 1), result.stderr
    assert output.with_suffix(".md").read_text() == result.stdout


def test_a_released_model_that_is_missing_is_an_error(released, tmp_path):
    (released / "resnet50" / runs.WEIGHTS).unlink()
    output = tmp_path / "speed.json"
    result = command("inference_speed.py", "--output", output, CIFAKE_RELEASED=str(released))
    assert result.returncode == 1
    assert "Expected all released models" in result.stderr
    assert not output.exists()


@pytest.mark.parametrize(
    ("slow", "options", "status"),
    [
        ({}, ["--check"], 0),
        ({"one_image_ms": 150.1}, ["--check"], 1),
        ({"load_seconds": 4.1}, ["--check"], 1),
        ({"many_images_seconds": 21}, ["--check"], 1),
        ({"many_images_seconds": 21}, [], 0),
    ],
)
def test_a_missed_limit_fails_the_check(load, monkeypatch, tmp_path, capsys, slow, options, status):
    script = load("inference_speed")
    monkeypatch.setattr(script, "in_fresh_process", lambda function: FAST | slow)
    output = tmp_path / "speed.json"
    assert script.main([*options, "--output", str(output)]) == status
    shown = capsys.readouterr()
    assert ("FAIL" in shown.out) == ("Limit missed" in shown.err) == bool(slow)
    passed = json.loads(output.read_text())["passed"]
    assert {name for name, good in passed.items() if not good} == set(slow)
