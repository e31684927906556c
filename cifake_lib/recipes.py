"""Which parameters make two trainings the same, also where notebooks have gained some since."""

import hashlib
import json
from collections.abc import Mapping

# What a run without the parameter did, as it was made before there was one.
_BEFORE = {
    "class_names": ["REAL", "FAKE"],
    "split_shares": [],
    "left_out_sources": [],
    "crop": "centre",
    "builder": "baseline_cnn",
    "search_space": "tuned_cnn",
    "backbone": "resnet50",
    "head": "global_average",
    "restart_epochs": [],
    "gpus": 1,
}
_BEFORE_IN_SEARCHES = _BEFORE | {"initial_weights": "none"}
_OWN = ("run_id", "profile", "seed")


def told(parameters: Mapping) -> dict:
    """Return the parameters, without those that ask for what was done before they existed."""
    before = _BEFORE_IN_SEARCHES if "search_trials" in parameters else _BEFORE
    return {k: v for k, v in parameters.items() if k not in before or before[k] != v}


def recipe(parameters: Mapping) -> str:
    """Name what runs share which differ in nothing but their seed."""
    same = {name: value for name, value in told(parameters).items() if name not in _OWN}
    # The letter keeps a table from reading it as a number.
    return f"r{hashlib.sha256(json.dumps(same, sort_keys=True).encode()).hexdigest()[:8]}"
