"""What notebook 04 does when the ImageNet weights cannot be downloaded."""

import json

import pytest

QUICK = (
    *("-p", "resnet50.initial_weights=imagenet"),
    *("-p", "resnet50.max_images=200"),
    *("-p", "resnet50.stages=4"),
    *("-p", "resnet50.input_size=32"),
    *("-p", "resnet50.epochs=1"),
)


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """No cached weights, and a proxy that nothing listens on."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)


def test_the_sample_profile_goes_on_without_and_says_so(run_pipeline, offline, tmp_path):
    runs = tmp_path / "runs"
    result = run_pipeline(runs, "--only", "resnet50", "--run-id", "offline", *QUICK)
    assert result.returncode == 0, result.stdout + result.stderr
    folder = runs / "resnet50" / "offline"
    (note,) = json.loads((folder / "manifest.json").read_text())["notes"]
    assert note.startswith("Trained from random weights.")
    assert "could not be downloaded" in note
    notebook = (folder / "notebook.ipynb").read_text()
    assert "0 layers start from random weights" in notebook
    assert "Trained from random weights." in notebook


def test_another_profile_stops_and_says_what_to_do(run_pipeline, offline, tmp_path):
    runs = tmp_path / "runs"
    result = run_pipeline(runs, "--profile", "smoke", "--only", "resnet50", *QUICK)
    assert result.returncode != 0
    assert "could not be downloaded" in result.stdout + result.stderr
    assert "initial_weights" in result.stdout + result.stderr
    assert not list(runs.glob("resnet50/*/manifest.json"))
