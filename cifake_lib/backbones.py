"""Networks of `keras.applications` as models of the suite: by name, at any image size.

Each has its family's own ImageNet preprocessing inside, so that it takes RGB in 0–255 as every
model does, and ends in one logit. Random weights; `initial_weights` fills them.
"""

import re
import sys
from collections.abc import Callable, Mapping, Sequence

from cifake_lib.augmentation import DEFAULT_AUGMENTATION, augmented_input
from cifake_lib.framework import keras
from cifake_lib.layers import BatchNormalization, MomentPooling, logit

layers = keras.layers

# Key → name in `keras.applications`, of every network that it has.
BACKBONES = {name.lower(): name for name in dir(keras.applications) if name[0].isupper()}
HEADS = ("global_average", "moments", "dense")
# The smallest image that leaves one cell at the end; the others take 32 px.
_SMALLEST = {"InceptionV3": 75, "InceptionResNetV2": 75, "Xception": 71}
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_DEVIATION = (0.229, 0.224, 0.225)


def backbone_key(name: str) -> str:
    """Return the key of a network by its name in any spelling, `EfficientNet_B0`; "" if unknown."""
    key = re.sub(r"[\s_-]", "", name).lower()
    return key if key in BACKBONES else ""


def backbone_name(key: str) -> str:
    """Return what people read for a key of `BACKBONES`: `EfficientNet-B0`, `ResNet-50`."""
    families = r"(EfficientNetV2|EfficientNet|ConvNeXt|DenseNet|MobileNetV3|ResNet|NASNet|VGG)(.+)"
    return re.sub(families, r"\1-\2", BACKBONES[key])


def build_backbone(
    *,
    backbone: str = "efficientnetb0",
    image_size: int = 32,
    augmentation: Sequence[str] = DEFAULT_AUGMENTATION,
    input_size: int = 64,
    head: str = "global_average",
    dropout: float = 0.2,
) -> keras.Model:
    """Build a network of `keras.applications` with random weights.

    Args:
        backbone: Key of `BACKBONES`, in any case and with or without underscores.
        image_size: Side of the square input in pixels.
        augmentation: Keys of `AUGMENTATIONS`, active in training only.
        input_size: Side to which the model enlarges smaller images (bilinear); at least what the
            network can take.
        head: `global_average`: pooled features, then the logit; `moments`: the same with their
            deviations beside the means; `dense`: flattened features, 256 units, batch
            normalisation, 128 units, then the logit.
        dropout: Share of features dropped in training before the logit, or between the dense
            layers, 0–1.

    Returns:
        An uncompiled model, `(batch, image_size, image_size, 3)` → float32 logit `(batch, 1)`,
        under the network's key, with its layers under their own names.

    Raises:
        ValueError: The network or the head is unknown.
    """
    if not (key := backbone_key(backbone)):
        raise ValueError(f"Expected a backbone out of {list(BACKBONES)}, received {backbone!r}")
    build = getattr(keras.applications, BACKBONES[key])
    inputs, x = augmented_input(image_size, augmentation)
    x = _enlarged(x, image_size, max(input_size, _SMALLEST.get(BACKBONES[key], 32)))
    # Of the families that have it in the network this changes nothing.
    x = sys.modules[build.__module__].preprocess_input(x)
    stock = build(include_top=False, weights=None, input_tensor=x)
    model = keras.Model(inputs, _head(stock.output, head, dropout), name=key)
    own = {"normalization": _normalization} if key.startswith("efficientnetb") else {}
    return _with_own_layers(model, own)


