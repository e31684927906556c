import json
import time

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from scipy.stats import binomtest
from sklearn import metrics

from cifake_lib.calibration import expected_calibration_error
from cifake_lib.evaluation import (
    at_operating_points,
    calibration_table,
    comparison_table,
    curve_points,
    evaluate_models,
    operating_points,
    scores,
)
from cifake_lib.intervals import CONFUSION_METRICS, bootstrap_interval, share_interval


def detector(count, *, separation=2.0, seed=0):
    """Labels and calibrated-looking scores of a detector that is right most of the time."""
    rng = np.random.default_rng(seed)
    y_true = rng.integers(0, 2, count)
    return y_true, expit((2 * y_true - 1) * separation + rng.normal(scale=2, size=count))


# ---------------------------------------------------------------------------------------- scores
@pytest.mark.parametrize("threshold", [0.5, 0.8])
def test_scores_agree_with_scikit_learn(threshold):
    y_true, y_score = detector(700)
    y_pred = y_score >= threshold
    found = scores(y_true, y_score, threshold=threshold)
    expected = {
        "accuracy": metrics.accuracy_score(y_true, y_pred),
        "roc_auc": metrics.roc_auc_score(y_true, y_score),
        "pr_auc": metrics.average_precision_score(y_true, y_score),
        "log_loss": metrics.log_loss(y_true, y_score),
        "brier": metrics.brier_score_loss(y_true, y_score),
        "ece": expected_calibration_error(y_true, y_score),
        "f1": metrics.f1_score(y_true, y_pred, average="macro"),
        "precision_fake": metrics.precision_score(y_true, y_pred, pos_label=1),
        "recall_fake": metrics.recall_score(y_true, y_pred, pos_label=1),
        "f1_fake": metrics.f1_score(y_true, y_pred, pos_label=1),
        "precision_real": metrics.precision_score(y_true, y_pred, pos_label=0),
        "recall_real": metrics.recall_score(y_true, y_pred, pos_label=0),
        "f1_real": metrics.f1_score(y_true, y_pred, pos_label=0),
        "count": 700,
        "threshold": threshold,
    }
    assert found["confusion"] == metrics.confusion_matrix(y_true, y_pred).tolist()
    assert {**found, "confusion": 0} == pytest.approx({**expected, "confusion": 0}, abs=1e-12)
    assert json.loads(json.dumps(found)) == found


def test_scores_of_a_worked_example():
    # Two of three REAL and three of four FAKE are right; a score at the threshold is FAKE.
    y_true = np.array([0, 0, 0, 1, 1, 1, 1])
    y_score = np.array([0.1, 0.2, 0.7, 0.5, 0.9, 0.8, 0.3])
    found = scores(y_true, y_score)
    assert found["confusion"] == [[2, 1], [1, 3]]
    assert found["accuracy"] == pytest.approx(5 / 7)
    assert found["precision_fake"] == found["recall_fake"] == pytest.approx(3 / 4)
    assert found["precision_real"] == found["recall_real"] == pytest.approx(2 / 3)
    assert found["f1"] == pytest.approx((3 / 4 + 2 / 3) / 2)


def test_a_detector_that_never_says_fake_has_zero_precision_and_no_warning():
    with np.errstate(all="raise"):
        found = scores(np.array([0, 1, 1]), np.array([0.1, 0.2, 0.3]))
    assert found["precision_fake"] == found["recall_fake"] == found["f1_fake"] == 0
    assert found["recall_real"] == 1


@pytest.mark.parametrize(
    ("y_true", "y_score", "message"),
    [
        ([0, 1], [0.1, 0.2, 0.3], r"received shapes \(2,\) and \(3,\)"),
        ([1, 1], [0.1, 0.2], "both present"),
        ([0, 2], [0.1, 0.2], "both present"),
        ([0, 1], [0.1, np.nan], "expected finite scores, received 1"),
        ([[0], [1]], [[0.1], [0.2]], "one label and one score an image"),
    ],
)
def test_scores_refuse_what_cannot_be_scored(y_true, y_score, message):
    with pytest.raises(ValueError, match=message):
        scores(np.array(y_true), np.array(y_score))


