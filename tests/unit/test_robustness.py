"""What is left of a detector on corrupted images."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from cifake_lib import corruptions
from cifake_lib.robustness import delivery_table, robustness_summary, robustness_table
from cifake_lib.selective import ConformalSets


def test_robustness_table_measures_each_model_under_each_condition():
    # FAKE is bright here, so that brightness and nothing else tells the classes apart.
    rng = np.random.default_rng(0)
    y_true = np.tile([0, 1], 40)
    images = (60 + 120 * y_true[:, None, None, None] + rng.integers(0, 20, (80, 16, 16, 3))).astype(
        np.uint8
    )
    untouched = images.copy()

    def predict(batch):
        bright = expit((batch.mean(axis=(1, 2, 3)) - 128) / 10)
        return {"bright": bright, "blind": np.full(len(batch), 0.9)}

    conditions = [("blur", 5), ("brightness", 5)]
    table = robustness_table(predict, images, y_true, conditions=conditions)
    assert list(table.columns) == [
        *("model", "corruption", "severity", "level"),
        *("accuracy", "accuracy_low", "accuracy_high"),
        *("true_positive_rate", "true_negative_rate", "roc_auc"),
    ]
    assert table[["corruption", "severity"]].drop_duplicates().values.tolist() == [
        ["clean", 0],
        ["blur", 5],
        ["brightness", 5],
    ]
    rows = table.set_index(["model", "corruption"])
    assert rows.loc[("bright", "clean"), "accuracy"] == 1
    assert rows.loc[("bright", "blur"), "accuracy"] == 1  # a blur keeps the mean
    assert rows.loc[("bright", "blur"), "level"] == 2.0
    # Halved brightness sends about half of FAKE to the dark side, and leaves REAL there.
    assert 0.2 < rows.loc[("bright", "brightness"), "true_positive_rate"] < 0.8
    assert rows.loc[("bright", "brightness"), "true_negative_rate"] == 1
    assert rows.loc[("blind", "clean"), "accuracy"] == 0.5
    assert 0.3 < rows.loc[("blind", "clean"), "accuracy_low"] < 0.5
    assert rows.loc[("blind", "clean"), "true_positive_rate"] == 1
    assert rows.loc[("blind", "clean"), "roc_auc"] == 0.5
    np.testing.assert_array_equal(images, untouched)


def test_the_summary_names_the_worst_condition_and_the_family_left_out():
    table = pd.DataFrame(
        [
            ("a", "clean", 0, np.nan, 0.99),
            ("a", "jpeg", 3, 50.0, 0.95),
            ("a", "blur", 1, 0.5, 0.90),
            ("a", "blur", 3, 1.0, 0.70),
            ("b", "clean", 0, np.nan, 0.90),
            ("b", "jpeg", 3, 50.0, 0.50),
            ("b", "blur", 1, 0.5, 0.80),
            ("b", "blur", 3, 1.0, 0.80),
        ],
        columns=["model", "corruption", "severity", "level", "accuracy"],
    )
    summary = robustness_summary(table, unseen=["blur"])
    assert summary.loc["a", "clean"] == 0.99
    assert summary.loc["a", "mean"] == np.mean([0.95, 0.90, 0.70])
    assert (summary.loc["a", "worst"], summary.loc["a", "worst_condition"]) == (0.70, "blur 1")
    assert (summary.loc["b", "worst"], summary.loc["b", "worst_condition"]) == (0.50, "jpeg 50")
    assert summary.loc["a", "unseen"] == np.mean([0.90, 0.70])
    assert robustness_summary(table)["unseen"].isna().all()


def test_deliveries_count_verdicts_that_flip():
    """Detail is what tells the classes apart here, and shrinking takes it away: FAKE flips."""
    rng = np.random.default_rng(0)
    y_true = np.tile([0, 1], 20)
    images = np.full((40, 32, 32, 3), 128, np.uint8)
    images[1::2] = rng.integers(100, 156, (20, 32, 32, 3), dtype=np.uint8)

    def predict(batch):
        detail = np.abs(np.diff(batch.astype(float), axis=2)).mean(axis=(1, 2, 3))
        return {"detail": expit(detail - 9), "blind": np.full(len(batch), 0.9)}

    table = delivery_table(predict, images, y_true).set_index(["model", "delivery"])
    names = ["none", *corruptions.DELIVERIES]
    assert table.index.get_level_values("delivery").unique().tolist() == names
    assert table.loc[("detail", "none"), ["accuracy", "flipped"]].tolist() == [1, 0]
    thumbnail = table.loc[("detail", "thumbnail")]
    assert thumbnail["fake_flipped"] > 0.9 and thumbnail["real_flipped"] == 0
    assert thumbnail["flipped"] == (thumbnail["fake_flipped"] + 0) / 2
    assert thumbnail["accuracy"] == 1 - thumbnail["flipped"]
    assert table.loc["blind", "flipped"].eq(0).all()


def test_conformal_sets_are_tested_under_corruption():
    y_true = np.tile([0, 1], 40)
    images = np.zeros((80, 16, 16, 3), np.uint8)
    images[y_true == 1] = 200
    sets = {"m": ConformalSets(level=0.9, real=0.2, fake=0.7)}

    def predict(batch):
        return {"m": batch.mean(axis=(1, 2, 3)) / 255}  # FAKE .78; halved .39, .00 stays

    table = robustness_table(
        predict, images, y_true, conditions=[("brightness", 5)], sets=sets, seed=3
    ).set_index("corruption")
    assert table.loc["clean", ["coverage", "coverage_fake", "single"]].tolist() == [1, 1, 1]
    # A brighter FAKE keeps its set; a darker one is taken for REAL, neither of the two fitting.
    darker = 1 - table.loc["brightness", "coverage_fake"]
    assert 0.2 < darker < 0.8
    assert table.loc["brightness", "coverage_real"] == 1
    assert table.loc["brightness", "coverage"] == pytest.approx(1 - darker / 2)
