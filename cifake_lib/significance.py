"""Whether one model is better than another on the same images, or the difference is noise."""

from collections.abc import Mapping
from itertools import combinations

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from cifake_lib.intervals import confusion_metrics

LEVEL = 0.95  # of the intervals; a difference is noise unless it is this sure


def mcnemar(only_first: int, only_second: int) -> float:
    """Return the p-value of McNemar's exact test.

    Images that both models get right, or both wrong, say nothing about which is better. Of the
    others each model should win half if they were equally good.

    Source: McNemar 1947, "Note on the sampling error of the difference between correlated
    proportions or percentages"; the exact form is a two-sided binomial test.

    Args:
        only_first: number of images that only the first model gets right.
        only_second: number of images that only the second model gets right.

    Returns:
        Probability of so uneven a count, or one more uneven, if both were equally good; 1 without
        any such image.
    """
    together = int(only_first + only_second)
    return float(binomtest(int(only_first), together).pvalue) if together else 1.0


def paired_f1_difference(
    y_true: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    *,
    resamples: int = 10_000,
    seed: int = 0,
) -> tuple[float, float, float]:
    """Return how much higher the F1 of one model is, with a paired bootstrap interval.

    Both models are measured on the same resampled images, so that what makes a sample easy or hard
    cancels. An image is one of eight kinds (its class, right or wrong by either model), and drawing
    images with replacement is one multinomial draw of the eight counts.

    Args:
        y_true: int array, shape (N,), 0 = REAL, 1 = FAKE.
        first: bool or int array, shape (N,), what the first model says, 1 = FAKE.
        second: the same of the second model.
        resamples: number of bootstrap samples.
        seed: of the resampling.

    Returns:
        F1 (mean of both classes) of the first minus that of the second, and the lower and upper
        bound of its 95 % interval.
    """
    kind = 4 * np.asarray(y_true, int) + 2 * np.asarray(first, int) + np.asarray(second, int)
    cells = np.bincount(kind, minlength=8)
    drawn = np.random.default_rng(seed).multinomial(
        cells.sum(), cells / cells.sum(), size=resamples
    )
    differences = _f1_difference(drawn)
    low, high = np.quantile(differences, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(_f1_difference(cells[np.newaxis])[0]), float(low), float(high)


def _f1_difference(cells):
    """F1 of the first minus F1 of the second model; cells of shape (samples, 8)."""
    by_class = cells.reshape(-1, 2, 2, 2)  # sample, label, what the first says, what the second

    def f1(counts):
        return confusion_metrics(
            counts[:, 0, 0], counts[:, 0, 1], counts[:, 1, 0], counts[:, 1, 1]
        )["f1"]

    return f1(by_class.sum(axis=3)) - f1(by_class.sum(axis=2))


def compare_pairs(
    y_true: np.ndarray, calls: Mapping[str, np.ndarray], *, seed: int = 0
) -> pd.DataFrame:
    """Compare every pair of models on the same images.

    The p-values are corrected for the number of pairs (Holm 1979, "A simple sequentially rejective
    multiple test procedure"): of many comparisons of equals, some look significant by chance.

    Args:
        y_true: int array, shape (N,), 0 = REAL, 1 = FAKE.
        calls: model key → bool array, shape (N,), whether the model calls the image FAKE.
        seed: of the resampling.

    Returns:
        DataFrame with one row a pair: `model`, `other`, `f1_difference` with its 95 % interval
        `f1_difference_low` to `f1_difference_high`, `only_model_right` and `only_other_right`
        (numbers of images), `p_value` (McNemar, corrected), and `verdict`: "better", "worse", or
        "tie" where the interval holds 0 or the p-value is above .05.
    """
    y_true = np.asarray(y_true, int)
    rows = []
    for first, second in combinations(calls, 2):
        right, other_right = ((np.asarray(calls[key]) == y_true) for key in (first, second))
        only, other_only = int((right & ~other_right).sum()), int((~right & other_right).sum())
        difference, low, high = paired_f1_difference(y_true, calls[first], calls[second], seed=seed)
        rows.append(
            {
                "model": first,
                "other": second,
                "f1_difference": difference,
                "f1_difference_low": low,
                "f1_difference_high": high,
                "only_model_right": only,
                "only_other_right": other_only,
                "p_value": mcnemar(only, other_only),
            }
        )
    table = pd.DataFrame(rows)
    if table.empty:
        return table
    table["p_value"] = holm(table["p_value"].to_numpy())
    unsure = (table["f1_difference_low"] <= 0) & (table["f1_difference_high"] >= 0)
    unsure |= table["p_value"] >= 1 - LEVEL
    better = np.where(table["f1_difference"] > 0, "better", "worse")
    return table.assign(verdict=np.where(unsure, "tie", better))


def holm(p_values: np.ndarray) -> np.ndarray:
    """Return Holm's corrected p-values: each at most 1, in the order received."""
    p_values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p_values)
    factors = np.arange(len(p_values), 0, -1)
    corrected = np.empty_like(p_values)
    corrected[order] = np.minimum(1, np.maximum.accumulate(p_values[order] * factors))
    return corrected
