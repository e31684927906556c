"""Keras, imported without the chatter of TensorFlow's C++ side."""

import os

from cifake_lib.chatter import native_stderr_held

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# On x86 without AVX-512 TensorFlow leaves these kernels off, which train twice as fast there too.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

with native_stderr_held():
    import keras

    # The first look at the devices has its own chatter.
    # All of them: JAX raises an error when asked for a kind that is not there.
    HAS_GPU = any(name.startswith("gpu") for name in keras.distribution.list_devices())

__all__ = ["HAS_GPU", "keras"]
