"""How far a measured score may be from the true one: bootstrap intervals over images.

Source: Efron & Tibshirani 1993, "An introduction to the bootstrap"; percentile intervals.
"""

import math
from statistics import NormalDist

import numpy as np

CONFUSION_METRICS = (
    "accuracy",
    "precision_fake",
    "recall_fake",
    "f1_fake",
    "precision_real",
    "recall_real",
    "f1_real",
    "f1",
)


def confusion_metrics(tn, fp, fn, tp) -> dict[str, np.ndarray]:
    """Return every metric that is a function of the confusion matrix, for many matrices at once.

    Args:
        tn: number of REAL called REAL, int array of any shape.
        fp: number of REAL called FAKE, the same shape.
        fn: number of FAKE called REAL, the same shape.
        tp: number of FAKE called FAKE, the same shape.

    Returns:
        dict of float64 arrays, one for each name in `CONFUSION_METRICS`; a ratio without a
        denominator is 0, as in scikit-learn with `zero_division=0`.
    """
    ratios = {
        "accuracy": (tn + tp, tn + fp + fn + tp),
        "precision_fake": (tp, tp + fp),
        "recall_fake": (tp, tp + fn),
        "f1_fake": (2 * tp, 2 * tp + fp + fn),
        "precision_real": (tn, tn + fn),
        "recall_real": (tn, tn + fp),
        "f1_real": (2 * tn, 2 * tn + fp + fn),
    }
    metrics = {
        name: np.asarray(above) / np.maximum(below, 1) for name, (above, below) in ratios.items()
    }
    metrics["f1"] = (metrics["f1_fake"] + metrics["f1_real"]) / 2
    return metrics


def _resampled_auc(y_true, y_score, resamples, rng):
    """Return the exact ROC AUC of each resample, shape (resamples,).

    The images are sorted once. A resample only changes how often each one counts, and the AUC of
    weighted images is one cumulative sum: the probability that a FAKE outscores a REAL.
    """
    order = np.argsort(y_score, kind="stable")
    is_fake = np.asarray(y_true)[order] == 1
    tie_starts = np.flatnonzero(np.diff(np.asarray(y_score)[order], prepend=-np.inf))
    count = len(order)
    auc = np.empty(resamples)
    for index in range(resamples):
        weight = np.bincount(rng.integers(count, size=count), minlength=count)
        fake = np.add.reduceat(weight * is_fake, tie_starts)
        real = np.add.reduceat(weight * ~is_fake, tie_starts)
        pairs = fake.sum() * real.sum()
        outscored = fake @ (np.cumsum(real) - real / 2)
        # A resample of few images may hold one class only and then has no AUC.
        auc[index] = outscored / pairs if pairs else np.nan
    return auc


def bootstrap_interval(
    y_true: np.ndarray,
    y_score: np.ndarray,
    metric: str,
    *,
    threshold: float = 0.5,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """Return a percentile bootstrap interval of a metric.

    Images are drawn with replacement. For a metric of the confusion matrix that is one multinomial
    draw of its four cells, which costs microseconds; the ROC AUC is exact on every resample.

    Args:
        y_true: int array, shape (N,), 1 = FAKE.
        y_score: float array, shape (N,), p_fake.
        metric: a name in `CONFUSION_METRICS`, or "roc_auc".
        threshold: FAKE from this score on.
        level: probability that the interval holds the true value, in (0, 1).
        resamples: number of bootstrap samples.
        seed: of the resampling.

    Returns:
        Lower and upper bound.

    Raises:
        ValueError: unknown metric.
    """
    rng = np.random.default_rng(seed)
    if metric == "roc_auc":
        values = _resampled_auc(y_true, y_score, resamples, rng)
    elif metric in CONFUSION_METRICS:
        y_pred = np.asarray(y_score) >= threshold
        cells = np.bincount(2 * (np.asarray(y_true) == 1) + y_pred, minlength=4)
        tn, fp, fn, tp = rng.multinomial(cells.sum(), cells / cells.sum(), size=resamples).T
        values = confusion_metrics(tn, fp, fn, tp)[metric]
    else:
        known = ", ".join((*CONFUSION_METRICS, "roc_auc"))
        raise ValueError(f"expected a metric out of {known}, received {metric!r}")
    low, high = np.nanquantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def share_interval(count: int, total: int) -> tuple[float, float]:
    """Return the 95 % interval of a share (Wilson 1927; see Brown et al. 2001).

    Args:
        count: How many did, at most `total`.
        total: Of how many, at least 1.

    Returns:
        Lower and upper end, 0–1.
    """
    # Written out, because SciPy's own brings 46 MB into the dashboard.
    share, bound = int(count) / int(total), NormalDist().inv_cdf(0.975)
    spread = bound**2 / int(total)
    middle = share + spread / 2
    reach = bound * math.sqrt((share * (1 - share) + spread / 4) / int(total))
    return max(0.0, (middle - reach) / (1 + spread)), min(1.0, (middle + reach) / (1 + spread))
