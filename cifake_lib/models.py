"""The networks by name, with their augmentation and preprocessing inside.

Every model takes RGB in 0–255, shape `(batch, height, width, 3)`, and returns one float32 logit per
image, shape `(batch, 1)`: `p_fake = sigmoid(logit)`. A model is always rebuilt from this code and
its weights are loaded into it; a stored model file is never deserialised (see
`cifake_lib.runs.load_model`). Needs Keras 3 only, so it runs on TensorFlow and on JAX.
"""

import difflib
import inspect
from collections.abc import Callable, Mapping

from cifake_lib.augmentation import AUGMENTATIONS, DEFAULT_AUGMENTATION, augmentation_layers
from cifake_lib.backbones import (
    BACKBONES,
    backbone_key,
    backbone_name,
    build_backbone,
    build_resnet50,
)
from cifake_lib.cnns import (
    build_baseline_cnn,
    build_three_conv_cnn,
    build_tuned_cnn,
    build_two_conv_cnn,
)
from cifake_lib.framework import keras
from cifake_lib.initial_weights import InitialWeightsError, load_initial_weights

__all__ = [
    "AUGMENTATIONS",
    "BACKBONES",
    "BUILDERS",
    "DEFAULT_AUGMENTATION",
    "InitialWeightsError",
    "augmentation_layers",
    "build_backbone",
    "build_baseline_cnn",
    "build_model",
    "build_resnet50",
    "build_three_conv_cnn",
    "build_tuned_cnn",
    "build_two_conv_cnn",
    "choose",
    "load_initial_weights",
    "model_name",
    "view_averaged",
]


def view_averaged(model: keras.Model) -> keras.Model:
    """Average a model's logit over four views of an image: moved up or down, mirrored or not.

    A photograph that is mirrored or moved by a sixteenth of its height is as real as before, so
    the difference between its logits is error; their mean has less of it, for four times the time
    (test-time augmentation, Krizhevsky et al. 2012). The rows that a move uncovers are filled by
    reflection, as in training.

    Args:
        model: `(batch, height, width, 3)` → logit `(batch, 1)`; shares its weights with the result.

    Returns:
        A model with the same input and output.
    """
    inputs = keras.Input(model.input_shape[1:], name="rgb")
    height = model.input_shape[1]
    by = height // 16
    padded = keras.ops.pad(inputs, [[0, 0], [by, by], [0, 0], [0, 0]], mode="symmetric")
    moved = keras.ops.concatenate([padded[:, :height], padded[:, 2 * by :]])
    # One long batch, which costs less than four calls.
    logits = model(keras.ops.concatenate([moved, keras.ops.flip(moved, axis=2)]))
    logit = keras.ops.mean(keras.ops.reshape(logits, (4, -1, 1)), axis=0)
    return keras.Model(inputs, logit, name=f"{model.name}_view_averaged")


BUILDERS: dict[str, Callable[..., keras.Model]] = {
    "baseline_cnn": build_baseline_cnn,
    "tuned_cnn": build_tuned_cnn,
    "resnet50": build_resnet50,
    "two_conv_cnn": build_two_conv_cnn,
    "three_conv_cnn": build_three_conv_cnn,
    "backbone": build_backbone,
}
_NAMES = {
    "baseline_cnn": "Baseline CNN",
    "tuned_cnn": "Tuned CNN",
    "two_conv_cnn": "Two-convolution CNN",
    "three_conv_cnn": "Three-convolution CNN",
}


def build_model(name: str, **arguments) -> keras.Model:
    """Build a model of the registry by name.

    Args:
        name: Key of `BUILDERS` or of `BACKBONES`, in any case, with or without underscores.
        **arguments: Passed to its builder; a run's manifest keeps them.

    Returns:
        An uncompiled model with random weights.

    Raises:
        ValueError: The name is not in the registry; the message names the nearest that is.
    """
    builder, own = _found(name)
    return BUILDERS[builder](**own, **arguments)


def choose(name: str, **values) -> tuple[str, dict]:
    """Find the builder that a name means, and the arguments that it takes out of some.

    Args:
        name: As for `build_model`.
        **values: Values of a notebook's parameters; what the builder does not take is left out.

    Returns:
        Key of `BUILDERS`, and arguments with which `build_model` builds the network.

    Raises:
        ValueError: As for `build_model`.
    """
    builder, own = _found(name)
    taken = inspect.signature(BUILDERS[builder]).parameters
    return builder, own | {key: value for key, value in values.items() if key in taken}


def _found(name: str) -> tuple[str, dict]:
    plain = {builder.replace("_", ""): builder for builder in BUILDERS}
    key = name.lower().replace("_", "").replace("-", "").replace(" ", "")
    if key in plain:
        return plain[key], {}
    if backbone := backbone_key(name):
        return "backbone", {"backbone": backbone}
    near = difflib.get_close_matches(key, [*plain, *BACKBONES], n=1)
    hint = f"; did you mean {plain.get(near[0], near[0])!r}?" if near else ""
    raise ValueError(
        f"Expected a model out of {list(BUILDERS)} or a network of keras.applications, received "
        f"{name!r}{hint}"
    )


def model_name(builder: str, arguments: Mapping, *, tuned: bool = False) -> str:
    """Return what people read for a network: `EfficientNet-B0`, `ResNet-50, stages 1–4`.

    Args:
        builder: Key of `BUILDERS`.
        arguments: Of the builder.
        tuned: Whether a search chose them.
    """
    name = _NAMES.get(builder) or backbone_name(backbone_key(arguments.get("backbone", builder)))
    parts = [name]
    if arguments.get("stages") == 4:
        parts.append("stages 1–4")
    if arguments.get("head") == "dense":
        parts.append("dense head")
    if tuned and builder != "tuned_cnn":
        parts.append("tuned")
    return ", ".join(parts)
