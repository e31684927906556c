"""The trials of a search as a table, what failed in them, and what mattered."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from keras_tuner import HyperParameters
from keras_tuner.engine.trial import Trial

from cifake_lib import trials


def trial(number, *, status="COMPLETED", loss=None, message=None, **values):
    hyperparameters = HyperParameters()
    hyperparameters.values = values
    made = Trial(hyperparameters, trial_id=f"{number:04d}", status=status)
    made.message = message
    if loss is not None:
        made.metrics.register("val_log_loss", direction="min")
        made.metrics.update("val_log_loss", loss)
        made.metrics.register("val_accuracy", direction="max")
        made.metrics.update("val_accuracy", 1 - loss)
    return made


def test_the_table_has_a_row_a_trial_in_the_order_of_their_start():
    table = trials.trials_table(
        [
            trial(2, status="FAILED", message="Traceback\nValueError: too wide", width=64),
            trial(0, loss=0.4, width=16, optimizer="sgd", **{"tuner/epochs": 3}),
            trial(1, loss=0.3, width=32, learning_rate=1e-3),
        ]
    )
    assert list(table["trial"]) == ["0000", "0001", "0002"]
    assert list(table["status"]) == ["completed", "completed", "failed"]
    np.testing.assert_allclose(table["val_log_loss"], [0.4, 0.3, np.nan])
    np.testing.assert_allclose(table["val_accuracy"], [0.6, 0.7, np.nan])
    assert table["epochs"].tolist()[0] == 3
    assert list(table["width"]) == [16, 32, 64]
    assert table["optimizer"].isna().tolist() == [False, True, True]
    assert not [name for name in table if name.startswith("tuner/")]
    assert table["message"].tolist() == ["", "", "Traceback\nValueError: too wide"]


def test_a_search_without_trials_has_an_empty_table_with_columns():
    table = trials.trials_table([])
    assert len(table) == 0
    assert {"trial", "status", "val_log_loss", "val_accuracy", "message"} <= set(table)


def test_the_failure_names_trials_the_first_error_and_the_folder():
    table = trials.trials_table(
        [
            trial(0, loss=0.4),
            trial(1, status="FAILED", message="Traceback\n  File x\nMemoryError: 3 GB\n"),
            trial(2, status="FAILED", message="Traceback\nOSError: later"),
        ]
    )
    error = trials.failure(table, Path("artifacts/runs/searches/one"))
    assert isinstance(error, trials.TrialsFailed)
    message = str(error)
    assert "2 of 3" in message and "0001, 0002" in message
    assert "MemoryError: 3 GB" in message and "later" not in message
    assert "searches/one" in message


def test_a_failure_without_a_message_says_where_to_look():
    table = trials.trials_table([trial(0, status="FAILED", loss=float("nan"))])
    assert "not a number" in str(trials.failure(table, Path("one")))


@pytest.fixture
def synthetic():
    """Forty trials: the loss follows the learning rate, a little the optimiser, never the width."""
    random = np.random.default_rng(3)
    rate = random.uniform(0, 1, 40)
    optimizer = random.choice(["adam", "sgd"], 40)
    width = random.choice([16, 24, 32], 40)
    return pd.DataFrame(
        {
            "trial": [f"{n:04d}" for n in range(40)],
            "status": "completed",
            "val_log_loss": rate + 0.2 * (optimizer == "sgd"),
            "learning_rate": rate,
            "optimizer": optimizer,
            "width": width,
            # Known only to half of the trials, as a conditional hyperparameter is.
            "sgd_learning_rate": np.where(optimizer == "sgd", random.uniform(0, 1, 40), np.nan),
        }
    )


NAMES = ["width", "optimizer", "learning_rate", "sgd_learning_rate"]


def test_importance_finds_what_matters(synthetic):
    shares = trials.importance(synthetic, NAMES)
    assert shares.index[0] == "learning_rate" and shares.iloc[0] > 0.6
    assert shares["optimizer"] > shares["width"]
    assert shares["width"] < 0.05
    assert shares.sum() == pytest.approx(1)
    assert shares.is_monotonic_decreasing


def test_importance_is_repeatable_and_ignores_failed_trials(synthetic):
    failed = synthetic.head(5).assign(status="failed", val_log_loss=np.nan, width=99)
    with_failed = pd.concat([failed, synthetic], ignore_index=True)
    pd.testing.assert_series_equal(
        trials.importance(with_failed, NAMES), trials.importance(synthetic, NAMES)
    )


def test_importance_of_a_single_trial_is_nothing_and_no_error(synthetic):
    assert (trials.importance(synthetic.head(1), NAMES) == 0).all()
