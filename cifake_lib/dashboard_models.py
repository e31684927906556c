"""What the dashboard says about the models: every number is read from run files."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape

from cifake_lib import paths, runs
from cifake_lib.runs import Run, RunDamaged, RunNotFound

logger = logging.getLogger(__name__)

RATES = {"accuracy": "Accuracy", "roc_auc": "ROC AUC"}
CLASS_RATES = {"precision": "Precision", "recall": "Recall", "f1": "F1"}


@dataclass(frozen=True)
class Records:
    """The run files the dashboard reads.

    Attributes:
        models: Run of each trained model by key; those without a run are absent.
        evaluation: Run that compares them on the test split, or None.
        robustness: Run that takes them to changed images, or None.
    """

    models: dict[str, Run]
    evaluation: Run | None
    robustness: Run | None = None


def choose_runs(wanted: str) -> str:
    """Fall back on what was trained on this machine when there are no released models.

    Args:
        wanted: "released" or "latest".

    Returns:
        `wanted`, or "latest" if there is no released model.
    """
    released = any(
        (paths.released_dir() / key / "manifest.json").is_file() for key in runs.MODEL_STAGES
    )
    return wanted if released else "latest"


def read_records(which: str) -> Records:
    """Find the runs of models and evaluation; loads no model.

    Args:
        which: "released" or "latest".

    Returns:
        What there is.
    """
    found = {}
    for stage in (*runs.MODEL_STAGES, "evaluation", "robustness"):
        try:
            found[stage] = runs.find_run(stage, released=which == "released")
        except RunNotFound:
            continue
        except (OSError, ValueError, KeyError):
            # A manifest cut short by a full disk must not leave a blank page.
            logger.exception("the manifest of %s cannot be read", stage)
    measured = [found.pop(stage, None) for stage in ("evaluation", "robustness")]
    return Records(found, *measured)


def training_notice(records: Records) -> str:
    """Say plainly what the models have learnt from.

    Args:
        records: As `read_records` returns them.

    Returns:
        HTML: a banner; empty without a model.
    """
    sources = {}
    for run in records.models.values():
        sources.setdefault(_data(run), []).append(run)
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
    sides = [run.manifest["model"]["input_size"] for run in records.models.values()]
    side = max(sides, default=32)  # CIFAKE's own size, before there are models
    return (
        f"The models look at {side} × {side} pixels, so a larger picture is cropped to its centre "
        "and shrunk. A verdict is a hint, not proof."
    )


def comparison_html(records: Records) -> str:
    """Lay out the comparison on the test split as a table.

    Args:
        records: As `read_records` returns them.

    Returns:
        HTML: the table, or a sentence that says how to get one.

    Raises:
        RunDamaged: A file differs from its manifest.
    """
    from cifake_lib.plots import display_name

    if records.evaluation is None:
        return (
            '<p class="cf-note">The models have not been compared on the test split yet. '
            "<code>make pipeline</code> does it.</p>"
        )
    metrics = records.evaluation.read_json("metrics.json")
    columns = [*RATES, *(f"{rate}_{name}" for name in ("fake", "real") for rate in CLASS_RATES)]
    titles = [*RATES.values(), *CLASS_RATES.values(), *CLASS_RATES.values()]
    heads = "".join(f'<th scope="col">{title}</th>' for title in titles)
    rows = []
    for key, values in metrics["models"].items():
        cells = "".join(_rate_cell(values, column) for column in columns)
        name = escape(values.get("display_name", display_name(key)))
        rows.append(
            f'<tr data-model="{escape(key)}"><th scope="row">{name}</th>{cells}'
            f"<td>{_duration(values.get('training_seconds'))}</td>"
            f"<td>{_count(values.get('parameters'))}</td></tr>"
        )
    return f"""
