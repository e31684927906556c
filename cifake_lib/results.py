"""From a trained model to a finished run: weights, predictions, calibration, scores, cost."""

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

from cifake_lib import calibration, evaluation, models, plots, runs, training
from cifake_lib.batches import ImageBatches
from cifake_lib.data import CLASS_NAMES, Dataset
from cifake_lib.framework import keras
from cifake_lib.live import LiveTable

PREDICT_BATCH_SIZE = 256


def predict_logits(
    model: keras.Model, images: np.ndarray, rows: np.ndarray | None = None, *, name: str = ""
) -> np.ndarray:
    """Run a model over images, with a progress display.

    Args:
        model: Takes uint8 images and returns one logit each.
        images: uint8 `(images, height, width, 3)`; may be a memory map.
        rows: Row numbers or boolean mask of the images to use; all if None.
        name: Shown beside the progress.

    Returns:
        float64 `(rows,)`, in row order.
    """
    batches = ImageBatches(images, np.zeros(len(images)), rows=rows, batch_size=PREDICT_BATCH_SIZE)
    with LiveTable() as live:
        progress = _PredictProgress(live, len(batches), f"{name} · {len(batches.rows)} images")
        logits = model.predict(batches, verbose=0, callbacks=[progress])
    return logits.ravel().astype(np.float64)


class _PredictProgress(keras.callbacks.Callback):
    def __init__(self, live: LiveTable, batches: int, line: str):
        super().__init__()
        self.live, self.batches, self.line = live, batches, line

    def on_predict_batch_end(self, batch, logs=None):
        self.live.progress(self.line, (batch + 1) / self.batches)


def save_weights(model: keras.Model, path: Path) -> None:
    """Save a model's weights without the optimiser's, kernels in half precision.

    Biases and batch normalisation stay float32; they are small and their errors add up. What is
    evaluated is always the model loaded back from this file.
    """
    # A fresh model shares the variables' values but has no optimiser to store.
    keras.Model(model.inputs, model.outputs).save_weights(path, overwrite=True)
    with h5py.File(path, "r+") as file:
        kernels = []
        file.visititems(
            lambda name, item: (
                kernels.append(name) if isinstance(item, h5py.Dataset) and item.ndim > 1 else None
            )
        )
        values = {name: file[name][...].astype(np.float16) for name in kernels}
        for name, value in values.items():
            del file[name]
            file.create_dataset(name, data=value)
        file.flush()
    _repack(path)


def _repack(path: Path) -> None:
    """Write an HDF5 file anew: deleting a dataset does not give its space back."""
    packed = path.with_name(f"packed-{path.name}")
    with h5py.File(path, "r") as old, h5py.File(packed, "w") as new:
        new.attrs.update(old.attrs)
        for name in old:
            old.copy(name, new)
    packed.replace(path)


def finish_model_run(
    run: runs.ActiveRun,
    model: keras.Model,
    dataset: Dataset,
    images: np.ndarray,
    history: pd.DataFrame,
    *,
    arguments: Mapping,
    flip_average: bool = False,
    upstream: Mapping[str, str] | None = None,
) -> runs.Run:
    """Store a trained model as a complete run of its stage.

    Temperature and operating points are fitted on the validation split; the test split is not
    looked at.

    Args:
        run: The run to finish; its stage names the model's builder.
        model: Trained.
        dataset: What it was trained on.
        images: Of the whole data set, row for row.
        history: As `training.train` returned it.
        arguments: Of the builder; rebuilding the model needs no others.
        flip_average: From here on the model's logit is the mean over an image and its mirror image.
        upstream: Stage → run id of the runs this one builds on.

    Returns:
        The complete run. Its folder holds the weights, `history.csv`, `predictions.csv` and
        `metrics.json` (both of the validation split).
    """
    weights = run.folder / runs.WEIGHTS
    save_weights(model, weights)
    stored = runs.rebuild(run.stage, arguments, weights)
    if flip_average:
        stored = models.flip_averaged(stored)
    rows = dataset.rows("validation").to_numpy()
    y_true = dataset.table.loc[rows, "label"].to_numpy()
    logits = predict_logits(stored, images, rows, name="validation")
    temperature = calibration.fit_temperature(y_true, logits)
    p_fake = calibration.probability(logits, temperature)
    metrics = evaluation.scores(y_true, p_fake)
    run.write_csv("history.csv", history)
    run.write_json("metrics.json", {"split": "validation", **metrics})
    table = dataset.table.loc[rows, ["path", "content_hash", "label"]]
    run.write_csv("predictions.csv", table.assign(logit=logits, p_fake=p_fake))
    return run.finish(
        data=dataset.manifest(),
        model={
            "builder": run.stage,
            "arguments": dict(arguments),
            "display_name": _display_name(run.stage, arguments),
            "parameters": model.count_params(),
            "input_size": model.input_shape[1],
            "flip_averaged": flip_average,
            "weights": runs.WEIGHTS,
            "weights_bytes": weights.stat().st_size,
        },
        temperature=temperature,
        thresholds=evaluation.operating_points(y_true, p_fake),
        metrics=metrics,
        training=training.training_summary(history),
        upstream=dict(upstream or {}),
    )


def _display_name(stage: str, arguments: Mapping) -> str:
    name = plots.display_name(stage)
    return f"{name}, stages 1–4" if arguments.get("stages") == 4 else name


