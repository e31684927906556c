"""Figures of what to do with a score: where to put the threshold, and when to abstain."""

from collections.abc import Mapping

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from scipy.stats import norm
from sklearn.metrics import det_curve

from cifake_lib.plots import colours, display_name, label_axes, open_axes
from cifake_lib.selective import coverage_curve, flagged_are_fake

_RATES = np.array([0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4])
PREVALENCES = (0.5, 0.1, 0.01, 0.001)


def det_curves(
    curves: Mapping[str, tuple[np.ndarray, np.ndarray]], *, ax: Axes | None = None
) -> Axes:
    """Draw both kinds of error against each other (Martin et al. 1997, "The DET curve").

    On axes of the normal distribution's quantiles, where good models are as far apart as bad ones.

    Args:
        curves: model key → `(y_true, y_score)`; int array (N,), 1 = FAKE, and p_fake (N,).
        ax: where to draw.

    Returns:
        Axes with one line a model: false alarms to the right, FAKE missed upwards.
    """
    ax = open_axes(ax, 4.5, 4.2)
    colour = colours(list(curves))
    for key, (y_true, y_score) in curves.items():
        false_positive_rate, false_negative_rate, _ = det_curve(y_true, y_score)
        ax.plot(
            norm.ppf(np.clip(false_positive_rate, 1e-6, 1 - 1e-6)),
            norm.ppf(np.clip(false_negative_rate, 1e-6, 1 - 1e-6)),
            color=colour[key],
            label=display_name(key),
            drawstyle="steps-post",
        )
    names = [f"{100 * rate:g}" for rate in _RATES]
    label_axes(ax, title="DET", x="REAL called FAKE (%)", y="FAKE missed (%)")
    ax.set_xticks(norm.ppf(_RATES), names)
    ax.set_yticks(norm.ppf(_RATES), names)
    limits = norm.ppf([_RATES[0] / 1.5, _RATES[-1]])
    ax.set(xlim=limits, ylim=limits)
    ax.legend(frameon=False)
    return ax


def coverage_curves(
    curves: Mapping[str, tuple[np.ndarray, np.ndarray]],
    *,
    certain: Mapping[str, float] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw how often each model errs when it may leave out the images it is least sure of.

    Args:
        curves: model key → `(y_true, y_score)`, as for `det_curves`.
        certain: model key → confidence from which on its answers count as certain; marked.
        ax: where to draw.

    Returns:
        Axes with one line a model: share of images answered to the right, errors upwards.
    """
    ax = open_axes(ax, 4.5, 4.2)
    colour = colours(list(curves))
    for key, (y_true, y_score) in curves.items():
        curve = coverage_curve(y_true, y_score)
        ax.plot(
            100 * curve["coverage"],
            100 * curve["error"],
            color=colour[key],
            label=display_name(key),
        )
        if certain is not None:
            answered = curve[curve["confidence"] >= certain[key]]
            if len(answered):
                last = 100 * answered.iloc[-1]
                ax.plot(last["coverage"], last["error"], "o", color=colour[key])
    label_axes(ax, title="Error by coverage", x="Images answered (%)", y="Of these wrong (%)")
    ax.set_xlim(0, 101)
    ax.set_ylim(bottom=0)
    ax.legend(frameon=False)
    return ax


def prevalence_curves(rates: Mapping[str, tuple[float, float]], *, ax: Axes | None = None) -> Axes:
    """Draw the probability that an image called FAKE is FAKE, by how common FAKE is.

    Args:
        rates: name of an operating point → its true- and false-positive rate, 0–1.
        ax: where to draw.

    Returns:
        Axes with one line an operating point; the highest and the lowest value at each of
        `PREVALENCES` are written there.
    """
    ax = open_axes(ax, 7, 4)
    prevalence, shown = np.geomspace(0.0005, 0.6, 200), np.array(PREVALENCES)
    # No colour of a model or a class: these are thresholds of one model.
    shades = colormaps["viridis"](np.linspace(0.05, 0.85, len(rates)))
    for shade, (name, point) in zip(shades, rates.items(), strict=True):
        ax.plot(
            100 * prevalence,
            100 * flagged_are_fake(*point, prevalence),
            color=shade,
            label=display_name(name),
        )
        ax.plot(100 * shown, 100 * flagged_are_fake(*point, shown), "o", color=shade)
    values = np.array([100 * flagged_are_fake(*point, shown) for point in rates.values()])
    for x, column in zip(100 * shown, values.T, strict=True):
        # The lines between are close together: numbers on all of them could not be read.
        for value, offset in ((column.max(), (-4, 6)), (column.min(), (4, -13))):
            align = "right" if offset[0] < 0 else "left"
            ax.annotate(
                f"{value:.0f}", (x, value), offset, textcoords="offset points", fontsize=9, ha=align
            )
    label_axes(
        ax,
        title="Is a flagged image fake?",
        x="FAKE among the images that come in (%)",
        y="FAKE among those called FAKE (%)",
    )
    ax.set_xscale("log")
    ax.set_xticks(100 * shown, [f"{100 * value:g}" for value in shown])
    ax.minorticks_off()
    ax.set_ylim(-6, 108)
    ax.legend(frameon=False, title="Threshold", loc="upper left")
    return ax
