"""Figures of training and of the hyperparameter search."""

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, PercentFormatter

from cifake_lib.names import in_percent
from cifake_lib.plots import (
    CLASS_COLOURS,
    colours,
    display_name,
    label_axes,
    new_figure,
    open_axes,
)


def training_curves(history: pd.DataFrame | Mapping[str, pd.DataFrame]) -> Figure:
    """Draw loss, accuracy and learning rate of every epoch.

    Args:
        history: one row an epoch with `loss`, `val_loss`, `accuracy`, `val_accuracy` and perhaps
            `learning_rate` and `phase`; or model key → such a table.

    Returns:
        Figure with two or three panels. A dotted line marks where a new phase begins, when there
        is one model only.
    """
    histories = {"": history} if isinstance(history, pd.DataFrame) else dict(history)
    with_rate = all("learning_rate" in table for table in histories.values())
    figure = new_figure(9, 3.3)
    panels = figure.subplots(1, 2 + with_rate)
    for (key, table), colour in zip(
        histories.items(), colours(list(histories)).values(), strict=True
    ):
        colour = colour if key else CLASS_COLOURS["REAL"]
        epoch = np.arange(1, len(table) + 1)
        # A line needs two epochs to be seen.
        style = {"color": colour, "marker": "o" if len(table) < 3 else None}
        for panel, name in zip(panels, ("loss", "accuracy"), strict=False):
            panel.plot(epoch, table[name], linestyle="--", linewidth=1.2, mfc="white", **style)
            panel.plot(epoch, table[f"val_{name}"], linewidth=2, **style)
        if with_rate:
            panels[2].plot(epoch, table["learning_rate"], linewidth=2, **style)
        if len(histories) == 1 and "phase" in table:
            for start in np.flatnonzero(table["phase"].to_numpy()[1:] != table["phase"][:-1]) + 1:
                for panel in panels:
                    panel.axvline(start + 0.5, color="0.4", linestyle=":", linewidth=1.2)
                panels[0].annotate(
                    display_name(table["phase"].iloc[start]),
                    xy=(start + 0.5, 1),
                    xycoords=("data", "axes fraction"),
                    xytext=(4, -4),
                    textcoords="offset points",
                    va="top",
                    color="0.3",
                    fontsize=9,
                )
    label_axes(panels[0], title="Loss", x="Epoch", y="Binary cross-entropy")
    label_axes(panels[1], title="Accuracy", x="Epoch", y="Accuracy")
    if with_rate:
        label_axes(panels[2], title="Learning rate", x="Epoch", y="Learning rate")
    for panel in panels:
        panel.set_xlim(0.5, max(len(table) for table in histories.values()) + 0.5)
        panel.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
    handles = [
        Line2D([], [], color=colour, linewidth=4, label=display_name(key))
        for key, colour in colours([key for key in histories if key]).items()
    ]
    handles.append(Line2D([], [], color="0.3", linestyle="--", linewidth=1.2, label="Training"))
    handles.append(Line2D([], [], color="0.3", linewidth=2, label="Validation"))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    return figure


_UNUSED = -0.12  # height at which a trial passes the axis of a hyperparameter it did not use


def _positions(column: pd.Series, logarithmic: bool) -> tuple[pd.Series, dict[str, float]]:
    """Place the values of one hyperparameter on an axis from 0 to 1, with its tick labels.

    Words, and up to five different whole numbers, are evenly spaced in order.
    """
    values = sorted(column.dropna().unique(), key=lambda value: (isinstance(value, str), value))
    numeric = pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
    few = len(values) == 1 or (len(values) <= 5 and numeric and (column.dropna() % 1 == 0).all())
    if few or not numeric:
        places = np.linspace(0, 1, len(values)) if len(values) > 1 else np.array([0.5])
        names = [f"{value:.4g}" if numeric else str(value) for value in values]
        place_of = dict(zip(values, places, strict=True))
        return column.map(place_of), dict(zip(names, places, strict=True))
    locator = LogLocator(subs=(1, 3)) if logarithmic else MaxNLocator(4)
    marks = locator.tick_values(values[0], values[-1])
    marks = marks[(marks >= values[0]) & (marks <= values[-1])]
    scale = np.log if logarithmic else np.asarray
    low, high = scale(values[0]), scale(values[-1])
    ticks = {f"{mark:.4g}": (scale(mark) - low) / (high - low) for mark in marks}
    return (scale(column) - low) / (high - low), ticks


