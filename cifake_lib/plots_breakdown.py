"""Figures of where models are right and how far they agree."""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from cifake_lib.plots import MARKERS, colours, display_name, label_axes, open_axes


def object_classes(table: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw the accuracy of each model on each kind of image.

    Args:
        table: as `breakdown.by_object_class` returns it.
        ax: where to draw.

    Returns:
        Axes with one line of points a kind, easiest on top, with 95 % intervals; the number of
        images stands behind the name. Without any kind they say so.
    """
    if table.empty:
        ax = open_axes(ax, 7, 1.2)
        ax.set_axis_off()
        ax.text(0.5, 0.5, "No kinds of object and no sources are known", ha="center", color="0.4")
        return ax
    order = table.groupby("object_class")["accuracy"].mean().sort_values().index
    ax = open_axes(ax, 7, 0.8 + 0.42 * len(order))
    colour = colours(list(table["model"].unique()))
    for index, (key, shade) in enumerate(colour.items()):
        own = table[table["model"] == key].set_index("object_class").loc[order]
        y = np.arange(len(order)) + 0.16 * (index - (len(colour) - 1) / 2)
        ax.hlines(y, 100 * own["accuracy_low"], 100 * own["accuracy_high"], color=shade)
        ax.plot(
            100 * own["accuracy"],
            y,
            color=shade,
            marker=MARKERS.get(key, "o"),
            markersize=5,
            linestyle="",
            label=display_name(key),
        )
    images = table.groupby("object_class")["images"].first()
    ax.set_yticks(range(len(order)), [f"{name} ({images[name]:,})" for name in order])
    ax.grid(visible=False, axis="y")
    label_axes(ax, title="Accuracy by kind of image", x="Accuracy (%)")
    ax.legend(loc="upper center", bbox_to_anchor=(0.45, -0.14), ncols=4, frameon=False)
    return ax


def agreement_heatmap(table: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw how far models agree, as `breakdown.agreement` returns it."""
    ax = open_axes(ax, 4.6, 3.8)
    names = [display_name(key) for key in table.columns]
    sns.heatmap(
        table.to_numpy(),
        annot=True,
        fmt=".3f",
        vmin=0,
        vmax=1,
        cmap="cividis",
        cbar=False,
        linewidths=1,
        square=True,
        xticklabels=names,
        yticklabels=names,
        ax=ax,
    )
    ax.tick_params(length=0, labelsize=9)
    ax.tick_params(axis="y", rotation=0)
    ax.tick_params(axis="x", rotation=30)
    ax.set(xlabel="", ylabel="", title="Agreement (Cohen's kappa)")
    return ax
