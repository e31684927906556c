"""What the dashboard says about the models: every number is read from run files."""

from __future__ import annotations

import base64
import io
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from cifake_lib import paths, runs
from cifake_lib.runs import Run, RunDamaged, RunNotFound

if TYPE_CHECKING:
    from matplotlib.figure import Figure

logger = logging.getLogger(__name__)

RATES = {"accuracy": "Accuracy", "roc_auc": "ROC AUC"}
CLASS_RATES = {"precision": "Precision", "recall": "Recall", "f1": "F1"}


@dataclass(frozen=True)
class Records:
    """The run files the dashboard reads.

    Attributes:
        models: Run of each trained model by key; those without a run are absent.
        evaluation: Run that compares them on the test split, or None.
    """

    models: dict[str, Run]
    evaluation: Run | None


def choose_runs(wanted: str) -> str:
    """Use what was trained here when the project comes without released models.

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
    for stage in (*runs.MODEL_STAGES, "evaluation"):
        try:
            found[stage] = runs.find_run(stage, released=which == "released")
        except RunNotFound:
            continue
        except (OSError, ValueError, KeyError):
            # A manifest cut short by a full disk must not leave a blank page.
            logger.exception("the manifest of %s cannot be read", stage)
    evaluation = found.pop("evaluation", None)
    return Records(found, evaluation)


def training_notice(records: Records) -> str:
    """Say plainly what the models have learnt from.

    Args:
        records: As `read_records` returns them.

    Returns:
        HTML: one or two sentences; empty without a model.
    """
    if not records.models:
        return ""
    sources = {}
    for run in records.models.values():
        data = run.manifest.get("data", {"name": "unknown data", "counts": 0})
        sources.setdefault((data["name"], _total(data["counts"])), []).append(run)
    sentences = []
    for (name, count), group in sources.items():
        who = "These models were" if len(sources) == 1 else f"{_names(group)}: "
        if name == "sample":
            sentences.append(
                f"{who} trained on the {count:,}-image sample that comes with the project: they "
                "show how detection works, and err more often than models trained on all of CIFAKE."
            )
        else:
            sentences.append(f"{who} trained on {count:,} images ({escape(name)}).")
    return " ".join(sentences)


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
        name = escape(display_name(key))
        rows.append(
            f'<tr data-model="{escape(key)}"><th scope="row">{name}</th>{cells}'
            f"<td>{_duration(values.get('training_seconds'))}</td>"
            f"<td>{_count(values.get('parameters'))}</td></tr>"
        )
    return f"""
<p>Measured once on the test split: {metrics["count"]:,} images that no model was trained or tuned
on. FAKE is the class to be found; small figures are 95 % intervals.</p>
<div class="cf-scroll"><table class="cf-table">
<thead><tr><td></td><td colspan="2"></td><th colspan="3" scope="colgroup">FAKE</th>
<th colspan="3" scope="colgroup">REAL</th><td colspan="2"></td></tr>
<tr><th scope="col">Model</th>{heads}<th scope="col">Training</th><th scope="col">Parameters</th>
</tr></thead><tbody>{"".join(rows)}</tbody></table></div>"""


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
        name = escape(display_name(key))
        manifest = run.manifest
        data = manifest.get("data", {"name": "unknown data", "counts": 0})
        source = f"{escape(data['name'])}, {_total(data['counts']):,} images"
        rows.append(
            f'<tr><th scope="row">{name}</th><td><code>{escape(run.run_id)}</code></td>'
            f"<td>{source}</td>"
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


def figures_html(records: Records) -> str:
    """Draw F1 by class, ROC curves and confusion matrices from the run files.

    Args:
        records: As `read_records` returns them.

    Returns:
        HTML with the figures as inline SVG images; empty without an evaluation.

    Raises:
        RunDamaged: A file differs from its manifest.
    """
    if records.evaluation is None:
        return ""
    # Late, because Matplotlib takes a second that the first tab does not need.
    from matplotlib.figure import Figure

    from cifake_lib import evaluation, plots

    metrics = records.evaluation.read_json("metrics.json")["models"]
    curves = records.evaluation.read_json("curves.json")

    def image(draw: Callable, alt: str, *, width: float, height: float, css_class: str = "") -> str:
        figure = Figure(figsize=(width, height), layout="constrained")
        draw(figure.subplots())
        return _svg(figure, alt, css_class)

    def bars(ax):
        plots.metric_bars(evaluation.comparison_table(metrics), ["f1_fake", "f1_real"], ax=ax)
        ax.set_title("F1 of each class")

    large = {"width": 5.6, "height": 4.8}
    figures = [
        image(bars, "F1 of each class by model", **large),
        image(lambda ax: plots.roc_curves(curves, ax=ax), "ROC curve of each model", **large),
    ]
    matrices = [
        image(
            lambda ax, key=key, values=values: plots.confusion(
                values["confusion"], title=plots.display_name(key), ax=ax
            ),
            f"Confusion matrix of {plots.display_name(key)}",
            width=3.0,
            height=3.1,
            css_class="cf-quarter",
        )
        for key, values in metrics.items()
    ]
    rows = ("".join(row) for row in (figures, matrices))
    return "".join(f'<div class="cf-figures">{row}</div>' for row in rows)


def models_html(which: str) -> str:
    """Put the second tab together.

    Args:
        which: "released" or "latest".

    Returns:
        HTML; a damaged file gives a sentence in its place.
    """
    records = read_records(which)
    if not records.models and records.evaluation is None:
        return NO_MODEL
    try:
        return comparison_html(records) + figures_html(records) + provenance_html(records)
    except RunDamaged as error:
        return f'<p class="cf-note" role="alert">{escape(str(error))}</p>'


NO_MODEL = """
<div class="cf-empty" role="status"><h3>There is no trained model yet</h3>
<p>Run <code>make pipeline</code> in the project folder (or
<code>python -m cifake_lib.pipeline</code>). It trains all three models on the sample that comes
with the project, in a few minutes on a laptop. Then open this page again.</p></div>"""


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


def _total(counts: dict | int) -> int:
    """Add up image counts, however they are grouped (split, class)."""
    return sum(map(_total, counts.values())) if isinstance(counts, dict) else int(counts)


def _svg(figure: Figure, alt: str, css_class: str) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", transparent=True)
    text = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f'<img class="{css_class}" src="data:image/svg+xml;base64,{text}" alt="{escape(alt)}">'
