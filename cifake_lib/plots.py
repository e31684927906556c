"""Figures of evaluation, and what all figures share: colours, names, axes.

Every function takes data, returns Axes or a Figure, and never calls `show`.

Every model and every class has one colour everywhere, from the colour-blind safe palette of
Okabe & Ito 2008 ("Color universal design"). A function that takes `ax` draws there and touches
nothing else; without `ax` it opens a figure that a notebook shows under the cell.
"""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from scipy.stats import beta

from cifake_lib.calibration import expected_calibration_error
from cifake_lib.evaluation import curve_points
from cifake_lib.names import display_name, in_percent

MODEL_COLOURS = {
    "baseline_cnn": "#E69F00",
    "tuned_cnn": "#56B4E9",
    "resnet50": "#009E73",
    "own_model": "#CC79A7",
    "ensemble": "#000000",
}
CLASS_COLOURS = {"REAL": "#0072B2", "FAKE": "#D55E00"}
OTHER_COLOURS = ("#CC79A7", "#0072B2", "#D55E00")  # for curves that belong to no model
MARKERS = {
    "baseline_cnn": "o",
    "tuned_cnn": "s",
    "resnet50": "D",
    "own_model": "v",
    "ensemble": "P",
}


def colours(keys: Sequence[str]) -> dict[str, str]:
    """Return a colour for each key: that of the model, or one that belongs to no model."""
    others = iter(OTHER_COLOURS * len(keys))
    return {key: MODEL_COLOURS.get(key) or next(others) for key in keys}


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure that a notebook shows once, when it is the value of a cell.

    Args:
        width: inches.
        height: inches.
    """
    figure = plt.figure(figsize=(width, height), layout="constrained")
    plt.close(figure)  # out of pyplot's list, or the notebook would show it a second time
    return figure


def drawn_with(image: np.ndarray) -> str:
    """Return matplotlib's way to draw an image: every pixel a square, unless they are too many."""
    return "nearest" if len(image) <= 64 else "auto"


def open_axes(ax: Axes | None, width: float, height: float) -> Axes:
    """Return `ax`, or the Axes of a new figure of this size (inches) when it is None."""
    return ax if ax is not None else plt.subplots(figsize=(width, height), layout="constrained")[1]


def label_axes(ax: Axes, *, title: str = "", x: str = "", y: str = "") -> None:
    """Write title and axis labels, draw a faint grid and take away the box."""
    ax.set(title=title, xlabel=x, ylabel=y)
    ax.grid(alpha=0.25, linewidth=0.6)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)


def confusion(confusion: Sequence[Sequence[int]], *, title: str, ax: Axes | None = None) -> Axes:
    """Draw a confusion matrix: counts, and the share of the true class.

    Args:
        confusion: [[tn, fp], [fn, tp]], int; rows: true REAL, true FAKE.
        title: most often the name of the model.
        ax: where to draw.

    Returns:
        Axes with the four cells.
    """
    counts = np.asarray(confusion)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    text = [
        [f"{count:,}\n{in_percent(share)}" for count, share in zip(*row, strict=True)]
        for row in zip(counts, shares, strict=True)
    ]
    ax = open_axes(ax, 3.4, 3.2)
    names = list(CLASS_COLOURS)
    sns.heatmap(
        pd.DataFrame(shares, index=names, columns=names),
        annot=np.array(text),
        fmt="",
        vmin=0,
        vmax=1,
        cmap="Blues",
        cbar=False,
        square=True,
        linewidths=2,
        annot_kws={"fontsize": 11},
        ax=ax,
    )
    ax.set(title=title, xlabel="Predicted class", ylabel="True class")
    ax.tick_params(length=0)
    return ax


def _curves(models, kind, x, y, ax, *, corner, inset):
    """Draw one curve a model, the best first in the legend; enlarge the corner of good ones."""
    points = {
        key: (value if isinstance(value, Mapping) else curve_points(*value))[kind]
        for key, value in models.items()
    }
    colour = colours(list(points))
    ranked = sorted(points, key=lambda key: -points[key]["area"])
    ax.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    panels = [ax]
    if points[ranked[0]]["area"] > 0.97:
        zoom = ax.inset_axes(inset, xlim=corner, ylim=(0.9, 1.002))
        zoom.locator_params(nbins=2)
        zoom.tick_params(labelsize=8)
        ax.indicate_inset_zoom(zoom, edgecolor="0.4")
        panels.append(zoom)
    for key in ranked:
        label = f"{display_name(key)} ({points[key]['area']:.4f})"
        for panel in panels:
            panel.plot(points[key][x], points[key][y], color=colour[key], linewidth=2, label=label)


