"""Heat maps of what a verdict rests on, and the checks that tell whether a map means anything.

A heat map looks convincing whether it is right or not. So each comes with two tests: do the pixels
it names matter (deletion and insertion, Petsiuk et al. 2018), and does it change when the model
forgets what it learned (randomised weights, Adebayo et al. 2018)? Needs TensorFlow's gradients.
"""

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from cifake_lib.calibration import probability
from cifake_lib.corruptions import HIDING_SIGMA, blurred
from cifake_lib.crops import images_together
from cifake_lib.framework import keras

METHODS = ("grad_cam", "grad_cam_plus_plus")
_TOGETHER_BYTES = 2**27  # of covered images that are made at once


def unwrapped(model: keras.Model) -> keras.Model:
    """Return the network inside a model that averages over views, or the model itself."""
    # A network may itself have models for layers: the stem of ConvNeXt is one.
    if any(layer.name == "logit" for layer in model.layers):
        return model
    inner = [layer for layer in model.layers if isinstance(layer, keras.Model)]
    return inner[0] if inner else model


def last_feature_map(model: keras.Model) -> str:
    """Return the name of the last layer that still knows where things are in the image."""
    maps = [layer for layer in model.layers if len(layer.output.shape) == 4]
    return maps[-1].name


def grad_cam(
    model: keras.Model, images: np.ndarray, *, method: str = "grad_cam", layer: str = ""
) -> np.ndarray:
    """Return heat maps of the class that the model calls each image.

    Grad-CAM (Selvaraju et al. 2017) weights the channels of a feature map by their mean gradient;
    Grad-CAM++ (Chattopadhay et al. 2018) by positive gradients, weighted so that several small
    places count like a large one.

    Args:
        model: One logit; for a model that averages over mirror images the network inside is used.
        images: uint8 `(N, S, S, 3)`, RGB.
        method: One of `METHODS`.
        layer: Name of the layer whose output is weighted; the last feature map if empty.

    Returns:
        float32 `(N, S, S)`, enlarged to the size of the image, each map from 0 to its maximum 1; 0
        everywhere where nothing speaks for the class.

    Raises:
        ValueError: The method is unknown.
    """
    if method not in METHODS:
        raise ValueError(f"Expected a method out of {METHODS}, received {method!r}")
    model = unwrapped(model)
    outputs = model.get_layer(layer or last_feature_map(model)).output
    split = keras.Model(model.input, [outputs, model.output])
    heat, count = [], images_together(images.shape[1])
    for start in range(0, len(images), count):
        activations, gradients = _class_gradients(split, images[start : start + count])
        weights = gradients
        if method == "grad_cam_plus_plus":
            total = activations.sum(axis=(1, 2), keepdims=True)
            below = 2 * gradients**2 + total * gradients**3
            share = np.divide(
                gradients**2, below, out=np.zeros_like(gradients), where=np.abs(below) > 1e-12
            )
            weights = share * np.maximum(gradients, 0)
        channel = weights.mean(axis=(1, 2), keepdims=True)
        heat.append(np.maximum((channel * activations).sum(axis=-1), 0))
    return _scaled(_enlarged(np.concatenate(heat), images.shape[1]))


