"""The three networks, by name, with their augmentation and preprocessing inside.

Every model takes RGB in 0–255, shape `(batch, height, width, 3)`, and returns one float32 logit per
image, shape `(batch, 1)`: `p_fake = sigmoid(logit)`. A model is always rebuilt from this code and
its weights are loaded into it; a stored model file is never deserialised (see
`cifake_lib.runs.load_model`). Needs Keras 3 only, so it runs on TensorFlow and on JAX.
"""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from cifake_lib import paths
from cifake_lib.framework import keras
from cifake_lib.layers import BatchNormalization

layers = keras.layers


# Each entry makes the layers of one augmentation. Whole-pixel moves (`nearest`) are the default
# choice: at 32 px any interpolation blurs the very traces that are to be learned. Pixel values stay
# float32 whatever the precision policy.
AUGMENTATIONS: dict[str, Callable[[], list[keras.Layer]]] = {
    "horizontal_flip": lambda: [layers.RandomFlip("horizontal", dtype="float32")],
    "shift": lambda: [
        layers.RandomTranslation(
            4 / 32, 4 / 32, fill_mode="reflect", interpolation="nearest", dtype="float32"
        )
    ],
    "vertical_flip": lambda: [layers.RandomFlip("vertical", dtype="float32")],
    "rotation": lambda: [layers.RandomRotation(15 / 360, fill_mode="reflect", dtype="float32")],
    "zoom": lambda: [layers.RandomZoom((-0.1, 0.1), fill_mode="reflect", dtype="float32")],
    "colour": lambda: [
        layers.RandomBrightness(0.1, value_range=(0, 255), dtype="float32"),
        layers.RandomContrast(0.1, value_range=(0, 255), dtype="float32"),
    ],
}
DEFAULT_AUGMENTATION = ("horizontal_flip", "shift")


class InitialWeightsError(RuntimeError):
    """Initial weights could not be downloaded or do not fit; the message says what to do."""


def augmentation_layers(names: Sequence[str] = DEFAULT_AUGMENTATION) -> list[keras.Layer]:
    """Make the layers of the named augmentations; they act in training only.

    Args:
        names: Keys of `AUGMENTATIONS`, applied in this order.

    Returns:
        Layers from and to float32 images `(batch, height, width, 3)` in 0–255.

    Raises:
        ValueError: A name is not in `AUGMENTATIONS`.
    """
    if unknown := sorted(set(names) - set(AUGMENTATIONS)):
        raise ValueError(f"Expected augmentations out of {list(AUGMENTATIONS)}, received {unknown}")
    return [layer for name in names for layer in AUGMENTATIONS[name]()]


def _image_input(image_size: int, augmentation: Sequence[str]):
    inputs = x = keras.Input((image_size, image_size, 3), name="rgb")
    for layer in augmentation_layers(augmentation):
        x = layer(x)
    return inputs, x


def _logit(x):
    # float32 whatever the policy: half precision would quantise the score itself.
    return layers.Dense(1, dtype="float32", name="logit")(x)


def _convolutions(x, filters: int, count: int):
    for _ in range(count):
        x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
        # Not the default .99: a small data set has too few steps for it to converge.
        x = BatchNormalization(momentum=0.9)(x)
        x = layers.ReLU()(x)
    return x


def build_baseline_cnn(
    *,
    image_size: int = 32,
    augmentation: Sequence[str] = DEFAULT_AUGMENTATION,
    filters: Sequence[int] = (32, 64, 128),
    dropout: float = 0.2,
) -> keras.Model:
    """Build the textbook CNN: pairs of convolutions, pooling between them, one logit.

    Pairs of 3×3 convolutions are those of Simonyan & Zisserman 2015, batch normalisation after each
    that of Ioffe & Szegedy 2015, global average pooling in place of dense layers that of Lin et al.
    2014.

    Args:
        image_size: Side of the square input in pixels.
        augmentation: Keys of `AUGMENTATIONS`, active in training only.
        filters: Output channels of each block; each block but the last halves the image.
        dropout: Share of features dropped in training before the logit, 0–1.

    Returns:
        An uncompiled model, `(batch, image_size, image_size, 3)` → float32 logit `(batch, 1)`.
    """
    inputs, x = _image_input(image_size, augmentation)
    x = layers.Rescaling(1 / 127.5, offset=-1, name="scale")(x)
    for block, count in enumerate(filters):
        if block:
            x = layers.MaxPooling2D()(x)
        x = _convolutions(x, count, 2)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dropout(dropout)(x)
    return keras.Model(inputs, _logit(x), name="baseline_cnn")


