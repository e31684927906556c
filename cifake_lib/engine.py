"""Trained networks in LiteRT: the scores of Keras without TensorFlow, in a third of the memory.

TensorFlow takes seconds to start and most of a gigabyte, too much for a dashboard that runs a
process for each visitor. A network is converted once, when its run is finished; whoever asks it
afterwards needs only `ai-edge-litert`. The converted file also gives what the network saw, so that
heat maps and the scope check need neither gradients nor a second network.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cifake_lib import runs
from cifake_lib.chatter import native_stderr_held

if TYPE_CHECKING:
    import keras

FILE = "model.tflite"
KERNELS = ("float32", "float16", "int8")
_OUTPUTS = ("logit", "features", "heat")
# Views in a call, those of one image: more are hardly faster, and memory grows with them, by 35 MB
# for 32 of the released models and with the square of the side.
_TOGETHER = 4


class NotConvertible(RuntimeError):
    """The converter cannot take a network; the message says what happens instead."""


def export(model: keras.Model, target: Path, *, kernels: str = "float16") -> None:
    """Convert a trained network; needs TensorFlow.

    Args:
        model: One logit; of a model that averages over views the network inside is converted.
        target: The `.tflite` file.
        kernels: How they are stored: `float32`; `float16`, and computed with in single precision
            all the same; or `int8`, a scale for each channel, multiplied with feature maps that are
            rounded likewise (dynamic range quantisation): a quarter of the size, and on CPUs twice
            as fast or more.

    Raises:
        ValueError: `kernels` is none of these.
        NotConvertible: The network has layers that the converter does not know.
    """
    if kernels not in KERNELS:
        raise ValueError(f"Expected kernels out of {KERNELS}, received {kernels!r}")
    import tensorflow as tf

    from cifake_lib import explain
    from cifake_lib.framework import keras

    tf.get_logger().setLevel(logging.WARNING)  # It would tell of a folder that is gone at once.
    network = explain.unwrapped(model)
    features = network.get_layer("logit").input
    maps = network.get_layer(explain.last_feature_map(network))
    heat = keras.ops.sum(maps.output * _slopes(network, maps), axis=-1)
    outputs = dict(zip(_OUTPUTS, (network.output, features, heat), strict=True))
    # Both tell at length what they do, on every way to the screen.
    with native_stderr_held(), contextlib.redirect_stdout(io.StringIO()):
        converter = tf.lite.TFLiteConverter.from_keras_model(keras.Model(network.input, outputs))
        if kernels != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if kernels == "float16":
            converter.target_spec.supported_types = [tf.float16]
        try:
            converted = converter.convert()
        except Exception as error:  # The converter has a kind of its own for each stage.
            raise NotConvertible(
                f"The light engine cannot run {network.name}; it is asked in Keras, which is "
                f"slower to start. ({type(error).__name__})"
            ) from error
    target.write_bytes(converted)


def _slopes(network: keras.Model, maps: keras.Layer):
    """Return how fast the logit rises with each value of the last feature map.

    The layers after it are gone through backwards: the graph of a gradient does not convert.
    Where they are linear the slope is the same for every image.
    """
    from cifake_lib.framework import keras
    from cifake_lib.layers import MomentPooling

    ops, layers = keras.ops, keras.layers
    rows, columns, channels = maps.output.shape[1:]
    slope = ops.ones((1, 1))
    for layer in reversed(network.layers[network.layers.index(maps) + 1 :]):
        if isinstance(layer, layers.Dense):
            if layer.activation is keras.activations.relu:
                slope = slope * ops.cast(layer.output > 0, "float32")
            slope = ops.matmul(slope, ops.transpose(layer.kernel))
        elif isinstance(layer, layers.BatchNormalization):
            slope = slope * layer.gamma / ops.sqrt(layer.moving_variance + layer.epsilon)
        elif isinstance(layer, layers.GlobalAveragePooling2D):
            slope = ops.reshape(slope, (-1, 1, 1, channels)) / (rows * columns)
        elif isinstance(layer, MomentPooling):
            means, deviations = ops.split(ops.reshape(slope, (-1, 1, 1, 2 * channels)), 2, axis=-1)
            mean, deviation = ops.split(layer.output[:, None, None], 2, axis=-1)
            slope = means + deviations * (layer.input - mean) / deviation
            slope = slope / (rows * columns)
        elif isinstance(layer, layers.Flatten):
            slope = ops.reshape(slope, (-1, rows, columns, channels))
        elif not isinstance(layer, layers.Dropout):
            raise NotConvertible(f"{layer.name} after the last feature map has no known slope.")
    return slope


def four_views(images: np.ndarray) -> np.ndarray:
    """Return the views that `models.view_averaged` averages over, one after the other.

    Args:
        images: `(images, height, width, 3)`.

    Returns:
        `(4 * images, height, width, 3)`.
    """
    height = images.shape[1]
    by = height // 16
    padded = np.pad(images, ((0, 0), (by, by), (0, 0), (0, 0)), mode="symmetric")
    moved = np.concatenate([padded[:, :height], padded[:, 2 * by :]])
    return np.concatenate([moved, moved[:, :, ::-1]])


class Network:
    """A converted network, loaded.

    Attributes:
        run: Where it comes from.
    """

    def __init__(self, run: runs.Run):
        """Load the network of a run after comparing its file's hash with the manifest.

        Raises:
            runs.RunDamaged: The file is missing or was changed.
        """
        from ai_edge_litert.interpreter import Interpreter

        self.run = run
        self._averages = run.manifest["model"].get("view_averaged", False)
        path = str(run.checked(FILE))
        with native_stderr_held():  # It tells which delegate it has made.
            # Processes that share a machine are each told their part by this variable.
            threads = int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count())
            self._interpreter = Interpreter(model_path=path, num_threads=threads)
            self._interpreter.allocate_tensors()
            self._runner = self._interpreter.get_signature_runner()
        self._lock = threading.Lock()  # An interpreter serves one thread at a time.

    def predict_on_batch(self, images: np.ndarray) -> np.ndarray:
        """Return the logits of images, as a Keras model does.

        Args:
            images: uint8 or float `(images, height, width, 3)`, RGB in 0–255, of the side that the
                network takes.

        Returns:
            float32 `(images, 1)`; the mean over four views where the run averages.
        """
        if not self._averages:
            return self.logits(images)
        return self.logits(four_views(images)).reshape(4, -1, 1).mean(axis=0)

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Return the logits of images as they are, float32 `(images, 1)`, without averaging."""
        return self._ask(images)["logit"]

    def look(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return what the network saw in images, as they are.

        Args:
            images: As for `predict_on_batch`.

        Returns:
            The features before the last layer, float32 `(images, features)`; and the heat, float32
            `(images, rows, columns)`: what each cell of the last feature map adds to the logit,
            above 0 for FAKE, to first order where layers with a bend follow it (HiResCAM, Draelos
            & Carin 2020). For a network that ends in global average pooling that is Grad-CAM
            before its clipping at 0 (Selvaraju et al. 2017).
        """
        seen = self._ask(images)
        return seen["features"], seen["heat"]

    def _ask(self, images: np.ndarray) -> dict[str, np.ndarray]:
        parts = []
        for start in range(0, len(images), _TOGETHER):
            batch = np.ascontiguousarray(images[start : start + _TOGETHER], dtype=np.float32)
            with self._lock:
                parts.append(self._runner(rgb=batch))
        return {name: np.concatenate([part[name] for part in parts]) for name in _OUTPUTS}
