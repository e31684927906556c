"""Models and their ensemble, fitted on validation images and loaded: images in, scores out."""

from collections.abc import Callable, Iterable, Mapping
from functools import reduce

import numpy as np
import pandas as pd

from cifake_lib import batches, calibration, evaluation, plots, results, runs, splits
from cifake_lib.data import Dataset
from cifake_lib.pixels import Pictures


def load_pictures(found: Mapping[str, runs.Run], dataset: Dataset) -> Pictures:
    """Decode a data set as each of several models looks at it: its side, its way to crop.

    Args:
        found: Stage → run.
        dataset: An indexed data set.

    Returns:
        Its images, row for row.
    """
    kinds = {stage: run.input_contract for stage, run in found.items()}
    arrays = {
        kind: batches.load_images(dataset, image_size=kind[0], crop=kind[1])
        for kind in dict.fromkeys(kinds.values())
    }
    return Pictures(arrays, kinds, np.arange(len(dataset.table)))


def fit_ensemble(found: Mapping[str, runs.Run]) -> dict:
    """Fit weights, temperature and operating points of the ensemble on validation predictions.

    Args:
        found: Stage → run.

    Returns:
        `members`, the run id of each model; `weights` of each (see `calibration.fit_weights`);
        `temperature` of the weighted mean of their calibrated logits; `thresholds` by name, see
        `evaluation.operating_points`; `metrics` on validation.

    Raises:
        ValueError: The models were not validated on the same images.
    """
    table = _validation_logits(found)
    y_true = table["label"].to_numpy()
    stacked = table[list(found)].to_numpy().T
    weights = calibration.fit_weights(y_true, stacked)
    logits = calibration.ensemble_logit(stacked, weights)
    temperature = calibration.fit_temperature(y_true, logits)
    p_fake = calibration.probability(logits, temperature)
    return {
        "members": {stage: run.run_id for stage, run in found.items()},
        "weights": dict(zip(found, weights.tolist(), strict=True)),
        "temperature": temperature,
        "thresholds": evaluation.operating_points(y_true, p_fake),
        "metrics": evaluation.scores(y_true, p_fake),
    }


def weights_of(found: Iterable[str], ensemble: Mapping) -> list[float]:
    """Return the ensemble's weight of each stage, in the order given."""
    return [ensemble["weights"][stage] for stage in found]


def _validation_logits(found: Mapping[str, runs.Run]) -> pd.DataFrame:
    """Calibrated logits of each model on the validation images: `path`, `label`, each stage."""
    tables = [
        run.read_csv("validation_predictions.csv").assign(
            **{stage: lambda table, run=run: table["logit"] / run.manifest["temperature"]}
        )[["path", "label", stage]]
        for stage, run in found.items()
    ]
    table = reduce(lambda left, right: left.merge(right, on=["path", "label"]), tables)
    if any(len(table) != len(each) for each in tables):
        raise ValueError(
            "Expected models with the same validation images, received "
            f"{ {stage: len(each) for stage, each in zip(found, tables, strict=True)} } images, "
            f"{len(table)} of them in common: train all models with the same data_dir."
        )
    return table


def validation_scores(found: Mapping[str, runs.Run], ensemble: Mapping) -> pd.DataFrame:
    """Return what the models and their ensemble said of the validation images.

    Args:
        found: Stage → run.
        ensemble: As `fit_ensemble` returns it.

    Returns:
        One row per validation image: `path`, `label`, `<stage>_p_fake` of each model and
        `ensemble_p_fake`.
    """
    table = _validation_logits(found)
    logits = table[list(found)].to_numpy().T
    scored = {
        f"{stage}_p_fake": calibration.probability(values)
        for stage, values in zip(found, logits, strict=True)
    }
    together = calibration.ensemble_logit(logits, weights_of(found, ensemble))
    scored["ensemble_p_fake"] = calibration.probability(together, ensemble["temperature"])
    return table[["path", "label"]].assign(**scored)


