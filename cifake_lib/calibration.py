"""From logits to probabilities that mean what they say: temperature, reliability, ensemble."""

import logging
from collections.abc import Sequence

import numpy as np
from scipy.special import expit

logger = logging.getLogger(__name__)

TEMPERATURE_BOUNDS = (0.05, 20.0)


def probability(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Return `p_fake = sigmoid(logit / temperature)`.

    Args:
        logits: float array of any shape, the output of a model.
        temperature: above 0; 1 leaves the model as it is, more makes it less confident.

    Returns:
        float64 array of the shape of `logits`, in [0, 1].

    Raises:
        ValueError: the temperature is not above 0.
    """
    if not temperature > 0:
        raise ValueError(f"expected a temperature above 0, received {temperature}")
    return expit(np.asarray(logits, dtype=np.float64) / temperature)


def fit_temperature(y_true: np.ndarray, logits: np.ndarray) -> float:
    """Return the temperature with the smallest log loss; fit it on validation, never on test.

    Temperature scaling changes how confident a model is and none of its decisions at threshold .5.
    Source: Guo et al. 2017, "On calibration of modern neural networks".

    Args:
        y_true: int array, shape (N,), 1 = FAKE.
        logits: float array, shape (N,), the output of the model before the sigmoid.

    Returns:
        Temperature within `TEMPERATURE_BOUNDS`. Images on which the model makes no mistake, often
        few, cannot tell how confident it should be, and the best temperature would be 0: their
        labels are then softened by how few they are (Platt 1999, "Probabilistic outputs for support
        vector machines").
    """
    from scipy.optimize import minimize_scalar  # 24 MB, for fitting only.

    is_fake, logits = np.asarray(y_true) == 1, np.asarray(logits, dtype=np.float64)
    target = is_fake.astype(np.float64)
    if ((logits > 0) == is_fake).all():
        fake, real = is_fake.sum(), (~is_fake).sum()
        target = np.where(is_fake, (fake + 1) / (fake + 2), 1 / (real + 2))

    def log_loss(log_temperature):
        scaled = logits / np.exp(log_temperature)
        return (np.logaddexp(0, scaled) - target * scaled).mean()

    # In log space halving and doubling are equally long steps.
    result = minimize_scalar(log_loss, bounds=np.log(TEMPERATURE_BOUNDS), method="bounded")
    temperature = float(np.exp(result.x))
    if not TEMPERATURE_BOUNDS[0] * 1.01 < temperature < TEMPERATURE_BOUNDS[1] / 1.01:
        logger.warning("the temperature %.3g is at its bound; %d images", temperature, len(logits))
    return temperature


def ensemble_logit(logits: np.ndarray, weights: Sequence[float] | None = None) -> np.ndarray:
    """Return the logit of the ensemble: the weighted mean over models.

    Args:
        logits: float array, shape (models, N), each row already divided by its temperature, so
            that an over-confident model has no louder voice than the others.
        weights: one per model, see `fit_weights`; all alike if None.

    Returns:
        float64 array, shape (N,).

    Raises:
        ValueError: the array has not two dimensions.
    """
    logits = np.asarray(logits, dtype=np.float64)
    if logits.ndim != 2:
        raise ValueError(f"expected logits of shape (models, images), received {logits.shape}")
    return np.average(logits, axis=0, weights=weights)


def fit_weights(y_true: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Return the weights of the mean over models with the smallest log loss after temperature.

    Fit them on validation, never on test. A mean of equals is worse than its best member where
    that member is much better than the others. Weights are not negative, so a model that adds
    nothing is left out rather than held against the others. Source: Breiman 1996, "Stacked
    regressions".

    Args:
        y_true: int array, shape (N,), 1 = FAKE.
        logits: float array, shape (models, N), each row already divided by its temperature.

    Returns:
        float64 array, shape (models,), at least 0, with sum 1.
    """
    from scipy.optimize import minimize

    signed = np.where(np.asarray(y_true) == 1, 1.0, -1.0) * np.asarray(logits, dtype=np.float64)
    start = np.full(len(signed), 1 / len(signed))

    def log_loss(scales):
        margin = scales @ signed
        return np.logaddexp(0, -margin).mean(), -(signed * expit(-margin)).mean(axis=1)

    # What sums to more or less than 1 is the inverse of the temperature, which is fitted after.
    bounds = [(0, 1 / TEMPERATURE_BOUNDS[0])] * len(signed)
    scales = minimize(log_loss, start, jac=True, bounds=bounds, method="L-BFGS-B").x
    return scales / scales.sum() if scales.sum() > 0 else start


def expected_calibration_error(y_true: np.ndarray, y_score: np.ndarray, *, bins: int = 15) -> float:
    """Return the mean distance between p_fake and the fraction of FAKE, over groups of images.

    Source: Naeini et al. 2015, "Obtaining well calibrated probabilities using Bayesian binning".
    The groups hold equally many images (Nixon et al. 2019, "Measuring calibration in deep
    learning"): a good detector scores nearly everything close to 0 or 1, which leaves groups of
    equal width nearly empty. This is the error of `p_fake`, not of the confidence in the
    predicted class.

    Args:
        y_true: int array, shape (N,), 1 = FAKE.
        y_score: float array, shape (N,), p_fake in [0, 1].
        bins: number of groups, at most one an image.

    Returns:
        Error in [0, 1]; 0 is perfect.
    """
    y_true, y_score = np.asarray(y_true, dtype=np.float64), np.asarray(y_score, dtype=np.float64)
    order = np.argsort(y_score, kind="stable")
    groups = np.array_split(order, min(bins, len(order)))
    gaps = [abs(y_score[group].mean() - y_true[group].mean()) for group in groups]
    return float(np.average(gaps, weights=[len(group) for group in groups]))
