"""The models in tables: how good each is, where it comes from, and the files that say so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from cifake_lib.dashboard_cards import download_link
from cifake_lib.dashboard_models import Records, data_of
from cifake_lib.names import display_name
from cifake_lib.runs import Run, RunDamaged

RATES = {"accuracy": "Accuracy", "roc_auc": "ROC AUC"}
CLASS_RATES = {"precision": "Precision", "recall": "Recall", "f1": "F1"}
LARGEST = 200_000  # bytes of a file that becomes part of the page
NOT_COMPARED = (
    '<p class="cf-note">These models have not been compared on the test split yet. '
    "<code>make pipeline</code> does it.</p>"
)


def alert(error: Exception) -> str:
    """Show what an error says."""
    return f'<p class="cf-note" role="alert">{escape(str(error))}</p>'


def from_run(run: Run, *names: str) -> str:
    """Say which files of a run a table or a figure was made from, and let the visitor save them.

    Args:
        run: The run.
        names: Its files.

    Returns:
        HTML of one line.

    Raises:
        RunDamaged: A file differs from its manifest.
    """
    files = []
    for name in names:
        path = run.checked(name)
        if (size := path.stat().st_size) > LARGEST:
            files.append(f"{escape(name)} ({size / 1e6:.1f} MB, in the run's folder)")
        else:
            media_type = "application/json" if path.suffix == ".json" else "text/csv"
            own_name = f"{run.stage}-{run.run_id}-{name}"
            files.append(download_link(path.read_bytes(), own_name, media_type, name))
    stage = escape(display_name(run.stage))
    return (
        f'<p class="cf-from">From run <code>{escape(run.run_id)}</code> ({stage}): '
        f"{', '.join(files)}</p>"
    )


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, words: bool = False) -> str:
    """Lay out a table that scrolls by itself where the page is narrow.

    Args:
        heads: Of the columns (not escaped).
        rows: Cells (HTML); the first of each names its row.
        words: Whether the cells hold words, which stand to the left.
    """
    columns = "".join(f'<th scope="col">{escape(head)}</th>' for head in heads)
    body = "".join(
        f'<tr><th scope="row">{first}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'
        for first, *cells in rows
    )
    left = " cf-left" if words else ""
    return scrolling(
        f'<table class="cf-table{left}"><thead><tr>{columns}</tr></thead>'
        f"<tbody>{body}</tbody></table>",
        label=", ".join(heads),
    )


def scrolling(content: str, *, label: str) -> str:
    """Wrap what is wider than a telephone; a keyboard reaches it too."""
    return (
        f'<div class="cf-scroll" tabindex="0" role="region" aria-label="{escape(label)}">'
        f"{content}</div>"
    )


def comparison_html(sets: Mapping[str, Records]) -> str:
    """Lay out how good the models are on the test split.

    Args:
        sets: Title → runs; the rows of the same model stand below each other.

    Returns:
        HTML: the table, or a sentence that says how to get one; a damaged file gives a sentence in
        its place.
    """
    measured, data, remarks, sources = {}, {}, [], []
    for title, records in sets.items():
        if (run := _measuring(records)) is None:
            remarks.append(NOT_COMPARED)
            continue
        try:
            measured[title], data[title] = _measurements(run), run.manifest["data"]
            sources.append(from_run(run, "metrics.json"))
        except RunDamaged as error:
            remarks.append(alert(error))
    if not measured:
        return "".join(remarks)
    columns = [*RATES, *(f"{rate}_{name}" for name in ("fake", "real") for rate in CLASS_RATES)]
    titles = [*RATES.values(), *CLASS_RATES.values(), *CLASS_RATES.values()]
    heads = "".join(f'<th scope="col">{title}</th>' for title in titles)
    rows = []
    for key in dict.fromkeys(key for metrics in measured.values() for key in metrics["models"]):
        having = [title for title in measured if key in measured[title]["models"]]
        for title in having:
            values = measured[title]["models"][key]
            joined = ' class="cf-joined"' if title != having[-1] else ""
            name = escape(values.get("display_name", display_name(key)))
            which = f'<small class="cf-which">{escape(title)}</small>' if len(sets) > 1 else ""
            cells = "".join(_rate_cell(values, column) for column in columns)
            rows.append(
                f'<tr data-model="{escape(key)}" data-set="{escape(title)}"{joined}>'
                f'<th scope="row">{name} {which}</th>{cells}'
                f"<td>{duration(values.get('training_seconds'))}</td>"
                f"<td>{count(values.get('parameters'))}</td></tr>"
            )
    html = f"""<table class="cf-table">
