"""Figures of what a data set gives away before a model looks at it."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cifake_lib.names import in_percent
from cifake_lib.plots import CLASS_COLOURS, drawn_with, label_axes, new_figure, open_axes


def image_pairs(images: np.ndarray, pairs: pd.DataFrame, labels: np.ndarray) -> Figure:
    """Show pairs of images that look alike, one above the other.

    Args:
        images: uint8 `(N, height, width, 3)`; may be a memory map.
        pairs: Rows of `first` and `second` (row numbers) and `distance`, as `copies.alike`
            returns them; about eight fit.
        labels: `(N,)`, 0 REAL or 1 FAKE.

    Returns:
        Figure, 9 inches wide; over each image its class, over each pair the distance in bits.
    """
    figure = new_figure(9, 2.9)
    names = list(CLASS_COLOURS)
    panels = figure.subplots(2, max(8, len(pairs)), squeeze=False)
    for panel in panels.ravel():
        panel.set_axis_off()
    for column, pair in enumerate(pairs.itertuples()):
        for panel, row in zip(panels[:, column], (pair.first, pair.second), strict=True):
            name = names[labels[row]]
            panel.imshow(images[row], interpolation=drawn_with(images[row]))
            panel.set_title(name, fontsize=9, color=CLASS_COLOURS[name], pad=3)
        upper = panels[0, column]
        upper.set_title(
            f"{pair.distance} bit{'s' * (pair.distance != 1)}\n{upper.get_title()}",
            fontsize=9,
            pad=3,
        )
    if not len(pairs):
        figure.text(0.5, 0.5, "none found", ha="center", fontsize=11, color="0.4")
    figure.suptitle("Pairs that look alike, and how many of 64 hash bits differ", fontsize=12)
    return figure


def class_spectra(spectra: Mapping[str, np.ndarray]) -> Figure:
    """Show the mean power spectrum of each class and their difference.

    Args:
        spectra: "REAL" and "FAKE" → mean log10 power, float `(S, S)`, frequency 0 in the middle.

    Returns:
        Figure, 9 inches wide: both spectra in one scale, and FAKE minus REAL around zero.
    """
    real, fake = spectra["REAL"], spectra["FAKE"]
    figure = new_figure(9, 3.1)
    panels = figure.subplots(1, 3)
    # Frequency 0 sits on a pixel, not between two.
    half = 0.5 + 0.5 / len(real)
    extent = (-half, half - 1 / len(real), -half, half - 1 / len(real))
    # The mean was taken away: the power at frequency 0 says nothing and would stretch the scale.
    seen = np.hypot(*np.indices(real.shape) - len(real) // 2) > 0
    scale = {"vmin": min(real[seen].min(), fake[seen].min()), "vmax": max(real.max(), fake.max())}
    for panel, (name, values) in zip(panels, spectra.items(), strict=False):
        values = np.where(seen, values, np.nan)
        drawn = panel.imshow(values, cmap="viridis", extent=extent, origin="lower", **scale)
        panel.set_title(name, color=CLASS_COLOURS[name])
    figure.colorbar(drawn, ax=panels[:2], label="log₁₀ power", shrink=0.85)
    difference = fake - real
    limit = np.abs(difference).max()
    drawn = panels[2].imshow(
        difference, cmap="RdBu_r", extent=extent, origin="lower", vmin=-limit, vmax=limit
    )
    panels[2].set_title("FAKE minus REAL")
    figure.colorbar(drawn, ax=panels[2], label="log₁₀ of the ratio", shrink=0.85)
    for panel in panels:
        panel.set(xlabel="Cycles per pixel", xticks=[-0.5, 0, 0.5], yticks=[-0.5, 0, 0.5])
    panels[0].set_ylabel("Cycles per pixel")
    return figure


def shortcut_bars(table: pd.DataFrame, *, guessing: float = 0.5, ax: Axes | None = None) -> Axes:
    """Draw how far linear models get without looking at the picture.

    Args:
        table: index: what the model was given; columns `accuracy`, `accuracy_low` and
            `accuracy_high`, 0–1.
        guessing: what naming the commoner class alone reaches, 0–1.
        ax: where to draw.

    Returns:
        Axes with one bar a row, its 95 % interval and a line at guessing.
    """
    ax = open_axes(ax, 7, 0.8 + 0.45 * len(table))
    places = np.arange(len(table))[::-1]
    spread = np.abs(table[["accuracy_low", "accuracy_high"]].T - table["accuracy"])
    ax.barh(places, 100 * table["accuracy"], height=0.6, color="#56B4E9")
    ax.errorbar(
        100 * table["accuracy"],
        places,
        xerr=100 * spread.to_numpy(),
        fmt="none",
        ecolor="0.25",
        capsize=3,
    )
    for place, row in zip(places, table.itertuples(), strict=True):
        ax.text(
            100 * row.accuracy_high + 1, place, in_percent(row.accuracy), va="center", fontsize=9
        )
    ax.axvline(100 * guessing, color="0.25", linewidth=1, linestyle="--")
    ax.text(100 * guessing + 0.5, places[0] + 0.42, "guessing", fontsize=8, color="0.25")
    label_axes(ax, title="What a shortcut reaches", x="Accuracy on validation images (%)")
    ax.set_yticks(places, table.index)
    ax.grid(visible=False, axis="y")
    ax.set_xlim(0, 100)
    return ax
