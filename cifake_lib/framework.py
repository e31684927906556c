"""Keras, imported without the chatter of TensorFlow's C++ side, which no setting turns off.

In a notebook that chatter fills a red box under the first cell. It goes to the file descriptor,
past Python's `sys.stderr`; errors and warnings of Python itself are shown as ever.
"""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


@contextlib.contextmanager
def native_stderr_held() -> Iterator[None]:
    """Hold back what is written to file descriptor 2; show it if an exception passes."""
    with tempfile.TemporaryFile() as held:
        try:
            original = os.dup(2)
        except OSError:  # No standard error at all, as under pythonw.
            yield
            return
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            sys.stderr.write(held.read().decode(errors="replace"))
            raise
        finally:
            os.dup2(original, 2)
            os.close(original)


with native_stderr_held():
    import keras

    # The first look at the devices has its own chatter.
    # All of them: JAX raises an error when asked for a kind that is not there.
    HAS_GPU = any(name.startswith("gpu") for name in keras.distribution.list_devices())

__all__ = ["HAS_GPU", "keras", "native_stderr_held"]