# ------------------------------------------------------------------------------ operating points
@pytest.mark.parametrize("seed", range(5))
def test_operating_points_keep_their_false_alarm_rate(seed):
    y_true, y_score = detector(997, seed=seed)
    points = operating_points(y_true, y_score)
    real, fake = y_score[y_true == 0], y_score[y_true == 1]
    assert points["balanced"] == 0.5
    for name, rate in (("fpr_5", 0.05), ("fpr_1", 0.01)):
        assert (real >= points[name]).mean() <= rate
        # The next lower score would have to break the rate, or be worth nothing.
        lower = y_score[y_score < points[name]].max()
        assert (real >= lower).mean() > rate or (fake >= lower).mean() == (
            fake >= points[name]
        ).mean()


def test_best_f1_is_the_best_of_all_thresholds():
    y_true, y_score = detector(400, separation=1.0)
    y_score = y_score**2  # makes .5 a bad choice
    best = operating_points(y_true, y_score)["best_f1"]

    def f1(threshold):
        return metrics.f1_score(y_true, y_score >= threshold, average="macro")

    assert f1(best) == pytest.approx(max(f1(threshold) for threshold in y_score))
    assert f1(best) > f1(0.5)


def test_thresholds_of_separable_scores_lie_between_the_classes():
    points = operating_points(np.array([0, 0, 1, 1]), np.array([0.1, 0.2, 0.6, 0.9]))
    assert points["best_f1"] == pytest.approx(0.4)
    assert points["fpr_1"] == pytest.approx(0.4)


def test_when_the_surest_images_are_real_nothing_is_called_fake():
    y_true, y_score = np.array([0, 0, 1, 1]), np.array([1.0, 1.0, 1.0, 0.2])
    assert (y_score >= operating_points(y_true, y_score)["fpr_1"]).sum() == 0


def test_saturated_scores_stay_on_their_side():
    below = np.nextafter(1.0, 0)
    y_true, y_score = np.array([0] * 5 + [1] * 5), np.array([below] * 5 + [1.0] * 5)
    threshold = operating_points(y_true, y_score)["fpr_1"]
    assert (y_score >= threshold).tolist() == [False] * 5 + [True] * 5


# ----------------------------------------------------------------------------- bootstrap interval
def test_interval_agrees_with_resampling_image_by_image():
    y_true, y_score = detector(300)
    rng = np.random.default_rng(1)
    reference = {
        "roc_auc": metrics.roc_auc_score,
        "f1": lambda y, s: metrics.f1_score(y, s >= 0.5, average="macro"),
        "precision_fake": lambda y, s: metrics.precision_score(y, s >= 0.5),
    }
    draws = [rng.integers(300, size=300) for _ in range(600)]
    for name, function in reference.items():
        values = [function(y_true[rows], y_score[rows]) for rows in draws]
        found = bootstrap_interval(y_true, y_score, name, resamples=4000)
        # Both intervals are about .08 wide; 600 draws leave their ends uncertain by about .003.
        assert found == pytest.approx(np.quantile(values, [0.025, 0.975]), abs=0.009), name


@pytest.mark.parametrize("metric", [*CONFUSION_METRICS, "roc_auc"])
def test_interval_holds_the_score_and_shrinks_with_the_number_of_images(metric):
    widths = []
    for count in (200, 3200):
        y_true, y_score = detector(count)
        low, high = bootstrap_interval(y_true, y_score, metric, threshold=0.6, resamples=400)
        assert low < scores(y_true, y_score, threshold=0.6)[metric] < high
        widths.append(high - low)
    assert widths[0] / widths[1] == pytest.approx(4, rel=0.4)  # √16


def test_interval_covers_the_truth_about_as_often_as_it_says():
    y_true, y_score = detector(200_000, seed=99)
    truth = {name: scores(y_true, y_score)[name] for name in ("accuracy", "roc_auc")}
    covered = dict.fromkeys(truth, 0)
    for seed in range(100):
        sample = detector(300, seed=seed)
        for name, value in truth.items():
            low, high = bootstrap_interval(*sample, name, resamples=200, seed=seed)
            covered[name] += low <= value <= high
    assert all(88 <= count <= 100 for count in covered.values()), covered


