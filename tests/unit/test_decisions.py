"""Verdicts and odds: worked examples, exact calibration, and the released evaluation."""

import json
import subprocess
import sys

import numpy as np
import pytest

from cifake_lib import decisions, frequencies, runs
from cifake_lib.decisions import Abstention, OperatingPoint, OperatingPoints, decide
from cifake_lib.frequencies import MeasuredScores

STRICT = OperatingPoint("fpr_1", 0.95, 0.8, (0.75, 0.85), 0.01, (0.005, 0.02))
SURE = Abstention(0.9, 0.8, 0.99)


def calibrated(count, seed=0):
    """Scores whose meaning is exact: an image with p_fake p is FAKE with probability p."""
    rng = np.random.default_rng(seed)
    p_fake = rng.beta(0.3, 0.3, count)
    return MeasuredScores(p_fake, rng.random(count) < p_fake)


@pytest.fixture
def evaluation(tmp_path):
    """An evaluation run in the form that `comparison.finish_comparison` writes."""
    metrics = {
        "confusion": [[190, 10], [20, 180]],
        "operating_points": {
            "balanced": {
                "threshold": 0.5,
                "true_positive_rate": 0.9,
                "true_positive_rate_interval": [0.86, 0.94],
                "false_positive_rate": 0.05,
            }
        },
        "abstention": {"certain_from": 0.9, "coverage": 0.8, "accuracy": 0.99, "conformal": {}},
    }
    files = {
        "metrics.json": json.dumps({"models": {"ensemble": metrics}}),
        "predictions.csv": "label,ensemble_p_fake\n0,0.1\n1,0.9\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    manifest = {
        "run_id": "compared",
        "ensemble": {"thresholds": {"balanced": 0.5}},
        "files": {name: runs.file_hash(tmp_path / name) for name in files},
    }
    return runs.Run("evaluation", tmp_path, manifest)


def test_points_come_with_what_they_measured(evaluation):
    points = OperatingPoints.from_run(evaluation)
    balanced = points.points["balanced"]
    assert (balanced.threshold, balanced.true_positive_rate) == (0.5, 0.9)
    # 10 of 200 REAL; Wilson by hand.
    assert balanced.false_positive_interval == pytest.approx((0.0274, 0.0896), abs=1e-4)
    assert "found 90.0 % of the FAKE" in balanced.sentence
    assert "false alarm on 5.0 % of the REAL (95 % interval 2.7–9.0 %)" in balanced.sentence
    assert "80.0 % of the test images got one, and 99.0 %" in points.abstention.sentence


def test_a_changed_file_is_noticed(evaluation):
    (evaluation.folder / "metrics.json").write_text("{}")
    with pytest.raises(runs.RunDamaged):
        OperatingPoints.from_run(evaluation)


@pytest.mark.parametrize(
    ("p_fake", "word"), [(0.0, "REAL"), (0.49, "REAL"), (0.5, "FAKE"), (1.0, "FAKE")]
)
def test_without_abstention_the_threshold_decides(p_fake, word):
    decision = decide(p_fake)
    assert decision.word == word
    assert (decision.threshold_name, decision.threshold) == ("balanced", 0.5)
    assert "threshold of 0.5" in decision.reason


@pytest.mark.parametrize(
    ("p_fake", "word"),
    [
        (0.1, "REAL"),
        (0.11, "UNCERTAIN"),
        (0.5, "UNCERTAIN"),
        (0.89, "UNCERTAIN"),
        # Likely FAKE, but not by the threshold: neither answer would be honest.
        (0.92, "UNCERTAIN"),
        (0.95, "FAKE"),
    ],
)
def test_an_answer_is_given_only_when_certain(p_fake, word):
    assert decide(p_fake, STRICT, abstention=SURE).word == word


def test_a_low_threshold_calls_nothing_fake_that_is_likelier_real():
    eager = OperatingPoint("any", 0.05, 1, (1, 1), 0.5, (0.4, 0.6))
    assert decide(0.07, eager).word == "FAKE"
    decision = decide(0.07, eager, abstention=SURE)
    assert decision.word == "UNCERTAIN" and "other side" in decision.reason


def test_models_that_are_never_certain_say_so():
    never = Abstention(float(np.nextafter(1, 2)), 0.0, None)
    decision = decide(1.0, STRICT, abstention=never)
    assert decision.word == "UNCERTAIN" and "never" in decision.reason
    assert never.sentence == "No answer on the test images counts as certain."


@pytest.mark.parametrize("wrong", [-0.1, 1.1, float("nan")])
def test_what_is_no_probability_is_refused(wrong):
    for function in (decide, calibrated(500).like):
        with pytest.raises(ValueError, match="expected a probability"):
            function(wrong)
    with pytest.raises(ValueError, match="expected a probability"):
        frequencies.fake_at_prevalence(wrong, 0.5)


@pytest.mark.parametrize("p_fake", [0.05, 0.3, 0.5, 0.7, 0.95])
def test_share_of_fake_among_similar_images_is_the_score(p_fake):
    similar = calibrated(20_000).like(p_fake)
    assert similar.share == pytest.approx(p_fake, abs=0.05)
    assert similar.interval[0] < similar.share < similar.interval[1]
    assert similar.lowest < p_fake < similar.highest


