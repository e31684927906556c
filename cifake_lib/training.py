"""Train a model in one or more phases: repeatable from a seed, and resumable after a kill.

Every epoch ends with a checkpoint. What is random in an epoch (order of the images, augmentation,
dropout) follows from the seed and the number of the epoch, so a run that was killed goes on as it
would have. Needs Keras 3 and NumPy only.
"""

import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from cifake_lib import device
from cifake_lib.batches import ImageBatches
from cifake_lib.framework import HAS_GPU, keras
from cifake_lib.live import LiveTable
from cifake_lib.runs import write_json

OPTIMIZERS = ("adamw", "adam", "sgd")
BEST = "best.weights.h5"
DONE = 99  # phase of a state in which every phase is over
_LOGGED = ("loss", "accuracy", "val_loss", "val_accuracy", "val_log_loss")


@dataclass(frozen=True)
class Phase:
    """One stretch of training with its own learning-rate schedule.

    Attributes:
        name: Shown in the history, for instance `head` or `fine_tune`.
        epochs: At most this many passes over the training images.
        learning_rate: Peak of the schedule: linear warm-up, then cosine to zero (Loshchilov &
            Hutter 2017).
        optimizer: `adamw`, `adam` or `sgd` (Nesterov momentum .9).
        weight_decay: Decoupled weight decay per step relative to the learning rate; never applied
            to biases and batch normalisation.
        warmup: Share of the steps that warm up, 0–1.
        label_smoothing: 0–1.
        patience: Stop after this many epochs without a lower `val_log_loss`.
        frozen: Names of layers whose weights stay as they are. Batch normalisation among them
            stays in inference mode.
    """

    name: str
    epochs: int
    learning_rate: float
    optimizer: str = "adamw"
    weight_decay: float = 0.0
    warmup: float = 0.1
    label_smoothing: float = 0.0
    patience: int = 5
    frozen: Sequence[str] = ()


def with_restarts(phase: Phase, epochs: Sequence[int]) -> list[Phase]:
    """Follow a phase by restarts of its schedule (Loshchilov & Hutter 2017).

    Args:
        phase: The first cycle.
        epochs: Passes of each further cycle, whose learning rate peaks at six tenths of the first.
    """
    rate = 0.6 * phase.learning_rate
    return [phase] + [
        replace(phase, name=f"restart_{number}", epochs=length, learning_rate=rate)
        for number, length in enumerate(epochs, start=1)
    ]


def prepare(seed: int, *, gpus: int = 1) -> str:
    """Seed every random generator and set the precision policy that suits the device.

    Args:
        seed: Of everything random.
        gpus: Train what is built from now on on so many at once, see `device.mirror`.

    Returns:
        Name of the policy, see `device.choose_precision`.

    Raises:
        ValueError: There are fewer GPUs, or the backend is not TensorFlow.
    """
    if gpus > 1:
        device.mirror([f"GPU:{number}" for number in range(gpus)])
    keras.utils.set_random_seed(seed)
    policy = device.choose_precision()
    keras.mixed_precision.set_global_policy(policy)
    return policy


def compile_model(
    model: keras.Model, phase: Phase, *, steps: int
) -> keras.optimizers.schedules.LearningRateSchedule:
    """Compile a model for a phase of `steps` batches in total.

    Returns:
        The learning rate as a function of the step.

    Raises:
        ValueError: The optimiser is unknown.
    """
    if phase.optimizer not in OPTIMIZERS:
        raise ValueError(f"Expected an optimizer out of {OPTIMIZERS}, received {phase.optimizer!r}")
    # At least one step of warm-up, and it does not start at zero: that step would be wasted.
    warmup_steps = max(1, round(phase.warmup * steps))
    schedule = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=phase.learning_rate / (warmup_steps + 1),
        warmup_target=phase.learning_rate,
        warmup_steps=warmup_steps,
        decay_steps=max(1, steps - warmup_steps),
    )
    options = {"learning_rate": schedule, "weight_decay": phase.weight_decay or None}
    if phase.optimizer == "sgd":
        optimizer = keras.optimizers.SGD(**options, momentum=0.9, nesterov=True)
    else:  # In Keras AdamW is Adam with a default weight decay.
        optimizer = keras.optimizers.Adam(**options)
    if phase.weight_decay:
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    model.compile(
        optimizer=optimizer,
        loss=keras.losses.BinaryCrossentropy(
            from_logits=True, label_smoothing=phase.label_smoothing
        ),
        metrics=[
            keras.metrics.MeanMetricWrapper(_accuracy, name="accuracy"),
            # Unlike the loss, comparable between models trained with and without smoothing.
            keras.metrics.BinaryCrossentropy(name="log_loss", from_logits=True),
        ],
        jit_compile=_jit_compile(),
    )
    # The first step would do it otherwise, and TensorFlow trace that step twice: half a minute for
    # a ResNet-50.
    model.optimizer.build(model.trainable_variables)
    return schedule


