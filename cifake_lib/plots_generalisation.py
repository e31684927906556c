"""Figures of how far a detector carries, and of where it should refuse."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cifake_lib.data import CLASS_NAMES, KNOWN_ORIGIN
from cifake_lib.plots import (
    CLASS_COLOURS,
    colours,
    display_name,
    label_axes,
    new_figure,
    open_axes,
)


def score_distributions(scored: pd.DataFrame, *, key: str = "ensemble", bins: int = 20) -> Figure:
    """Draw how the scores of images of several origins are spread.

    Args:
        scored: as for `generalisation.by_origin`.
        key: the model.
        bins: of equal width over p_fake.

    Returns:
        Figure with one panel an origin; REAL and FAKE in their colours, share of images upwards,
        on a square-root scale, which shows the few in the middle.
    """
    origins = [KNOWN_ORIGIN, *(name for name in scored["origin"].unique() if name != KNOWN_ORIGIN)]
    columns = min(3, len(origins))
    rows = -(-len(origins) // columns)
    figure = new_figure(9, 0.7 + 2.2 * rows)
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for panel, name in zip(panels, origins, strict=False):
        for label, of_class in enumerate(CLASS_NAMES):
            chosen = scored[(scored["origin"] == name) & (scored["label"] == label)]
            if len(chosen):
                panel.hist(
                    chosen[f"{key}_p_fake"],
                    bins=np.linspace(0, 1, bins + 1),
                    weights=np.full(len(chosen), 100 / len(chosen)),
                    color=CLASS_COLOURS[of_class],
                    alpha=0.6,
                    label=f"{of_class} ({len(chosen):,})",
                )
        panel.axvline(0.5, color="0.4", linestyle=":", linewidth=1)
        panel.set_yscale("function", functions=(np.sqrt, np.square))
        panel.set_yticks([0, 5, 25, 50, 100])
        panel.legend(frameon=False, fontsize=8, loc="upper center")
        title = "The test images" if name == KNOWN_ORIGIN else display_name(name)
        label_axes(panel, title=title)
    for panel in panels[len(origins) :]:
        panel.remove()
    figure.supxlabel(f"p_fake of the {display_name(key).lower()}", fontsize=10)
    figure.supylabel("Images (%)", fontsize=10)
    return figure


def scope_bars(table: pd.DataFrame, *, allowed: float, ax: Axes | None = None) -> Axes:
    """Draw how often the scope check refuses images of each kind.

    Args:
        table: as `generalisation.scope_table` returns it.
        allowed: share of known images that the check may refuse, 0–1; marked.
        ax: where to draw.

    Returns:
        Axes with one bar a kind, 95 % intervals; kinds with labels in a darker shade.
    """
    ax = open_axes(ax, 8, 0.8 + 0.34 * len(table))
    y = np.arange(len(table))[::-1]
    labelled = table["accuracy_inside"].notna() | table["accuracy_outside"].notna()
    ax.barh(y, 100 * table["outside"], color=np.where(labelled, "#0072B2", "#8fb8d4"), height=0.65)
    ax.hlines(y, 100 * table["outside_low"], 100 * table["outside_high"], color="0.2", linewidth=1)
    ax.axvline(100 * allowed, color="0.4", linestyle=":", linewidth=1.2)
    for height, share in zip(y, table["outside"], strict=True):
        ax.annotate(f"{100 * share:.0f}", (102, height), va="center", fontsize=9)
    ax.set_yticks(y, [display_name(kind) for kind in table["kind"]])
    ax.set_xlim(0, 108)
    ax.grid(visible=False, axis="y")
    label_axes(ax, title="Outside what the model knows", x="Images refused (%)")
    return ax


def flip_bars(table: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw how often a delivery turns a verdict around.

    Args:
        table: as `robustness.delivery_table` returns it.
        ax: where to draw.

    Returns:
        Axes with one group of bars a delivery and one bar a model, percent of images.
    """
    ways = [name for name in table["delivery"].unique() if name != "none"]
    ax = open_axes(ax, 8, 4)
    colour = colours(list(table["model"].unique()))
    width = 0.8 / len(colour)
    for index, (key, shade) in enumerate(colour.items()):
        own = table[table["model"] == key].set_index("delivery").loc[ways, "flipped"]
        x = np.arange(len(ways)) + (index - (len(colour) - 1) / 2) * width
        bars = ax.bar(x, 100 * own, width=0.9 * width, color=shade, label=display_name(key))
        ax.bar_label(bars, fmt="%.0f", fontsize=8, padding=2)
    ax.set_xticks(range(len(ways)), [display_name(name) for name in ways])
    ax.grid(visible=False, axis="x")
    label_axes(ax, title="Verdicts that flip on the way", y="Images (%)")
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=4, frameon=False)
    return ax
