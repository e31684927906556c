"""Figures of heat maps beside the tests of whether they mean anything."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from cifake_lib.plots import colours, display_name, drawn_with, label_axes, new_figure


def heat_maps(
    images: np.ndarray, titles: Sequence[str], maps: Mapping[tuple[str, str], np.ndarray]
) -> Figure:
    """Show images beside the maps of several models and methods.

    Args:
        images: uint8 `(N, S, S, 3)`.
        titles: Of each image, N of them.
        maps: (model key, method) → `(N, M, M)`, 0–1, as `explain.grad_cam` returns it; a model may
            look at another side M than S.

    Returns:
        Figure with one row an image; hot places are yellow, and the image shows through.
    """
    columns = 1 + len(maps)
    figure = new_figure(1.05 * columns, 1.2 * len(images) + 0.3)
    panels = figure.subplots(len(images), columns, squeeze=False)
    for row, (image, title) in enumerate(zip(images, titles, strict=True)):
        shown = {"interpolation": drawn_with(image), "extent": (0, 1, 0, 1)}
        panels[row, 0].imshow(image, **shown)
        panels[row, 0].set_title(title, fontsize=7, pad=2)
        for column, ((key, method), heat) in enumerate(maps.items(), start=1):
            panels[row, column].imshow(image, **shown)
            hot = {"cmap": "inferno", "alpha": 0.65, "vmin": 0, "vmax": 1}
            panels[row, column].imshow(heat[row], extent=shown["extent"], **hot)
            if row == 0:
                name = f"{display_name(key)}\n{display_name(method)}"
                panels[row, column].set_title(name, fontsize=7, pad=2)
    for panel in panels.ravel():
        panel.set_axis_off()
    return figure


def deletion_insertion_curves(curves: Mapping[tuple[str, str], pd.DataFrame]) -> Figure:
    """Draw what becomes of a verdict when the hottest pixels go first, or come first.

    Args:
        curves: (model key, method) → table as `explain.deletion_insertion` returns it. The method
            `random`, a map without meaning, is drawn dotted.

    Returns:
        Figure with a row for deletion and one for insertion, a column a model, one line a method;
        the area under each line stands in the legend.
    """
    keys, methods = (list(dict.fromkeys(names)) for names in zip(*curves, strict=True))
    figure = new_figure(3.1 * len(keys), 5.4)
    panels = figure.subplots(2, len(keys), sharex=True, sharey=True, squeeze=False)
    # Methods belong to no model, so they get none of their colours.
    shades = colours([f"method {name}" for name in methods])
    for column, key in enumerate(keys):
        for method, shade in zip(methods, shades.values(), strict=True):
            curve = curves[key, method]
            for row, name in enumerate(("deletion", "insertion")):
                area = np.trapezoid(curve[name], curve["share"])
                random = method == "random"
                panels[row, column].plot(
                    100 * curve["share"],
                    curve[name],
                    color="0.4" if random else shade,
                    linestyle=":" if random else "-",
                    label=f"{display_name(method)} ({area:.2f})",
                )
                title = f"{display_name(key)}: {name}"
                label_axes(panels[row, column], title=title)
                panels[row, column].title.set_size(10)
    for panel in panels.ravel():
        panel.set_ylim(0, 1.03)
        panel.legend(frameon=False, fontsize=7)
    figure.supxlabel("Pixels deleted or inserted, the hottest first (%)", fontsize=10)
    figure.supylabel("Probability of the class first called", fontsize=10)
    return figure
