"""The released set, `artifacts/released`: the runs that ship, with their results on test images."""

import shutil
from pathlib import Path

from cifake_lib import paths
from cifake_lib.runs import (
    CHECKPOINTS,
    MODEL_STAGES,
    NOTEBOOK,
    Run,
    RunNotFound,
    file_hash,
    find_run,
    write_json,
)


def release(run: Run) -> Path:
    """Copy a complete run to the released set, replacing the stage's released run.

    With an evaluation, each released model that it measured gets its own results: `metrics.json`
    and `predictions.csv` of the test split, listed with their hashes in the model's manifest.

    Returns:
        The released folder.
    """
    target = paths.released_dir() / run.stage
    staging = target.with_name(f".{run.stage}.new")
    shutil.rmtree(staging, ignore_errors=True)
    shutil.copytree(run.folder, staging, ignore=shutil.ignore_patterns(CHECKPOINTS, *NOTEBOOK))
    shutil.rmtree(target, ignore_errors=True)
    staging.rename(target)
    if run.stage == "evaluation":
        _hand_out_results(run)
    return target


def _hand_out_results(evaluation: Run) -> None:
    metrics = evaluation.read_json("metrics.json")["models"]
    predictions = evaluation.read_csv("predictions.csv")
    robustness = evaluation.read_csv("robustness.csv")
    for stage in MODEL_STAGES:
        try:
            model = find_run(stage, released=True)
        except RunNotFound:
            continue
        if not evaluation.measured(model, among_others=True):
            continue
        own = predictions[["path", "label", f"{stage}_logit", f"{stage}_p_fake"]]
        own = own.rename(columns={f"{stage}_logit": "logit", f"{stage}_p_fake": "p_fake"})
        own.to_csv(model.folder / "predictions.csv", index=False)
        conditions = robustness[robustness["model"] == stage].drop(columns="model").astype(object)
        results = {
            "split": "test",
            "evaluation_run": evaluation.run_id,
            **metrics[stage],
            "robustness": conditions.astype(object)
            .where(conditions.notna(), None)
            .to_dict("records"),
        }
        write_json(model.folder / "metrics.json", results)
        hashes = {
            name: file_hash(model.folder / name) for name in ("metrics.json", "predictions.csv")
        }
        files = dict(sorted({**model.manifest["files"], **hashes}.items()))
        write_json(model.folder / "manifest.json", {**model.manifest, "files": files})
