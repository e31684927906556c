"""Figures of what models do with images unlike those they were trained on."""

import pandas as pd
from matplotlib.figure import Figure

from cifake_lib.corruptions import CORRUPTIONS
from cifake_lib.plots import MARKERS, colours, display_name, label_axes, new_figure


def robustness_curves(table: pd.DataFrame, *, metric: str = "accuracy") -> Figure:
    """Draw a metric against the severity of every corruption.

    Args:
        table: as `evaluation.robustness_table` returns it.
        metric: a column of `table`: accuracy, true_positive_rate, true_negative_rate or roc_auc.

    Returns:
        Figure with one panel a corruption, one line a model; shaded: worse than guessing.
    """
    names = [name for name in table["corruption"].unique() if name != "clean"]
    columns = min(4, len(names))
    rows = -(-len(names) // columns)
    figure = new_figure(9, 0.6 + 2.3 * rows)
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    colour = colours(list(table["model"].unique()))
    for panel, name in zip(panels, names, strict=False):
        for key in colour:
            chosen = table[table["corruption"].isin(["clean", name]) & (table["model"] == key)]
            chosen = chosen.sort_values("severity")
            panel.plot(
                chosen["severity"],
                chosen[metric],
                color=colour[key],
                marker=MARKERS.get(key, "o"),
                markersize=4,
                label=display_name(key),
            )
        levels = chosen.set_index("severity")["level"].drop(0, errors="ignore")
        panel.set_xticks([0, *levels.index], ["clean", *(f"{level:g}" for level in levels)])
        panel.tick_params(labelsize=8)
        panel.axhspan(-1, 0.5, color="0.92", zorder=0, label="Worse than guessing")
        label_axes(panel, title=display_name(name), x=CORRUPTIONS[name].unit)
        panel.xaxis.label.set_size(8)
        panel.title.set_size(10)
    panels[0].set_ylim(min(0.4, table[metric].min() - 0.03), 1.01)
    for panel in panels[len(names) :]:
        panel.remove()
    figure.supylabel(display_name(metric), fontsize=10)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False)
    return figure
