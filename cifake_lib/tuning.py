"""Search the hyperparameters of a network with keras-tuner: resumable, loud about failures.

One machine searches from notebook 03. Several machines share one search through a common folder:

    python -m cifake_lib.tuning --role chief  --address HOST:PORT --directory SHARED
    python -m cifake_lib.tuning --role worker --address HOST:PORT --directory SHARED --worker-id 1

Every process gets the same settings and data. The chief hands out trials, waits for its workers and
prints the table; a worker that died is started again with its own id. The chief's port asks for no
password: use private networks only. A shared search is found again by the notebook when it has the
same settings, data and folder.
"""

import argparse
import contextlib
import hashlib
import io
import json
import logging
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import keras_tuner
import pandas as pd

from cifake_lib import batches, data, paths, spaces, training
from cifake_lib.hypermodel import HyperModel, Settings
from cifake_lib.live import LiveTable
from cifake_lib.runs import write_json
from cifake_lib.spaces import Candidate
from cifake_lib.trials import OBJECTIVE, TrialsFailed, failure, trials_table

logger = logging.getLogger(__name__)

TUNERS = ("hyperband", "bayesian", "random")


@dataclass(frozen=True)
class SearchResult:
    """A finished search.

    Attributes:
        trials: One row per trial, best first: `trial`, `status`, `val_log_loss`, `val_accuracy`,
            `epochs`, and one column per hyperparameter (empty where it was not active).
        hyperparameters: Names of the hyperparameter columns.
        candidates: Trial → what it tried; the completed ones, best first.
        folder: Where keras-tuner keeps the search.
    """

    trials: pd.DataFrame
    hyperparameters: list[str]
    candidates: dict[str, Candidate]
    folder: Path

    @property
    def best(self) -> Candidate:
        """What the best trial tried."""
        return next(iter(self.candidates.values()))


class _ShowsTrials:
    """Mixed into a keras-tuner class: shows the trials table after each trial."""

    live: LiveTable | None = None

    @property
    def is_worker(self) -> bool:
        return not isinstance(self.oracle, keras_tuner.Oracle)

    def on_search_begin(self):
        super().on_search_begin()
        self.own_trials = {}

    def pre_create_trial(self):
        # A worker without a trial asks again at once, which would keep the chief from its work.
        if self.is_worker:
            time.sleep(0.5)

    def on_trial_end(self, trial):
        super().on_trial_end(trial)
        if trial.message:
            logger.warning("Trial %s failed.\n%s", trial.trial_id, trial.message)
        if self.is_worker:  # The chief has the others, and all messages stay with the worker.
            self.own_trials[trial.trial_id] = self.oracle.get_trial(trial.trial_id)
        if self.live is not None:
            shown = self.own_trials if self.is_worker else self.oracle.trials
            self.live.show(trials_table(shown.values()).drop(columns="message"))


