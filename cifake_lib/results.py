"""From a trained model to a finished run: weights, predictions, calibration, scores, cost."""

import shutil
import time
from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

from cifake_lib import calibration, engine, evaluation, models, runs, training
from cifake_lib.batches import ImageBatches, class_weights
from cifake_lib.crops import images_together
from cifake_lib.data import CLASS_NAMES, Dataset
from cifake_lib.framework import keras
from cifake_lib.live import LiveTable

HALF_PRECISION_LOSS = 0.0005  # of validation log loss that smaller weights may cost
DECIMALS = 6  # of stored scores: finer than any threshold, half the file


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
    size = images_together(images.shape[1])
    batches = ImageBatches(images, np.zeros(len(images)), rows=rows, batch_size=size)
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
    """Save a model's weights without the optimiser's."""
    # A fresh model shares the variables' values but has no optimiser to store.
    keras.Model(model.inputs, model.outputs).save_weights(path, overwrite=True)


def halve_weights(path: Path, *, mantissa: int = 10) -> None:
    """Rewrite a weights file with its kernels in half precision.

    Biases and batch normalisation stay float32; they are small and their errors add up.

    Args:
        path: The file.
        mantissa: Bits of it that are kept, at most the 10 of half precision. With fewer the kernels
            are compressed; 7 are those of bfloat16, with which they were multiplied in training.
    """
    with h5py.File(path, "r+") as file:
        kernels = []
        file.visititems(
            lambda name, item: (
                kernels.append(name) if isinstance(item, h5py.Dataset) and item.ndim > 1 else None
            )
        )
        packed = {"compression": "gzip", "compression_opts": 9, "shuffle": True}
        values = {name: _rounded(file[name][...].astype(np.float16), mantissa) for name in kernels}
        for name, value in values.items():
            del file[name]
            file.create_dataset(name, data=value, **(packed if mantissa < 10 else {}))
        file.flush()
    _repack(path)


def _rounded(values: np.ndarray, mantissa: int) -> np.ndarray:
    """Round numbers in half precision to fewer bits; a carry goes on into the exponent."""
    if (fewer := 10 - mantissa) == 0:
        return values
    bits = values.view(np.uint16).astype(np.uint32) + (1 << (fewer - 1))
    return (bits >> fewer << fewer).astype(np.uint16).view(np.float16)


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
    builder: str = "",
    crop: str = "centre",
    view_average: bool = False,
    upstream: Mapping[str, str] | None = None,
    tested: bool = False,
) -> runs.Run:
    """Store a trained model as a complete run of its stage.

    Temperature and operating points are fitted on the validation split; the test split is not
    looked at before, and only if asked for. Kernels are stored in half precision unless that adds
    `HALF_PRECISION_LOSS` to the
    validation log loss.

    Args:
        run: The run to finish.
        model: Trained.
        dataset: What it was trained on.
        images: Of the whole data set, row for row.
        history: As `training.train` returned it.
        arguments: Of the builder; rebuilding the model needs no others.
        builder: Key of `models.BUILDERS`; that of the run's stage if empty.
        crop: How its images became squares, one of `crops.CROPS`.
        view_average: From here on the model's logit is the mean of `models.view_averaged`.
        upstream: Stage → run id of the runs this one builds on.
        tested: Whether to score the test split as well, into `predictions.csv` and
            `metrics.json`: where no notebook 05 follows.

    Returns:
        The complete run. Its folder holds the weights, the same for the light engine (see
        `engine`; left out without TensorFlow), `history.csv`, `validation_predictions.csv`
        and `validation_metrics.json`; the figures of the test split come with `releases.release`.
    """
    weights, builder = run.folder / runs.WEIGHTS, builder or run.stage
    rows = dataset.rows("validation").to_numpy()
    y_true = dataset.table.loc[rows, "label"].to_numpy()

    save_weights(model, weights)
    # What is evaluated is always a model loaded back from the file.
    stored = runs.rebuild(builder, arguments, weights)
    scorer = models.view_averaged(stored) if view_average else stored

    def validate():
        logits = predict_logits(scorer, images, rows, name="validation")
        temperature = calibration.fit_temperature(y_true, logits)
        p_fake = calibration.probability(logits, temperature)
        return logits, temperature, p_fake, evaluation.scores(y_true, p_fake)

    *_, exact = whole = validate()
    halve_weights(weights)
    stored.load_weights(weights)
    *_, metrics = halved = validate()
    loss = metrics["log_loss"] - exact["log_loss"]
    if loss >= HALF_PRECISION_LOSS:
        save_weights(model, weights)
        stored.load_weights(weights)
        halved = whole
    logits, temperature, p_fake, metrics = halved
    if keras.backend.backend() == "tensorflow":  # The converter is TensorFlow's.
        kernels = "float16" if loss < HALF_PRECISION_LOSS else "float32"
        try:
            engine.export(stored, run.folder / engine.FILE, kernels=kernels)
        except engine.NotConvertible as error:
            run.notes.append(str(error))
    run.write_csv("history.csv", history)
    run.write_json("validation_metrics.json", metrics)
    run.write_csv("validation_predictions.csv", _scored(dataset, rows, logits, temperature))
    if tested:
        test = dataset.rows("test").to_numpy()
        unseen = predict_logits(scorer, images, test, name="test")
        scored = _scored(dataset, test, unseen, temperature)
        run.write_csv("predictions.csv", scored)
        measured = evaluation.evaluate_models(
            scored["label"].to_numpy(),
            {run.stage: scored["logit"].to_numpy()},
            {run.stage: temperature},
        )
        run.write_json("metrics.json", measured[run.stage])
    return run.finish(
        data=dataset.manifest(),
        model={
            "builder": builder,
            "arguments": dict(arguments),
            "display_name": models.model_name(builder, arguments, tuned=run.stage == "tuned_cnn"),
            "parameters": model.count_params(),
            "input_size": model.input_shape[1],
            "crop": crop,
            "view_averaged": view_average,
            "weights": runs.WEIGHTS,
            "weights_bytes": weights.stat().st_size,
            "half_precision": {
                "used": loss < HALF_PRECISION_LOSS,
                "log_loss_added": loss,
                "f1_lost": exact["f1"] - metrics["f1"],
            },
        },
        temperature=temperature,
        thresholds=evaluation.operating_points(y_true, p_fake),
        metrics=metrics,
        training=training.training_summary(history) | {"class_weights": _class_weights(dataset)},
        upstream=dict(upstream or {}),
    )