def trials_parallel_coordinates(
    trials: pd.DataFrame,
    *,
    hyperparameters: Sequence[str],
    objective: str = "val_accuracy",
    logarithmic: Sequence[str] = ("learning_rate", "weight_decay"),
) -> Figure:
    """Draw every trial as a line through the values of its hyperparameters.

    Args:
        trials: one row a trial; rows without an objective (failed trials) are left out.
        hyperparameters: columns of `trials`, one axis each, from left to right. A trial that did
            not use a hyperparameter (an empty cell) passes below its axis.
        objective: column of `trials`; the last axis, best on top, and the colour. A loss is the
            better the smaller, and stands on a logarithmic axis: failures are far out.
        logarithmic: hyperparameters on a logarithmic axis.

    Returns:
        Figure, 9 inches wide; the best trial is the thick line.
    """
    is_loss = objective.endswith("loss")
    completed = trials.dropna(subset=[objective]).sort_values(objective, ascending=not is_loss)
    names = [*hyperparameters, objective]
    figure = new_figure(9, 4)
    ax = figure.subplots()
    places = pd.DataFrame(index=completed.index)
    for index, name in enumerate(names):
        is_logarithmic = name in logarithmic or (is_loss and name == objective)
        places[name], ticks = _positions(completed[name], is_logarithmic)
        if is_loss and name == objective:
            places[name] = 1 - places[name]
            ticks = {label: 1 - place for label, place in ticks.items()}
        ax.plot([index, index], [0, 1], color="0.3", linewidth=1, zorder=1)
        for label, place in ticks.items():
            ax.annotate(
                label.replace("_", "\n"),
                (index, place),
                xytext=(3, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
                bbox={"boxstyle": "round,pad=0.1", "fc": "white", "ec": "none", "alpha": 0.8},
            )
    extremes = completed[objective].min(), completed[objective].max()
    if places.isna().any(axis=None):
        places = places.fillna(_UNUSED)
        ax.annotate("not used", (0, _UNUSED), xytext=(3, 0), textcoords="offset points", fontsize=8)
    norm = LogNorm(*extremes) if is_loss else Normalize(*extremes)
    # Dark is good: the good ones stand out on white.
    colour_of = mpl.colormaps["cividis" if is_loss else "cividis_r"]
    for value, row in zip(completed[objective], places.to_numpy(dtype=float), strict=True):
        ax.plot(row, color=colour_of(norm(value)), linewidth=1.2, alpha=0.75)
    best = places.to_numpy(dtype=float)[-1]
    ax.plot(best, color=CLASS_COLOURS["FAKE"], linewidth=3, label="Best trial")
    ax.set_xticks(range(len(names)), [display_name(name).replace(" ", "\n") for name in names])
    ax.set(
        yticks=[],
        ylim=(min(-0.04, places.min(axis=None) - 0.04), 1.04),
        xlim=(-0.15, len(names) - 0.65),
    )
    ax.set_title(f"Hyperparameters of {len(completed)} trials")
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0, labelsize=9)
    figure.legend(loc="outside lower left", frameon=False)
    figure.colorbar(ScalarMappable(norm, colour_of), ax=ax, pad=0.01, label=display_name(objective))
    return figure


def hyperparameter_importance(importance: pd.Series, *, ax: Axes | None = None) -> Axes:
    """Draw how much each hyperparameter mattered, the most important one on top.

    Args:
        importance: hyperparameter (index) → share of the whole, in [0, 1].
        ax: where to draw.

    Returns:
        Axes with one horizontal bar a hyperparameter.
    """
    ordered = importance.sort_values()
    ax = open_axes(ax, 6, 0.8 + 0.32 * len(ordered))
    bars = ax.barh(
        [display_name(name) for name in ordered.index], ordered, color=CLASS_COLOURS["REAL"]
    )
    ax.bar_label(bars, fmt=lambda share: in_percent(share, 0), padding=3, fontsize=9)
    label_axes(ax, title="Hyperparameter importance", x="Share of the explained difference")
    ax.xaxis.set_major_formatter(PercentFormatter(xmax=1, symbol=" %"))
    ax.margins(x=0.12)
    ax.grid(visible=False, axis="y")
    return ax