def search(
    dataset: data.Dataset,
    settings: Settings,
    *,
    directory: Path | None = None,
    max_failed_trials: int = 0,
) -> SearchResult | None:
    """Search, or continue the same search where it stopped.

    The folder's name holds a hash of space, settings and data, so that another search never goes on
    with these trials by accident.

    Args:
        dataset: Trained on its training split, judged on its validation split.
        settings: The search.
        directory: Folder of searches; shared by all machines of a distributed search.
        max_failed_trials: More failed trials than this raise an error. The others are kept.

    Returns:
        The result; None in a worker of a distributed search, whose chief has it.

    Raises:
        ValueError: The tuner is unknown.
        TrialsFailed: More trials failed than allowed, none completed, or the search's files were
            damaged.
    """
    training.prepare(settings.seed)
    images = _images(dataset, settings)
    train_batches, validation = _batches(dataset, images, settings, settings.batch_size)
    hypermodel = HyperModel(settings, len(train_batches.rows))
    directory = directory or paths.runs_dir() / "searches"
    tuner = _make_tuner(hypermodel, dataset, settings, directory)
    with LiveTable() as live:
        tuner.live = hypermodel.live = live
        try:
            tuner.search(
                train_batches, validation_data=validation, epochs=settings.epochs, verbose=0
            )
            # What a chief wrote last still has its last trials running: they would be tried again.
            tuner.save()
        except RuntimeError as error:  # keras-tuner stops after three failures in a row.
            raise failure(_table(tuner), Path(tuner.project_dir)) from error
        finally:
            tuner.live = hypermodel.live = None
            # What follows in this process is then the same after a search and a continued one.
            training.prepare(settings.seed)
    return None if tuner.is_worker else _result(tuner, settings, max_failed_trials)


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
    for space.values["optimizer"] in training.OPTIMIZERS:  # Each has its own hyperparameters.
        hypermodel.draw(space)
    identity = json.dumps([space.get_config()["space"], settings.identity(), dataset.split_hash])
    digest = hashlib.sha256(identity.encode()).hexdigest()[:12]
    name = f"{settings.search_space}-{settings.tuner}-{digest}"
    if "KERASTUNER_ORACLE_IP" in os.environ:
        # Giving up in the midst of a worker's request would leave the chief waiting for ever.
        options["max_consecutive_failed_trials"] = 10**6
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # It prints the path that it reloads.
            tuner = type(kind.__name__, (_ShowsTrials, kind), {})(
                hypermodel,
                objective=keras_tuner.Objective(OBJECTIVE, "min"),
                seed=settings.seed + 1,  # keras-tuner takes 0 for none.
                directory=str(directory),
                project_name=name,
                overwrite=False,
                **options,
            )
        if not tuner.is_worker and (directory / name / "oracle.json").is_file():
            _reload(tuner.oracle)
    except json.JSONDecodeError as error:
        raise TrialsFailed(
            f"{paths.shown(directory / name)} was damaged by an interruption, or another process "
            "is writing it: try again, or delete it to search anew."
        ) from error
    return tuner


def _reload(oracle: keras_tuner.Oracle) -> None:
    """Load a search's state, with the trials that were running waiting for another try.

    keras-tuner itself does so only after the first finished trial of a process in the same role.
    """
    oracle.reload()
    for trial in set(oracle.trials) - set(oracle.start_order):  # Killed between two writes.
        del oracle.trials[trial]


def _table(tuner) -> pd.DataFrame:
    return trials_table(tuner.oracle.trials.values())


def _result(tuner, settings: Settings, max_failed_trials: int) -> SearchResult:
    folder = Path(tuner.project_dir)
    trials = _table(tuner).sort_values(OBJECTIVE, ignore_index=True)
    completed = trials["status"] == "completed"
    if (~completed).sum() > max_failed_trials or not completed.any():
        raise failure(trials, folder)
    trials["epochs"] = trials["epochs"].fillna(settings.epochs).astype(int)
    candidates = {}
    for trial in trials.loc[completed, "trial"]:
        tried = tuner.oracle.trials[trial].hyperparameters
        options = {"epochs": settings.epochs, "batch_size": settings.batch_size}
        candidates[trial] = spaces.draw(tried, settings.search_space, **options)
    hyperparameters = [parameter.name for parameter in tuner.oracle.get_space().space]
    return SearchResult(
        trials=trials.drop(columns="message"),
        hyperparameters=[name for name in hyperparameters if name in trials],
        candidates=candidates,
        folder=folder,
    )