def predictor(run: runs.Run) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function from uint8 images `(images, height, width, 3)` to calibrated `p_fake`."""
    model = runs.load_model(run)
    return lambda images: calibration.probability(
        predict_logits(model, images), run.manifest["temperature"]
    )


def images_per_second(
    model: keras.Model, *, image_size: int, batch_size: int, seconds: float = 1.0
) -> float:
    """Measure inference speed on random images, warm.

    Args:
        model: Takes uint8 images.
        image_size: Side of its input in pixels.
        batch_size: Images in a call.
        seconds: Repeat for at least this long.

    Returns:
        Images per second of the median call.
    """
    generator = np.random.default_rng(0)
    batch = generator.integers(0, 256, (batch_size, image_size, image_size, 3), dtype=np.uint8)
    model.predict_on_batch(batch)
    durations = []
    while not durations or sum(durations) < seconds:
        start = time.perf_counter()
        model.predict_on_batch(batch)
        durations.append(time.perf_counter() - start)
    return batch_size / float(np.median(durations))


def predict_test_split(
    found: Mapping[str, runs.Run], dataset: Dataset, images: np.ndarray
) -> pd.DataFrame:
    """Run models over the test split.

    Args:
        found: Stage → run, as `runs.find_run` returns it.
        dataset: Its test split is used.
        images: Of the whole data set, row for row.

    Returns:
        One row per test image: `path`, `content_hash`, `label`, `object_class`, `crosses_split`,
        `<stage>_logit` and `<stage>_p_fake` of each model, and `ensemble_p_fake`.
    """
    rows = dataset.rows("test").to_numpy()
    columns = ["path", "content_hash", "label", "object_class", "crosses_split"]
    table = dataset.table.loc[rows, columns].reset_index(drop=True)
    scaled = []
    for stage, run in found.items():
        logits = predict_logits(runs.load_model(run), images, rows, name=plots.display_name(stage))
        table[f"{stage}_logit"] = logits
        table[f"{stage}_p_fake"] = calibration.probability(logits, run.manifest["temperature"])
        scaled.append(logits / run.manifest["temperature"])
    table["ensemble_p_fake"] = calibration.probability(calibration.ensemble_logit(np.stack(scaled)))
    return table


def compare(found: Mapping[str, runs.Run], predictions: pd.DataFrame) -> dict[str, dict]:
    """Score models on their test predictions, and add what they cost.

    Args:
        found: Stage → run.
        predictions: As `predict_test_split` returns them.

    Returns:
        Stage, and `ensemble` → the scores of `evaluation.evaluate_models`, with `run_id`,
        `parameters`, `weights_bytes`, `training_seconds` and `images_per_second_batch_1` and
        `_256`; the ensemble costs what its members cost together.
    """
    metrics = evaluation.evaluate_models(
        predictions["label"].to_numpy(),
        {stage: predictions[f"{stage}_logit"].to_numpy() for stage in found},
        {stage: run.manifest["temperature"] for stage, run in found.items()},
    )
    added = ("parameters", "weights_bytes", "training_seconds")
    for stage, run in found.items():
        model, facts = runs.load_model(run), run.manifest["model"]
        metrics[stage] |= {
            "run_id": run.run_id,
            "display_name": facts["display_name"],
            "parameters": facts["parameters"],
            "weights_bytes": facts["weights_bytes"],
            "training_seconds": run.manifest["training"]["seconds"],
        }
        for batch_size in (1, 256):
            metrics[stage][f"images_per_second_batch_{batch_size}"] = images_per_second(
                model, image_size=facts["input_size"], batch_size=batch_size
            )
    together = {name: sum(metrics[stage][name] for stage in found) for name in added}
    for batch_size in (1, 256):
        name = f"images_per_second_batch_{batch_size}"
        together[name] = 1 / math.fsum(1 / metrics[stage][name] for stage in found)
    metrics["ensemble"] |= together
    return metrics


def finish_comparison(
    run: runs.ActiveRun,
    found: Mapping[str, runs.Run],
    dataset: Dataset,
    images: np.ndarray,
    predictions: pd.DataFrame,
    metrics: Mapping[str, dict],
    *,
    examples_per_class: int = 8,
) -> runs.Run:
    """Store a comparison as a complete run: scores, predictions, curves and example images.

    Args:
        run: The run to finish.
        found: Stage → run of the models compared.
        dataset: What was evaluated on.
        images: Of the whole data set, row for row.
        predictions: As `predict_test_split` returns them, perhaps without some of the rows.
        metrics: As `compare` returns them.
        examples_per_class: Test images of each class that the dashboard offers.

    Returns:
        The complete run.
    """
    y_true = predictions["label"].to_numpy()
    run.write_csv("predictions.csv", predictions)
    run.write_csv("comparison.csv", evaluation.comparison_table(metrics).reset_index())
    run.write_json("metrics.json", {"split": "test", "count": len(y_true), "models": metrics})
    curves = {
        key: evaluation.curve_points(y_true, predictions[f"{key}_p_fake"].to_numpy())
        for key in metrics
    }
    run.write_json("curves.json", curves)
    rows = np.flatnonzero(dataset.rows("test"))
    # The first of each class by content hash: a choice that no score has influenced.
    order = predictions.sort_values("content_hash").groupby("label").head(examples_per_class).index
    np.savez_compressed(
        run.folder / "examples.npz", images=images[rows[order]], labels=y_true[order]
    )
    return run.finish(
        data=dataset.manifest(),
        class_names=list(CLASS_NAMES),
        metrics={key: {"accuracy": m["accuracy"], "f1": m["f1"]} for key, m in metrics.items()},
        upstream={stage: model_run.run_id for stage, model_run in found.items()},
    )