def _scored(
    dataset: Dataset, rows: np.ndarray, logits: np.ndarray, temperature: float
) -> pd.DataFrame:
    p_fake = calibration.probability(logits, temperature)
    table = dataset.table.loc[rows, ["path", "label"]]
    return table.assign(logit=logits.round(DECIMALS), p_fake=p_fake.round(DECIMALS))


def reopen(run: runs.Run, **changed) -> None:
    """Make a finished run one that goes on, so that its notebook can be executed once more.

    Training is not repeated: the notebook finds it done, with its weights and its history, and
    goes through everything after it again. The run keeps its start and what it took.

    Args:
        run: In `artifacts/runs`, of a model stage. Complete no more when this returns.
        **changed: Parameters of the notebook that are to have other values.
    """
    history, weights = run.read_csv("history.csv"), run.checked(runs.WEIGHTS)
    folder = run.folder / runs.CHECKPOINTS
    folder.mkdir()
    shutil.copy(weights, folder / training.BEST)
    state = {"phase": training.DONE, "epoch": 0, "wait": 0, "best": history["val_log_loss"].min()}
    runs.write_json(folder / "state.json", state | {"rows": history.to_dict("records")})
    started = {name: run.manifest[name] for name in runs.STARTED_WITH}
    started["started_unix"] = round(time.time() - run.manifest["duration_seconds"], 1)
    started["parameters"] |= changed
    started["notes"] = run.manifest["notes"]
    runs.write_json(run.folder / runs.STARTED, started)
    (run.folder / "manifest.json").unlink()


def _class_weights(dataset: Dataset) -> dict[str, float]:
    labels = dataset.table.loc[dataset.rows("train"), "label"].to_numpy()
    weights = (round(weight, DECIMALS) for weight in class_weights(labels))
    return dict(zip(CLASS_NAMES, weights, strict=True))


def images_per_second(
    model: keras.Model, *, image_size: int, batch_size: int, seconds: float = 1.0
) -> float:
    """Measure inference speed on random images, warm.

    Args:
        model: Takes uint8 images.
        image_size: Side of its input in pixels.
        batch_size: Images at once.
        seconds: Repeat for at least this long.

    Returns:
        Images per second of the median repetition.
    """
    generator = np.random.default_rng(0)
    batch = generator.integers(0, 256, (batch_size, image_size, image_size, 3), dtype=np.uint8)
    # Large ones by and by: what a network keeps of hundreds at once would not fit into memory.
    count = max(1, min(batch_size, 256 * 64**2 // image_size**2))
    parts = [batch[start : start + count] for start in range(0, batch_size, count)]
    durations = []
    for part in {len(part): part for part in parts}.values():
        model.predict_on_batch(part)
    while not durations or sum(durations) < seconds:
        start = time.perf_counter()
        for part in parts:
            model.predict_on_batch(part)
        durations.append(time.perf_counter() - start)
    return batch_size / float(np.median(durations))
