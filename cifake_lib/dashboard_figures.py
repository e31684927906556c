"""The figures of the dashboard's Models tab, drawn from the runs of notebooks 02 to 06.

Only the process of `dashboard_drawing` imports this: what draws takes 110 MB.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping
from html import escape

from matplotlib.figure import Figure

from cifake_lib import (
    calibration,
    evaluation,
    plots,
    plots_breakdown,
    plots_generalisation,
    plots_robustness,
    plots_training,
)
from cifake_lib.dashboard_model_tables import count, duration, from_run, scrolling, table
from cifake_lib.dashboard_models import Records, data_of
from cifake_lib.names import display_name

LARGE, SMALL = (5.6, 4.8), (3.0, 3.1)  # inches


def section_html(name: str, records: Records) -> str:
    """Draw one section of the tab.

    Args:
        name: A key of `SECTIONS`.
        records: The runs of one set of models, with an evaluation.

    Returns:
        HTML with the figures as inline SVG images, and the files they were made from.

    Raises:
        RunDamaged: A file differs from its manifest.
    """
    return SECTIONS[name](records)


def ranking(records: Records) -> str:
    """Draw ROC and precision-recall curves."""
    run = records.evaluation
    curves = run.read_json("curves.json")

    def areas(kind):
        return ", ".join(f"{display_name(key)} {curves[key][kind]['area']:.4f}" for key in curves)

    roc = f"ROC curves; area under the curve: {areas('roc')}"
    pr = f"Precision-recall curves; average precision: {areas('pr')}"
    drawn = [
        _image(lambda ax: plots.roc_curves(curves, ax=ax), roc, LARGE),
        _image(lambda ax: plots.pr_curves(curves, ax=ax), pr, LARGE),
    ]
    return _figures(drawn) + from_run(run, "curves.json")


def confusion(records: Records) -> str:
    """Draw confusion matrices, and precision and recall of each class."""
    run = records.evaluation
    metrics = run.read_json("metrics.json")["models"]
    rates = ["precision_fake", "recall_fake", "precision_real", "recall_real"]
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    compared = evaluation.comparison_table(metrics)
    ax = plots.metric_points(compared, rates, ax=figure.subplots())
    ax.set_title("Precision and recall of each class")
    matrices = [_matrix(key, values["confusion"]) for key, values in metrics.items()]
    return (
        f'<div class="cf-figures cf-matrices">{"".join(matrices)}</div>'
        f"{_wide(figure, 'Precision and recall of each class by model, with 95 % intervals')}"
        f"{from_run(run, 'metrics.json')}"
    )


def calibrated(records: Records) -> str:
    """Draw what a probability is worth, before and after the temperature."""
    run = records.evaluation
    measured, predictions = run.read_csv("calibration.csv"), run.read_csv("predictions.csv")
    y_true = predictions["label"].to_numpy()
    before = {
        key: (y_true, calibration.probability(predictions[f"{key}_logit"].to_numpy()))
        for key in measured["model"]
    }
    after = {key: (y_true, predictions[f"{key}_p_fake"].to_numpy()) for key in measured["model"]}
    drawn = [
        _image(
            lambda ax, scores=scores, title=title: plots.reliability(scores, ax=ax).set_title(
                title
            ),
            f"How often an image with a given p_fake is FAKE, {title.lower()}",
            LARGE,
        )
        for title, scores in (
            ("Before temperature scaling", before),
            ("After temperature scaling", after),
        )
    ]
    heads = ["Model", "Temperature"]
    for name in ("ECE", "Brier score", "Log loss"):
        heads += [f"{name} before", f"{name} after"]
    numbers = [
        *("temperature", "ece_before", "ece_after", "brier_before", "brier_after"),
        *("log_loss_before", "log_loss_after"),
    ]
    rows = [
        [escape(display_name(row["model"])), *(f"{row[number]:.4f}" for number in numbers)]
        for row in measured.to_dict("records")
    ]
    return (
        _figures(drawn) + table(heads, rows) + from_run(run, "calibration.csv", "predictions.csv")
    )


def object_classes(records: Records) -> str:
    """Draw accuracy by what the images show."""
    run = records.evaluation
    kinds = run.read_csv("object_classes.csv")
    if kinds.empty:
        return "<p>The images of this data set do not say what they show.</p>"
    alt = "Accuracy of each model by kind of object, with 95 % intervals"
    drawn = _image(lambda ax: plots_breakdown.object_classes(kinds, ax=ax), alt, (8, 5.6))
    return _figures([drawn]) + from_run(run, "object_classes.csv")


def training(records: Records) -> str:
    """Draw how each model learned."""
    if not records.models:
        return "<p>The training runs of these models are not on this machine.</p>"
    histories = {key: run.read_csv("history.csv") for key, run in records.models.items()}
    drawn = _wide(
        plots_training.training_curves(histories),
        "Loss, accuracy and learning rate of every epoch, by model",
    )
    return drawn + "".join(from_run(run, "history.csv") for run in records.models.values())


def cost(records: Records) -> str:
    """Draw what each model costs against how good it is."""
    run = records.evaluation
    metrics = run.read_json("metrics.json")["models"]
    compared = evaluation.comparison_table(metrics)
    drawn = _wide(plots.cost_against_quality(compared), "F1 of each model against what it costs")
    heads = ["Model", "F1", "Training time", "Energy", "Parameters", "Size"]
    heads += ["Images/s, one by one", "Images/s, 256 at once"]
    rows = [
        [
            escape(values.get("display_name", display_name(key))),
            f"{values['f1']:.4f}",
            duration(values.get("training_seconds")),
            _number(values, "training_energy_wh", "{:,.1f} Wh"),
            count(values.get("parameters")),
            _number(values, "weights_bytes", "{:,.1f} MB", 1e-6),
            _number(values, "images_per_second_batch_1", "{:,.0f}"),
            _number(values, "images_per_second_batch_256", "{:,.0f}"),
        ]
        for key, values in metrics.items()
    ]
    return drawn + table(heads, rows) + from_run(run, "metrics.json")


def changed(records: Records) -> str:
    """Draw what re-saving, shrinking, blurring and sending do to the models."""
    run, robustness = records.evaluation, records.robustness
    unseen = {model.unseen_corruption for model in records.models.values()} - {""}
    conditions = run.read_csv("robustness.csv")

    def cells(ax):
        plots_robustness.conditions_heatmap(conditions, unseen=unseen, ax=ax)
        ax.set_title("Accuracy when the image is changed (%)")
        ax.tick_params(axis="x", rotation=15)

    drawn = [_image(cells, "Accuracy of each model on changed images", (5.6, 5.4))]
    images = run.manifest.get("parameters", {}).get("robustness_images") or data_of(run)[1]
    measured = f"Measured on {images:,} test images"
    severity, sources = conditions, from_run(run, "robustness.csv")
    if robustness is not None:
        deliveries = robustness.read_csv("deliveries.csv")

        def flips(ax):
            plots_generalisation.flip_bars(deliveries, ax=ax)
            ax.get_legend().remove()  # The ticks would run into it; the curves below have one.
            ax.tick_params(axis="x", rotation=20)

        alt = "How often being sent or re-saved turns the verdict of each model"
        drawn.append(_image(flips, alt, (5.6, 5.4)))
        severity = robustness.read_csv("severity.csv")
        sources += from_run(robustness, "deliveries.csv", "severity.csv")
        measured += f", flips and curves on {data_of(robustness)[1]:,}"
        if robustness.manifest["upstream"] != run.manifest["upstream"]:
            measured += f" in run <code>{escape(robustness.run_id)}</code>, with other models"
    curves = plots_robustness.robustness_curves(severity, unseen=unseen)
    alt = "Accuracy of each model by severity of each corruption"
    star = " A star marks what training left out on purpose." if unseen else ""
    return _figures(drawn) + _wide(curves, alt) + f"<p>{measured}.{star}</p>" + sources


SECTIONS: dict[str, Callable[[Records], str]] = {
    "ranking": ranking,
    "confusion": confusion,
    "calibration": calibrated,
    "object_classes": object_classes,
    "training": training,
    "cost": cost,
    "changed": changed,
}


def _number(values: Mapping, name: str, form: str, factor: float = 1) -> str:
    return form.format(values[name] * factor) if name in values else "–"


def _matrix(key: str, counts: list[list[int]]) -> str:
    name = display_name(key)
    (real, real_as_fake), (fake_as_real, fake) = counts
    alt = (
        f"Confusion matrix of {name}: REAL called REAL {real:,}, called FAKE {real_as_fake:,}; "
        f"FAKE called REAL {fake_as_real:,}, called FAKE {fake:,}"
    )
    return _image(lambda ax: plots.confusion(counts, title=name, ax=ax), alt, SMALL)


def _image(draw: Callable, alt: str, size: tuple[float, float]) -> str:
    """Draw on the axes of a new figure of this width and height in inches."""
    figure = Figure(figsize=size, layout="constrained")
    draw(figure.subplots())
    return _svg(figure, alt)


def _svg(figure: Figure, alt: str) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", transparent=True)
    text = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f'<img src="data:image/svg+xml;base64,{text}" alt="{escape(alt)}">'


def _figures(images: list[str]) -> str:
    return f'<div class="cf-figures">{"".join(images)}</div>'


def _wide(figure: Figure, alt: str) -> str:
    """Several panels in a row, which a telephone scrolls rather than shrinks beyond reading."""
    return scrolling(f'<div class="cf-figures cf-wide">{_svg(figure, alt)}</div>', label=alt)
