"""The figures of the dashboard's second tab, drawn from the runs of notebooks 05 and 06."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from html import escape

from matplotlib.figure import Figure

from cifake_lib import evaluation, plots, plots_generalisation, plots_robustness
from cifake_lib.runs import Run


def figures_html(run: Run, robustness: Run | None = None) -> str:
    """Draw F1 by class, ROC curves, confusion matrices, and what changed images do to accuracy.

    Args:
        run: A run of the evaluation stage.
        robustness: A run of the robustness stage; its figure is left out if None.

    Returns:
        HTML with the figures as inline SVG images.

    Raises:
        RunDamaged: A file differs from its manifest.
    """
    metrics = run.read_json("metrics.json")["models"]
    curves = run.read_json("curves.json")

    def bars(ax):
        plots.metric_points(evaluation.comparison_table(metrics), ["f1_fake", "f1_real"], ax=ax)
        ax.set_title("F1 of each class")

    large = [
        _image(bars, "F1 of each class by model", (5.6, 4.8)),
        _image(lambda ax: plots.roc_curves(curves, ax=ax), "ROC curve of each model", (5.6, 4.8)),
    ]
    matrices = [_matrix(key, values["confusion"]) for key, values in metrics.items()]
    return (
        f'<div class="cf-figures">{"".join(large)}</div>'
        f'<div class="cf-figures cf-matrices">{"".join(matrices)}</div>'
        f'<div class="cf-figures">{"".join(_changed(run, robustness))}</div>'
    )


def _changed(run: Run, robustness: Run | None) -> list[str]:
    conditions = run.read_csv("robustness.csv")

    def cells(ax):
        plots_robustness.conditions_heatmap(conditions, ax=ax)
        ax.set_title("Accuracy when the image is changed (%)")
        ax.tick_params(axis="x", rotation=15)

    drawn = [_image(cells, "Accuracy of each model on changed images", (5.6, 5.4))]
    if robustness is not None:
        deliveries = robustness.read_csv("deliveries.csv")

        def flips(ax):
            plots_generalisation.flip_bars(deliveries, ax=ax)
            ax.get_legend().remove()  # The colours are those of the figures above.
            ax.tick_params(axis="x", rotation=20)

        alt = "How often being sent or re-saved turns the verdict of each model"
        drawn.append(_image(flips, alt, (5.6, 5.4)))
    return drawn


def _matrix(key: str, counts: list[list[int]]) -> str:
    name = plots.display_name(key)
    return _image(
        lambda ax: plots.confusion(counts, title=name, ax=ax),
        f"Confusion matrix of {name}",
        (3.0, 3.1),
    )


def _image(draw: Callable, alt: str, size: tuple[float, float]) -> str:
    """Draw on the axes of a new figure of this width and height in inches."""
    figure = Figure(figsize=size, layout="constrained")
    draw(figure.subplots())
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", transparent=True)
    text = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f'<img src="data:image/svg+xml;base64,{text}" alt="{escape(alt)}">'
