"""Random changes to training images, as layers at the entrance of a model.

All are relative to the image's side, so that a recipe means the same at 32 px and at 320.
"""

from collections.abc import Callable, Sequence

from cifake_lib.framework import keras

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


def augmented_input(image_size: int, names: Sequence[str]):
    """Return the input of a model, and the same augmented.

    Args:
        image_size: Side of the square input in pixels.
        names: Keys of `AUGMENTATIONS`.

    Returns:
        Two symbolic tensors `(batch, image_size, image_size, 3)`, RGB in 0–255.
    """
    inputs = x = keras.Input((image_size, image_size, 3), name="rgb")
    for layer in augmentation_layers(names):
        x = layer(x)
    return inputs, x
