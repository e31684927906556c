"""A pretrained network made to fit a small collection: frozen first, then gently as a whole."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from tqdm.auto import tqdm

from cifake_lib import batches, models, scope, training
from cifake_lib.data import Dataset
from cifake_lib.framework import keras

_REGULARISATION = 1e-3  # scikit-learn's C for one pass over some thousand images


@dataclass(frozen=True)
class FineTuning:
    """How a pretrained network is trained on; the same for the final model and for each fold.

    Attributes:
        builder: Key of the registry of models.
        arguments: Of the builder.
        initial_weights: See `models.load_initial_weights`.
        regression_passes: Before anything else the output layer is set to a logistic regression on
            what the network sees in so many passes over the training images; 0 leaves it random.
            From a random layer the first steps destroy features that carry over to other sources
            (Kumar et al. 2022, "Fine-tuning can distort pretrained features").
        regression_side: Side of the squares that it looks at, where that is to be larger than in
            training: as the network is asked later. 0 for the same.
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
    regression_passes: int = 0
    regression_side: int = 0
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
        self, dataset: Dataset, images: np.ndarray, *, checkpoints: Path
    ) -> tuple[keras.Model, pd.DataFrame]:
        """Train on the training split; the validation split chooses the epoch.

        Args:
            dataset: An indexed data set; its test split is not looked at.
            images: Of the whole data set, row for row.
            checkpoints: Folder to continue from.

        Returns:
            The trained model, and its history as `training.train` returns it.
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
        if self.regression_passes and not any(checkpoints.iterdir()):
            wide, feed = model, feeds[0]
            if side := self.regression_side:
                wide, (feed, _) = self.at_side(model, side), self._feeds(dataset, images, side)
            fit_output(wide, feed, passes=self.regression_passes)
            model.set_weights(wide.get_weights())
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


def fit_output(model: keras.Model, feed: batches.ImageBatches, *, passes: int = 1) -> None:
    """Set the output layer to a logistic regression on the features before it.

    Args:
        model: One logit, in a layer of that name; changed in place.
        feed: Training batches; each pass draws, orders and changes the images anew.
        passes: Over the batches.
    """
    features, labels = [], []
    total = passes * len(feed)
    with tqdm(desc="Fitting the output layer", total=total, unit="batch", delay=1) as progress:
        for number in range(passes):
            feed.start_epoch(number)
            for index in range(len(feed)):
                images, y_true, *_ = feed[index]
                features.append(scope.features(model, images))
                labels.append(y_true)
                progress.update()
    features, labels = np.concatenate(features), np.concatenate(labels)[:, 0]
    scale = StandardScaler().fit(features)
    # The sum over images weighs against the penalty, whatever their number.
    regression = LogisticRegression(
        C=_REGULARISATION / passes, class_weight="balanced", max_iter=1000
    )
    regression.fit(scale.transform(features), labels)
    # The scaling moves into the layer; of a channel that never speaks the scale is 1.
    kernel = regression.coef_[0] / scale.scale_
    bias = regression.intercept_[0] - kernel @ scale.mean_
    model.get_layer("logit").set_weights([kernel[:, None], np.array([bias])])
