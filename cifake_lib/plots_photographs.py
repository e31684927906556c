"""Figures of a detector of photographs: methods beside each other, and source by source."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cifake_lib.data import CLASS_NAMES
from cifake_lib.plots import CLASS_COLOURS, display_name, label_axes, new_figure, open_axes


def fold_points(
    scores: pd.DataFrame, metric: str = "roc_auc", *, chance: float = 0.5, ax: Axes | None = None
) -> Axes:
    """Draw how well each method ranks images of sources that it does not know.

    Args:
        scores: As `unseen_sources.fold_scores` returns it.
        metric: Column.
        chance: What guessing comes to; marked.
        ax: Where to draw.

    Returns:
        Axes with one row a method, best last: a point a fold, and a bar at their mean.
    """
    methods = scores.groupby("method")[metric].mean().sort_values()
    ax = open_axes(ax, 8, 0.9 + 0.42 * len(methods))
    for height, (method, mean) in enumerate(methods.items()):
        part = scores[scores["method"] == method]
        offsets = np.linspace(-0.16, 0.16, len(part)) if len(part) > 1 else [0]
        ax.scatter(part[metric], height + np.asarray(offsets), s=26, color="#0072B2", alpha=0.55)
        ax.plot([mean, mean], [height - 0.32, height + 0.32], color="0.1", linewidth=2.4)
        ax.annotate(
            *(f"{mean:.3f}", (1.01, height)),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize=10,
        )
    ax.axvline(chance, color="0.4", linestyle=":", linewidth=1.2)
    ax.set_yticks(range(len(methods)), [display_name(method) for method in methods.index])
    ax.set_ylim(-0.6, len(methods) - 0.4)
    ax.grid(axis="y", visible=False)
    label_axes(ax, x=f"{display_name(metric)} (a point a fold, the mean at the right)")
    return ax


def source_bars(sources: pd.DataFrame, *, allowed: float = 0.1) -> Figure:
    """Draw how many images of each left-out source are called FAKE.

    Args:
        sources: As `unseen_sources.source_scores` returns it.
        allowed: Share of a source of photographs that may be; marked.

    Returns:
        Figure with a panel a class and a bar a source, with 95 % intervals: of REAL the shorter
        the better, of FAKE the longer.
    """
    counts = sources["label"].value_counts()
    figure = new_figure(10, 1.1 + 0.27 * counts.max())
    for label, panel in enumerate(figure.subplots(1, 2)):
        part = sources[sources["label"] == label].sort_values("called_fake", ascending=label == 0)
        y = np.arange(len(part))[::-1]
        panel.barh(y, 100 * part["called_fake"], color=CLASS_COLOURS[CLASS_NAMES[label]], alpha=0.7)
        panel.hlines(y, 100 * part["low"], 100 * part["high"], color="0.2", linewidth=1)
        names = [f"{row.source} ({row.images})" for row in part.itertuples()]
        panel.set_yticks(y, names, fontsize=9)
        panel.set_xlim(0, 100)
        panel.grid(axis="y", visible=False)
        if label == 0:
            panel.axvline(100 * allowed, color="0.4", linestyle=":", linewidth=1.2)
        title = "REAL: false alarms" if label == 0 else "FAKE: found"
        label_axes(panel, title=title, x="Called FAKE (%)")
    return figure


def change_points(table: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw what a change of the images does to the ranking, fold by fold.

    Args:
        table: As `unseen_sources.fold_scores` returns it, its methods being the changes, of which
            the first is none.
        ax: Where to draw.

    Returns:
        Axes with a line a fold from change to change.
    """
    ax = open_axes(ax, 7, 3.2)
    changes = list(dict.fromkeys(table["method"]))
    wide = table.pivot(index="fold", columns="method", values="roc_auc")[changes]
    for fold, row in wide.iterrows():
        ax.plot(range(len(changes)), row, marker="o", color="#0072B2", alpha=0.55)
        ax.annotate(f"fold {fold}", (len(changes) - 0.95, row.iloc[-1]), va="center", fontsize=9)
    ax.plot(range(len(changes)), wide.mean(), marker="D", color="0.1", linewidth=2.4)
    ax.set_xticks(range(len(changes)), [display_name(change) for change in changes])
    ax.set_xlim(-0.3, len(changes) - 0.4)
    label_axes(ax, y=display_name("roc_auc"))
    return ax
