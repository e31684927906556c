"""Search the hyperparameters of the tuned CNN with keras-tuner: resumable, loud about failures.

One machine searches from notebook 03. Several machines share one search through a common folder:

    python -m cifake_lib.tuning --role chief  --address HOST:PORT --directory SHARED
    python -m cifake_lib.tuning --role worker --address HOST:PORT --directory SHARED --worker-id 1

The chief's port asks for no password: use private networks only. A finished shared search is found
again by the notebook when it has the same settings, data and folder.
"""

import argparse
import hashlib
import json
import logging
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import keras
import keras_tuner
import pandas as pd

from cifake_lib import batches, data, models, paths, training
from cifake_lib.live import LiveTable
from cifake_lib.trials import OBJECTIVE, trials_table

logger = logging.getLogger(__name__)

TUNERS = ("hyperband", "bayesian", "random")
SHAPE = ("blocks", "convolutions_per_block", "width", "pooling", "dropout")


class TrialsFailed(RuntimeError):
    """Trials of a search failed; the message names them and the first error."""


@dataclass(frozen=True)
class Settings:
    """What defines a search besides its space and its data.

    Attributes:
        tuner: `hyperband` (Li et al. 2018), `bayesian` or `random`.
        trials: Number of trials; Hyperband derives its own from `epochs`.
        epochs: Epochs of a trial, the most of any trial for Hyperband.
        batch_size: Images in a batch.
        image_size: Side of the model's input in pixels.
        augmentation: Keys of `models.AUGMENTATIONS`.
        seed: Seed of the search and of every trial's weights.
    """

    tuner: str = "hyperband"
    trials: int = 10
    epochs: int = 5
    batch_size: int = 64
    image_size: int = 32
    augmentation: Sequence[str] = models.DEFAULT_AUGMENTATION
    seed: int = 0


@dataclass(frozen=True)
class SearchResult:
    """A finished search.

    Attributes:
        trials: One row per trial, best first: `trial`, `status`, `val_log_loss`, `val_accuracy`,
            `epochs`, and one column per hyperparameter (empty where it was not active).
        hyperparameters: Names of the hyperparameter columns.
        shape: Arguments of `models.build_tuned_cnn` of the best trial.
        phase: Training of the best trial.
        folder: Where keras-tuner keeps the search.
    """

    trials: pd.DataFrame
    hyperparameters: list[str]
    shape: dict
    phase: training.Phase
    folder: Path


def phase_space(hp, *, epochs: int) -> training.Phase:
    """Draw the training of a trial: optimiser, learning rate, weight decay, label smoothing.

    Args:
        hp: `keras_tuner.HyperParameters`.
        epochs: Length of the phase.
    """
    optimizer = hp.Choice("optimizer", list(training.OPTIMIZERS))
    # SGD wants rates about thirty times those of Adam: one range for both would waste trials.
    adaptive = {"parent_name": "optimizer", "parent_values": ["adamw", "adam"]}
    momentum = {"parent_name": "optimizer", "parent_values": ["sgd"]}
    with hp.conditional_scope(**adaptive):
        if optimizer != "sgd":
            rate = hp.Float("learning_rate", 3e-4, 1e-2, sampling="log", default=2e-3)
    with hp.conditional_scope(**momentum):
        if optimizer == "sgd":
            rate = hp.Float("sgd_learning_rate", 1e-2, 3e-1, sampling="log", default=5e-2)
    with hp.conditional_scope("optimizer", ["adamw", "sgd"]):
        decay = 0.0
        if optimizer != "adam":
            decay = hp.Float("weight_decay", 1e-5, 1e-1, sampling="log", default=1e-2)
    return training.Phase(
        name="training",
        epochs=epochs,
        learning_rate=rate,
        optimizer=optimizer,
        weight_decay=decay,
        label_smoothing=hp.Choice("label_smoothing", [0.0, 0.02, 0.05, 0.1]),
    )


