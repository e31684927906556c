"""The whole suite on the smoke profile: one run, its files, resuming it, and what is refused."""

import json

import numpy as np
import pandas as pd
import pytest
import yaml
from nbformat import read

from cifake_lib.paths import notebooks_dir

SUITE = ["data", "baseline_cnn", "tuned_cnn", "resnet50", "evaluation", "robustness"]
STAGES = [*SUITE, "own_model", "photo_resnet50"]
MODELS = SUITE[1:4]


@pytest.fixture
def run(smoke):
    assert smoke.result.returncode == 0, smoke.result.stdout + smoke.result.stderr
    return smoke


def folder(run, stage):
    return run.runs / stage / run.run_id


def test_every_stage_is_complete_and_listed(run):
    summary = json.loads((run.runs / "pipeline" / run.run_id / "summary.json").read_text())
    assert [row["stage"] for row in summary["stages"]] == STAGES
    profiles = yaml.safe_load((notebooks_dir() / "profiles.yaml").read_text())
    budgets = profiles["budget_minutes"]["smoke"]
    for row in summary["stages"]:
        assert row["status"] == "complete"
        assert row["stage"] in run.result.stdout
        assert row["seconds"] < 60 * budgets[row["stage"]], "longer than its time budget"
        for name in ("manifest.json", "notebook.ipynb", "notebook.html"):
            assert (folder(run, row["stage"]) / name).is_file()
    assert "test accuracy" in run.result.stdout


@pytest.mark.parametrize("stage", STAGES)
def test_the_executed_notebook_has_outputs_and_no_error(run, stage):
    cells = [
        cell
        for cell in read(folder(run, stage) / "notebook.ipynb", 4).cells
        if cell.cell_type == "code"
    ]
    assert all(cell.execution_count for cell in cells)
    outputs = [output for cell in cells for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in outputs), "no figure"
    assert not any(output.output_type == "error" for output in outputs)


@pytest.mark.parametrize("stage", [*MODELS, "evaluation", "own_model"])
def test_predictions_are_finite(run, stage):
    name = "validation_predictions.csv" if stage in MODELS else "predictions.csv"
    table = pd.read_csv(folder(run, stage) / name)
    assert len(table) > 10
    assert set(table["label"]) == {0, 1}
    scores = table.filter(regex="p_fake$|logit$")
    assert scores.shape[1] >= 2
    assert np.isfinite(scores.to_numpy()).all()
    p_fake = table.filter(regex="p_fake$").to_numpy()
    assert ((p_fake >= 0) & (p_fake <= 1)).all()


@pytest.mark.parametrize("stage", ["evaluation", "robustness"])
def test_the_models_of_this_run_were_measured(run, stage):
    manifest = json.loads((folder(run, stage) / "manifest.json").read_text())
    assert manifest["upstream"] == dict.fromkeys(MODELS, "smoke")


def test_the_evaluation_has_every_model(run):
    metrics = json.loads((folder(run, "evaluation") / "metrics.json").read_text())
    assert set(metrics["models"]) == {*MODELS, "ensemble"}


def test_resume_skips_what_is_complete(run):
    before = {path: path.stat().st_mtime_ns for path in run.runs.glob("*/smoke/*")}
    again = run("--profile", "smoke", "--resume")
    assert again.returncode == 0, again.stdout + again.stderr
    for stage in STAGES:
        assert f"{stage}: complete already" in again.stdout
    assert {path: path.stat().st_mtime_ns for path in run.runs.glob("*/smoke/*")} == before


def test_a_notebook_that_fails_is_reported(run):
    wrong = run(
        "--profile",
        "smoke",
        "--only",
        "evaluation",
        "--run-id",
        "wrong",
        "-p",
        "evaluation.resnet50_run=absent",
    )
    assert wrong.returncode == 1
    assert "evaluation failed in cell [" in wrong.stdout
    assert "RunNotFound" in wrong.stdout and "'absent'" in wrong.stdout
    failed = run.runs / "pipeline" / "wrong" / "05_comparative_evaluation.ipynb"
    assert "pipeline/wrong/05_comparative_evaluation.ipynb" in wrong.stdout
    assert "papermill-error-cell" in failed.read_text()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--profile", "smokey"], "did you mean 'smoke'?"),
        (["--only", "resnet"], "did you mean 'resnet50'?"),
        (["-p", "baseline_cnn.epoch=3"], "did you mean 'epochs'?"),
        (["-p", "baseline_cnn.epochs=many"], "takes a value of type int"),
        (["-p", "data_dir=/absent"], "/absent"),
    ],
)
def test_mistakes_are_refused_before_anything_runs(run, arguments, sentence):
    before = sorted(run.runs.rglob("*"))
    refused = run("--run-id", "refused", *arguments)
    assert refused.returncode == 2
    assert sentence in refused.stderr
    assert "Traceback" not in refused.stderr
    assert sorted(run.runs.rglob("*")) == before
