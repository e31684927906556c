"""Results by kind of object, copies and agreement, on worked examples."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from cifake_lib import breakdown
from cifake_lib.data import Dataset

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


def test_images_without_a_kind_make_an_empty_table():
    assert breakdown.by_object_class([""] * 6, Y_TRUE, CALLS).empty


def test_kappa_of_a_worked_example():
    table = breakdown.agreement(CALLS)
    # They agree on 4 of 6; both call 4 of 6 FAKE, so chance agrees on (2/3)² + (1/3)² = 5/9.
    assert table.loc["one", "two"] == pytest.approx((4 / 6 - 5 / 9) / (1 - 5 / 9))
    assert table.loc["two", "one"] == table.loc["one", "two"]
    assert table.loc["one", "one"] == 1


def test_images_that_all_miss():
    assert breakdown.missed_by_all(Y_TRUE, CALLS).tolist() == [0, 1, 0, 0, 0, 1]


def photographs(count, seed=0):
    """Smooth pictures that differ, so that their perceptual hashes do too."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)
    return coarse.repeat(8, axis=1).repeat(8, axis=2)


def test_copies_in_training_are_found():
    images = photographs(6)
    images[3] = images[0]  # an exact copy of a training image
    images[4] = np.clip(images[1].astype(int) + 3, 0, 255)  # looks like another
    table = pd.DataFrame(
        {
            "split": ["train", "train", "validation", "test", "test", "test"],
            "content_hash": ["a", "b", "c", "a", "d", "e"],
        }
    )
    dataset = Dataset("made-up", None, table, table[:0], "")
    copied = breakdown.copied_from_training(dataset, images)
    assert copied["exact"].tolist() == [True, False, False]
    assert copied["near"].tolist() == [True, True, False]


def test_a_copy_in_validation_or_in_test_does_not_count():
    images = photographs(4)
    images[2] = images[3] = images[1]
    table = pd.DataFrame(
        {"split": ["train", "validation", "test", "test"], "content_hash": ["a", "b", "b", "b"]}
    )
    copied = breakdown.copied_from_training(Dataset("m", None, table, table[:0], ""), images)
    assert not copied.to_numpy().any()


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