def _accuracy(y_true, logit):
    # Keras's own counts every image with a mixed label as wrong.
    return keras.ops.equal(y_true >= 0.5, logit > 0)


def _jit_compile() -> bool | str:
    # JAX must: one layer that TensorFlow's XLA cannot compile (the shift) would make Keras run the
    # whole step uncompiled, and JAX compiles it well. XLA makes TensorFlow slower on CPUs.
    if keras.backend.backend() == "jax":
        return True
    return "auto" if HAS_GPU else False


def train(
    model: keras.Model,
    phases: Sequence[Phase],
    batches: ImageBatches,
    validation: ImageBatches,
    *,
    checkpoints: Path,
    seed: int,
) -> pd.DataFrame:
    """Train a model through its phases; continue from the checkpoints where there are any.

    Ends with the weights of the epoch with the lowest validation log loss, which unlike the loss is
    comparable between phases with and without label smoothing.

    Args:
        model: Built, with its initial weights loaded; changed in place.
        phases: In order. Each starts from the best weights so far.
        batches: Shuffled training batches.
        validation: Validation batches.
        checkpoints: Folder of this training's checkpoints, kept by `ActiveRun.checkpoints`.
        seed: Seed of augmentation and dropout.

    Returns:
        One row per epoch: `phase`, `epoch` (counted over all phases, from 1), `loss`, `accuracy`,
        `val_loss`, `val_accuracy`, `val_log_loss`, `learning_rate` (in the middle of the epoch),
        `seconds`, `images_per_second` (of training, without validation) and `peak_memory_mb`.

    Raises:
        ValueError: A phase freezes a layer that the model does not have, or its optimiser is
            unknown.
        FloatingPointError: The loss became infinite or not a number.
    """
    names = [layer.name for layer in model.layers]
    if unknown := sorted({name for phase in phases for name in phase.frozen} - set(names)):
        raise ValueError(f"Expected layers of the model to freeze, received {unknown}")
    keeper = _Keeper(checkpoints, model, batches, seed)
    if len(before := keeper.history):
        print(f"{len(before)} epochs were trained before, in {before['seconds'].sum():,.0f} s.")
    with LiveTable() as keeper.live:
        keeper.live.show(keeper.history)
        for number, phase in enumerate(phases):
            if number < keeper.state["phase"] or phase.epochs < 1:
                continue
            for layer in model.layers:
                layer.trainable = layer.name not in phase.frozen
            keeper.schedule = compile_model(model, phase, steps=phase.epochs * len(batches))
            keeper.start(number, phase)
            model.fit(
                batches,
                validation_data=validation,
                initial_epoch=keeper.state["epoch"],
                epochs=phase.epochs,
                shuffle=False,
                verbose=0,
                callbacks=[keeper],
            )
            keeper.finish(number)
    # Also where nothing was left to train: the process was killed after its last epoch.
    keeper.load_best()
    return keeper.history


def training_summary(history: pd.DataFrame) -> dict:
    """Sum up a history for the manifest: seconds, epochs, images per second, peak memory."""
    return {
        "seconds": round(float(history["seconds"].sum()), 1),
        "epochs": len(history),
        "images_per_second": round(float(history["images_per_second"].median()), 1),
        "peak_memory_mb": round(float(history["peak_memory_mb"].max())),
        "device": device.device_name(),
    }


