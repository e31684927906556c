"""McNemar and Holm against worked examples; the paired bootstrap against one written out."""

import numpy as np
import pytest
from sklearn.metrics import f1_score

from cifake_lib import significance


def test_mcnemar_is_the_sum_of_a_binomial_tail():
    # 10 against 2: 2 * (1 + 12 + 66) / 2**12.
    assert significance.mcnemar(10, 2) == pytest.approx(158 / 4096)
    assert significance.mcnemar(2, 10) == pytest.approx(158 / 4096)
    assert significance.mcnemar(0, 0) == significance.mcnemar(7, 7) == 1


def test_holm_multiplies_the_smallest_by_the_number_of_tests():
    corrected = significance.holm([0.01, 0.04, 0.03, 0.005])
    np.testing.assert_allclose(corrected, [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(significance.holm([0.9, 0.8]), [1, 1])


@pytest.fixture(scope="module")
def called():
    """Labels, and three models: two of about the same quality, the second right where the first
    is wrong, and one that is worse."""
    rng = np.random.default_rng(0)
    y_true = rng.integers(0, 2, 2000)
    wrong = {name: rng.random(2000) < rate for name, rate in [("a", 0.05), ("b", 0.05), ("c", 0.1)]}
    return y_true, {name: (y_true ^ errors).astype(bool) for name, errors in wrong.items()}


def test_paired_bootstrap_agrees_with_drawing_images(called):
    y_true, calls = called
    rng, count = np.random.default_rng(1), len(y_true)
    drawn = []
    for _ in range(400):
        rows = rng.integers(count, size=count)
        scores = [f1_score(y_true[rows], calls[key][rows], average="macro") for key in "ac"]
        drawn.append(scores[0] - scores[1])
    difference, low, high = significance.paired_f1_difference(y_true, calls["a"], calls["c"])
    expected = [f1_score(y_true, calls[key], average="macro") for key in "ac"]
    assert difference == pytest.approx(expected[0] - expected[1])
    np.testing.assert_allclose([low, high], np.quantile(drawn, [0.025, 0.975]), atol=0.002)


def test_pairing_narrows_the_interval_of_models_that_fail_on_the_same_images(called):
    y_true, calls = called
    same = calls["a"].copy()
    same[:4] ^= True
    _, low, high = significance.paired_f1_difference(y_true, calls["a"], same)
    _, wide_low, wide_high = significance.paired_f1_difference(y_true, calls["a"], calls["b"])
    assert high - low < (wide_high - wide_low) / 3


def test_equal_models_tie_and_a_worse_one_is_found(called):
    y_true, calls = called
    table = significance.compare_pairs(y_true, calls).set_index(["model", "other"])
    assert table["verdict"].to_dict() == {
        ("a", "b"): "tie",
        ("a", "c"): "better",
        ("b", "c"): "better",
    }
    row = table.loc[("a", "c")]
    assert row["f1_difference_low"] > 0 and row["p_value"] < 0.001
    only_a = ((calls["a"] == y_true) & (calls["c"] != y_true)).sum()
    assert row["only_model_right"] == only_a
    turned = significance.compare_pairs(y_true, {"c": calls["c"], "a": calls["a"]})
    assert turned["verdict"].tolist() == ["worse"]


def test_one_model_has_no_pair(called):
    y_true, calls = called
    assert significance.compare_pairs(y_true, {"a": calls["a"]}).empty


def test_false_alarms_are_rare(called):
    """Two equal models must not be told apart more often than the level allows."""
    rng, found = np.random.default_rng(3), 0
    for _ in range(200):
        y_true = rng.integers(0, 2, 400)
        calls = {key: (y_true ^ (rng.random(400) < 0.1)).astype(bool) for key in "ab"}
        found += significance.compare_pairs(y_true, calls)["verdict"].item() != "tie"
    assert found / 200 <= 0.06
