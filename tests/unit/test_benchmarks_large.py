"""The benchmark of large collections goes through every step and says what it took."""

import importlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch, tmp_path):
    """The benchmark with images of 32 pixels, in this process."""
    monkeypatch.syspath_prepend(FOLDER)
    monkeypatch.setenv("CIFAKE_CACHE", str(tmp_path / "replaced by the script"))
    module = importlib.import_module("large_dataset")
    monkeypatch.setattr(module, "SIDE", 32)
    monkeypatch.setattr(module, "in_fresh_process", lambda function, *given: function(*given))
    return module


def test_every_step_is_timed_and_the_table_written_beside_the_json(script, tmp_path, capsys):
    script.make_images(tmp_path / "made", 4)  # by other processes, which make them of full size
    files = sorted((tmp_path / "made").rglob("*.jpg"))
    assert [file.parent.name for file in files] == ["FAKE", "FAKE", "REAL", "REAL"]
    pictures = [np.array(Image.open(file)) for file in files]
    assert len({picture.tobytes() for picture in pictures}) == 4

    output = tmp_path / "large.json"
    options = ["--images", "100", "--folder", str(tmp_path), "--output", str(output)]
    script.main(options)
    report = json.loads(output.read_text())
    steps = report["images"]["100"]
    assert list(steps) == list(script.STEPS)
    assert all(values["peak_memory_mb"] > 10 for values in steps.values())
    assert output.with_suffix(".md").read_text() == capsys.readouterr().out
    assert not list(tmp_path.glob("*/collection"))


def test_memory_above_the_limit_fails_the_check(script, tmp_path, monkeypatch, capsys):
    steps = {name: {"seconds": 1.0, "peak_memory_mb": 100} for name in script.STEPS}
    monkeypatch.setattr(script, "measure", lambda folder, images: steps)
    options = ["--check", "--images", "100", "--output", str(tmp_path / "large.json")]
    assert script.main(options) == 0
    steps["copies"] = {"seconds": 1.0, "peak_memory_mb": 2001}
    assert script.main(options) == 1
    assert "copies of 100 images: 2,001 MB" in capsys.readouterr().err