def test_auc_interval_counts_ties_by_half():
    y_true = np.array([0, 1] * 50)
    assert bootstrap_interval(y_true, np.full(100, 0.3), "roc_auc", resamples=50) == (0.5, 0.5)


def test_interval_is_repeatable_and_widens_with_its_level():
    sample = detector(500)
    first = bootstrap_interval(*sample, "f1", seed=3)
    assert first == bootstrap_interval(*sample, "f1", seed=3)
    wider = bootstrap_interval(*sample, "f1", seed=3, level=0.99)
    assert wider[0] < first[0] < first[1] < wider[1]


def test_a_handful_of_images_gives_an_interval_without_a_warning(recwarn):
    low, high = bootstrap_interval(np.array([0, 1, 1]), np.array([0.1, 0.4, 0.9]), "roc_auc")
    assert 0 <= low <= high <= 1
    assert not recwarn.list


def test_an_unknown_metric_is_refused():
    with pytest.raises(ValueError, match="received 'kappa'"):
        bootstrap_interval(*detector(20), "kappa")


# ---------------------------------------------------------------------------------------- curves
def test_curve_points_are_few_and_follow_the_whole_curve():
    y_true, y_score = detector(20_000, separation=3.0)
    curves = curve_points(y_true, y_score, points=200)
    roc, pr = curves["roc"], curves["pr"]
    assert len(roc["fpr"]) == len(roc["tpr"]) <= 200
    assert len(pr["recall"]) == len(pr["precision"]) <= 200
    assert (roc["fpr"][0], roc["tpr"][0], roc["fpr"][-1], roc["tpr"][-1]) == (0, 0, 1, 1)
    assert (pr["recall"][0], pr["recall"][-1], pr["precision"][-1]) == (1, 0, 1)
    assert roc["area"] == metrics.roc_auc_score(y_true, y_score)
    assert pr["area"] == metrics.average_precision_score(y_true, y_score)
    assert metrics.auc(roc["fpr"], roc["tpr"]) == pytest.approx(roc["area"], abs=2e-4)
    fpr, tpr, _ = metrics.roc_curve(y_true, y_score)
    grid = np.linspace(0, 1, 1000)[1:]  # at 0 the curve is vertical
    whole, thin = np.interp(grid, fpr, tpr), np.interp(grid, roc["fpr"], roc["tpr"])
    assert np.abs(whole - thin).max() < 0.01
    assert len(json.dumps(curves)) < 20_000


def test_curve_points_of_a_few_images_are_all_of_them():
    curves = curve_points(np.array([0, 1, 0, 1]), np.array([0.1, 0.4, 0.6, 0.9]))
    assert curves["roc"]["fpr"] == [0, 0, 0.5, 0.5, 1]
    assert curves["roc"]["tpr"] == [0, 0.5, 0.5, 1, 1]


# ---------------------------------------------------------------------------------- several models
@pytest.fixture(scope="module")
def evaluated():
    rng = np.random.default_rng(0)
    y_true = rng.integers(0, 2, 2000)
    logits = {
        key: ((2 * y_true - 1) * 2 + rng.normal(scale=2, size=2000)) * scale
        for key, scale in (("baseline_cnn", 1.0), ("resnet50", 4.0))
    }
    temperatures = {"baseline_cnn": 1.0, "resnet50": 4.0}
    thresholds = {"resnet50": 0.7}
    found = evaluate_models(y_true, logits, temperatures, thresholds=thresholds, resamples=100)
    return y_true, logits, found


def test_each_model_is_scored_with_its_temperature_and_threshold(evaluated):
    y_true, logits, found = evaluated
    assert list(found) == ["baseline_cnn", "resnet50"]
    expected = scores(y_true, expit(logits["resnet50"] / 4), threshold=0.7)
    assert {name: found["resnet50"][name] for name in expected} == expected
    assert found["baseline_cnn"]["threshold"] == 0.5


