"""Figures of images: what is in the data, what augmentation does, where models are wrong."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from cifake_lib.plots import (
    CLASS_COLOURS,
    display_name,
    drawn_with,
    label_axes,
    new_figure,
    open_axes,
)


def split_counts(summary: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw how many images of each class each split holds.

    Args:
        summary: one row a split (the index), one column a class ("REAL", "FAKE"): image counts.
        ax: where to draw.

    Returns:
        Axes with one bar a split and class, its count written on it.
    """
    ax = open_axes(ax, 6, 3.2)
    names = [name for name in CLASS_COLOURS if name in summary]
    for index, name in enumerate(names):
        places = np.arange(len(summary)) + (index - (len(names) - 1) / 2) * 0.4
        bars = ax.bar(places, summary[name], width=0.38, color=CLASS_COLOURS[name], label=name)
        ax.bar_label(bars, fmt="{:,.0f}", padding=2, fontsize=9)
    label_axes(ax, title="Images in each split", y="Images")
    ax.set_xticks(range(len(summary)), [str(split).capitalize() for split in summary.index])
    ax.grid(visible=False, axis="x")
    ax.margins(y=0.12)
    ax.yaxis.set_major_formatter("{x:,.0f}")
    ax.legend(frameon=False, title="Class", loc="upper left", bbox_to_anchor=(1, 1))
    return ax


def _draw_images(figure: Figure | SubFigure, images, titles, columns, title_colour="0.2"):
    rows = max(1, -(-len(images) // columns))
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel in panels:
        panel.set_axis_off()
    for index, image in enumerate(images):
        panels[index].imshow(image, interpolation=drawn_with(image))
        if titles is not None:
            panels[index].set_title(titles[index], fontsize=9, color=title_colour, pad=3)


def image_grid(
    images: Sequence[np.ndarray],
    titles: Sequence[str] | None = None,
    *,
    columns: int = 8,
    title: str | None = None,
) -> Figure:
    """Show images in rows, every pixel of small ones as a square.

    Args:
        images: uint8 arrays, each (H, W, 3), or one array (N, H, W, 3).
        titles: one short text an image; "REAL" and "FAKE" are written in the colour of the class.
        columns: images in a row.
        title: of the figure.

    Returns:
        Figure, 9 inches wide.
    """
    rows = max(1, -(-len(images) // columns))
    height = rows * (9 / columns + (0.22 if titles is not None else 0.05))
    figure = new_figure(9, height + (0.4 if title else 0))
    _draw_images(figure, images, titles, columns)
    for panel in figure.axes:
        panel.title.set_color(CLASS_COLOURS.get(panel.get_title(), "0.2"))
    if title:
        figure.suptitle(title, fontsize=12)
    return figure


def before_after(
    images: Sequence[np.ndarray],
    changed: Mapping[str, Sequence[np.ndarray]],
    *,
    title: str = "Before and after augmentation",
) -> Figure:
    """Show images above their changed versions.

    Args:
        images: uint8 arrays (N, H, W, 3); about eight fit.
        changed: name of a change → the same images after it, same order.
        title: of the figure.

    Returns:
        Figure, 9 inches wide: first row the originals, then one row a change.
    """
    rows = {"Original": images, **changed}
    columns = len(images)
    cell = 7.9 / columns
    figure = new_figure(9, cell * len(rows) + 0.45)
    panels = figure.subplots(len(rows), columns, squeeze=False)
    for row, (name, pictures) in zip(panels, rows.items(), strict=True):
        for panel, picture in zip(row, pictures, strict=True):
            panel.imshow(picture, interpolation=drawn_with(picture))
            panel.set(xticks=[], yticks=[])
            panel.spines[:].set_visible(False)
        row[0].set_ylabel(
            display_name(name),
            rotation=0,
            ha="right",
            va="center",
            fontsize=10,
        )
    figure.suptitle(title, fontsize=12)
    return figure


def mistakes(
    images: np.ndarray,
    rows: np.ndarray,
    y_true: np.ndarray,
    y_score: np.ndarray,
    *,
    count: int = 8,
) -> Figure:
    """Show the most confident mistakes, both ways.

    Args:
        images: uint8 array, shape (M, H, W, 3); may be a memory map.
        rows: int array, shape (N,): which of the images were judged.
        y_true: int array, shape (N,), 0 = REAL, 1 = FAKE.
        y_score: float array, shape (N,), p_fake; FAKE from .5 on.
        count: images of each kind.

    Returns:
        Figure, 9 inches wide: above REAL called FAKE, below FAKE called REAL, worst first, p_fake
        over each.
    """
    y_true, y_score = np.asarray(y_true), np.asarray(y_score)
    columns = min(count, 8)
    lines = -(-count // columns)
    figure = new_figure(9, 2 * (lines * (9 / columns + 0.22) + 0.42))
    is_fake, called_fake = y_true == 1, y_score >= 0.5
    kinds = (("REAL", "FAKE", ~is_fake), ("FAKE", "REAL", is_fake))
    for part, (true, called, of_class) in zip(figure.subfigures(2, 1), kinds, strict=True):
        wrong = np.flatnonzero(of_class & (is_fake != called_fake))
        worst = wrong[np.argsort(-np.abs(y_score[wrong] - 0.5), kind="stable")][:count]
        titles = [f"p_fake {y_score[index]:.3f}" for index in worst]
        _draw_images(part, images[np.asarray(rows)[worst]], titles, columns)
        if not len(worst):
            part.text(0.5, 0.45, "none", ha="center", color="0.4")
        part.suptitle(
            f"{true} called {called}: {len(wrong):,} of {of_class.sum():,}",
            color=CLASS_COLOURS[true],
        )
    return figure
