"""The sections of a card that say what a model was trained on, how, and at what cost.

A section is a list of parts: a paragraph, a list of lines, or a table.
"""

import shlex
from collections.abc import Mapping
from pathlib import PurePosixPath

import pandas as pd

from cifake_lib import corruptions, plots, profiles
from cifake_lib.names import in_percent
from cifake_lib.provenance import WATTS_PER_CORE, training_energy_wh
from cifake_lib.runs import Run
from cifake_lib.summary import table

_SETTINGS = (
    *("optimizer", "learning_rate", "sgd_learning_rate", "head_learning_rate"),
    *("weight_decay", "label_smoothing", "dropout", "batch_size"),
    *("epochs", "head_epochs", "restart_epochs", "patience"),
)


def training_sections(run: Run) -> dict[str, list]:
    """Write the sections on training data, training and hyperparameter search.

    Args:
        run: Of a model stage.

    Returns:
        Heading → parts; the section on the search has none for a model without one.
    """
    return {
        "Training data": _data(run),
        "Training": [*_training(run), energy({run.stage: run})],
        "Search": _search(run),
        "Train it again": _again(run),
    }


def retrain_command(run: Run) -> str:
    """Return the command that trains a run's model again, read from its profile and parameters.

    What a parameter's notebook and profile say today is left out; initial weights are too, since
    they come from a download or a file of one's own.

    Returns:
        One line for a shell; empty for a run that was made without a profile.
    """
    settings, made = profiles.read_settings(), run.manifest["parameters"]
    if (profile := run.manifest["profile"]) not in settings.profiles:
        return ""
    usual = settings.parameters[run.stage] | profiles.profile_values(settings, profile)[run.stage]
    words = ["python", "-m", "cifake_lib.pipeline", "--profile", profile, "--only", run.stage]
    words += ["--run-id", run.run_id]
    for name, value in made.items():
        if name in set(usual) - {"run_id", "profile", "initial_weights"} and value != usual[name]:
            words += ["-p", f"{run.stage}.{name}={value}"]
    return shlex.join(words)


def _again(run: Run) -> list:
    if not (command := retrain_command(run)):
        return []
    teacher = run.manifest["parameters"].get("teacher")
    return [
        f"```\n{command}\n```",
        f"Train its teacher, `{teacher}`, first." if teacher else "",
    ]


def listed(values: Mapping) -> str:
    """Write names and values in a line: `dropout 0.2, augmentation shift + zoom`."""
    return ", ".join(f"{name.replace('_', ' ')} {_shown(value)}" for name, value in values.items())


def hardware(run: Run) -> str:
    """Return the name of the GPU or the processor that a run was trained on."""
    device = run.manifest["training"]["device"]
    return run.manifest["processor"] if device == "CPU" else device


def energy(found: Mapping[str, Run]) -> str:
    """Say what energy the training of models took together, and how that is known.

    See `provenance.training_energy_wh`.
    """
    known = {stage: training_energy_wh(run.manifest) for stage, run in found.items()}
    for stage, run in found.items():
        if known[stage] is None:
            return f"Energy: no estimate is made for training on {hardware(run)}."
    total = f"{sum(known.values()):,.2f} Wh"
    if all("energy_wh" in run.manifest["training"] for run in found.values()):
        return f"Energy of the training: {total}, as the run recorded it."
    return (
        f"Energy of the training: about {total}. This is an estimate, not a "
        f"measurement: it assumes {WATTS_PER_CORE:g} W for each core of the processor, its share "
        "of memory included, all of them busy for as long as training took."
    )


def initial_weights(run: Run) -> str:
    """Say what weights a ResNet-50 started from, as far as its manifest tells."""
    source = run.manifest["parameters"].get("initial_weights", "none")
    missing = any(note.startswith("Trained from random") for note in run.manifest["notes"])
    if source == "none" or missing:
        return "ResNet-50 started from random weights."
    origin = "the ImageNet weights of `keras.applications`"
    if source != "imagenet":
        name = PurePosixPath(source.replace("\\", "/")).name
        origin = f"the file `{name}` (random weights where the file has none)"
    return f"ResNet-50 started from {origin}. Those weights have terms of their own."


