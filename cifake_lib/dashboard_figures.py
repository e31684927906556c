"""The figures of the dashboard's second tab, drawn from the run of the evaluation."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from html import escape

from matplotlib.figure import Figure

from cifake_lib import evaluation, plots
from cifake_lib.runs import Run


def figures_html(run: Run) -> str:
    """Draw F1 by class, ROC curves and confusion matrices.

    Args:
        run: A run of the evaluation stage.

    Returns:
        HTML with the figures as inline SVG images.

    Raises:
        RunDamaged: A file differs from its manifest.
    """
    metrics = run.read_json("metrics.json")["models"]
    curves = run.read_json("curves.json")

    def bars(ax):
        plots.metric_bars(evaluation.comparison_table(metrics), ["f1_fake", "f1_real"], ax=ax)
        ax.set_title("F1 of each class")

    large = [
        _image(bars, "F1 of each class by model", (5.6, 4.8)),
        _image(lambda ax: plots.roc_curves(curves, ax=ax), "ROC curve of each model", (5.6, 4.8)),
    ]
    matrices = [_matrix(key, values["confusion"]) for key, values in metrics.items()]
    return (
        f'<div class="cf-figures">{"".join(large)}</div>'
        f'<div class="cf-figures cf-matrices">{"".join(matrices)}</div>'
    )


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