def build_resnet50(
    *,
    image_size: int = 32,
    augmentation: Sequence[str] = DEFAULT_AUGMENTATION,
    input_size: int = 64,
    stem: str = "7x7",
    stages: int = 5,
    head: str = "global_average",
    dropout: float = 0.2,
) -> keras.Model:
    """Build ResNet-50 (He et al. 2016, `keras.applications`), whole or in part, for small images.

    Args:
        image_size: Side of the square input in pixels.
        augmentation: Keys of `AUGMENTATIONS`, active in training only.
        input_size: Side to which the model enlarges smaller images (bilinear). At 32 px the stock
            network would end in a 1×1 map.
        stem: `7x7`, the original with stride 2; or `3x3` with stride 1 for small inputs, which
            needs no enlarging (set `input_size` to `image_size`).
        stages: 5, the whole network; or 4, up to `conv4_block6_out`.
        head: See `build_backbone`.
        dropout: See `build_backbone`.

    Returns:
        An uncompiled model, `(batch, image_size, image_size, 3)` → float32 logit `(batch, 1)`,
        with the layers of `keras.applications.ResNet50` under their own names.
    """
    if stem not in ("7x7", "3x3"):
        raise ValueError(f"Expected stem '7x7' or '3x3', received {stem!r}")
    last_layers = {4: "conv4_block6_out", 5: "conv5_block3_out"}
    if stages not in last_layers:
        raise ValueError(f"Expected stages 4 or 5, received {stages!r}")
    inputs, x = augmented_input(image_size, augmentation)
    x = _enlarged(x, image_size, input_size)
    x = keras.applications.resnet50.preprocess_input(x)
    stock = keras.applications.ResNet50(include_top=False, weights=None, input_tensor=x)
    x = _head(stock.get_layer(last_layers[stages]).output, head, dropout)
    small = {
        "conv1_pad": lambda layer: layers.ZeroPadding2D(1, name=layer.name),
        "conv1_conv": lambda layer: layers.Conv2D(64, 3, name=layer.name),
    }
    model = keras.Model(inputs, x, name="resnet50")
    return _with_own_layers(model, small if stem == "3x3" else {})


def _enlarged(x, image_size: int, side: int):
    if side <= image_size:
        return x
    return layers.Resizing(side, side, interpolation="bilinear", dtype="float32")(x)


def _head(x, head: str, dropout: float):
    if head in ("global_average", "moments"):
        pool = layers.GlobalAveragePooling2D() if head == "global_average" else MomentPooling()
        return logit(layers.Dropout(dropout)(pool(x)))
    if head != "dense":
        raise ValueError(f"Expected a head out of {HEADS}, received {head!r}")
    x = layers.Flatten()(x)
    x = layers.Dense(256, activation="relu", name="head_dense_1")(x)
    x = layers.BatchNormalization(name="head_norm")(x)
    x = layers.Dropout(dropout)(x)
    return logit(layers.Dense(128, activation="relu", name="head_dense_2")(x))


def _normalization(layer: keras.layers.Normalization) -> keras.Layer:
    """Normalise as ImageNet was: the first EfficientNets have that from a file of weights alone."""
    variance = [deviation**2 for deviation in _IMAGENET_DEVIATION]
    return layers.Normalization(mean=list(_IMAGENET_MEAN), variance=variance, name=layer.name)


def _with_own_layers(
    model: keras.Model, replaced: Mapping[str, Callable[[keras.Layer], keras.Layer]]
) -> keras.Model:
    """Clone a model with other layers in the place of some, and the suite's normalisation."""
    norms = any(isinstance(layer, layers.BatchNormalization) for layer in model.layers)
    if not norms and not replaced:
        return model

    def adapted(layer: keras.Layer) -> keras.Layer:
        if isinstance(layer, layers.BatchNormalization):
            # With the stock .99 the running statistics trail weights that still move: after 120
            # steps on the sample it judges by statistics that are not yet those of its features.
            config = layer.get_config() | {"momentum": 0.9}
            fusible = layer.center and layer.scale and len(layer.output.shape) == 4
            kind = BatchNormalization if fusible else layers.BatchNormalization
            return kind.from_config(config)
        # Keras counts layers without a name of their own: `normalization_3`.
        if make := replaced.get(layer.name) or replaced.get(re.sub(r"_\d+$", "", layer.name)):
            return make(layer)
        return layer.__class__.from_config(layer.get_config())

    return keras.models.clone_model(model, clone_function=adapted)