def roc_curves(models: Mapping[str, tuple | Mapping], *, ax: Axes | None = None) -> Axes:
    """Draw ROC curves, with the area under each in the legend.

    Args:
        models: model key → `(y_true, y_score)`, or what `evaluation.curve_points` returned.
        ax: where to draw.

    Returns:
        Axes with one curve a model and the diagonal of a coin flip.
    """
    ax = open_axes(ax, 4.6, 4.6)
    _curves(models, "roc", "fpr", "tpr", ax, corner=(-0.002, 0.1), inset=(0.5, 0.43, 0.42, 0.42))
    ax.plot([0, 1], [0, 1], color="0.6", linestyle=":", linewidth=1.2)
    label_axes(ax, title="ROC curve", x="REAL called FAKE (rate)", y="FAKE called FAKE (rate)")
    ax.legend(title="Area under the curve", loc="lower right", fontsize=9)
    return ax


def pr_curves(models: Mapping[str, tuple | Mapping], *, ax: Axes | None = None) -> Axes:
    """Draw precision-recall curves of FAKE, with the average precision in the legend.

    Args:
        models: model key → `(y_true, y_score)`, or what `evaluation.curve_points` returned.
        ax: where to draw.

    Returns:
        Axes with one curve a model.
    """
    ax = open_axes(ax, 4.6, 4.6)
    _curves(
        models, "pr", "recall", "precision", ax, corner=(0.9, 1.002), inset=(0.2, 0.43, 0.42, 0.42)
    )
    label_axes(ax, title="Precision-recall curve", x="Recall of FAKE", y="Precision of FAKE")
    ax.legend(title="Average precision", loc="lower left", fontsize=9)
    return ax


def reliability(models: Mapping[str, tuple], *, bins: int = 10, ax: Axes | None = None) -> Axes:
    """Draw how often an image with a given p_fake is FAKE, with the calibration error.

    Args:
        models: model key (or any name, such as "before") → `(y_true, y_score)`.
        bins: groups of equal width of p_fake; a group of fewer than 5 images is not drawn. (The
            error in the legend is over groups of equally many images.)
        ax: where to draw.

    Returns:
        Axes with one line a model, 95 % Jeffreys intervals (Brown et al. 2001, "Interval estimation
        for a binomial proportion") and the diagonal of perfect calibration.
    """
    ax = open_axes(ax, 4.6, 4.6)
    ax.plot([0, 1], [0, 1], color="0.6", linestyle=":", linewidth=1.2)
    for key, colour in colours(list(models)).items():
        y_true, y_score = (np.asarray(values) for values in models[key])
        group = np.minimum((y_score * bins).astype(int), bins - 1)
        count = np.bincount(group, minlength=bins)
        drawn = count >= 5
        fake = np.bincount(group, weights=y_true, minlength=bins)[drawn]
        mean_score = np.bincount(group, weights=y_score, minlength=bins)[drawn] / count[drawn]
        real = count[drawn] - fake
        ax.vlines(
            mean_score,
            *beta.ppf([[0.025], [0.975]], fake + 0.5, real + 0.5),
            color=colour,
            linewidth=1.2,
            alpha=0.6,
        )
        ax.plot(
            mean_score,
            fake / count[drawn],
            color=colour,
            linewidth=1.5,
            marker=MARKERS.get(key, "o"),
            markersize=5,
            label=f"{display_name(key)} ({expected_calibration_error(y_true, y_score):.4f})",
        )
    ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    label_axes(ax, title="Reliability", x="p_fake (mean of the group)", y="Fraction of FAKE")
    ax.legend(title="Expected calibration error", loc="upper left", fontsize=9)
    return ax