def promote(
    found: SearchResult, dataset: data.Dataset, settings: Settings, *, trials: int, epochs: int
) -> pd.DataFrame:
    """Try the best trials again with a larger budget, and rank them anew.

    A search on few images for a few epochs cannot tell its best trials apart. This is one more rung
    of successive halving (Jamieson & Talwalkar 2016). What is finished is kept beside the search
    and found again.

    Args:
        found: The search.
        dataset: Trained on its training split, judged on its validation split.
        settings: Of the search; its number of trials and epochs do not count here.
        trials: How many of the best to try again, at least 1.
        epochs: Epochs of each.

    Returns:
        One row per promoted trial, best first: `trial`, `val_log_loss` (lowest of its epochs),
        `val_accuracy` (of the same epoch), `epochs` and `parameters`.
    """
    images = _images(dataset, settings)
    identity = json.dumps([dataset.split_hash, epochs])
    folder = found.folder / f"promoted-{hashlib.sha256(identity.encode()).hexdigest()[:12]}"
    rows = []
    for trial, candidate in list(found.candidates.items())[:trials]:
        stored = folder / f"{trial}.json"
        if not stored.is_file():
            (folder / trial).mkdir(parents=True, exist_ok=True)
            training.prepare(settings.seed)
            model = settings.build_model(candidate)
            history = training.train(
                model,
                [replace(candidate.phase, epochs=epochs, patience=epochs)],
                *_batches(dataset, images, settings, candidate.batch_size),
                checkpoints=folder / trial,
                seed=settings.seed,
            )
            best = history.loc[history[OBJECTIVE].idxmin()]
            row = {name: float(best[name]) for name in (OBJECTIVE, "val_accuracy")}
            row |= {"epochs": epochs, "parameters": model.count_params()}
            write_json(stored, {"trial": trial, **row})
            shutil.rmtree(folder / trial)
        rows.append(json.loads(stored.read_text()))
    return pd.DataFrame(rows).sort_values(OBJECTIVE, ignore_index=True)


def _images(dataset: data.Dataset, settings: Settings):
    return batches.load_images(dataset, image_size=settings.image_size, crop=settings.crop)


def _batches(dataset: data.Dataset, images, settings: Settings, batch_size: int):
    return batches.training_batches(
        dataset,
        images,
        batch_size=batch_size,
        seed=settings.seed,
        corruption_share=settings.corruption_share,
        unseen_corruption=settings.unseen_corruption,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one process of a search: `python -m cifake_lib.tuning --help`."""
    parser = argparse.ArgumentParser(prog="python -m cifake_lib.tuning", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--role", choices=("alone", "chief", "worker"), default="alone")
    parser.add_argument("--address", default="127.0.0.1:8000", help="the chief's HOST:PORT")
    parser.add_argument("--worker-id", help="unlike that of every other worker")
    parser.add_argument("--directory", type=Path, help="folder that all machines share")
    parser.add_argument(
        "--data-dir", default="sample", help="folder, archive, sample, cifake-train, full, auto"
    )
    defaults = Settings()
    parser.add_argument(
        "--search-space",
        default=defaults.search_space,
        metavar="NAME",
        help="tuned_cnn, two_conv_cnn or a network of keras.applications",
    )
    parser.add_argument("--tuner", choices=TUNERS, default=defaults.tuner)
    whole_numbers = {
        "trials": "number of trials; Hyperband derives its own from the epochs",
        "epochs": "epochs of a trial, the most of any trial for Hyperband",
        "batch_size": "images in a batch",
        "image_size": "side of the model's input in pixels",
        "seed": "of the search and of every trial",
    }
    for name, meaning in whole_numbers.items():
        option, default = "--" + name.replace("_", "-"), getattr(defaults, name)
        parser.add_argument(option, type=int, default=default, metavar="N", help=meaning)
    parser.add_argument("--max-images", type=int, default=0, metavar="N", help="0 for all")
    options = parser.parse_args(arguments)
    if options.role != "alone":
        host, _, port = options.address.rpartition(":")
        if not host or not port.isdigit():
            parser.error(f"expected --address HOST:PORT, received {options.address}")
        if options.role == "worker" and not options.worker_id:
            parser.error("expected --worker-id, unlike that of every other worker")
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
        search_space=options.search_space,
        seed=options.seed,
    )
    dataset = data.load_dataset(options.data_dir, max_images=options.max_images)
    try:
        result = search(dataset, settings, directory=options.directory)
    except TrialsFailed as error:
        raise SystemExit(str(error)) from error
    if result is not None:
        print(result.trials.to_string(index=False))
        print(f"Trials: {result.folder}")


if __name__ == "__main__":
    main()