def test_operating_points_are_measured_at_their_stored_thresholds():
    y_true = np.array([0, 0, 0, 0, 1, 1])
    y_score = np.array([0.1, 0.2, 0.55, 0.7, 0.6, 0.9])
    found = at_operating_points(y_true, y_score, {"balanced": 0.5, "fpr_1": 0.8})
    assert found["balanced"]["true_positive_rate"] == 1
    assert found["balanced"]["false_positive_rate"] == 0.5
    assert found["fpr_1"]["threshold"] == 0.8
    assert found["fpr_1"]["true_positive_rate"] == 0.5
    assert found["fpr_1"]["false_positive_rate"] == 0
    low, high = found["fpr_1"]["true_positive_rate_interval"]
    assert low < 0.5 < high
    assert found["balanced"]["f1"] == pytest.approx(scores(y_true, y_score)["f1"])


def test_every_model_has_intervals_that_json_can_hold(evaluated):
    _, _, found = evaluated
    for measured in found.values():
        assert list(measured["intervals"])[:3] == ["f1", "accuracy", "roc_auc"]
        for metric, (low, high) in measured["intervals"].items():
            assert low < measured[metric] < high
    assert json.loads(json.dumps(found)) == found


def test_evaluation_of_a_full_test_split_is_quick():
    y_true, y_score = detector(20_000)
    started = time.perf_counter()
    logits = {key: np.log(y_score / (1 - y_score)) for key in "abc"}
    evaluate_models(y_true, logits, dict.fromkeys("abc", 1.0), resamples=1000)
    assert time.perf_counter() - started < 60


def test_comparison_table_has_both_conventions_and_what_models_cost(evaluated):
    _, _, found = evaluated
    found = {key: dict(values) for key, values in found.items()}
    found["ensemble"] = dict(found["baseline_cnn"])
    found["resnet50"] |= {"training_seconds": 80.5, "parameters": 23_000_000, "run_id": "x"}
    table = comparison_table(found)
    assert list(table.index) == ["baseline_cnn", "resnet50", "ensemble"]
    assert table.index.name == "model"
    for name in ("precision_fake", "recall_fake", "f1_fake", "precision_real", "f1_real"):
        assert table.loc["resnet50", name] == found["resnet50"][name]
    assert table.loc["resnet50", "training_seconds"] == 80.5
    assert pd.isna(table.loc["ensemble", "training_seconds"])
    assert table.loc["baseline_cnn", "f1_low"] == found["baseline_cnn"]["intervals"]["f1"][0]
    assert not {"confusion", "run_id", "intervals", "weights_bytes"} & set(table.columns)
    assert list(table.columns[:2]) == ["accuracy", "roc_auc"]


def test_comparison_table_orders_its_columns_whichever_model_has_them():
    table = comparison_table({"a": {"brier": 0.1}, "b": {"accuracy": 0.9, "brier": 0.2}})
    assert list(table.columns) == ["accuracy", "brier"]


def test_calibration_before_and_after_the_temperature():
    rng = np.random.default_rng(0)
    honest = rng.normal(scale=2, size=4000)
    y_true = (rng.random(4000) < expit(honest)).astype(int)
    table = calibration_table(y_true, {"loud": 3 * honest}, {"loud": 3.0})
    row = table.loc["loud"]
    assert row["temperature"] == 3
    for state, scored in (("before", 3 * honest), ("after", honest)):
        assert row[f"log_loss_{state}"] == pytest.approx(metrics.log_loss(y_true, expit(scored)))
        assert row[f"brier_{state}"] == pytest.approx(np.mean((expit(scored) - y_true) ** 2))
    assert row["ece_after"] < 0.03 < row["ece_before"]


@pytest.mark.parametrize("total", [1, 7, 100, 9999])
def test_the_interval_of_a_share_is_that_of_scipy(total):
    for count in {0, 1, total // 3, total - 1, total}:
        expected = binomtest(count, total).proportion_ci(method="wilson")
        assert share_interval(count, total) == pytest.approx(tuple(expected), abs=1e-12)
    assert share_interval(0, total)[0] >= 0 and share_interval(total, total)[1] <= 1
