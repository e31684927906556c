"""Where models are right: by kind of object, with and without copies, and in agreement."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from sklearn.metrics import cohen_kappa_score

from cifake_lib import evaluation
from cifake_lib.intervals import bootstrap_interval, share_interval


def kinds(predictions: pd.DataFrame) -> pd.Series:
    """Return what is known of each image: what it shows, or else which source it comes from.

    Args:
        predictions: As `scoring.predict_test_split` returns them.
    """
    known = predictions["object_class"]
    return known if known.any() else predictions.get("source", known)


def by_object_class(
    object_class: Sequence[str], y_true: np.ndarray, calls: Mapping[str, np.ndarray]
) -> pd.DataFrame:
    """Count right answers for each kind of image.

    Args:
        object_class: Name of what each image shows, or of its source, N of them; images without a
            name are left out.
        y_true: int array, shape (N,), 0 = REAL, 1 = FAKE.
        calls: Model key → bool array (N,), called FAKE.

    Returns:
        One row per kind and model: `object_class`, `model`, `images`, and `accuracy` with its 95 %
        Wilson interval `accuracy_low` to `accuracy_high` (Brown et al. 2001).
    """
    object_class, y_true = np.asarray(object_class), np.asarray(y_true)
    rows = []
    for name in sorted(set(object_class) - {""}):
        chosen = object_class == name
        for key, called in calls.items():
            right = int((called[chosen] == y_true[chosen]).sum())
            low, high = share_interval(right, chosen.sum())
            rows.append(
                {
                    "object_class": name,
                    "model": key,
                    "images": int(chosen.sum()),
                    "accuracy": right / chosen.sum(),
                    "accuracy_low": low,
                    "accuracy_high": high,
                }
            )
    columns = ["object_class", "model", "images", "accuracy", "accuracy_low", "accuracy_high"]
    return pd.DataFrame(rows, columns=columns)


def agreement(calls: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Compare the answers of models with each other (Cohen 1960).

    Args:
        calls: Model key → bool array (N,), called FAKE.

    Returns:
        Square table of Cohen's kappa: 1 where two models always say the same, 0 where they agree as
        often as two that guess with the same shares of FAKE.
    """
    table = {
        first: {second: _kappa(calls[first], calls[second]) for second in calls} for first in calls
    }
    return pd.DataFrame.from_dict(table, orient="index").rename_axis("model")


def _kappa(first: np.ndarray, second: np.ndarray) -> float:
    # Of two that call everything by one name kappa is 0/0.
    return 1.0 if np.array_equal(first, second) else float(cohen_kappa_score(first, second))


def missed_by_all(y_true: np.ndarray, calls: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return which images every model gets wrong, bool `(N,)`."""
    wrong = [np.asarray(called) != np.asarray(y_true) for called in calls.values()]
    return np.logical_and.reduce(wrong)


def without_copies(
    y_true: np.ndarray, scores: Mapping[str, np.ndarray], copied: pd.DataFrame, *, seed: int = 0
) -> pd.DataFrame:
    """Measure models with and without the test images that have a copy in training.

    Args:
        y_true: int array, shape (N,), 0 = REAL, 1 = FAKE.
        scores: Model key → p_fake (N,).
        copied: As `copies.near_training` returns it, N rows.
        seed: Of the intervals.

    Returns:
        One row per model and choice of images (`all`, `no exact copies`, `no near copies`):
        `images`, and `f1` (mean of both classes) with its 95 % interval `f1_low` to `f1_high`.
    """
    choices = {
        "all": np.ones(len(y_true), bool),
        "no exact copies": ~copied["exact"].to_numpy(),
        "no near copies": ~copied["near"].to_numpy(),
    }
    rows = []
    for key, y_score in scores.items():
        for name, chosen in choices.items():
            given = y_true[chosen], y_score[chosen]
            low, high = bootstrap_interval(*given, "f1", seed=seed)
            f1 = evaluation.scores(*given)["f1"]
            rows.append([key, name, int(chosen.sum()), f1, low, high])
    columns = ["model", "test images", "images", "f1", "f1_low", "f1_high"]
    return pd.DataFrame(rows, columns=columns)
