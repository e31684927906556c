"""How good a detector is: scores, thresholds, curves and comparison.

FAKE is the positive class (label 1); an image is called FAKE when `y_score >= threshold`.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    brier_score_loss,
    confusion_matrix,
    log_loss,
    precision_recall_curve,
    precision_recall_fscore_support,
    roc_auc_score,
    roc_curve,
)

from cifake_lib.calibration import expected_calibration_error, probability
from cifake_lib.intervals import bootstrap_interval, confusion_metrics

INTERVAL_METRICS = (
    *("f1", "accuracy", "roc_auc"),
    *("precision_fake", "recall_fake", "f1_fake", "precision_real", "recall_real", "f1_real"),
)

COMPARISON_COLUMNS = (
    *("accuracy", "roc_auc", "pr_auc", "f1"),
    *("precision_fake", "recall_fake", "f1_fake"),
    *("precision_real", "recall_real", "f1_real"),
    *("log_loss", "brier", "ece"),
    *("training_seconds", "training_energy_wh", "parameters", "weights_bytes"),
    *("images_per_second_batch_1", "images_per_second_batch_256"),
)


def _checked(y_true, y_score):
    y_true, y_score = np.asarray(y_true), np.asarray(y_score, dtype=np.float64)
    if y_true.ndim != 1 or y_true.shape != y_score.shape:
        raise ValueError(
            "expected one label and one score an image, "
            f"received shapes {y_true.shape} and {y_score.shape}"
        )
    if set(np.unique(y_true)) != {0, 1}:
        raise ValueError(
            f"expected labels 0 (REAL) and 1 (FAKE), both present, received {np.unique(y_true)}"
        )
    if not np.isfinite(y_score).all():
        raise ValueError(f"expected finite scores, received {(~np.isfinite(y_score)).sum()} others")
    return y_true.astype(int), y_score


def scores(
    y_true: np.ndarray, y_score: np.ndarray, *, threshold: float = 0.5
) -> dict[str, float | int | list]:
    """Measure a detector on labelled images.

    Args:
        y_true: int array, shape (N,), 0 = REAL, 1 = FAKE, both present.
        y_score: float array, shape (N,), p_fake in [0, 1].
        threshold: FAKE from this score on, in [0, 1].

    Returns:
        Flat dict that JSON can hold: `accuracy`, `roc_auc`, `pr_auc` (average precision),
        `log_loss`, `brier`, `ece`, `f1` (mean of both classes), `precision`, `recall` and `f1` of
        each class with the suffix `_fake` or `_real`, `count`, `threshold`, and `confusion` =
        [[tn, fp], [fn, tp]] (rows: true REAL, true FAKE).

    Raises:
        ValueError: shapes that differ, a class that is missing, a score that is not finite.
    """
    y_true, y_score = _checked(y_true, y_score)
    y_pred = (y_score >= threshold).astype(int)
    precision, recall, f1, _ = precision_recall_fscore_support(
        y_true, y_pred, labels=[0, 1], zero_division=0
    )
    measured = {
        "accuracy": accuracy_score(y_true, y_pred),
        "roc_auc": roc_auc_score(y_true, y_score),
        "pr_auc": average_precision_score(y_true, y_score),
        "log_loss": log_loss(y_true, y_score),
        "brier": brier_score_loss(y_true, y_score),
        "ece": expected_calibration_error(y_true, y_score),
        "f1": f1.mean(),
    }
    for label, name in enumerate(("real", "fake")):
        measured[f"precision_{name}"] = precision[label]
        measured[f"recall_{name}"] = recall[label]
        measured[f"f1_{name}"] = f1[label]
    return {
        **{name: float(value) for name, value in measured.items()},
        "count": len(y_true),
        "threshold": float(threshold),
        "confusion": confusion_matrix(y_true, y_pred, labels=[0, 1]).tolist(),
    }


def operating_points(y_true: np.ndarray, y_score: np.ndarray) -> dict[str, float]:
    """Choose thresholds for different needs; on validation scores, never on test.

    Args:
        y_true: int array, shape (N,), 0 = REAL, 1 = FAKE, both present.
        y_score: float array, shape (N,), p_fake in [0, 1].

    Returns:
        Thresholds on p_fake: `balanced` (.5), `best_f1` (the largest mean F1 of both classes),
        `fpr_5` and `fpr_1` (the most FAKE found while at most 5 % or 1 % of REAL is called FAKE).
        A threshold lies half-way between two scores, so that rounding moves no image across it.
    """
    y_true, y_score = _checked(y_true, y_score)
    false_positive_rate, true_positive_rate, thresholds = roc_curve(
        y_true, y_score, drop_intermediate=False
    )
    thresholds[0] = 1 + 1e-6  # the first point of the curve calls nothing FAKE; it was infinite
    lower = np.append(thresholds[1:], 0)
    halfway = (thresholds + lower) / 2
    # Between neighbouring floats there is no half-way: a saturated sigmoid has such scores.
    halfway = np.where(halfway > lower, halfway, thresholds)
    real, fake = np.bincount(y_true)
    fp, tp = false_positive_rate * real, true_positive_rate * fake
    f1 = confusion_metrics(real - fp, fp, fake - tp, tp)["f1"]

    def at_most(rate):
        return float(halfway[np.flatnonzero(false_positive_rate <= rate)[-1]])

    return {
        "balanced": 0.5,
        "best_f1": float(halfway[f1.argmax()]),
        "fpr_5": at_most(0.05),
        "fpr_1": at_most(0.01),
    }


def at_operating_points(
    y_true: np.ndarray, y_score: np.ndarray, thresholds: Mapping[str, float]
) -> dict[str, dict[str, float]]:
    """Measure what stored thresholds come to on other images than they were chosen on.

    Args:
        y_true: int array, shape (N,), 0 = REAL, 1 = FAKE, both present.
        y_score: float array, shape (N,), p_fake in [0, 1].
        thresholds: name → threshold, as `operating_points` returns them.

    Returns:
        Name → `threshold`, `f1` (mean of both classes), `true_positive_rate` (share of FAKE found)
        with its 95 % interval `true_positive_rate_interval`, and `false_positive_rate` (share of
        REAL called FAKE).
    """
    points = {}
    for name, threshold in thresholds.items():
        measured = scores(y_true, y_score, threshold=threshold)
        points[name] = {
            "threshold": threshold,
            "f1": measured["f1"],
            "true_positive_rate": measured["recall_fake"],
            "true_positive_rate_interval": list(
                bootstrap_interval(y_true, y_score, "recall_fake", threshold=threshold)
            ),
            "false_positive_rate": 1 - measured["recall_real"],
        }
    return points


def curve_points(y_true: np.ndarray, y_score: np.ndarray, *, points: int = 200) -> dict[str, dict]:
    """Return the ROC and the precision-recall curve, thinned for a file.

    Args:
        y_true: int array, shape (N,), 0 = REAL, 1 = FAKE, both present.
        y_score: float array, shape (N,), p_fake.
        points: largest number of points a curve; both ends are always among them.

    Returns:
        `{"roc": {"fpr", "tpr", "area"}, "pr": {"recall", "precision", "area"}}`; lists of floats
        of five decimals. `area` is that of the whole curve (ROC AUC, average precision).
    """
    y_true, y_score = _checked(y_true, y_score)

    def thinned(values):
        # Only corners are left in the curve, so evenly spaced ones are where it bends.
        kept = np.unique(np.linspace(0, len(values) - 1, points).round().astype(int))
        return values[kept].round(5).tolist()

    fpr, tpr, _ = roc_curve(y_true, y_score)
    precision, recall, _ = precision_recall_curve(y_true, y_score, drop_intermediate=True)
    return {
        "roc": {
            "fpr": thinned(fpr),
            "tpr": thinned(tpr),
            "area": float(roc_auc_score(y_true, y_score)),
        },
        "pr": {
            "recall": thinned(recall),
            "precision": thinned(precision),
            "area": float(average_precision_score(y_true, y_score)),
        },
    }


def evaluate_models(
    y_true: np.ndarray,
    logits: Mapping[str, np.ndarray],
    temperatures: Mapping[str, float],
    *,
    thresholds: Mapping[str, float] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, dict]:
    """Score every model with bootstrap intervals.

    Args:
        y_true: int array, shape (N,), 0 = REAL, 1 = FAKE, both present.
        logits: model key → float array, shape (N,), before the sigmoid.
        temperatures: model key → temperature from validation.
        thresholds: model key → threshold on p_fake; .5 where there is none.
        resamples: bootstrap samples of each interval.
        seed: of the resampling; the same resamples for every model.

    Returns:
        Model key → the dict of `scores` plus `intervals`: metric → [low, high] at
        95 % for the names in `INTERVAL_METRICS`.
    """
    scaled = {key: np.asarray(values) / temperatures[key] for key, values in logits.items()}
    metrics = {}
    for key, values in scaled.items():
        y_score, threshold = probability(values), (thresholds or {}).get(key, 0.5)
        metrics[key] = scores(y_true, y_score, threshold=threshold)
        metrics[key]["intervals"] = {
            metric: list(
                bootstrap_interval(
                    y_true, y_score, metric, threshold=threshold, resamples=resamples, seed=seed
                )
            )
            for metric in INTERVAL_METRICS
        }
    return metrics


def calibration_table(
    y_true: np.ndarray, logits: Mapping[str, np.ndarray], temperatures: Mapping[str, float]
) -> pd.DataFrame:
    """Measure what the temperature does to a model's probabilities.

    Args:
        y_true: int array, shape (N,), 0 = REAL, 1 = FAKE, both present.
        logits: model key → float array, shape (N,), before the temperature.
        temperatures: model key → temperature from validation.

    Returns:
        DataFrame, index `model`: `temperature`, and `ece`, `brier` and `log_loss` with the suffixes
        `_before` and `_after`.
    """
    rows = {}
    for key, values in logits.items():
        rows[key] = {"temperature": temperatures[key]}
        states = {"before": 1.0, "after": temperatures[key]}
        measured = {
            state: scores(y_true, probability(values, temperature))
            for state, temperature in states.items()
        }
        for name in ("ece", "brier", "log_loss"):
            rows[key] |= {f"{name}_{state}": measured[state][name] for state in states}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("model")


def comparison_table(metrics: Mapping[str, Mapping]) -> pd.DataFrame:
    """Put models side by side, with FAKE and with REAL as the positive class.

    Args:
        metrics: model key → dict as `evaluate_models` returns it, perhaps with `training_seconds`,
            `training_energy_wh`, `parameters`, `weights_bytes`, `images_per_second_batch_1` and
            `_256`.

    Returns:
        DataFrame with one row a model (index `model`: its key) and the columns of
        `COMPARISON_COLUMNS` that any model has; where a metric has an interval, `<metric>_low` and
        `<metric>_high` follow at the end.
    """
    rows = {}
    for key, values in metrics.items():
        rows[key] = {name: values[name] for name in COMPARISON_COLUMNS if name in values}
        for metric, (low, high) in values.get("intervals", {}).items():
            rows[key] |= {f"{metric}_low": low, f"{metric}_high": high}
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("model")
    first = [name for name in COMPARISON_COLUMNS if name in table]
    return table[first + [name for name in table if name not in first]]
