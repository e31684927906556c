"""What ships: copies of runs, and for each model its results on the test split."""

import numpy as np
import pandas as pd
import pytest

from cifake_lib import paths
from cifake_lib.releases import release
from cifake_lib.runs import find_run, start_run


@pytest.fixture(autouse=True)
def folders(monkeypatch, tmp_path):
    monkeypatch.setenv("CIFAKE_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("CIFAKE_RELEASED", str(tmp_path / "released"))


def complete(stage="baseline_cnn", run_id=""):
    run = start_run(stage, run_id=run_id)
    run.write_json("metrics.json", {"accuracy": 0.5})
    run.write_csv("history.csv", pd.DataFrame({"epoch": [1, 2]}))
    return run.finish()


def test_release_copies_everything_but_checkpoints_and_notebook():
    run = complete(run_id="x")
    (run.folder / "figures").mkdir()
    (run.folder / "figures" / "a.png").touch()
    (run.folder / "checkpoints").mkdir()
    (run.folder / "checkpoints" / "heavy").touch()
    (run.folder / "notebook.ipynb").touch()
    (run.folder / "notebook.html").touch()
    target = release(run)
    assert target == paths.released_dir() / "baseline_cnn"
    files = {path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file()}
    assert files == {"manifest.json", "metrics.json", "history.csv", "figures/a.png"}
    released = find_run("baseline_cnn", released=True)
    assert (released.run_id, released.folder) == ("x", target)
    assert released.read_json("metrics.json") == {"accuracy": 0.5}


def test_release_replaces_the_one_before():
    release(complete(run_id="old"))
    (paths.released_dir() / "baseline_cnn" / "stale.csv").touch()
    release(complete(run_id="new"))
    assert find_run("baseline_cnn", released=True).run_id == "new"
    assert not (paths.released_dir() / "baseline_cnn" / "stale.csv").exists()
    assert [path.name for path in paths.released_dir().iterdir()] == ["baseline_cnn"]


def evaluation_of(**upstream):
    run = start_run("evaluation", run_id="compared")
    metrics = {key: {"f1": 0.9, "run_id": run_id} for key, run_id in upstream.items()}
    run.write_json("metrics.json", {"models": {**metrics, "ensemble": {"f1": 0.95}}})
    predictions = pd.DataFrame({"path": ["a.jpg", "b.jpg"], "label": [0, 1], "object_class": ""})
    for key in (*upstream, "ensemble"):
        predictions[f"{key}_p_fake"] = [0.25, 0.75]
        predictions[f"{key}_logit"] = [-1.5, 1.5]
    run.write_csv("predictions.csv", predictions)
    conditions = [
        {"model": key, "corruption": name, "level": level, "accuracy": 0.8}
        for key in (*upstream, "ensemble")
        for name, level in (("clean", np.nan), ("jpeg", 50.0))
    ]
    run.write_csv("robustness.csv", pd.DataFrame(conditions))
    return run.finish(upstream=upstream)


def test_an_evaluation_gives_each_model_its_results_on_the_test_split():
    release(complete("baseline_cnn", "shipped"))
    release(complete("resnet50", "newer"))
    release(evaluation_of(baseline_cnn="shipped", resnet50="evaluated"))
    model = find_run("baseline_cnn", released=True)
    metrics = model.read_json("metrics.json")  # Its hash is that of the manifest.
    assert metrics["split"] == "test"
    assert (metrics["f1"], metrics["evaluation_run"]) == (0.9, "compared")
    assert metrics["robustness"] == [
        {"corruption": "clean", "level": None, "accuracy": 0.8},
        {"corruption": "jpeg", "level": 50.0, "accuracy": 0.8},
    ]
    predictions = model.read_csv("predictions.csv")
    assert list(predictions) == ["path", "label", "logit", "p_fake"]
    assert predictions["p_fake"].tolist() == [0.25, 0.75]
    other = find_run("resnet50", released=True)
    assert other.read_json("metrics.json") == {"accuracy": 0.5}, "measured another run"
    assert not (other.folder / "predictions.csv").exists()
