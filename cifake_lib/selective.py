"""When to say "uncertain": selective prediction and conformal sets.

Both are fitted on validation images and measured on test images. Selective prediction promises how
often certain answers are right; a conformal set promises how often it holds the true class.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd


def _confidence(y_score):
    return np.maximum(y_score, 1 - np.asarray(y_score))


def coverage_curve(y_true: np.ndarray, y_score: np.ndarray) -> pd.DataFrame:
    """Return how often a detector errs when it answers only the images it is surest of.

    Source: El-Yaniv & Wiener 2010, "On the foundations of noise-free selective classification".

    Args:
        y_true: int array, shape (N,), 0 = REAL, 1 = FAKE.
        y_score: float array, shape (N,), p_fake.

    Returns:
        One row per confidence that occurs, surest first: `confidence` (of the predicted class,
        .5–1), `coverage` (share of images with this confidence or more), `error` (share of those
        that are wrong).
    """
    import pandas as pd  # 38 MB that the dashboard can spare.

    y_true, y_score = np.asarray(y_true, int), np.asarray(y_score, dtype=np.float64)
    confidence = _confidence(y_score)
    order = np.argsort(-confidence, kind="stable")
    wrong = ((y_score >= 0.5) != y_true)[order].cumsum()
    # Images of equal confidence are answered together or not at all.
    last = np.flatnonzero(np.diff(confidence[order], append=0) != 0)
    answered = last + 1
    return pd.DataFrame(
        {
            "confidence": confidence[order][last],
            "coverage": answered / len(y_true),
            "error": wrong[last] / answered,
        }
    )


def certain_from(y_true: np.ndarray, y_score: np.ndarray, *, accuracy: float = 0.99) -> float:
    """Return the least confidence from which on enough answers are right; fit it on validation.

    Args:
        y_true: int array, shape (N,), 0 = REAL, 1 = FAKE.
        y_score: float array, shape (N,), p_fake.
        accuracy: Share of the certain answers that must be right, 0–1.

    Returns:
        Confidence of the predicted class, .5–1: the widest coverage that keeps the promise on these
        images. An image with less is uncertain. Above 1 if no confidence is enough.
    """
    curve = coverage_curve(y_true, y_score)
    kept = curve[curve["error"] <= 1 - accuracy + 1e-12]
    return float(kept["confidence"].iloc[-1]) if len(kept) else float(np.nextafter(1, 2))


def selective_scores(y_true: np.ndarray, y_score: np.ndarray, certain: float) -> dict[str, float]:
    """Measure what a band of uncertainty comes to on other images than it was chosen on.

    Args:
        y_true: int array, shape (N,), 0 = REAL, 1 = FAKE.
        y_score: float array, shape (N,), p_fake.
        certain: As `certain_from` returns it.

    Returns:
        `coverage`, the share of certain answers; `accuracy`, the share of those that are right (NaN
        without any).
    """
    y_score = np.asarray(y_score, dtype=np.float64)
    answered = _confidence(y_score) >= certain
    right = (y_score >= 0.5) == np.asarray(y_true, int)
    accuracy = right[answered].mean() if answered.any() else np.nan
    return {"coverage": float(answered.mean()), "accuracy": float(accuracy)}


@dataclass(frozen=True)
class ConformalSets:
    """Sets of classes that hold the true one with a stated probability.

    Split conformal prediction with one quantile per class, so that the promise holds for REAL and
    for FAKE apart: Vovk 2012, "Conditional validity of inductive conformal predictors". It holds
    for images drawn like those it was fitted on, and for no others.

    Attributes:
        level: Probability promised.
        real: Largest p_fake at which REAL is still in the set.
        fake: Smallest p_fake at which FAKE is in the set.
    """

    level: float
    real: float
    fake: float

    @classmethod
    def fit(cls, y_true: np.ndarray, y_score: np.ndarray, *, level: float = 0.95) -> ConformalSets:
        """Fit the quantiles on validation images.

        Args:
            y_true: int array, shape (N,), 0 = REAL, 1 = FAKE, both present.
            y_score: float array, shape (N,), p_fake.
            level: Probability that a set holds the true class, 0–1.
        """
        y_true, y_score = np.asarray(y_true, int), np.asarray(y_score, dtype=np.float64)

        def quantile(strangeness):
            # One more than there are: the new image counts among them.
            rank = int(np.ceil((len(strangeness) + 1) * level))
            return np.sort(strangeness)[rank - 1] if rank <= len(strangeness) else np.inf

        real, fake = quantile(y_score[y_true == 0]), quantile(1 - y_score[y_true == 1])
        return cls(level, float(min(real, 1)), float(max(1 - fake, 0)))

    def predict(self, y_score: np.ndarray) -> np.ndarray:
        """Return the set of each image: "REAL", "FAKE" or "either".

        Where neither class fits, which happens when the model is right more often than promised,
        the set is the likelier class alone: a set that grows keeps its promise.

        Args:
            y_score: float array, shape (N,), p_fake.

        Returns:
            Array of str, shape (N,).
        """
        y_score = np.asarray(y_score, dtype=np.float64)
        may_be_real, may_be_fake = y_score <= self.real, y_score >= self.fake
        likelier_fake = np.where(may_be_real == may_be_fake, y_score >= 0.5, may_be_fake)
        single = np.where(likelier_fake, "FAKE", "REAL")
        return np.where(may_be_real & may_be_fake, "either", single)


def set_coverage(y_true: np.ndarray, sets: np.ndarray) -> dict[str, float]:
    """Measure conformal sets on labelled images.

    Args:
        y_true: int array, shape (N,), 0 = REAL, 1 = FAKE.
        sets: As `ConformalSets.predict` returns them.

    Returns:
        Share of sets that hold the true class, `coverage`, and that of each class,
        `coverage_real` and `coverage_fake` (NaN without images); `single`, the share of sets with
        one class.
    """
    y_true, sets = np.asarray(y_true, int), np.asarray(sets)
    held = (sets == "either") | (sets == np.where(y_true == 1, "FAKE", "REAL"))

    def share(rows):
        return float(held[rows].mean()) if rows.any() else float("nan")

    return {
        "coverage": float(held.mean()),
        "coverage_real": share(y_true == 0),
        "coverage_fake": share(y_true == 1),
        "single": float((sets != "either").mean()),
    }


def abstention(
    validation: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
    *,
    accuracy: float = 0.99,
    level: float = 0.95,
) -> dict[str, float | None | dict]:
    """Fit both promises on validation images and measure them on test images.

    Args:
        validation: `(y_true, y_score)`; int array (N,), 1 = FAKE, and p_fake (N,).
        test: the same of the images to measure on.
        accuracy: Share of the certain answers that must be right, 0–1.
        level: Probability that a conformal set holds the true class, 0–1.

    Returns:
        `certain_from` (see there) with the `coverage` and `accuracy` that it comes to on test, and
        `conformal`: `level`, `real` and `fake` of `ConformalSets` with the scores of
        `set_coverage` on test. None instead of NaN, which JSON cannot hold.
    """
    certain = certain_from(*validation, accuracy=accuracy)
    sets = ConformalSets.fit(*validation, level=level)
    held = {**asdict(sets), **set_coverage(test[0], sets.predict(test[1]))}
    measured = {"certain_from": certain, **selective_scores(*test, certain)}
    return {**_without_nan(measured), "conformal": _without_nan(held)}


def _without_nan(values):
    return {name: None if np.isnan(value) else value for name, value in values.items()}


def flagged_are_fake(
    true_positive_rate: float, false_positive_rate: float, prevalence: np.ndarray
) -> np.ndarray:
    """Return the probability that an image called FAKE is FAKE, by how common FAKE is.

    Bayes' theorem: where one image in a thousand is fake, nearly every alarm is a false one.

    Args:
        true_positive_rate: Share of FAKE called FAKE, 0–1.
        false_positive_rate: Share of REAL called FAKE, 0–1.
        prevalence: float array, share of FAKE among the images that come in, 0–1.

    Returns:
        float64 array of the same shape; NaN where nothing is called FAKE.
    """
    prevalence = np.asarray(prevalence, dtype=np.float64)
    hits = true_positive_rate * prevalence
    alarms = hits + false_positive_rate * (1 - prevalence)
    return np.divide(hits, alarms, out=np.full_like(alarms, np.nan), where=alarms > 0)