class _HyperModel(keras_tuner.HyperModel):
    def __init__(self, settings: Settings, steps_per_epoch: int):
        super().__init__(name="tuned_cnn")
        self.settings, self.steps_per_epoch = settings, steps_per_epoch
        self.live = None

    def build(self, hp) -> keras.Model:
        keras.utils.set_random_seed(self.settings.seed)
        model = models.build_tunable_cnn(
            hp, image_size=self.settings.image_size, augmentation=self.settings.augmentation
        )
        # Hyperband lengthens promising trials: the schedule spans what this trial will have run.
        epochs = hp.values.get("tuner/epochs", self.settings.epochs)
        phase = phase_space(hp, epochs=epochs)
        training.compile_model(model, phase, steps=epochs * self.steps_per_epoch)
        # A promoted trial loads its optimiser's state too, which must exist by then.
        model.optimizer.build(model.trainable_variables)
        return model

    def fit(self, hp, model, *args, callbacks=(), **options):
        if self.live is not None:
            callbacks = [*callbacks, _TrialProgress(self.live, self.steps_per_epoch)]
        return model.fit(*args, callbacks=list(callbacks), shuffle=False, **options)


class _TrialProgress(keras.callbacks.Callback):
    def __init__(self, live: LiveTable, steps_per_epoch: int):
        super().__init__()
        self.live, self.steps_per_epoch, self.epoch = live, steps_per_epoch, 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        share = (batch + 1) / self.steps_per_epoch
        self.live.progress(
            f"this trial: epoch {self.epoch + 1} of {self.params['epochs']} · "
            f"loss {logs['loss']:.4f}",
            share,
        )


class _ShowsTrials:
    """Mixed into a keras-tuner class: shows the trials table after each trial."""

    live: LiveTable | None = None

    def on_trial_end(self, trial):
        super().on_trial_end(trial)
        if self.live is not None:
            self.live.show(trials_table(self.oracle).drop(columns="message"))


def search(
    dataset: data.Dataset,
    settings: Settings,
    *,
    directory: Path | None = None,
    max_failed_trials: int = 0,
) -> SearchResult:
    """Search, or continue the same search where it stopped.

    The folder's name holds a hash of space, settings and data, so that another search never goes on
    with these trials by accident.

    Args:
        dataset: Trained on its training split, judged on its validation split.
        settings: The search.
        directory: Folder of searches; shared by all machines of a distributed search.
        max_failed_trials: More failed trials than this raise an error. The others are kept.

    Returns:
        The result.

    Raises:
        ValueError: The tuner is unknown.
        TrialsFailed: More trials failed than allowed, or none completed.
    """
    training.prepare(settings.seed)
    images = batches.load_images(dataset, image_size=settings.image_size)
    labels = dataset.table["label"].to_numpy()
    train_batches, validation = (
        batches.ImageBatches(
            images,
            labels,
            rows=dataset.rows(split).to_numpy(),
            batch_size=settings.batch_size,
            shuffle=split == "train",
            seed=settings.seed,
        )
        for split in ("train", "validation")
    )
    hypermodel = _HyperModel(settings, len(train_batches))
    directory = directory or paths.runs_dir() / "searches"
    tuner = _make_tuner(hypermodel, dataset, settings, directory)
    with LiveTable() as live:
        tuner.live = hypermodel.live = live
        try:
            tuner.search(
                train_batches, validation_data=validation, epochs=settings.epochs, verbose=0
            )
        except RuntimeError as error:  # keras-tuner stops after three failures in a row.
            raise _failure(trials_table(tuner.oracle)) from error
        finally:
            tuner.live = hypermodel.live = None
    return _result(tuner, settings, max_failed_trials)


