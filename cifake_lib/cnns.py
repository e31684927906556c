"""The suite's own small networks, with random weights.

See `cifake_lib.models` for what every model takes and returns.
"""

from collections.abc import Sequence

from cifake_lib.augmentation import DEFAULT_AUGMENTATION, augmented_input
from cifake_lib.framework import keras
from cifake_lib.layers import BatchNormalization, logit

layers = keras.layers


def _scaled_input(image_size: int, augmentation: Sequence[str]):
    inputs, x = augmented_input(image_size, augmentation)
    return inputs, layers.Rescaling(1 / 127.5, offset=-1, name="scale")(x)


def _blocks(x, filters: Sequence[int], convolutions: int):
    """Convolve several times for each number of filters, and halve the image in between."""
    for block, count in enumerate(filters):
        if block:
            x = layers.MaxPooling2D()(x)
        for _ in range(convolutions):
            x = layers.Conv2D(count, 3, padding="same", use_bias=False)(x)
            # Not the default .99: a small data set has too few steps for it to converge.
            x = BatchNormalization(momentum=0.9)(x)
            x = layers.ReLU()(x)
    return x


def _plain_convolutions(x, filters: Sequence[int], *, kernel_size: int):
    """Convolve once for each number of filters, and halve the image after each."""
    for count in filters:
        x = layers.Conv2D(count, kernel_size, padding="same", activation="relu")(x)
        x = layers.MaxPooling2D()(x)
    return layers.Flatten()(x)


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
    inputs, x = _scaled_input(image_size, augmentation)
    x = layers.GlobalAveragePooling2D()(_blocks(x, filters, 2))
    x = layers.Dropout(dropout)(x)
    return keras.Model(inputs, logit(x), name="baseline_cnn")


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
    inputs, x = _scaled_input(image_size, augmentation)
    filters = [width * factor for factor in (1, 2, 4, 4)[:blocks]]
    x = _blocks(x, filters, convolutions_per_block)
    x = layers.GlobalAveragePooling2D()(x) if pooling == "global_average" else layers.Flatten()(x)
    x = layers.Dropout(dropout)(x)
    return keras.Model(inputs, logit(x), name="tuned_cnn")


def build_two_conv_cnn(
    *,
    image_size: int = 32,
    augmentation: Sequence[str] = DEFAULT_AUGMENTATION,
    filters: int = 32,
    dense_units: int = 64,
    dropout: float = 0.0,
) -> keras.Model:
    """Build the CNN that came with CIFAKE: two convolutions, one dense layer (Bird & Lotfi 2024).

    Args:
        image_size: Side of the square input in pixels.
        augmentation: Keys of `AUGMENTATIONS`, active in training only.
        filters: Output channels of each 3×3 convolution; pooling after each halves the image.
        dense_units: Units of the dense layer.
        dropout: Share of its features dropped in training, 0–1.

    Returns:
        An uncompiled model, `(batch, image_size, image_size, 3)` → float32 logit `(batch, 1)`.
    """
    inputs, x = _scaled_input(image_size, augmentation)
    x = _plain_convolutions(x, (filters, filters), kernel_size=3)
    x = layers.Dense(dense_units, activation="relu")(x)
    x = layers.Dropout(dropout)(x)
    return keras.Model(inputs, logit(x), name="two_conv_cnn")


def build_three_conv_cnn(
    *,
    image_size: int = 32,
    augmentation: Sequence[str] = DEFAULT_AUGMENTATION,
    dropout: float = 0.0,
) -> keras.Model:
    """Build the CNN of many tutorials: convolutions of 16, 32 and 16 filters, then 32 units.

    Args:
        image_size: Side of the square input in pixels.
        augmentation: Keys of `AUGMENTATIONS`, active in training only.
        dropout: Share of the last features dropped in training, 0–1.

    Returns:
        An uncompiled model, `(batch, image_size, image_size, 3)` → float32 logit `(batch, 1)`.
    """
    inputs, x = _scaled_input(image_size, augmentation)
    x = _plain_convolutions(x, (16, 32, 16), kernel_size=4)
    x = layers.Dense(32, activation="relu")(x)
    x = layers.Dropout(dropout)(x)
    return keras.Model(inputs, logit(x), name="three_conv_cnn")
