import numpy as np
import pytest
from scipy.special import expit
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from cifake_lib.calibration import (
    TEMPERATURE_BOUNDS,
    ensemble_logit,
    expected_calibration_error,
    fit_temperature,
    fit_weights,
    probability,
)


@pytest.fixture(scope="module")
def calibrated():
    """Logits that mean what they say: the label is drawn with their probability."""
    rng = np.random.default_rng(0)
    logits = rng.normal(scale=2, size=20_000)
    return (rng.random(20_000) < expit(logits)).astype(int), logits


def test_probability_is_the_stable_sigmoid():
    found = probability(np.array([-1000.0, -2.0, 0.0, 2.0, 1000.0], np.float32))
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, [0, 1 / (1 + np.e**2), 0.5, 1 / (1 + np.e**-2), 1])
    assert probability(np.array([3.0]), 3.0) == pytest.approx(1 / (1 + 1 / np.e))


@pytest.mark.parametrize("temperature", [0, -1, float("nan")])
def test_probability_refuses_a_temperature_that_is_none(temperature):
    with pytest.raises(ValueError, match="expected a temperature above 0"):
        probability(np.zeros(2), temperature)


def test_temperature_undoes_overconfidence(calibrated):
    y_true, logits = calibrated
    assert fit_temperature(y_true, logits) == pytest.approx(1, rel=0.05)
    assert fit_temperature(y_true, 3 * logits) == pytest.approx(3, rel=0.05)
    assert fit_temperature(y_true, logits / 4) == pytest.approx(0.25, rel=0.05)


def test_temperature_has_the_smallest_log_loss(calibrated):
    y_true, logits = calibrated
    best = fit_temperature(y_true, 3 * logits)

    def loss(temperature):
        return log_loss(y_true, probability(3 * logits, temperature))

    grid = np.geomspace(0.1, 10, 200)
    assert loss(best) <= min(loss(temperature) for temperature in grid) + 1e-9
    assert loss(best) < loss(1.0)


def test_temperature_of_a_faultless_model_says_how_few_images_there_were():
    # Platt's targets of two images a class are 1/4 and 3/4, so a logit of ±4 must become ±ln 3.
    y_true, logits = np.array([0, 0, 1, 1]), np.array([-4.0, -4.0, 4.0, 4.0])
    assert fit_temperature(y_true, logits) == pytest.approx(4 / np.log(3), rel=1e-4)
    many = fit_temperature(y_true.repeat(500), logits.repeat(500))
    assert many == pytest.approx(4 / np.log(1001), rel=1e-4)


def test_temperature_of_a_model_that_is_always_wrong_is_bounded_and_logged(caplog):
    temperature = fit_temperature(np.array([0, 0, 1, 1]), np.array([5.0, 4.0, -4.0, -5.0]))
    assert temperature == pytest.approx(TEMPERATURE_BOUNDS[1], rel=0.02)
    assert "at its bound" in caplog.text


def test_ensemble_is_the_mean_of_logits():
    found = ensemble_logit(np.array([[1.0, -2.0, 0.0], [3.0, -4.0, 1.0]], np.float32))
    np.testing.assert_allclose(found, [2, -3, 0.5])
    with pytest.raises(ValueError, match=r"expected logits of shape \(models, images\)"):
        ensemble_logit(np.zeros(3))


def test_a_weighted_ensemble_is_the_weighted_mean_of_logits():
    found = ensemble_logit(np.array([[1.0, -2.0], [3.0, -4.0]]), [0.75, 0.25])
    np.testing.assert_allclose(found, [1.5, -2.5])


def test_ensemble_weights_agree_with_a_logistic_regression_without_intercept():
    rng = np.random.default_rng(0)
    y_true = rng.integers(0, 2, 3000)
    logits = (2 * y_true - 1) * np.array([[2.0], [1.0]]) + rng.normal(scale=2, size=(2, 3000))
    regression = LogisticRegression(C=1e6, fit_intercept=False).fit(logits.T, y_true)
    expected = regression.coef_[0] / regression.coef_.sum()
    found = fit_weights(y_true, logits)
    np.testing.assert_allclose(found, expected, atol=1e-3)
    assert found[0] > found[1]


def test_a_model_that_is_always_wrong_gets_no_weight():
    rng = np.random.default_rng(0)
    y_true = rng.integers(0, 2, 500)
    good = (2 * y_true - 1) + rng.normal(size=500)
    np.testing.assert_allclose(fit_weights(y_true, [good, -good]), [1, 0], atol=1e-6)
    np.testing.assert_allclose(fit_weights(y_true, [-good, -good]), [0.5, 0.5])


def test_calibration_error_by_hand():
    # Sorted by score, in three groups of two:
    #   .1 (real) .2 (fake) | .4 (real) .6 (fake) | .8 (fake) .9 (fake)
    #   mean .15, half fake | mean .5, half fake  | mean .85, all fake
    #   gaps .35, .00, .15  → error .5 / 3
    y_score = np.array([0.9, 0.1, 0.4, 0.8, 0.2, 0.6])
    y_true = np.array([1, 0, 0, 1, 1, 1])
    found = expected_calibration_error(y_true, y_score, bins=3)
    assert found == pytest.approx(0.5 / 3)
    # Four groups of 2, 2, 1 and 1 images: each group counts by its images.
    # gaps: .35, .00, |.8 − 1|, |.9 − 1|
    found = expected_calibration_error(y_true, y_score, bins=4)
    assert found == pytest.approx((2 * 0.35 + 2 * 0.0 + 0.2 + 0.1) / 6)


def test_calibration_error_agrees_with_scikit_learn(calibrated):
    y_true, logits = calibrated
    y_score = probability(2 * logits)
    fraction, mean = calibration_curve(y_true, y_score, n_bins=10, strategy="quantile")
    found = expected_calibration_error(y_true, y_score, bins=10)
    assert found == pytest.approx(np.abs(fraction - mean).mean(), abs=1e-4)


def test_calibration_error_falls_when_the_temperature_is_right(calibrated):
    y_true, logits = calibrated
    before = expected_calibration_error(y_true, probability(3 * logits))
    after = expected_calibration_error(
        y_true, probability(3 * logits, fit_temperature(y_true, 3 * logits))
    )
    assert before > 0.05
    assert after < 0.015


def test_fewer_images_than_groups():
    assert expected_calibration_error(np.array([1, 0]), np.array([0.75, 0.25])) == 0.25