def test_the_circle_widens_until_it_holds_a_hundred():
    # Nearly all scores lie at the ends, as those of a good detector do.
    p_fake = np.r_[np.full(500, 0.001), np.linspace(0.2, 0.8, 60), np.full(500, 0.999)]
    similar = MeasuredScores(p_fake, p_fake > 0.5).like(0.5)
    # All that are equally far count, on both sides.
    assert similar.count == len(p_fake) and similar.share == pytest.approx(0.5)
    assert "scores of 0.00–1.00" in similar.sentence
    crowded = MeasuredScores(p_fake, p_fake > 0.5).like(1.0)
    assert (crowded.count, crowded.fake) == (500, 500)


def test_too_few_test_images_say_nothing():
    assert calibrated(frequencies.LEAST_TEST_IMAGES - 1).like(0.5) is None
    assert calibrated(frequencies.LEAST_TEST_IMAGES).like(0.5).count >= frequencies.NEIGHBOURS


def test_of_photographs_the_frequency_is_that_of_left_out_sources(tmp_path):
    rows = ['"a, b.png",1,x,True,0.9'] * 300 + ["c.png,0,y,True,0.9"] * 100
    (tmp_path / "left_out.csv").write_text("\n".join(["path,label,source,certain,p_fake", *rows]))
    files = {"left_out.csv": runs.file_hash(tmp_path / "left_out.csv")}
    run = runs.Run("photo_resnet50", tmp_path, {"run_id": "one", "files": files})
    said = frequencies.MeasuredScores.from_photographs(run).like(0.9).sentence
    assert said.startswith("Of 100 pictures of sources it had not seen with a score like this, 75")


@pytest.mark.parametrize(
    ("fake", "count", "words"),
    [
        (0, 100, "0 are FAKE (95 % interval 0–4;"),
        (100, 100, "100 are FAKE (95 % interval 96–100;"),
        (1, 1000, "fewer than 1 is FAKE (95 % interval 0–1;"),
        (999, 1000, "more than 99 are FAKE (95 % interval 99–100;"),
        (10, 1000, "1 is FAKE"),
        (4000, 4000, "100 are FAKE (95 % interval 99–100; measured on 4,000 images"),
    ],
)
def test_a_frequency_never_claims_more_than_was_counted(fake, count, words):
    assert words in frequencies.SimilarImages(count, fake, 0.1, 0.2).sentence


@pytest.mark.parametrize(
    ("lowest", "highest", "span"),
    [(0.25, 0.5, "0.25–0.50"), (0.9991, 0.9998, "0.999–1.000"), (1.0, 1.0, "1.000000–1.000000")],
)
def test_the_range_of_scores_is_written_so_that_its_ends_differ(lowest, highest, span):
    assert f"scores of {span})" in frequencies.SimilarImages(100, 50, lowest, highest).sentence


def test_prevalence_changes_what_an_alarm_is_worth():
    # Of 1,000 images 10 are fake: 8 found, 9.9 false alarms.
    assert STRICT.probability_fake_if_flagged(0.01) == pytest.approx(8 / 17.9)


def test_prior_shift_is_bayes_on_the_odds():
    # Odds of 9 to 1, where FAKE is 1 in 100: 9 to 99.
    assert frequencies.fake_at_prevalence(0.9, 0.01) == pytest.approx(9 / 108)
    assert frequencies.fake_at_prevalence(0.9, 0.5) == pytest.approx(0.9)
    shifted = frequencies.fake_at_prevalence(0.9, 0.01)
    assert frequencies.fake_at_prevalence(shifted, 0.5, calibrated_at=0.01) == pytest.approx(0.9)
    assert frequencies.fake_at_prevalence(0, 0.01) == 0
    assert frequencies.fake_at_prevalence(1, 0.01) == 1


def test_prior_shift_recovers_the_truth_of_a_rarer_class():
    scores = calibrated(400_000)
    rng = np.random.default_rng(1)
    kept = ~scores.is_fake | (rng.random(len(scores.p_fake)) < 0.1)
    prevalence = scores.is_fake[kept].mean()
    near = np.abs(scores.p_fake[kept] - 0.9) < 0.01
    expected = frequencies.fake_at_prevalence(0.9, float(prevalence))
    assert scores.is_fake[kept][near].mean() == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("share", [0, 1, -0.1])
def test_a_share_without_one_of_the_classes_is_refused(share):
    with pytest.raises(ValueError, match="above 0 and below 1"):
        frequencies.fake_at_prevalence(0.5, share)
    with pytest.raises(ValueError, match="above 0 and below 1"):
        frequencies.fake_at_prevalence(0.5, 0.5, calibrated_at=share)


def test_the_released_evaluation_can_be_read():
    evaluation = runs.find_run("evaluation", released=True)
    points = OperatingPoints.from_run(evaluation)
    assert set(points.points) == set(decisions.TITLES)
    assert points.abstention.certain_from >= 0.5
    scores = MeasuredScores.from_run(evaluation)
    assert len(scores.p_fake) == evaluation.read_json("metrics.json")["count"]
    if len(scores.p_fake) >= frequencies.LEAST_TEST_IMAGES:
        assert scores.like(0.001).share < 0.1 < 0.9 < scores.like(0.999).share


def test_importing_it_loads_no_framework_and_no_figures():
    heavy = "{'tensorflow', 'keras', 'jax', 'matplotlib', 'ipywidgets'}"
    code = f"import sys, cifake_lib.decisions; print({heavy} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "set()", result.stderr
