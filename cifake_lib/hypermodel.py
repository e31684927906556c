"""What a hyperparameter search tries: the space, and how one trial is built and trained."""

from collections.abc import Sequence
from dataclasses import dataclass

import keras_tuner

from cifake_lib import models, training
from cifake_lib.framework import keras
from cifake_lib.live import LiveTable

SHAPE = ("blocks", "convolutions_per_block", "width", "pooling", "dropout")


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
        corruption_share: Share of the training images that are corrupted, 0–1.
        unseen_corruption: Family of corruptions that is left out.
        seed: Seed of the search and of every trial's weights.
    """

    tuner: str = "hyperband"
    trials: int = 10
    epochs: int = 5
    batch_size: int = 64
    image_size: int = 32
    augmentation: Sequence[str] = models.DEFAULT_AUGMENTATION
    corruption_share: float = 0.0
    unseen_corruption: str = "blur"
    seed: int = 0


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


class HyperModel(keras_tuner.HyperModel):
    """Builds and trains the tuned CNN of one trial."""

    def __init__(self, settings: Settings, steps_per_epoch: int):
        super().__init__(name="tuned_cnn")
        self.settings, self.steps_per_epoch = settings, steps_per_epoch
        self.live = None

    def build(self, hp) -> keras.Model:
        """Build and compile a trial's model from the same seed as every other."""
        # keras-tuner clears Keras's global state before each trial, the precision policy with it.
        training.prepare(self.settings.seed)
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

    def fit(self, hp, model, train_batches, *, callbacks=(), **options):
        """Train a trial's model as keras-tuner asks; returns Keras's `History`."""
        # The order of the images must not depend on which trials ran before in this process.
        train_batches.start_epoch(options.get("initial_epoch", 0))
        if self.live is not None:
            callbacks = [*callbacks, _TrialProgress(self.live, self.steps_per_epoch)]
        return model.fit(train_batches, callbacks=list(callbacks), shuffle=False, **options)


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