<thead><tr><td></td><td colspan="2"></td>
<th colspan="3" scope="colgroup" class="cf-group-FAKE">FAKE</th>
<th colspan="3" scope="colgroup" class="cf-group-REAL">REAL</th><td colspan="2"></td></tr>
<tr><th scope="col">Model</th>{heads}<th scope="col">Training time</th>
<th scope="col">Parameters</th></tr></thead><tbody>{"".join(rows)}</tbody></table>"""
    return (
        f"<p>{_measured_on(measured, data)}</p>{''.join(remarks)}"
        f"{scrolling(html, label='Metrics of the models on the test split')}{''.join(sources)}"
    )


def _measuring(records: Records) -> Run | None:
    """Return the run that opened the test images: the evaluation, or that of one's own model."""
    own = records.models.get("own_model")
    return records.evaluation or (own if own and "metrics.json" in own.manifest["files"] else None)


def _measurements(run: Run) -> dict:
    """Read what a run measured, of one model or of several, in the form of an evaluation."""
    metrics = run.read_json("metrics.json")
    if run.stage == "evaluation":
        return metrics
    facts = run.manifest["model"] | {"training_seconds": run.manifest["training"]["seconds"]}
    return {"count": metrics["count"], "models": {run.stage: facts | metrics}}


def _measured_on(measured: Mapping[str, Mapping], data: Mapping[str, Mapping]) -> str:
    """Say how many images were measured, and how to read the intervals."""
    read = (
        "FAKE is the class to be found; small figures are 95 % intervals: where those of two rows "
        "overlap widely, this test does not tell them apart."
    )
    if len(data) == 1:
        ((title, metrics),) = measured.items()
        return (
            f"Measured once on the test split: {metrics['count']:,} images of "
            f"{escape(data[title]['name'])} that no model was trained or tuned on. {read}"
        )
    counts = ", ".join(
        f"{escape(title)} on {measured[title]['count']:,} images of {escape(data[title]['name'])}"
        for title in measured
    )
    tests = {(facts.get("split_hash"), measured[title]["count"]) for title, facts in data.items()}
    same = "the same images" if len(tests) == 1 else "other images, so mind the intervals"
    return f"Measured once on the test split: {counts} ({same}). {read}"


def provenance_html(records: Records) -> str:
    """Say where each model comes from: run, data, date, and what its run noted.

    Args:
        records: The runs.

    Returns:
        HTML.
    """
    stages = dict(records.models)
    stages |= {
        run.stage: run for run in (records.evaluation, records.robustness) if run is not None
    }
    rows, notes = [], []
    for stage, run in stages.items():
        manifest = run.manifest
        name = escape(manifest.get("model", {}).get("display_name", display_name(stage)))
        source, images = data_of(run)
        use = "training" if stage in records.models else "test"
        if stage == "robustness":
            use = "changed test"
        rows.append(
            [
                name,
                f"<code>{escape(run.run_id)}</code>",
                f"{escape(source)}, {images:,} {use} images",
                escape(manifest["finished_utc"][:10]),
            ]
        )
        notes += [f"{name}: {escape(note)}" for note in manifest.get("notes", [])]
    measured = records.evaluation.manifest.get("upstream", {}) if records.evaluation else {}
    for stage, run_id in measured.items():
        own = records.models.get(stage)
        if own is None:
            notes.append(
                f"{escape(display_name(stage))}: the folder of its run {escape(run_id)} is gone."
            )
        elif own.run_id != run_id:
            notes.append(
                f"{escape(display_name(stage))}: the figures here belong to run "
                f"{escape(run_id)}, not this one."
            )
    listed = "".join(f"<li>{note}</li>" for note in notes)
    shown = table(["Model", "Run", "Data", "Date"], rows, words=True)
    return shown + (f"<ul>{listed}</ul>" if listed else "")


def duration(seconds: float | None) -> str:
    """Write a duration in its natural unit; a dash if it is not known."""
    if seconds is None:
        return "–"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def count(number: int | None) -> str:
    """Write a whole number in groups of three; a dash if it is not known."""
    return "–" if number is None else f"{number:,}"


def _rate_cell(values: Mapping, column: str) -> str:
    interval = values.get("intervals", {}).get(column)
    small = f"<small>{interval[0]:.3f}–{interval[1]:.3f}</small>" if interval else ""
    return f'<td data-metric="{column}">{values[column]:.3f}{small}</td>'
