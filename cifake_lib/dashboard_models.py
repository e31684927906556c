"""Which runs the dashboard reads, and what they say about the models in a sentence."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape

from cifake_lib import paths, runs
from cifake_lib.names import display_name
from cifake_lib.runs import Run, RunNotFound

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Records:
    """The run files the dashboard reads.

    Attributes:
        models: Run of each trained model by key; those without a run are absent.
        evaluation: Run that compares them on the test split, or None.
        robustness: Run that takes them to changed images, or None.
        photographs: Run of the model that photographs go to, or None.
    """

    models: dict[str, Run]
    evaluation: Run | None
    robustness: Run | None = None
    photographs: Run | None = None


def choose_runs(wanted: str) -> str:
    """Fall back on what was trained on this machine when there are no released models.

    Args:
        wanted: Key of `runs.MODEL_SETS`.

    Returns:
        `wanted`, or "latest" if there is no released model.
    """
    if wanted != "released":
        return wanted
    released = any(
        (paths.released_dir() / key / "manifest.json").is_file() for key in runs.MODEL_STAGES
    )
    return wanted if released else "latest"


def read_records(which: str) -> Records:
    """Find the runs of models and evaluation; loads no model.

    Args:
        which: Key of `runs.MODEL_SETS`.

    Returns:
        What there is.
    """
    found = {}
    # What notebooks 05 and 06 measured is the three models of the suite.
    others = ("evaluation", "robustness", runs.PHOTO_MODEL)
    for stage in (*runs.MODEL_SETS[which], *(others if which != "own" else ())):
        try:
            found[stage] = runs.find_run(stage, released=which == "released")
        except RunNotFound:
            continue
        except (OSError, ValueError, KeyError):
            # A manifest cut short by a full disk must not leave a blank page.
            logger.exception("the manifest of %s cannot be read", stage)
    evaluation, robustness, photographs = (found.pop(stage, None) for stage in others)
    return Records(found, evaluation, robustness, photographs)


def training_notice(records: Records) -> str:
    """Say plainly what the models have learnt from.

    Args:
        records: As `read_records` returns them.

    Returns:
        HTML: a banner; empty without a model.
    """
    sources = {}
    for run in filter(None, [*records.models.values(), records.photographs]):
        sources.setdefault(data_of(run), []).append(run)
    if not sources:
        return ""
    learnt = " ".join(
        f"{_names(group) if len(sources) > 1 else 'These models'} learnt from {images:,} images "
        f"({'the sample that comes with the project' if name == 'sample' else escape(name)})."
        for (name, images), group in sources.items()
    )
    if not any(name == "sample" for name, _ in sources):
        return f'<p class="cf-banner">{learnt}</p>'
    return (
        f'<p class="cf-banner cf-warning"><b>Trained on a small sample.</b> {learnt} Models '
        "trained on so little show how detection works; they err more often than models trained "
        "on all of CIFAKE.</p>"
    )


def limits_notice(records: Records) -> str:
    """Say what becomes of a larger picture, and what a verdict is worth.

    Args:
        records: As `read_records` returns them.

    Returns:
        Two sentences.
    """
    if records.photographs is not None:
        return (
            "Small pictures go to models that know 32 pixels, photographs to one that looks at "
            "several parts of them. A verdict is a hint, not proof."
        )
    sides = [run.manifest["model"]["input_size"] for run in records.models.values()]
    side = max(sides, default=32)  # CIFAKE's own size, before there are models
    return (
        f"The models look at {side} × {side} pixels, so a larger picture is cropped to its centre "
        "and shrunk. A verdict is a hint, not proof."
    )


def data_of(run: Run) -> tuple[str, int]:
    """Return the name of a run's data set, and how many images it learnt from or measured."""
    data = run.manifest["data"]
    split = "test" if run.stage in ("evaluation", "robustness") else "train"
    images = sum(data["counts"][split].values())
    if run.stage == "robustness":  # The corruptions of notebook 06 are costly; 0 means all.
        images = run.manifest.get("parameters", {}).get("corrupted_images") or images
    return data["name"], images


def title_of(run: Run) -> str:
    """Return what a set of runs is called: "Released", or name and date of one of them."""
    if run.folder.parent == paths.released_dir():
        return "Released"
    return f"{run.run_id} ({run.manifest['finished_utc'][:10]})"


def other_evaluations(records: Records) -> list[Run]:
    """List the evaluations on this machine, except the one that is shown anyway.

    Args:
        records: What is shown.

    Returns:
        Complete runs, newest first; a damaged one is left out and logged.
    """
    others = []
    for run in reversed(_complete_runs("evaluation")):
        # A released run is a copy of one that lies in `artifacts/runs` as well.
        if all(run.manifest != known.manifest for known in (records.evaluation, *others) if known):
            others.append(run)
    return others


def records_of(evaluation: Run) -> Records:
    """Find the runs that an evaluation measured, and what else is known of just these models.

    Args:
        evaluation: A run of the evaluation stage.

    Returns:
        The same evaluation with its models, except those whose run folders are gone, and with the
        newest robustness run that measured the same ones.
    """
    models = {
        stage: run
        for stage in runs.MODEL_STAGES
        for run in _complete_runs(stage)
        if evaluation.measured(run, among_others=True)
    }
    measured = evaluation.manifest["upstream"]
    same = [run for run in _complete_runs("robustness") if run.manifest["upstream"] == measured]
    return Records(models, evaluation, same[-1] if same else None)


def _complete_runs(stage: str) -> list[Run]:
    """Read all runs of a stage, oldest first; unlike `runs.list_runs` it steps over damaged ones.

    One broken folder among many must not take the choice away.
    """
    trained = (paths.runs_dir() / stage).glob("*/manifest.json")
    found = []
    for path in (*(paths.released_dir() / stage).glob("manifest.json"), *trained):
        try:
            run = Run(stage, path.parent, json.loads(path.read_text(encoding="utf-8")))
            if stage == "evaluation":
                run.checked("metrics.json")
            facts = ("started_utc", "run_id", "finished_utc", "data", "upstream")
            found.append(([run.manifest[name] for name in facts], run))
        except (OSError, ValueError, KeyError, TypeError) as error:
            logger.warning("%s is left out: %r", paths.shown(path.parent), error)
    return [run for _, run in sorted(found, key=lambda pair: pair[0][:2])]


NO_MODEL = """
<div class="cf-empty" role="status"><h2>There is no trained model yet</h2>
<p>Run <code>make pipeline</code> in the project folder (or
<code>python -m cifake_lib.pipeline</code>). It trains all three models on the sample that comes
with the project, in a few minutes on a laptop. Then check again.</p></div>"""
NO_OWN_MODEL = """
<div class="cf-empty" role="status"><h2>There is no model of your own yet</h2>
<p>Step through notebook 07 with your images, or run
<code>python -m cifake_lib.pipeline --profile own -p data_dir=FOLDER</code> in the project folder.
Then check again.</p></div>"""


def _names(group: Iterable[Run]) -> str:
    *most, last = (display_name(run.stage) for run in group)
    return f"{', '.join(most)} and {last}" if most else last