def _data(run: Run) -> list:
    parameters, facts = run.manifest["parameters"], run.manifest["data"]
    corrupted = "No training image was corrupted."
    if share := parameters.get("corruption_share"):
        unseen = parameters.get("unseen_corruption", "")
        seen = [plots.display_name(name) for name in corruptions.CORRUPTIONS if name != unseen]
        corrupted = (
            f"{in_percent(share, 0)} of the training images were corrupted: {', '.join(seen)}."
        )
        if unseen:
            corrupted += f" Left out, to see what carries over: {plots.display_name(unseen)}."
    mixed = []
    if share := parameters.get("cutmix_share"):
        mixed = [
            f"{in_percent(share, 0)} of them got a rectangle of another one, and of its label "
            "(CutMix)."
        ]
    if teacher := parameters.get("teacher"):
        mixed.append(
            f"Taught by the run `{teacher}`: the training targets are its answers to "
            f"{parameters['teacher_passes']} views of each image (distillation), not the labels."
        )
    return [
        f"The data set `{facts['name']}`, split by content hash; see the "
        "[data card](../data/DATA_CARD.md).",
        pd.DataFrame(facts["counts"]).T.rename_axis("images"),
        [
            f"Split hash: `{facts['split_hash']}`.",
            f"Augmentation, in training only: {_shown(parameters.get('augmentation', []))}.",
            corrupted,
            *mixed,
        ],
    ]


def _training(run: Run) -> list:
    history, training = run.read_csv("history.csv"), run.manifest["training"]
    lengths = history.groupby("phase", sort=False).size()
    took_place = {name.split("_")[0] for name in lengths.index}
    settings = {"optimizer": "adamw", **_winner(run), **run.manifest["parameters"]}
    rows = [
        [name.replace("_", " "), _shown(settings[name])]
        for name in _SETTINGS
        # The settings of a phase that did not take place say nothing.
        if name in settings and name.split("_")[0] not in {"head", "restart"} - took_place
    ]
    kept = history.loc[history["val_log_loss"].idxmin(), "epoch"]
    phases = ", ".join(f"{name} {length}" for name, length in lengths.items())
    return [
        initial_weights(run) if run.stage == "resnet50" else "",
        table(["setting", "value"], rows),
        "The learning rate warms up, then falls to zero along a cosine.",
        [
            f"Epochs: {training['epochs']} ({phases}); the weights are those of epoch {kept}, with "
            "the lowest log loss on validation images.",
            f"Time: {training['seconds']:,.0f} s, {training['images_per_second']:,.0f} images/s.",
            f"Hardware: {hardware(run)}, precision {run.manifest.get('precision', 'unknown')}; "
            f"peak memory of the process {training['peak_memory_mb']:,} MB.",
        ],
    ]


def _winner(run: Run) -> dict:
    """Return the hyperparameters in use in the trial that won; none without a search."""
    if "trials.csv" not in run.manifest["files"]:
        return {}
    trials = run.read_csv("trials.csv")
    completed = trials[trials["status"] == "completed"].set_index("trial")
    first = completed["val_log_loss"].astype(float).idxmin()
    if "promoted.csv" in run.manifest["files"]:
        first = run.read_csv("promoted.csv")["trial"].iloc[0]
    first = int(run.manifest["parameters"].get("trial") or first)
    best = completed.loc[first].dropna()
    outcome = ["status", "val_log_loss", "val_accuracy", "epochs"]
    return best[best != ""].drop(outcome, errors="ignore").to_dict()


def _search(run: Run) -> list:
    if not (winner := _winner(run)):
        return []
    trials, parameters = run.read_csv("trials.csv"), run.manifest["parameters"]
    completed = (trials["status"] == "completed").sum()
    return [
        f"A search (tuner `{parameters['tuner']}`) ran {len(trials)} trials, {completed} of them "
        "to the end, and judged them by their log loss on validation images. "
        + _promotion(run)
        + "Time and energy above are those of the winner's training alone. The winner:",
        table(
            ["hyperparameter", "value"],
            [[name.replace("_", " "), _shown(value)] for name, value in winner.items()],
        ),
    ]


def _promotion(run: Run) -> str:
    if "promoted.csv" not in run.manifest["files"]:
        return ""
    promoted = run.read_csv("promoted.csv")
    return (
        f"The best {len(promoted)} were tried again for {promoted['epochs'].iloc[0]} epochs on all "
        "training images. "
        + (
            f"Trial {trial} of them was trained in full, chosen by hand. "
            if (trial := run.manifest["parameters"].get("trial"))
            else "The best of those won. "
        )
    )


def _shown(value) -> str:
    if isinstance(value, list):
        return " + ".join(map(_shown, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
