"""Figures of what models do with images unlike those they were trained on."""

from collections.abc import Sequence

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cifake_lib.corruptions import CORRUPTIONS
from cifake_lib.plots import MARKERS, colours, display_name, label_axes, new_figure, open_axes


def robustness_curves(
    table: pd.DataFrame, *, metric: str = "accuracy", unseen: Sequence[str] = ()
) -> Figure:
    """Draw a metric against the severity of every corruption.

    Args:
        table: as `robustness.robustness_table` returns it.
        metric: a column of `table`: accuracy, true_positive_rate, true_negative_rate or roc_auc.
        unseen: families of corruptions that training left out; marked with a star.

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
        star = " *" if name in unseen else ""
        label_axes(panel, title=display_name(name) + star, x=CORRUPTIONS[name].unit)
        panel.xaxis.label.set_size(8)
        panel.title.set_size(10)
    panels[0].set_ylim(min(0.4, table[metric].min() - 0.03), 1.01)
    for panel in panels[len(names) :]:
        panel.remove()
    figure.supylabel(display_name(metric), fontsize=10)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False)
    return figure


def conditions_heatmap(
    table: pd.DataFrame,
    *,
    metric: str = "accuracy",
    unseen: Sequence[str] = (),
    ax: Axes | None = None,
) -> Axes:
    """Draw a metric of every model under every condition as a table of colours.

    Args:
        table: as `robustness.robustness_table` returns it.
        metric: a column of `table` from 0 to 1.
        unseen: families of corruptions that training left out; marked with a star.
        ax: where to draw.

    Returns:
        Axes with one row a condition and one column a model, percent in the cells.
    """
    names = {
        (row.corruption, row.severity): _condition_name(row.corruption, row.level, unseen)
        for row in table.itertuples()
    }
    cells = table.pivot(index=["corruption", "severity"], columns="model", values=metric)
    cells = cells.loc[list(names), list(table["model"].unique())]
    ax = open_axes(ax, 5.5, 0.8 + 0.3 * len(names))
    sns.heatmap(
        100 * cells.to_numpy(),
        annot=True,
        fmt=".1f",
        vmin=50,
        vmax=100,
        cmap="cividis",
        cbar=False,
        linewidths=1,
        xticklabels=[display_name(key) for key in cells.columns],
        yticklabels=list(names.values()),
        ax=ax,
    )
    ax.set(xlabel="", ylabel="", title=f"{display_name(metric)} (%)")
    ax.tick_params(length=0, labelsize=9)
    ax.tick_params(axis="y", rotation=0)
    return ax


def _condition_name(corruption: str, level: float, unseen: Sequence[str]) -> str:
    if corruption == "clean":
        return "Clean"
    star = " *" if corruption in unseen else ""
    return f"{display_name(corruption)} {level:g}{star}"