class _Keeper(keras.callbacks.Callback):
    """Keeps checkpoints, history and the best weights, and stops early.

    Keras's own `BackupAndRestore`, `EarlyStopping` and `ModelCheckpoint` forget the best value, the
    patience used up and the history when the process dies; one state file holds them together.
    """

    def __init__(self, folder: Path, model: keras.Model, batches: ImageBatches, seed: int):
        super().__init__()
        self.folder, self.batches, self.seed = folder, batches, seed
        self.trained = model
        # Shares the layers but has no optimiser: those of two phases differ.
        self.bare = keras.Model(model.inputs, model.outputs)
        self.state = {"phase": 0, "epoch": 0, "best": math.inf, "wait": 0, "rows": []}
        if (state := folder / "state.json").is_file():
            self.state = json.loads(state.read_text(encoding="utf-8"))
        self.live = None

    @property
    def history(self) -> pd.DataFrame:
        return pd.DataFrame(self.state["rows"])

    def start(self, number: int, phase: Phase) -> None:
        self.phase = phase
        if weights := self.state.get("weights"):
            self.trained.load_weights(self.folder / weights)
        else:
            self.state |= {"phase": number, "epoch": 0, "wait": 0}
            self.load_best()

    def finish(self, number: int) -> None:
        weights = self.state.pop("weights")
        self.state |= {"phase": number + 1, "epoch": 0, "wait": 0}
        # State first: a kill in between must not leave it pointing at a file that is gone.
        write_json(self.folder / "state.json", self.state)
        (self.folder / weights).unlink()

    def load_best(self) -> None:
        if self.state["rows"]:
            self.bare.load_weights(self.folder / BEST)

    def on_epoch_begin(self, epoch, logs=None):
        position = len(self.state["rows"])
        self.batches.start_epoch(position)
        self._seed_layers(position)
        self.started = time.perf_counter()
        self.trained_seconds = None

    def on_train_batch_end(self, batch, logs=None):
        share = (batch + 1) / len(self.batches)
        elapsed = time.perf_counter() - self.started
        self.live.progress(
            f"epoch {len(self.state['rows']) + 1} · {self.phase.name} · loss {logs['loss']:.4f} · "
            f"{share:.0%} · {elapsed / share - elapsed:.0f} s left",
            share,
        )

    def on_test_begin(self, logs=None):
        # The first validation batch comes right after the last training batch.
        self.trained_seconds = self.trained_seconds or time.perf_counter() - self.started

    def on_epoch_end(self, epoch, logs=None):
        steps = int(self.model.optimizer.iterations.numpy()) - len(self.batches) // 2
        self.state["rows"].append(
            {
                "phase": self.phase.name,
                "epoch": len(self.state["rows"]) + 1,
                **{name: float(logs[name]) for name in _LOGGED},
                "learning_rate": float(self.schedule(steps)),
                "seconds": round(time.perf_counter() - self.started, 3),
                "images_per_second": round(len(self.batches.rows) / self.trained_seconds, 1),
                "peak_memory_mb": round(device.peak_memory_mb()),
            }
        )
        self.live.show(self.history)
        if not math.isfinite(logs["loss"] + logs["val_loss"]):
            raise FloatingPointError(
                f"Expected a finite loss in epoch {epoch + 1} of the phase {self.phase.name!r}, "
                f"received {logs['loss']} (validation {logs['val_loss']}): lower the learning rate "
                f"({self.phase.learning_rate})."
            )
        if logs["val_log_loss"] < self.state["best"]:
            self.state |= {"best": float(logs["val_log_loss"]), "wait": 0}
            self._save(self.bare, BEST)
        else:
            self.state["wait"] += 1
        if self.state["wait"] >= self.phase.patience:
            self.model.stop_training = True
        self._checkpoint(epoch + 1)

    def _checkpoint(self, epoch: int) -> None:
        """Save this epoch under its own name, then point the state to it, then drop the last."""
        before = self.state.get("weights")
        name = f"epoch-{len(self.state['rows'])}.weights.h5"
        self._save(self.model, name)
        self.state |= {"epoch": epoch, "weights": name}
        if self.model.stop_training:
            self.state["epoch"] = self.phase.epochs
        write_json(self.folder / "state.json", self.state)
        if before:
            (self.folder / before).unlink(missing_ok=True)

    def _save(self, model: keras.Model, name: str) -> None:
        temporary = self.folder / f"new-{name}"
        model.save_weights(temporary, overwrite=True)
        temporary.replace(self.folder / name)

    def _seed_layers(self, position: int) -> None:
        for index, variable in enumerate(self.model.non_trainable_variables):
            if variable.path.endswith("seed_generator_state"):
                sequence = np.random.SeedSequence((self.seed, position, index))
                variable.assign((sequence.generate_state(2) >> 1).astype(variable.dtype))
