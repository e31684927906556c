"""How one trial of a hyperparameter search is built and trained."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import keras_tuner

from cifake_lib import models, spaces, training
from cifake_lib.framework import keras
from cifake_lib.live import LiveTable

# What every search had before it could be set.
_BEFORE = {"search_space": "tuned_cnn", "initial_weights": "none", "crop": "centre"}


@dataclass(frozen=True)
class Settings:
    """What defines a search besides its space and its data.

    Attributes:
        tuner: `hyperband` (Li et al. 2018), `bayesian` or `random`.
        trials: Number of trials; Hyperband derives its own from `epochs`.
        epochs: Epochs of a trial, the most of any trial for Hyperband.
        batch_size: Images in a batch, where the space does not choose it.
        image_size: Side of the model's input in pixels.
        augmentation: Keys of `models.AUGMENTATIONS`.
        search_space: See `spaces.draw`.
        initial_weights: Of every trial, see `models.load_initial_weights`.
        crop: How images become squares, one of `crops.CROPS`.
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
    search_space: str = "tuned_cnn"
    initial_weights: str = "none"
    crop: str = "centre"
    corruption_share: float = 0.0
    unseen_corruption: str = "blur"
    seed: int = 0

    def build_model(self, candidate: spaces.Candidate) -> keras.Model:
        """Build the network of a candidate, with its initial weights."""
        options = {"image_size": self.image_size, "augmentation": self.augmentation}
        model = models.build_model(candidate.builder, **options, **candidate.shape)
        models.load_initial_weights(model, self.initial_weights)
        return model

    def identity(self) -> dict:
        """Return what tells this search from others; searches made before a setting came count."""
        return {name: value for name, value in asdict(self).items() if _BEFORE.get(name) != value}


class HyperModel(keras_tuner.HyperModel):
    """Builds and trains the network of one trial."""

    def __init__(self, settings: Settings, images: int):
        """Make it for a number of training images."""
        super().__init__(name=settings.search_space)
        self.settings, self.images = settings, images
        self.live = None

    def draw(self, hp) -> spaces.Candidate:
        """Draw what a trial tries."""
        wanted = self.settings
        # Hyperband lengthens promising trials: the schedule spans what this trial will have run.
        epochs = hp.values.get("tuner/epochs", wanted.epochs)
        space, batch_size = wanted.search_space, wanted.batch_size
        return spaces.draw(hp, space, epochs=epochs, batch_size=batch_size)

    def build(self, hp) -> keras.Model:
        """Build and compile a trial's model from the same seed as every other."""
        # keras-tuner clears Keras's global state before each trial, the precision policy with it.
        training.prepare(self.settings.seed)
        candidate = self.draw(hp)
        model = self.settings.build_model(candidate)
        steps = candidate.phase.epochs * self._steps_per_epoch(candidate)
        training.compile_model(model, candidate.phase, steps=steps)
        # A promoted trial loads its optimiser's state too, which must exist by then.
        model.optimizer.build(model.trainable_variables)
        return model

    def fit(self, hp, model, train_batches, *, callbacks=(), **options):
        """Train a trial's model as keras-tuner asks; returns Keras's `History`."""
        candidate = self.draw(hp)
        train_batches = train_batches.with_batch_size(candidate.batch_size)
        # The order of the images must not depend on which trials ran before in this process.
        train_batches.start_epoch(options.get("initial_epoch", 0))
        if self.live is not None:
            steps = self._steps_per_epoch(candidate)
            callbacks = [*callbacks, _TrialProgress(self.live, steps)]
        return model.fit(train_batches, callbacks=list(callbacks), shuffle=False, **options)

    def _steps_per_epoch(self, candidate: spaces.Candidate) -> int:
        return -(-self.images // candidate.batch_size)


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
