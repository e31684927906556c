"""What a hyperparameter search may choose: one space for each network, by name."""

from dataclasses import dataclass

from cifake_lib import models, training

DROPOUT = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]


@dataclass(frozen=True)
class Candidate:
    """What a trial tries.

    Attributes:
        builder: Key of `models.BUILDERS`.
        shape: Arguments of the builder, besides image size and augmentation.
        phase: Its training.
        batch_size: Images in a step.
    """

    builder: str
    shape: dict
    phase: training.Phase
    batch_size: int


def draw(hp, space: str, *, epochs: int, batch_size: int) -> Candidate:
    """Draw a candidate from a space.

    Args:
        hp: `keras_tuner.HyperParameters`.
        space: `tuned_cnn`: depth, width, pooling and dropout of a small CNN, and all of its
            training; `two_conv_cnn`: filters, dense units and dropout, optimiser and learning rate;
            or a network of `keras.applications`: batch size, dropout and learning rate.
        epochs: Length of its training.
        batch_size: Images in a step where the space does not choose it.

    Raises:
        ValueError: There is no such space, and no network of this name.
    """
    builder, named = models.choose(space)
    if builder == "tuned_cnn":
        return Candidate(builder, tuned_cnn_shape(hp), phase_space(hp, epochs=epochs), batch_size)
    if builder == "two_conv_cnn":
        shape = {
            "filters": hp.Choice("filters", [16, 32, 64], default=32),
            "dense_units": hp.Choice("dense_units", [32, 64, 128], default=64),
            "dropout": hp.Choice("dropout", DROPOUT),
        }
        optimizer, rate = _optimizer(hp)
        phase = training.Phase("training", epochs, rate, optimizer=optimizer)
        return Candidate(builder, shape, phase, batch_size)
    if builder not in ("backbone", "resnet50"):
        raise ValueError(
            "Expected a search_space out of 'tuned_cnn', 'two_conv_cnn' and the networks of "
            f"keras.applications, received {space!r}"
        )
    batch_size = hp.Choice("batch_size", [16, 32, 64], default=32)
    shape = named | {"dropout": hp.Choice("dropout", DROPOUT, default=0.2)}
    rate = hp.Float("learning_rate", 1e-4, 3e-3, sampling="log", default=5e-4)
    phase = training.Phase("training", epochs, rate, optimizer="adam")
    return Candidate(builder, shape, phase, batch_size)


def tuned_cnn_shape(hp) -> dict:
    """Draw arguments of `models.build_tuned_cnn`; every shape has under 1 M parameters at 32 px."""
    return {
        "blocks": hp.Int("blocks", 2, 4, default=3),
        "convolutions_per_block": hp.Int("convolutions_per_block", 1, 3, default=2),
        "width": hp.Choice("width", [16, 24, 32], default=32),
        "pooling": hp.Choice("pooling", ["global_average", "flatten"]),
        "dropout": hp.Choice("dropout", DROPOUT, default=0.2),
    }


def phase_space(hp, *, epochs: int) -> training.Phase:
    """Draw all of a training: optimiser, learning rate, weight decay, label smoothing.

    Args:
        hp: `keras_tuner.HyperParameters`.
        epochs: Length of the phase.
    """
    optimizer, rate = _optimizer(hp)
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


def _optimizer(hp) -> tuple[str, float]:
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
    return optimizer, rate
