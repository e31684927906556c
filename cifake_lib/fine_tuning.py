"""A pretrained network made to fit a small collection: frozen first, then gently as a whole."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.preprocessing import StandardScaler
from tqdm.auto import tqdm

from cifake_lib import batches, device, models, scope, training
from cifake_lib.data import Dataset
from cifake_lib.framework import keras
from cifake_lib.pixels import take_rows
from cifake_lib.random_delivery import RandomDelivery

_REGULARISATION = 1e-3  # scikit-learn's C for one pass over some thousand images
_TOGETHER = 32  # images looked at in one call


@dataclass(frozen=True)
class Seen:
    """What a network sees in the images of a data set after random deliveries.

    Attributes:
        values: float32 `(passes, images, features)`, what comes before the output layer; in each
            pass every image was delivered anew.
        seconds: What that took.
    """

    values: np.ndarray
    seconds: float

    @classmethod
    def through(
        cls, model: keras.Model, images: np.ndarray, *, passes: int = 1, seed: int = 0
    ) -> Seen:
        """Look at every image so many times.

        Args:
            model: One logit, for squares of at most the side of the images.
            images: uint8 `(images, side, side, 3)`; may be a memory map.
            passes: Over the images.
            seed: Of the deliveries.
        """
        started, deliver, values = time.perf_counter(), RandomDelivery(model.input_shape[1]), []
        total = passes * len(images)
        with tqdm(desc="Looking at deliveries", total=total, unit="image", delay=1) as progress:
            for number in range(passes):
                for start in range(0, len(images), _TOGETHER):
                    rows = np.arange(start, min(start + _TOGETHER, len(images)))
                    rng = np.random.default_rng((seed, number, start))
                    delivered = deliver(take_rows(images, rows), rng)
                    values.append(scope.features(model, delivered))
                    progress.update(len(rows))
        values = np.concatenate(values).reshape(passes, len(images), -1)
        return cls(values, time.perf_counter() - started)

    def fit_output(self, model: keras.Model, dataset: Dataset) -> pd.DataFrame:
        """Set the output layer to a logistic regression on all images but those of the test split.

        Both labels count alike, and within a label the sources as in `batches.source_shares`.

        Args:
            model: One logit, in a layer of that name; changed in place.
            dataset: An indexed data set, row for row as the images.

        Returns:
            One row of history.
        """
        started, passes = time.perf_counter(), len(self.values)
        learned = ~dataset.rows("test").to_numpy()
        weights = np.tile(batches.source_shares(dataset, learned)[learned] * learned.sum(), passes)
        labels = np.tile(dataset.table["label"].to_numpy()[learned], passes)
        features = self.values[:, learned].reshape(len(labels), -1)
        scale = StandardScaler().fit(features)
        # The sum over images weighs against the penalty, whatever their number.
        regression = LogisticRegression(C=_REGULARISATION / passes, max_iter=1000)
        regression.fit(scale.transform(features), labels, sample_weight=weights)
        # The scaling moves into the layer; of a channel that never speaks the scale is 1.
        kernel = regression.coef_[0] / scale.scale_
        bias = regression.intercept_[0] - kernel @ scale.mean_
        model.get_layer("logit").set_weights([kernel[:, None], np.array([bias])])
        p_fake = expit(features @ kernel + bias)
        seconds = self.seconds + time.perf_counter() - started
        row = {
            "phase": "regression",
            "epoch": passes,
            "loss": log_loss(labels, p_fake, sample_weight=weights),
            "accuracy": float(((p_fake >= 0.5) == labels).mean()),
            **dict.fromkeys(("val_loss", "val_accuracy", "val_log_loss"), np.nan),
            "learning_rate": 0.0,
            "seconds": round(seconds, 3),
            "images_per_second": round(len(labels) / seconds, 1),
            "peak_memory_mb": round(device.peak_memory_mb()),
        }
        return pd.DataFrame([row])


@dataclass(frozen=True)
class FineTuning:
    """How a pretrained network is trained on; the same for the final model and for each fold.

    Attributes:
        builder: Key of the registry of models.
        arguments: Of the builder.
        initial_weights: See `models.load_initial_weights`.
        head_epochs: Passes with every pretrained layer frozen.
        head_learning_rate: Peak of the first phase.
        epochs: Passes with every layer training but those of `frozen`; 0 leaves the pretrained
            layers as they are.
        learning_rate: Peak of the second phase.
        frozen: How the names of pretrained layers begin that are never trained: `conv2`.
        weight_decay: Of AdamW.
        label_smoothing: 0–1.
        patience: Stop a phase after so many epochs without a lower validation log loss.
        batch_size: Images in a step.
        corruption_share: Share of the training images that are corrupted at random, 0–1.
        delivered: Train on parts of the images after random deliveries instead, balanced over
            labels and sources, see `batches.delivered_batches`.
        seed: Of order, augmentation, corruption and dropout.
    """

    builder: str
    arguments: Mapping
    initial_weights: str
    head_epochs: int = 3
    head_learning_rate: float = 2e-3
    epochs: int = 3
    learning_rate: float = 1e-4
    frozen: Sequence[str] = ()
    weight_decay: float = 0.02
    label_smoothing: float = 0.02
    patience: int = 3
    batch_size: int = 32
    corruption_share: float = 0.3
    delivered: bool = False
    seed: int = 0

    def build(self) -> tuple[keras.Model, list[str]]:
        """Build the network with its initial weights.

        Returns:
            An uncompiled model, and the names of its pretrained layers.

        Raises:
            models.InitialWeightsError: The weights cannot be had or do not fit.
        """
        training.prepare(self.seed)
        model = models.build_model(self.builder, **self.arguments)
        return model, models.load_initial_weights(model, self.initial_weights)

    @cached_property
    def _common(self) -> dict:
        names = ("weight_decay", "label_smoothing", "patience")
        return {name: getattr(self, name) for name in names}

    def train(
        self,
        dataset: Dataset,
        images: np.ndarray,
        *,
        checkpoints: Path,
        seen: Seen | None = None,
    ) -> tuple[keras.Model, pd.DataFrame]:
        """Train on the training split; the validation split chooses the epoch.

        Args:
            dataset: An indexed data set; its test split is not looked at.
            images: Of the whole data set, row for row.
            checkpoints: Folder to continue from.
            seen: What the network with its initial weights sees in the images: the output layer
                starts from a regression on that. From a random layer the first steps destroy
                features that carry over to other images (Kumar et al. 2022, "Fine-tuning can
                distort pretrained features"). None leaves it random.

        Returns:
            The trained model, and its history as `training.train` returns it; where there is no
            phase, one row `regression` without what is measured on validation images, since they
            were learned from too.
        """
        model, pretrained = self.build()
        feeds = self._feeds(dataset, images, model.input_shape[1])
        head = training.Phase(
            "head", self.head_epochs, self.head_learning_rate, frozen=pretrained, **self._common
        )
        # A few hundred images cannot tell batch normalisation better than a million could.
        statistics = [
            layer.name
            for layer in map(model.get_layer, pretrained)
            if isinstance(layer, keras.layers.BatchNormalization)
        ]
        never = [name for name in pretrained if name.startswith(tuple(self.frozen))]
        whole = training.Phase(
            "fine_tune",
            self.epochs,
            self.learning_rate,
            frozen=sorted({*statistics, *never}),
            **self._common,
        )
        if seen and not any(checkpoints.iterdir()):
            history = seen.fit_output(model, dataset)
            if not self.head_epochs + self.epochs:
                return model, history
        # Without pretrained layers there is nothing to spare.
        phases = [head, whole] if pretrained else [whole]
        history = training.train(model, phases, *feeds, checkpoints=checkpoints, seed=self.seed)
        return model, history

    def at_side(self, model: keras.Model, side: int) -> keras.Model:
        """Return a copy of a network for squares of another side; no weight depends on it."""
        builder, arguments = self.network(side)
        other = models.build_model(builder, **arguments)
        other.set_weights(model.get_weights())
        return other

    def network(self, side: int) -> tuple[str, dict]:
        """Return key and arguments of the network for squares of another side."""
        values = {**self.arguments, "image_size": side, "input_size": side}
        return models.choose(self.builder, **values)

    def _feeds(self, dataset: Dataset, images: np.ndarray, side: int) -> tuple:
        options = {"batch_size": self.batch_size, "seed": self.seed}
        if self.delivered:
            return batches.delivered_batches(dataset, images, side=side, **options)
        share = self.corruption_share
        return batches.training_batches(dataset, images, corruption_share=share, **options)