def metric_points(
    comparison: pd.DataFrame,
    metrics: Sequence[str] = ("accuracy", "f1", "f1_fake", "f1_real"),
    *,
    ax: Axes | None = None,
) -> Axes:
    """Draw metrics of several models side by side.

    Args:
        comparison: as `evaluation.comparison_table` returns it: one row a model.
        metrics: columns of `comparison`; where `<metric>_low` and `_high` exist, the 95 % interval
            is drawn.
        ax: where to draw.

    Returns:
        Axes with one group of points a metric, one point a model, its value written above. The
        axis does not begin at 0: good models differ by less than a bar from there could show.
    """
    ax = open_axes(ax, 9, 3.6)
    width = 0.84 / len(comparison)
    for index, (key, colour) in enumerate(colours(list(comparison.index)).items()):
        places = np.arange(len(metrics)) + (index - (len(comparison) - 1) / 2) * width
        values = comparison.loc[key, list(metrics)].astype(float)
        lows, highs = (
            [
                comparison[f"{metric}_{end}"][key] if f"{metric}_{end}" in comparison else value
                for metric, value in values.items()
            ]
            for end in ("low", "high")
        )
        ax.vlines(places, lows, highs, color=colour, linewidth=2)
        ax.plot(
            *(places, values, MARKERS.get(key, "o")),
            color=colour,
            markersize=7,
            label=display_name(key),
        )
        for place, value, high in zip(places, values, highs, strict=True):
            ax.annotate(
                *(f"{value:.3f}", (place, high)),
                xytext=(0, 5),
                textcoords="offset points",
                ha="center",
                fontsize="small",
            )
    label_axes(ax, title="Models compared", y="Score")
    ax.set_xticks(range(len(metrics)), [display_name(metric) for metric in metrics])
    ax.tick_params(axis="x", length=0)
    ax.grid(visible=False, axis="x")
    ax.margins(y=0.16)
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=4, frameon=False)
    return ax


def cost_against_quality(comparison: pd.DataFrame, *, metric: str = "f1") -> Figure:
    """Draw what each model costs against how good it is.

    Args:
        comparison: as `evaluation.comparison_table` returns it, with at least one of
            `training_seconds`, `training_energy_wh`, `parameters`, `weights_bytes`,
            `images_per_second_batch_1` and `_256`.
        metric: column on the vertical axis; its 95 % interval is drawn where it is known.

    Returns:
        Figure with one panel a cost, on a logarithmic axis; a model without a cost is left out.
    """
    costs = {
        "training_seconds": (1 / 60, "Training time (minutes)"),
        "training_energy_wh": (1, "Energy of training (Wh)"),
        "parameters": (1e-6, "Parameters (millions)"),
        "weights_bytes": (1e-6, "Size (MB)"),
        "images_per_second_batch_1": (1, "Speed, one by one (images/s)"),
        "images_per_second_batch_256": (1, "Speed, 256 at once (images/s)"),
    }
    costs = {name: cost for name, cost in costs.items() if name in comparison}
    rows = -(-len(costs) // 3)
    figure = new_figure(9, 0.8 + 2.4 * rows)
    panels = figure.subplots(rows, min(3, len(costs)), sharey=True, squeeze=False).ravel()
    for panel in panels[len(costs) :]:
        panel.remove()
    for index, (name, (factor, label)) in enumerate(costs.items()):
        panel = panels[index]
        known = comparison.dropna(subset=[name])
        for key, colour in colours(list(known.index)).items():
            x, y = known.loc[key, name] * factor, known.loc[key, metric]
            if f"{metric}_low" in known:
                panel.vlines(x, *known.loc[key, [f"{metric}_low", f"{metric}_high"]], color=colour)
            panel.plot(
                x,
                y,
                color=colour,
                marker=MARKERS.get(key, "o"),
                markersize=8,
                linestyle="",
                label=display_name(key),
            )
        panel.set_xscale("log")
        # Over more than two decades the labels would run into each other.
        wide = known[name].max() > 100 * known[name].min()
        panel.xaxis.set_major_locator(LogLocator(subs=(1,) if wide else (1, 2, 5)))
        panel.xaxis.set_major_formatter("{x:g}")
        panel.xaxis.set_minor_formatter(NullFormatter())
        panel.margins(x=0.15)
        label_axes(panel, x=label, y="" if index % 3 else display_name(metric))
    figure.suptitle("Cost against quality", fontsize=12)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    return figure