def build_tuned_cnn(
    *,
    image_size: int = 32,
    augmentation: Sequence[str] = DEFAULT_AUGMENTATION,
    blocks: int = 3,
    convolutions_per_block: int = 2,
    width: int = 32,
    pooling: str = "global_average",
    dropout: float = 0.2,
) -> keras.Model:
    """Build the CNN that the tuner shapes: the baseline's blocks, of any depth and width.

    Args:
        image_size: Side of the square input in pixels.
        augmentation: Keys of `AUGMENTATIONS`, active in training only.
        blocks: 1–4; each but the last halves the image.
        convolutions_per_block: Convolutions in each block.
        width: Channels of the first block; the following have 2, 4 and 4 times as many.
        pooling: `global_average` or `flatten`, before the logit.
        dropout: Share of features dropped in training before the logit, 0–1.

    Returns:
        An uncompiled model, `(batch, image_size, image_size, 3)` → float32 logit `(batch, 1)`.
    """
    if pooling not in ("global_average", "flatten"):
        raise ValueError(f"Expected pooling 'global_average' or 'flatten', received {pooling!r}")
    inputs, x = _image_input(image_size, augmentation)
    x = layers.Rescaling(1 / 127.5, offset=-1, name="scale")(x)
    for block, factor in enumerate((1, 2, 4, 4)[:blocks]):
        if block:
            x = layers.MaxPooling2D()(x)
        x = _convolutions(x, width * factor, convolutions_per_block)
    x = layers.GlobalAveragePooling2D()(x) if pooling == "global_average" else layers.Flatten()(x)
    x = layers.Dropout(dropout)(x)
    return keras.Model(inputs, _logit(x), name="tuned_cnn")


def build_tunable_cnn(
    hp, *, image_size: int = 32, augmentation: Sequence[str] = DEFAULT_AUGMENTATION
) -> keras.Model:
    """Build `tuned_cnn` with its shape drawn from a keras-tuner search space.

    Args:
        hp: `keras_tuner.HyperParameters`. Every shape in the space stays under 1 M parameters at
            32 px.
        image_size: Side of the square input in pixels.
        augmentation: Keys of `AUGMENTATIONS`, active in training only.

    Returns:
        An uncompiled model; `hp.values` holds the arguments of `build_tuned_cnn` that were chosen.
    """
    return build_tuned_cnn(
        image_size=image_size,
        augmentation=augmentation,
        blocks=hp.Int("blocks", 2, 4, default=3),
        convolutions_per_block=hp.Int("convolutions_per_block", 1, 3, default=2),
        width=hp.Choice("width", [16, 24, 32], default=32),
        pooling=hp.Choice("pooling", ["global_average", "flatten"]),
        dropout=hp.Choice("dropout", [0.0, 0.1, 0.2, 0.3, 0.4, 0.5], default=0.2),
    )


def build_resnet50(
    *,
    image_size: int = 32,
    augmentation: Sequence[str] = DEFAULT_AUGMENTATION,
    input_size: int = 64,
    stem: str = "7x7",
    stages: int = 5,
    dropout: float = 0.2,
) -> keras.Model:
    """Build ResNet-50 (He et al. 2016, `keras.applications`) with random weights.

    Load weights with `load_initial_weights`.

    Args:
        image_size: Side of the square input in pixels.
        augmentation: Keys of `AUGMENTATIONS`, active in training only.
        input_size: Side to which the model enlarges its input (bilinear). At 32 px the stock
            network would end in a 1×1 map.
        stem: `7x7`, the original with stride 2; or `3x3` with stride 1 for small inputs, which
            needs no enlarging (set `input_size` to `image_size`).
        stages: 5, the whole network; or 4, up to `conv4_block6_out`.
        dropout: Share of pooled features dropped in training, 0–1.

    Returns:
        An uncompiled model, `(batch, image_size, image_size, 3)` → float32 logit `(batch, 1)`,
        with the layers of `keras.applications.ResNet50` under their own names.
    """
    if stem not in ("7x7", "3x3"):
        raise ValueError(f"Expected stem '7x7' or '3x3', received {stem!r}")
    last_layers = {4: "conv4_block6_out", 5: "conv5_block3_out"}
    if stages not in last_layers:
        raise ValueError(f"Expected stages 4 or 5, received {stages!r}")
    inputs, x = _image_input(image_size, augmentation)
    if input_size != image_size:
        x = layers.Resizing(input_size, input_size, interpolation="bilinear", dtype="float32")(x)
    x = keras.applications.resnet50.preprocess_input(x)
    stock = keras.applications.ResNet50(include_top=False, weights=None, input_tensor=x)
    x = layers.GlobalAveragePooling2D()(stock.get_layer(last_layers[stages]).output)
    x = layers.Dropout(dropout)(x)
    model = keras.Model(inputs, _logit(x), name="resnet50")

    def adapted(layer: keras.Layer) -> keras.Layer:
        if isinstance(layer, layers.BatchNormalization):
            # With the stock .99 the running statistics trail weights that still move: after 120
            # steps on the sample it judges by statistics that are not yet those of its features.
            return BatchNormalization.from_config(layer.get_config() | {"momentum": 0.9})
        if stem == "3x3" and layer.name == "conv1_pad":
            return layers.ZeroPadding2D(1, name=layer.name)
        if stem == "3x3" and layer.name == "conv1_conv":
            return layers.Conv2D(64, 3, name=layer.name)
        return layer.__class__.from_config(layer.get_config())

    return keras.models.clone_model(model, clone_function=adapted)


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