<p>Measured once on the test split: {metrics["count"]:,} images that no model was trained or tuned
on. FAKE is the class to be found; small figures are 95 % intervals.</p>
<div class="cf-scroll"><table class="cf-table">
<thead><tr><td></td><td colspan="2"></td>
<th colspan="3" scope="colgroup" class="cf-group-FAKE">FAKE</th>
<th colspan="3" scope="colgroup" class="cf-group-REAL">REAL</th><td colspan="2"></td></tr>
<tr><th scope="col">Model</th>{heads}<th scope="col">Training time</th>
<th scope="col">Parameters</th></tr></thead><tbody>{"".join(rows)}</tbody></table></div>"""


def provenance_html(records: Records) -> str:
    """Say where each model comes from: run, data, date, and what its run noted.

    Args:
        records: As `read_records` returns them.

    Returns:
        HTML.
    """
    from cifake_lib.plots import display_name

    measured = {}
    if records.evaluation is not None:
        measured = records.evaluation.read_json("metrics.json")["models"]
    rows, notes = [], []
    stages = dict(records.models)
    if records.evaluation is not None:
        stages["evaluation"] = records.evaluation
    for key, run in stages.items():
        manifest = run.manifest
        name = escape(manifest.get("model", {}).get("display_name", display_name(key)))
        source, images = _data(run)
        use = "test" if key == "evaluation" else "training"
        rows.append(
            f'<tr><th scope="row">{name}</th><td><code>{escape(run.run_id)}</code></td>'
            f"<td>{escape(source)}, {images:,} {use} images</td>"
            f"<td>{escape(manifest['finished_utc'][:10])}</td></tr>"
        )
        notes += [f"{name}: {escape(note)}" for note in manifest.get("notes", [])]
        other = measured.get(key, {}).get("run_id", run.run_id)
        if other != run.run_id:
            notes.append(f"{name}: the figures above belong to run {escape(other)}, not this one.")
    listed = "".join(f"<li>{note}</li>" for note in notes)
    return f"""
<h3>Where the models come from</h3>
<div class="cf-scroll"><table class="cf-table cf-left">
<thead><tr><th scope="col">Model</th><th scope="col">Run</th><th scope="col">Data</th>
<th scope="col">Date</th></tr></thead><tbody>{"".join(rows)}</tbody></table></div>
{f"<ul>{listed}</ul>" if listed else ""}"""


def models_html(records: Records) -> str:
    """Put the second tab together.

    Args:
        records: As `read_records` returns them.

    Returns:
        HTML; a damaged file gives a sentence in its place.
    """
    if not records.models and records.evaluation is None:
        return NO_MODEL
    try:
        figures = ""
        if records.evaluation is not None:
            # Late, because Matplotlib takes a second that the first tab does not need.
            from cifake_lib.dashboard_figures import figures_html

            figures = figures_html(records.evaluation, records.robustness)
        return comparison_html(records) + figures + provenance_html(records)
    except RunDamaged as error:
        return f'<p class="cf-note" role="alert">{escape(str(error))}</p>'


NO_MODEL = """
<div class="cf-empty" role="status"><h3>There is no trained model yet</h3>
<p>Run <code>make pipeline</code> in the project folder (or
<code>python -m cifake_lib.pipeline</code>). It trains all three models on the sample that comes
with the project, in a few minutes on a laptop. Then check again.</p></div>"""


def _rate_cell(values: dict, column: str) -> str:
    interval = values.get("intervals", {}).get(column)
    small = f"<small>{interval[0]:.3f}–{interval[1]:.3f}</small>" if interval else ""
    return f'<td data-metric="{column}">{values[column]:.3f}{small}</td>'


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _count(number: int | None) -> str:
    return "–" if number is None else f"{number:,}"


def _names(group: Iterable[Run]) -> str:
    from cifake_lib.plots import display_name

    return " and ".join(display_name(run.stage) for run in group)


def _data(run: Run) -> tuple[str, int]:
    """Name of a run's data set, and how many images it learnt from or was measured on."""
    data = run.manifest["data"]
    split = "test" if run.stage == "evaluation" else "train"
    return data["name"], sum(data["counts"][split].values())
