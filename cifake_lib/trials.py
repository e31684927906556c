"""Read the trials of a hyperparameter search: as a table, and what mattered in them."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd
from sklearn.ensemble import RandomForestRegressor
from sklearn.inspection import permutation_importance

from cifake_lib import paths

OBJECTIVE = "val_log_loss"


class TrialsFailed(RuntimeError):
    """Trials of a search failed; the message names them and the first error."""


def trials_table(trials: Iterable) -> pd.DataFrame:
    """Make a table of keras-tuner's trials, in the order they were started.

    Returns:
        One row per trial: `trial`, `status`, `val_log_loss` and `val_accuracy` (of the best epoch),
        `epochs` (None unless Hyperband sets them), one column per hyperparameter (empty where it
        was not active), and `message` (the traceback of a failed trial).
    """
    rows = []
    for trial in trials:
        values = trial.hyperparameters.values
        active = {name: value for name, value in values.items() if not name.startswith("tuner/")}
        metrics = {
            name: trial.metrics.get_best_value(name)
            for name in (OBJECTIVE, "val_accuracy")
            if trial.metrics.exists(name)
        }
        rows.append(
            {
                "trial": trial.trial_id,
                "status": trial.status.lower(),
                **{name: metrics.get(name) for name in (OBJECTIVE, "val_accuracy")},
                "epochs": values.get("tuner/epochs"),
                **active,
                "message": trial.message or "",
            }
        )
    columns = ["trial", "status", OBJECTIVE, "val_accuracy", "epochs", "message"]
    table = pd.DataFrame(rows) if rows else pd.DataFrame(columns=columns)
    return table.sort_values("trial", ignore_index=True)


def failure(trials: pd.DataFrame, folder: Path) -> TrialsFailed:
    """Make the error that names the trials that did not complete.

    Args:
        trials: Table made by `trials_table`.
        folder: Where keras-tuner keeps the search.
    """
    failed = trials[trials["status"] != "completed"]
    messages = [message for message in failed["message"] if message]
    # The last line of a traceback names the error.
    first = (
        messages[0].strip().splitlines()[-1]
        if messages
        else ("none was reported: its log loss was not a number, or a worker's output has it")
    )
    return TrialsFailed(
        f"Expected every trial to complete, but {len(failed)} of {len(trials)} did not "
        f"({', '.join(failed['trial'])}). The first error: {first}. Mend the cause and delete the "
        f"search's folder {paths.shown(folder)}, or raise max_failed_trials."
    )


def importance(trials: pd.DataFrame, hyperparameters: Sequence[str], *, seed: int = 0) -> pd.Series:
    """Estimate how much each hyperparameter moves the objective.

    A random forest predicts the objective from the hyperparameters; the importance of one is the
    error that shuffling it adds (Breiman 2001), as a share of all. With few trials this is a hint.

    Args:
        trials: Table made by `trials_table`.
        hyperparameters: Names of its hyperparameter columns.
        seed: Seed of forest and shuffling.

    Returns:
        Shares from 0 to 1 by hyperparameter, largest first.
    """
    completed = trials[trials["status"] == "completed"]
    table = completed[list(hyperparameters)]
    # Codes keep one column per hyperparameter; a forest needs no scale. Inactive ones become -1.
    features = table.apply(
        lambda column: (
            column.fillna(-1)
            if pd.api.types.is_numeric_dtype(column)
            else column.astype("category").cat.codes
        )
    )
    target = completed[OBJECTIVE]
    forest = RandomForestRegressor(200, random_state=seed).fit(features, target)
    found = permutation_importance(
        forest,
        features,
        target,
        scoring="neg_mean_squared_error",  # The default is undefined for a single trial.
        n_repeats=20,
        random_state=seed,
    )
    shares = pd.Series(found.importances_mean, index=list(hyperparameters)).clip(lower=0)
    return (shares / max(shares.sum(), 1e-12)).sort_values(ascending=False)