def predict(
    found: Mapping[str, runs.Run], ensemble: Mapping, *, models: Mapping | None = None
) -> Callable[[np.ndarray | Pictures], pd.DataFrame]:
    """Return a function that runs models over images.

    Args:
        found: Stage → run.
        ensemble: As `fit_ensemble` returns it.
        models: Stage → model as `runs.load_model` returns it, if they are loaded already.

    Returns:
        Function of uint8 images `(images, height, width, 3)`, or of pictures at several sizes, that
        returns one row per image: `<key>_logit`, before the temperature, and `<key>_p_fake` of each
        model and of the ensemble.
    """
    models = models or {stage: runs.load_model(run) for stage, run in found.items()}

    def predict_all(images):
        columns, scaled = {}, []
        for stage, run in found.items():
            seen = images.seen_by(stage) if isinstance(images, Pictures) else (images, None)
            logits = results.predict_logits(models[stage], *seen, name=plots.display_name(stage))
            scaled.append(logits / run.manifest["temperature"])
            columns[f"{stage}_logit"] = logits
            columns[f"{stage}_p_fake"] = calibration.probability(scaled[-1])
        together = calibration.ensemble_logit(np.stack(scaled), weights_of(found, ensemble))
        columns["ensemble_logit"] = together
        columns["ensemble_p_fake"] = calibration.probability(together, ensemble["temperature"])
        return pd.DataFrame(columns)

    return predict_all


def scorer(
    found: Mapping[str, runs.Run], ensemble: Mapping, *, models: Mapping | None = None
) -> Callable[[np.ndarray | Pictures], dict[str, np.ndarray]]:
    """Return a function of images, as `predict` takes them, that returns key → p_fake `(images,)`.

    Args:
        found: Stage → run.
        ensemble: As `fit_ensemble` returns it; its key comes last.
        models: Stage → model as `runs.load_model` returns it, if they are loaded already.
    """
    predict_all = predict(found, ensemble, models=models)

    def score(images):
        table = predict_all(images)
        return {key: table[f"{key}_p_fake"].to_numpy() for key in (*found, "ensemble")}

    return score


def unseen_corruptions(found: Mapping[str, runs.Run]) -> set[str]:
    """Return the families of corruptions that the training of any model left out on purpose."""
    return {run.unseen_corruption for run in found.values()} - {""}


def shuffled_splits(
    dataset: Dataset, pictures: Pictures, *, seed: int = 0
) -> list[tuple[Pictures, np.ndarray]]:
    """Return the images and labels of training, validation and test, each in random order.

    Args:
        dataset: An indexed data set.
        pictures: Of the whole data set, row for row.
        seed: Of the order.

    Returns:
        Of each split N pictures, none of them read yet, and int labels `(N,)`.
    """
    rng = np.random.default_rng(seed)
    rows = [rng.permutation(np.flatnonzero(dataset.rows(name))) for name in splits.SPLITS]
    labels = dataset.table["label"].to_numpy()
    return [(pictures[chosen], labels[chosen]) for chosen in rows]


def predict_test_split(
    found: Mapping[str, runs.Run], ensemble: Mapping, dataset: Dataset, pictures: Pictures
) -> pd.DataFrame:
    """Run models over the test split.

    Args:
        found: Stage → run, as `runs.find_run` returns it.
        ensemble: As `fit_ensemble` returns it.
        dataset: Its test split is used.
        pictures: Of the whole data set, row for row.

    Returns:
        One row per test image: `path`, `content_hash`, `label`, `object_class`, `crosses_split`,
        `source` if the data set names any, and the columns of `predict`.
    """
    rows = dataset.rows("test").to_numpy()
    columns = ["path", "content_hash", "label", "object_class", "crosses_split"]
    columns += ["source"] if dataset.table["source"].any() else []
    table = dataset.table.loc[rows, columns].reset_index(drop=True)
    return table.join(predict(found, ensemble)(pictures[rows]))