def _make_tuner(hypermodel, dataset, settings: Settings, directory: Path):
    if settings.tuner not in TUNERS:
        raise ValueError(f"Expected a tuner out of {TUNERS}, received {settings.tuner!r}")
    kind, options = {
        "hyperband": (keras_tuner.Hyperband, {"max_epochs": settings.epochs}),
        "bayesian": (keras_tuner.BayesianOptimization, {"max_trials": settings.trials}),
        "random": (keras_tuner.RandomSearch, {"max_trials": settings.trials}),
    }[settings.tuner]
    space = keras_tuner.HyperParameters()
    hypermodel.build(space)
    identity = json.dumps([space.get_config()["space"], asdict(settings), dataset.split_hash])
    digest = hashlib.sha256(identity.encode()).hexdigest()[:12]
    return type(kind.__name__, (_ShowsTrials, kind), {})(
        hypermodel,
        objective=keras_tuner.Objective(OBJECTIVE, "min"),
        seed=settings.seed,
        directory=str(directory),
        project_name=f"tuned_cnn-{settings.tuner}-{digest}",
        overwrite=False,
        **options,
    )


def _result(tuner, settings: Settings, max_failed_trials: int) -> SearchResult:
    trials = trials_table(tuner.oracle).sort_values(OBJECTIVE, ignore_index=True)
    completed = trials["status"] == "completed"
    if (~completed).sum() > max_failed_trials or not completed.any():
        raise _failure(trials)
    trials["epochs"] = trials["epochs"].fillna(settings.epochs).astype(int)
    best = tuner.oracle.trials[trials.loc[completed, "trial"].iloc[0]].hyperparameters
    hyperparameters = [parameter.name for parameter in tuner.oracle.get_space().space]
    return SearchResult(
        trials=trials.drop(columns="message"),
        hyperparameters=[name for name in hyperparameters if name in trials],
        shape={name: best.values[name] for name in SHAPE},
        phase=phase_space(best, epochs=settings.epochs),
        folder=Path(tuner.project_dir),
    )


def _failure(trials: pd.DataFrame) -> TrialsFailed:
    failed = trials[trials["status"] != "completed"]
    lines = (failed["message"].iloc[0] if len(failed) else "").strip().splitlines()
    return TrialsFailed(
        f"Expected every trial to complete, but {len(failed)} of {len(trials)} did not "
        f"({', '.join(failed['trial'])}). The first error: {lines[-1] if lines else 'unknown'}. "
        "Mend the cause and delete the search's folder, or raise max_failed_trials."
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one process of a search: `python -m cifake_lib.tuning --help`."""
    parser = argparse.ArgumentParser(prog="python -m cifake_lib.tuning", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--role", choices=("alone", "chief", "worker"), default="alone")
    parser.add_argument("--address", default="127.0.0.1:8000", help="the chief's host:port")
    parser.add_argument("--worker-id", default="0", help="unlike that of every other worker")
    parser.add_argument("--directory", type=Path, help="folder that all machines share")
    parser.add_argument("--data-dir", default="sample")
    parser.add_argument("--max-images", type=int, default=0)
    defaults = Settings()
    parser.add_argument("--tuner", choices=TUNERS, default=defaults.tuner)
    for name in ("trials", "epochs", "batch_size", "image_size", "seed"):
        option = "--" + name.replace("_", "-")
        parser.add_argument(option, type=int, default=getattr(defaults, name))
    options = parser.parse_args(arguments)
    if options.role != "alone":
        host, _, port = options.address.rpartition(":")
        tuner_id = "chief" if options.role == "chief" else f"worker-{options.worker_id}"
        os.environ["KERASTUNER_TUNER_ID"] = tuner_id
        os.environ["KERASTUNER_ORACLE_IP"] = host
        os.environ["KERASTUNER_ORACLE_PORT"] = port
    settings = Settings(
        tuner=options.tuner,
        trials=options.trials,
        epochs=options.epochs,
        batch_size=options.batch_size,
        image_size=options.image_size,
        seed=options.seed,
    )
    dataset = data.load_dataset(options.data_dir, max_images=options.max_images)
    result = search(dataset, settings, directory=options.directory)
    if options.role != "worker":
        print(result.trials.to_string(index=False))
        print(f"Trials: {result.folder}")


if __name__ == "__main__":
    main()
