"""Selective prediction and conformal sets, on worked examples and against their promises."""

import json

import numpy as np
import pytest

from cifake_lib import selective
from cifake_lib.selective import ConformalSets

# Confidences .95, .9, .8, .7, .6; the third and the last answer are wrong.
Y_TRUE = np.array([1, 0, 0, 1, 0])
Y_SCORE = np.array([0.95, 0.1, 0.8, 0.7, 0.6])


def calibrated(count, seed=0):
    """Scores whose meaning is exact: an image with p_fake p is FAKE with probability p."""
    rng = np.random.default_rng(seed)
    y_score = rng.beta(0.3, 0.3, count)
    return (rng.random(count) < y_score).astype(int), y_score


def test_coverage_curve_of_five_images():
    curve = selective.coverage_curve(Y_TRUE, Y_SCORE)
    assert curve["confidence"].tolist() == pytest.approx([0.95, 0.9, 0.8, 0.7, 0.6])
    assert curve["coverage"].tolist() == pytest.approx([0.2, 0.4, 0.6, 0.8, 1])
    assert curve["error"].tolist() == pytest.approx([0, 0, 1 / 3, 1 / 4, 2 / 5])


def test_images_of_equal_confidence_are_answered_together():
    curve = selective.coverage_curve([1, 0, 1], [0.9, 0.9, 0.9])
    assert curve[["coverage", "error"]].to_numpy().tolist() == [[1, pytest.approx(1 / 3)]]


def test_band_is_the_widest_that_keeps_the_promise():
    assert selective.certain_from(Y_TRUE, Y_SCORE, accuracy=1) == pytest.approx(0.9)
    assert selective.certain_from(Y_TRUE, Y_SCORE, accuracy=0.75) == pytest.approx(0.7)
    assert selective.certain_from(Y_TRUE, Y_SCORE, accuracy=0.5) == pytest.approx(0.6)
    # No confidence is enough: nothing is ever certain, not even a score of exactly 1.
    never = selective.certain_from([0, 0], [0.9, 1.0])
    assert selective.selective_scores([1], [1.0], never)["coverage"] == 0


def test_promise_holds_on_other_images():
    certain = selective.certain_from(*calibrated(20_000), accuracy=0.95)
    measured = selective.selective_scores(*calibrated(20_000, seed=1), certain)
    assert measured["accuracy"] == pytest.approx(0.95, abs=0.006)
    assert 0.3 < measured["coverage"] < 0.95


def test_conformal_quantiles_of_a_worked_example():
    # Nine REAL with p_fake .1 to .9: of 9 + 1 images eight tenths are the first eight.
    y_score = np.concatenate([np.arange(1, 10) / 10, np.arange(1, 10) / 10])
    y_true = np.repeat([0, 1], 9)
    sets = ConformalSets.fit(y_true, y_score, level=0.8)
    assert (sets.real, sets.fake) == (pytest.approx(0.8), pytest.approx(0.2))
    assert sets.predict([0.1, 0.5, 0.9]).tolist() == ["REAL", "either", "FAKE"]


def test_too_few_images_promise_everything_by_saying_either():
    sets = ConformalSets.fit([0, 1], [0.1, 0.9], level=0.95)
    assert set(sets.predict(np.linspace(0, 1, 11))) == {"either"}


def test_where_neither_class_fits_the_likelier_one_is_the_set():
    sets = ConformalSets(0.8, real=0.2, fake=0.8)
    assert sets.predict([0.1, 0.4, 0.6, 0.9]).tolist() == ["REAL", "REAL", "FAKE", "FAKE"]


@pytest.mark.parametrize("level", [0.9, 0.95, 0.99])
def test_sets_hold_the_true_class_as_often_as_promised_in_each_class(level):
    sets = ConformalSets.fit(*calibrated(20_000), level=level)
    y_true, y_score = calibrated(20_000, seed=1)
    measured = selective.set_coverage(y_true, sets.predict(y_score))
    for name in ("coverage", "coverage_real", "coverage_fake"):
        assert measured[name] == pytest.approx(level, abs=0.01)
    assert 0 < measured["single"] < 1


def test_a_promise_below_the_accuracy_is_kept_by_single_classes():
    sets = ConformalSets.fit(*calibrated(20_000), level=0.6)
    y_true, y_score = calibrated(20_000, seed=1)
    measured = selective.set_coverage(y_true, sets.predict(y_score))
    assert measured["single"] == 1
    assert measured["coverage"] == ((y_score >= 0.5) == y_true).mean() > 0.6


def test_coverage_of_a_class_without_images_is_unknown():
    assert np.isnan(selective.set_coverage([0], ["REAL"])["coverage_fake"])


def test_prevalence_by_bayes():
    # 90 % found, 1 % false alarms: of 1,000 images 10 are fake, 9 are found, 9.9 are false alarms.
    found = selective.flagged_are_fake(0.9, 0.01, [0.5, 0.01, 0.0])
    np.testing.assert_allclose(found, [0.9 / 0.91, 9 / 18.9, 0])
    assert np.isnan(selective.flagged_are_fake(0, 0, np.array([0.5])))


def test_both_promises_are_fitted_on_one_half_and_measured_on_the_other():
    validation, test = calibrated(20_000), calibrated(20_000, seed=1)
    measured = selective.abstention(validation, test, accuracy=0.95, level=0.9)
    assert measured["certain_from"] == selective.certain_from(*validation, accuracy=0.95)
    assert measured["accuracy"] == pytest.approx(0.95, abs=0.006)
    sets = ConformalSets.fit(*validation, level=0.9)
    assert measured["conformal"]["real"] == sets.real
    assert measured["conformal"]["coverage_fake"] == pytest.approx(0.9, abs=0.01)


def test_a_model_that_is_never_certain_fits_into_json():
    measured = selective.abstention(([0, 1], [0.6, 0.4]), ([0, 0], [0.6, 0.4]))
    assert measured["coverage"] == 0 and measured["accuracy"] is None
    assert measured["conformal"]["coverage_fake"] is None
    json.dumps(measured, allow_nan=False)
