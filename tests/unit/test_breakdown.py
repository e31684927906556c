"""Results by kind of object, copies and agreement, on worked examples."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from cifake_lib import breakdown

Y_TRUE = np.array([0, 0, 1, 1, 1, 0])
CALLS = {
    "one": np.array([False, True, True, False, True, True]),
    "two": np.array([False, True, True, True, False, True]),
}


def test_right_answers_are_counted_for_each_kind():
    kinds = ["dog", "cat", "dog", "cat", "", "cat"]
    table = breakdown.by_object_class(kinds, Y_TRUE, CALLS).set_index(["object_class", "model"])
    assert table["images"].to_dict() == {
        ("cat", "one"): 3,
        ("cat", "two"): 3,
        ("dog", "one"): 2,
        ("dog", "two"): 2,
    }
    assert table["accuracy"].to_numpy() == pytest.approx([0, 1 / 3, 1, 1])
    # Wilson 1927: the shares p with |1/3 - p| = z √(p (1 - p) / 3).
    row = table.loc[("cat", "two")]
    for p in (row["accuracy_low"], row["accuracy_high"]):
        assert abs(1 / 3 - p) == pytest.approx(norm.ppf(0.975) * np.sqrt(p * (1 - p) / 3))
    assert row["accuracy_low"] < 1 / 3 < row["accuracy_high"]


def test_kinds_are_those_of_objects_or_else_sources():
    table = pd.DataFrame({"object_class": ["", ""], "source": ["phone", "SDXL"]})
    assert breakdown.kinds(table).tolist() == ["phone", "SDXL"]
    assert breakdown.kinds(table.assign(object_class=["cat", ""])).tolist() == ["cat", ""]
    assert breakdown.kinds(table[["object_class"]]).tolist() == ["", ""]


def test_images_without_a_kind_make_an_empty_table():
    assert breakdown.by_object_class([""] * 6, Y_TRUE, CALLS).empty


def test_kappa_of_a_worked_example():
    table = breakdown.agreement(CALLS)
    # They agree on 4 of 6; both call 4 of 6 FAKE, so chance agrees on (2/3)² + (1/3)² = 5/9.
    assert table.loc["one", "two"] == pytest.approx((4 / 6 - 5 / 9) / (1 - 5 / 9))
    assert table.loc["two", "one"] == table.loc["one", "two"]
    assert table.loc["one", "one"] == 1


def test_models_that_call_everything_by_one_name_agree():
    calls = {"one": np.zeros(6, bool), "two": np.zeros(6, bool), "three": np.ones(6, bool)}
    table = breakdown.agreement(calls)
    assert table.loc["one", "two"] == 1
    assert table.loc["one", "three"] == 0


def test_images_that_all_miss():
    assert breakdown.missed_by_all(Y_TRUE, CALLS).tolist() == [0, 1, 0, 0, 0, 1]


def test_scores_without_copies():
    y_score = {"one": np.array([0.1, 0.9, 0.9, 0.1, 0.9, 0.9])}
    copied = pd.DataFrame(
        {
            "exact": [True, False, False, False, False, False],
            "near": [True, False, True, False, False, False],
        }
    )
    table = breakdown.without_copies(Y_TRUE, y_score, copied)
    assert table["images"].tolist() == [6, 5, 4]
    # All six: 1 REAL and 2 FAKE right, 2 REAL and 1 FAKE wrong.
    assert table["f1"][0] == pytest.approx((2 / (2 + 2 + 1) + 4 / (4 + 2 + 1)) / 2)
    assert (table["f1_low"] <= table["f1"]).all()
    assert (table["f1"] <= table["f1_high"]).all()