def _class_gradients(split: keras.Model, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Activations of the layer, and the gradient of the called class's logit to them."""
    import tensorflow as tf

    with tf.GradientTape() as tape:
        activations, logit = split(images, training=False)
        # REAL is the class of a negative logit.
        score = tf.where(logit >= 0, logit, -logit)
    gradients = tape.gradient(score, activations)
    return activations.numpy().astype(np.float64), gradients.numpy().astype(np.float64)


def occlusion(
    model: keras.Model, images: np.ndarray, *, patch: int = 0, stride: int = 0
) -> np.ndarray:
    """Return how much each place matters, by covering it (Zeiler & Fergus 2014).

    Args:
        model: One logit.
        images: uint8 `(N, S, S, 3)`, RGB.
        patch: Side of the grey square in pixels; a quarter of S if 0.
        stride: Pixels between neighbouring squares; half a square if 0.

    Returns:
        float32 `(N, S, S)`: mean drop of the called class's logit over the squares that cover a
        pixel, scaled like `grad_cam`.
    """
    size = images.shape[1]
    patch = patch or size // 4
    corners = range(0, size - patch + 1, stride or patch // 2)
    squares = [
        np.s_[:, top : top + patch, left : left + patch] for top in corners for left in corners
    ]
    together = max(1, _TOGETHER_BYTES // (len(squares) * images[:1].nbytes))
    if len(images) > together:
        parts = [images[start : start + together] for start in range(0, len(images), together)]
        options = {"patch": patch, "stride": stride}
        return np.concatenate([occlusion(model, part, **options) for part in parts])
    grey = images.mean(axis=(1, 2), keepdims=True).astype(np.uint8)
    versions = [images]
    for square in squares:
        versions.append(images.copy())
        versions[-1][square] = grey
    # One call for all: each has a cost of its own, and there are dozens of squares.
    before, *after = _logits(model, np.concatenate(versions)).reshape(len(versions), -1)
    sign = np.where(before >= 0, 1, -1)
    heat, covered = np.zeros(images.shape[:3]), np.zeros((size, size))
    for square, logits in zip(squares, after, strict=True):
        heat[square] += (sign * (before - logits))[:, None, None]
        covered[square[1:]] += 1
    return _scaled(np.maximum(heat / np.maximum(covered, 1), 0))


def deletion_insertion(
    model: keras.Model, images: np.ndarray, heat: np.ndarray, *, steps: int = 16
) -> pd.DataFrame:
    """Test whether the pixels that maps name matter (Petsiuk et al. 2018, "RISE").

    Deletion blurs the hottest pixels first; insertion starts from the blurred image and shows them
    first. A map that means something makes the first curve fall and the second rise early.

    Args:
        model: One logit.
        images: uint8 `(N, S, S, 3)`, RGB.
        heat: `(N, S, S)`, as `grad_cam` returns it.
        steps: Equal parts of the pixels that are changed one after the other.

    Returns:
        One row per share of pixels: `share` from 0 to 1, `deletion` and `insertion`, the mean
        probability of the class that each whole image is called.
    """
    size = images.shape[1]
    hidden = blurred(images, HIDING_SIGMA)
    # Ties are broken at random: in reading order a flat map would look like one of the upper edge.
    noise = np.random.default_rng(0).random(heat.shape)
    order = np.lexsort((noise.reshape(len(heat), -1), -heat.reshape(len(heat), -1)), axis=-1)
    rank = np.argsort(order, axis=-1).reshape(heat.shape)
    shares = np.linspace(0, 1, steps + 1)
    hottest = [(rank < share * size**2)[..., None] for share in shares]
    versions = [np.where(hot, hidden, images) for hot in hottest]
    versions += [np.where(hot, images, hidden) for hot in hottest]
    p_fake = probability(_logits(model, np.concatenate(versions))).reshape(2, steps + 1, -1)
    called_fake = p_fake[0, 0] >= 0.5  # nothing deleted yet
    called = np.where(called_fake, p_fake, 1 - p_fake).mean(axis=2)
    return pd.DataFrame({"share": shares, "deletion": called[0], "insertion": called[1]})


def curve_areas(curves: pd.DataFrame) -> dict[str, float]:
    """Return the areas under the curves of `deletion_insertion`: small and large are good."""
    return {
        name: float(np.trapezoid(curves[name], curves["share"]))
        for name in ("deletion", "insertion")
    }


def randomisation_check(
    model: keras.Model,
    images: np.ndarray,
    explain: Callable[[keras.Model, np.ndarray], np.ndarray],
    *,
    seed: int = 0,
) -> Mapping[str, float]:
    """Test whether maps depend on what the model learned (Adebayo et al. 2018).

    Args:
        model: Trained; unchanged afterwards.
        images: uint8 `(N, S, S, 3)`, RGB.
        explain: Function of a model and images that returns maps `(N, S, S)`.
        seed: Of the random weights.

    Returns:
        `rank_correlation`: mean absolute Spearman correlation between the maps of the trained model
        and those of the same network with random weights, 0–1. Near 0 the map shows what was
        learned; near 1 it shows the picture's edges, whatever the model knows. NaN where no map has
        any contrast. `flat`: share of maps without contrast in either.
    """
    model = unwrapped(model)
    return _likeness(explain(model, images), explain(_forgetful(model, seed), images))


def _forgetful(model: keras.Model, seed: int) -> keras.Model:
    keras.utils.set_random_seed(seed)
    return keras.models.clone_model(model)  # New weights, drawn by each layer's initialiser.


def _likeness(maps: np.ndarray, others: np.ndarray) -> dict[str, float]:
    correlations = [
        abs(spearmanr(one.ravel(), other.ravel()).statistic)
        for one, other in zip(maps, others, strict=True)
        if np.ptp(one) > 0 and np.ptp(other) > 0
    ]
    return {
        "rank_correlation": float(np.mean(correlations)) if correlations else float("nan"),
        "flat": 1 - len(correlations) / len(maps),
    }


EXPLAINERS: dict[str, Callable[[keras.Model, np.ndarray], np.ndarray]] = {
    **{method: partial(grad_cam, method=method) for method in METHODS},
    "occlusion": occlusion,
}


def compare_maps(
    models: Mapping[str, keras.Model], images: Mapping[str, np.ndarray], *, seed: int = 0
) -> tuple[dict[tuple[str, str], pd.DataFrame], pd.DataFrame]:
    """Put every explanation of every model to both tests.

    Args:
        models: Model key → model.
        images: Model key → the same images as it looks at them, uint8 `(N, S, S, 3)`, RGB.
        seed: Of the map without meaning and of the random weights.

    Returns:
        (model key, method) → the curves of `deletion_insertion`; and one row each: `model`,
        `method`, the areas `deletion` and `insertion`, and `rank_correlation` and `flat` of
        `randomisation_check`. The method `random` is a map of noise, for comparison.
    """
    curves, rows = {}, []
    for key, model in models.items():
        inner, seen = unwrapped(model), images[key]
        noise = np.random.default_rng(seed).random(seen.shape[:3])
        forgetful = _forgetful(inner, seed)
        for method, explain in {**EXPLAINERS, "random": None}.items():
            maps = explain(inner, seen) if explain else noise
            # Of the very network that the maps explain, not of its mean over views.
            curve = deletion_insertion(inner, seen, maps)
            curves[key, method] = curve
            rows.append({"model": key, "method": method, **curve_areas(curve)})
            if explain:
                rows[-1] |= _likeness(maps, explain(forgetful, seen))
    return curves, pd.DataFrame(rows)


def _logits(model: keras.Model, images: np.ndarray) -> np.ndarray:
    count = 4 * images_together(images.shape[1])  # one view of each
    return model.predict(images, batch_size=count, verbose=0).ravel().astype(np.float64)


def _enlarged(maps: np.ndarray, size: int) -> np.ndarray:
    resized = keras.ops.image.resize(
        maps[..., None].astype(np.float32), (size, size), interpolation="bilinear"
    )
    return keras.ops.convert_to_numpy(resized)[..., 0]


def _scaled(maps: np.ndarray) -> np.ndarray:
    highest = maps.max(axis=(1, 2), keepdims=True)
    scaled = np.divide(maps, highest, out=np.zeros_like(maps, dtype=np.float64), where=highest > 0)
    return scaled.astype(np.float32)
