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


@pytest.fixture
def archive(tmp_path):
    """Images in two folders, beside what is none and what is hidden."""
    for name in ("b/2.png", "b/1 [x].JPG", "a/3.webp", "a/notes.txt", ".trash/4.png", "a/.5.png"):
        file = tmp_path / "archive" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(name.encode())
    return tmp_path / "archive"
