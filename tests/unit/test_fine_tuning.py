import numpy as np
import pandas as pd
import pytest

from cifake_lib.data import Dataset
from cifake_lib.fine_tuning import FineTuning

ARGUMENTS = {"image_size": 32, "input_size": 32, "stages": 4, "augmentation": []}


@pytest.fixture
def collection(tmp_path):
    """Forty images, the fakes brighter: a data set and its pixels."""
    labels = np.arange(40) % 2
    split = np.select([np.arange(40) < 24, np.arange(40) < 32], ["train", "validation"], "test")
    table = pd.DataFrame({"path": labels.astype(str), "label": labels, "split": split})
    generator = np.random.default_rng(0)
    images = generator.integers(0, 128, (40, 32, 32, 3)) + 100 * labels[:, None, None, None]
    return Dataset("own", tmp_path, table, table[:0], ""), images.astype(np.uint8)


def weights(model):
    return {
        layer.name: [np.copy(value) for value in layer.get_weights()]
        for layer in model.layers
        if layer.get_weights()
    }


def changed(before, after):
    return {
        name for name, values in before.items() if not all(map(np.array_equal, values, after[name]))
    }


def test_the_head_comes_first_and_then_all_but_known_statistics_move(collection, tmp_path):
    gently = FineTuning(
        "resnet50", ARGUMENTS, "released", head_epochs=1, epochs=1, batch_size=24, patience=1
    )
    start, pretrained = gently.build()
    assert len(pretrained) > 80 and "logit" not in pretrained
    before = weights(start)
    model, history = gently.train(*collection, checkpoints=tmp_path)
    assert list(history["phase"]) == ["head", "fine_tune"]
    # What is kept is the better of both epochs; the first moves nothing but the head.
    moved = changed(before, weights(model))
    assert "logit" in moved
    if history["val_log_loss"].idxmin() == 1:
        assert "conv1_conv" in moved and "conv4_block6_3_conv" in moved
    assert not any(name.endswith("_bn") for name in moved)


def test_without_pretrained_layers_there_is_no_first_phase(collection, tmp_path):
    arguments = {"image_size": 32, "augmentation": []}
    plain = FineTuning("baseline_cnn", arguments, "none", head_epochs=3, epochs=2, batch_size=12)
    model, history = plain.train(*collection, checkpoints=tmp_path)
    assert list(history["phase"]) == ["fine_tune", "fine_tune"]
    assert model.name == "baseline_cnn"
