"""Layers that models share: the last one, pooling, and batch normalisation computed faster.

Keras writes batch normalisation as a dozen operations in float32. On a CPU, where memory is the
bottleneck, they cost more than the convolutions between them. TensorFlow has one fused kernel for
all of it, which reads bfloat16.
"""

from cifake_lib.framework import keras

if keras.backend.backend() == "tensorflow":
    from tensorflow.compat.v1.nn import fused_batch_norm
else:  # JAX's compiler fuses Keras's own formula.
    fused_batch_norm = None


class BatchNormalization(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization` over the channels of images, in a fused kernel.

    Config, weights and results are those of Keras's layer, except that the running variance is the
    unbiased one (Ioffe & Szegedy 2015, algorithm 2). Stored under the same name, so that the
    weights of one load into the other. Without TensorFlow it is Keras's layer.
    """

    def call(self, inputs, training=None, mask=None):
        """Normalise a batch `(batch, height, width, channels)`; see Keras's layer."""
        if fused_batch_norm is None:
            return super().call(inputs, training=training, mask=mask)
        gamma, beta = (keras.ops.cast(x, "float32") for x in (self.gamma, self.beta))
        options = {"epsilon": self.epsilon, "is_training": bool(training and self.trainable)}
        if not options["is_training"]:
            moments = {"mean": self.moving_mean, "variance": self.moving_variance}
            moments = {name: keras.ops.cast(x, "float32") for name, x in moments.items()}
            return fused_batch_norm(inputs, gamma, beta, **moments, **options)[0]
        outputs, mean, variance = fused_batch_norm(inputs, gamma, beta, **options)
        for moving, measured in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + measured * (1 - self.momentum))
        return outputs


class MomentPooling(keras.layers.Layer):
    """Mean and standard deviation of each channel over the places of an image.

    The mean says how much of a pattern there is, the deviation whether it is spread evenly, as the
    traces of a generator are, or sits on what is shown. `(batch, height, width, channels)` →
    float32 `(batch, 2 × channels)`, means first.
    """

    def __init__(self, **options):
        # Squares in half precision would swallow the deviation of a channel with a large mean.
        super().__init__(**{"dtype": "float32"} | options)

    def call(self, inputs):
        """Pool a batch."""
        mean, variance = keras.ops.moments(inputs, axes=(1, 2))
        # The slope of the root is infinite at 0, and many channels are silent.
        return keras.ops.concatenate([mean, keras.ops.sqrt(variance + 1e-5)], axis=-1)


def logit(x):
    """Add the last layer of every model: one float32 logit, `(batch, 1)`."""
    # float32 whatever the policy: half precision would quantise the score itself.
    return keras.layers.Dense(1, dtype="float32", name="logit")(x)
