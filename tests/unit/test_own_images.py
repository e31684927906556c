import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cifake_lib import data, own_images
from cifake_lib.detector import ModelVerdict, Verdict
from cifake_lib.images import ImageError, decode_image


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    return own_images.write_example(tmp_path_factory.mktemp("own") / "example", count=40, seed=1)


class Brightness:
    """Two stand-ins for models: one sees how bright an image is, one calls everything REAL."""

    def __init__(self):
        self.sizes = []

    def predict(self, images):
        self.sizes += [image.size for image in images]
        bright = [float(np.asarray(image).mean()) / 255 for image in images]
        return [Verdict(p, {"bright": ModelVerdict(p), "never": ModelVerdict(0.0)}) for p in bright]


def test_example_is_mixed_and_loads_with_its_sources(example):
    dataset = data.load_dataset(example, split_shares=[0.7, 0.1, 0.2])
    assert dict(dataset.table["label"].value_counts()) == {0: 20, 1: 20}
    assert set(dataset.table["source"]) == {"animals", "vehicles"}
    assert {name.rsplit(".")[-1] for name in dataset.table["path"]} == {"jpg", "png", "webp"}
    sizes = {Image.open(example / name).size for name in dataset.table["path"]}
    assert len(sizes) > 20 and any(width != height for width, height in sizes)
    assert set(dataset.table["split"]) == {"train", "validation", "test"}


def test_example_holds_a_broken_file_that_is_named(example):
    skipped = data.load_dataset(example).skipped
    assert list(skipped["path"]) == ["REAL/broken.jpg"]
    with pytest.raises(ImageError):
        decode_image((example / "REAL/broken.jpg").read_bytes(), name="broken.jpg")


def test_example_holds_no_image_that_the_released_models_learned_from(example):
    # Enlarged and re-saved, its files have other hashes: the pictures themselves are compared.
    sample = data.load_dataset("sample")
    learned = sample.table.loc[~sample.rows("test"), "path"]

    def thumbnail(image):
        return np.asarray(image.convert("L").resize((8, 8), Image.Resampling.BOX), float).ravel()

    known = np.stack([thumbnail(Image.open(sample.folder / name)) for name in learned])
    names = data.load_dataset(example).table["path"]
    nearest = [
        np.abs(known - thumbnail(Image.open(example / name))).mean(axis=1).min() for name in names
    ]
    tested = sample.table.loc[sample.rows("test"), "path"]
    own = np.stack([thumbnail(Image.open(sample.folder / name)) for name in tested])
    source = [
        np.abs(own - thumbnail(Image.open(example / name))).mean(axis=1).min() for name in names
    ]
    assert np.mean(np.less(source, nearest)) > 0.9


def test_example_is_written_once(example):
    before = (example / "index.csv").stat().st_mtime_ns
    assert own_images.write_example(example, count=2) == example
    assert (example / "index.csv").stat().st_mtime_ns == before


def test_models_are_asked_about_every_test_image_as_it_was_found(example):
    dataset = data.load_dataset(example, split_shares=[0.5, 0.1, 0.4])
    models = Brightness()
    said = own_images.ask(models, dataset)
    test = dataset.table[dataset.rows("test")]
    assert list(said["path"]) == list(test["path"]) and len(models.sizes) == len(test)
    assert models.sizes == [Image.open(example / name).size for name in test["path"]]
    scores = ["bright_p_fake", "never_p_fake", "ensemble_p_fake"]
    assert list(said) == ["path", "label", *scores]
    assert (said["never_p_fake"] == 0).all() and said["bright_p_fake"].between(0, 1).all()


def test_table_of_scores_is_measured_and_called():
    said = pd.DataFrame(
        {
            "path": list("abcd"),
            "label": [0, 0, 1, 1],
            "good_p_fake": [0.0, 0.2, 0.9, 1.0],
            "bad_p_fake": [0.9, 0.2, 0.9, 0.1],
        }
    )
    table = own_images.compare(said)
    assert table["accuracy"].to_dict() == {"good": 1.0, "bad": 0.5}
    assert table["roc_auc"].to_dict() == {"good": 1.0, "bad": 0.375}
    assert own_images.calls(said)["bad"].tolist() == [True, False, True, False]
