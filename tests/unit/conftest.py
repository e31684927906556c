"""What every unit test gets."""

import sys

import pytest


@pytest.fixture(autouse=True)
def precision():
    """Where a test has prepared a training, the next starts with Keras's own precision again."""
    yield
    # Importing Keras takes seconds, and some tests are about doing without.
    if keras := sys.modules.get("keras"):
        keras.mixed_precision.set_global_policy("float32")
