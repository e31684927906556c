"""Figures of decisions: what is drawn is what scikit-learn and Bayes say."""

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import det_curve

from cifake_lib import plots, plots_decisions, selective


@pytest.fixture(scope="module")
def scored():
    rng = np.random.default_rng(0)
    y_true = rng.integers(0, 2, 500)
    return {
        key: (y_true, np.clip(0.5 + (y_true - 0.5) * skill + rng.normal(0, 0.2, 500), 0, 1))
        for key, skill in (("baseline_cnn", 0.5), ("resnet50", 0.9))
    }


@pytest.fixture
def ax():
    return plots.new_figure(5, 4).subplots()


def test_det_curve_is_that_of_scikit_learn_on_normal_quantiles(scored, ax):
    assert plots_decisions.det_curves(scored, ax=ax) is ax
    false_alarms, missed, _ = det_curve(*scored["resnet50"])
    inside = (false_alarms > 0) & (false_alarms < 1) & (missed > 0) & (missed < 1)
    drawn = ax.lines[1].get_xydata()[inside]
    np.testing.assert_allclose(drawn, norm.ppf(np.column_stack([false_alarms, missed])[inside]))
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "Baseline CNN",
        "ResNet-50",
    ]
    assert ax.get_xticklabels()[0].get_text() == "0.1"
    ax.figure.savefig("/dev/null", format="png")


def test_coverage_curve_ends_at_the_error_of_all_images_and_marks_the_band(scored, ax):
    certain = {
        key: selective.certain_from(*values, accuracy=0.95) for key, values in scored.items()
    }
    plots_decisions.coverage_curves(scored, certain=certain, ax=ax)
    y_true, y_score = scored["baseline_cnn"]
    line, mark = ax.lines[:2]
    error = ((y_score >= 0.5) != y_true).mean()
    np.testing.assert_allclose(line.get_xydata()[-1], [100, 100 * error])
    measured = selective.selective_scores(y_true, y_score, certain["baseline_cnn"])
    expected = [100 * measured["coverage"], 100 * (1 - measured["accuracy"])]
    np.testing.assert_allclose(mark.get_xydata()[0], expected)
    ax.figure.savefig("/dev/null", format="png")


def test_prevalence_writes_highest_and_lowest_value(ax):
    plots_decisions.prevalence_curves({"balanced": (0.9, 0.1), "fpr_1": (0.8, 0.01)}, ax=ax)
    written = [text.get_text() for text in ax.texts]
    # Of 0.1, 1, 10 and 50 % by hand: .8p / (.8p + .01(1 - p)) and .9p / (.9p + .1(1 - p)).
    assert written == ["99", "90", "90", "50", "45", "8", "7", "1"]
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["p_fake .5", "1 % false alarms"]
    ax.figure.savefig("/dev/null", format="png")