def load_initial_weights(model: keras.Model, source: str = "imagenet") -> list[str]:
    """Copy ImageNet weights into a model made by `build_resnet50`.

    Args:
        model: Changed in place.
        source: `imagenet` (downloaded by Keras); a `.weights.h5` file of
            `keras.applications.ResNet50`, whole without top or up to `conv4_block6_out`; or `none`.

    Returns:
        Names of the layers that received weights, empty for `none`.

    Raises:
        InitialWeightsError: The download failed, or the file is missing or does not fit.
    """
    if source == "none":
        return []
    if source == "imagenet":
        try:
            donor = keras.applications.ResNet50(include_top=False, weights="imagenet")
        except Exception as error:  # Keras raises a bare Exception for every network failure.
            raise InitialWeightsError(
                "The ImageNet weights of ResNet-50 could not be downloaded "
                f"({error}). Connect to the internet, or set initial_weights to the path of a "
                "ResNet-50 .weights.h5 file, or to 'none' to train from random weights."
            ) from error
    else:
        donor = _resnet50_from_file(paths.resolve(source))
    copied = []
    for layer in donor.layers:
        weights = layer.get_weights()
        # A model of stages 1–4 has no conv5 layers to fill.
        if not weights or layer.name not in {own.name for own in model.layers}:
            continue
        target = model.get_layer(layer.name)
        if layer.name == "conv1_conv" and target.kernel.shape[0] == 3:
            kernel, bias = weights
            centre = kernel[2:5, 2:5]
            # Keep each filter's energy, so that the pretrained batch norm after it still fits.
            norm = lambda k: (k**2).sum(axis=(0, 1, 2), keepdims=True) ** 0.5  # noqa: E731
            weights = [centre * norm(kernel) / norm(centre), bias]
        target.set_weights(weights)
        copied.append(layer.name)
    return copied


def _resnet50_from_file(path: Path) -> keras.Model:
    if not path.is_file():
        raise InitialWeightsError(
            f"Expected a .weights.h5 file as initial_weights, received {path}"
        )
    whole = keras.applications.ResNet50(include_top=False, weights=None)
    # The whole network first: a part of it would load from the file of the whole without complaint.
    up_to_stage_4 = keras.Model(whole.input, whole.get_layer("conv4_block6_out").output)
    errors = []
    for candidate in (whole, up_to_stage_4):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # One of the two candidates never fits.
                candidate.load_weights(path)
            return candidate
        except (ValueError, OSError, KeyError) as error:
            errors.append(str(error).splitlines()[0])
    raise InitialWeightsError(
        f"{path} fits neither the whole ResNet-50 without top nor its stages 1–4: {errors}"
    )


BUILDERS: dict[str, Callable[..., keras.Model]] = {
    "baseline_cnn": build_baseline_cnn,
    "tuned_cnn": build_tuned_cnn,
    "resnet50": build_resnet50,
}


def build_model(name: str, **arguments) -> keras.Model:
    """Build a model of the registry by name.

    Args:
        name: Key of `BUILDERS`.
        **arguments: Passed to its builder; a run's manifest keeps them.

    Returns:
        An uncompiled model with random weights.

    Raises:
        ValueError: The name is not in the registry.
    """
    if name not in BUILDERS:
        raise ValueError(f"Expected a model out of {list(BUILDERS)}, received {name!r}")
    return BUILDERS[name](**arguments)
