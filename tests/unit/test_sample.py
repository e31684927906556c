"""The embedded sample: how it is drawn, and what lies in the repository."""

import hashlib
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cifake_lib import data, sample
from cifake_lib.indexing import CIFAKE_NAME, OBJECT_CLASSES
from cifake_lib.splits import assign_splits, bucket

SAMPLE = Path(__file__).parents[2] / "data" / "sample.zip"


def synthetic(per_cell=1500, copies=400):
    """A split table like that of CIFAKE's training split, but without any file."""
    rows = [
        (label, object_class, f"{label}{object_class}{i}")
        for label in (0, 1)
        for object_class in OBJECT_CLASSES
        for i in range(per_cell)
    ]
    rows += [(1, OBJECT_CLASSES[i % 10], f"1{OBJECT_CLASSES[i % 10]}{i}") for i in range(copies)]
    table = pd.DataFrame(rows, columns=["label", "object_class", "content"])
    table["content_hash"] = [hashlib.sha256(text.encode()).hexdigest() for text in table["content"]]
    names = table["label"].map({0: "REAL", 1: "FAKE"})
    table["path"] = [f"train/{name}/{i:06}.jpg" for i, name in enumerate(names)]
    table["official_split"] = "train"
    return assign_splits(table.assign(official_split=""))


@pytest.fixture(scope="module")
def table():
    return synthetic()


@pytest.fixture(scope="module")
def drawn(table):
    return sample.draw_sample(table)


def test_sizes_and_layout(drawn):
    folders = drawn["archive_path"].map(lambda path: Path(path).parent.as_posix())
    assert Counter(folders) == {
        "train/REAL": 2000,
        "train/FAKE": 2000,
        "test/REAL": 500,
        "test/FAKE": 500,
    }
    assert drawn["archive_path"].is_unique


def test_stratified_by_class_and_object_class(drawn):
    cells = drawn.groupby(["split", "label", "object_class"]).size().unstack("split")
    assert len(cells) == 20
    assert (cells["test"] == 50).all()
    assert cells["validation"].between(12, 13).all()
    assert cells["train"].between(187, 188).all()


def test_no_exact_copies(table, drawn):
    assert table["content_hash"].duplicated().sum() == 400
    assert drawn["content_hash"].is_unique


def test_test_images_come_from_the_held_out_part(table, drawn):
    whole = table.drop_duplicates("content_hash").set_index("content_hash")["split"]
    tested = drawn["archive_path"].str.startswith("test/")
    assert set(whole[drawn.loc[tested, "content_hash"]]) == {"test"}
    assert set(whole[drawn.loc[~tested, "content_hash"]]) == {"train", "validation"}


def test_drawn_over_the_whole_range_of_buckets(drawn):
    position = drawn.loc[drawn["split"] == "test", "content_hash"].map(bucket)
    # Half of the images from each half of the range, within what chance allows.
    assert (position < 0.05).mean() == pytest.approx(0.5, abs=0.06)


def test_drawing_follows_from_content_alone(table, drawn):
    again = sample.draw_sample(table.sample(frac=1, random_state=1))
    assert set(again["content_hash"]) == set(drawn["content_hash"])


def test_writing_is_repeatable(tmp_path, monkeypatch):
    monkeypatch.setenv("CIFAKE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sample, "SIZES", {"train": 40, "validation": 20, "test": 20})
    rng = np.random.default_rng(0)
    for label in data.CLASS_NAMES:
        folder = tmp_path / "source" / "train" / label
        folder.mkdir(parents=True)
        for number in range(1200):
            kind = number % 10 + 1
            name = f"{number:04}{f' ({kind})' if kind > 1 else ''}.jpg"
            # Tiny files that Pillow decodes: the drawing is what is looked at.
            pixels = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name)
    dataset = data.load_dataset(tmp_path / "source")
    for name in ("a.zip", "b.zip"):
        sample.write_sample(dataset, tmp_path / name)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    # What was drawn is a data set again, and its official test is the held-out part.
    read = data.load_dataset(tmp_path / "a.zip")
    assert len(read.table) == 80
    assert set(read.table["object_class"]) == set(OBJECT_CLASSES)
    whole = dataset.table.set_index("content_hash")["split"]
    tests = read.table.loc[read.table["split"] == "test", "content_hash"]
    assert set(whole[tests]) == {"test"}


# The committed file


@pytest.fixture(scope="module")
def members():
    with zipfile.ZipFile(SAMPLE) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_embedded_sample_has_the_layout_of_kaggle(members):
    assert Counter(Path(name).parent.as_posix() for name in members) == {
        "train/REAL": 2000,
        "train/FAKE": 2000,
        "test/REAL": 500,
        "test/FAKE": 500,
    }
    assert SAMPLE.stat().st_size < 6e6


def test_embedded_sample_is_stratified(members):
    kinds = Counter()
    for name in members:
        match = CIFAKE_NAME.fullmatch(Path(name).stem)
        kinds[Path(name).parent.as_posix(), int(match[1] or 1)] += 1
    assert len(kinds) == 40
    assert {count for (folder, _), count in kinds.items() if folder.startswith("test")} == {50}
    trained = [count for (folder, _), count in kinds.items() if folder.startswith("train")]
    assert 199 <= min(trained) <= max(trained) <= 201


def test_embedded_sample_holds_no_exact_copies(members):
    assert len({hashlib.sha256(content).digest() for content in members.values()}) == 5000


def test_embedded_sample_agrees_with_the_split_of_the_whole(members):
    for name, content in members.items():
        held_out = bucket(hashlib.sha256(content).hexdigest()) < 0.10
        assert held_out == name.startswith("test/"), name


def test_embedded_sample_loads_completely(tmp_path, monkeypatch):
    monkeypatch.setenv("CIFAKE_CACHE", str(tmp_path))
    monkeypatch.setenv("CIFAKE_DATA", str(SAMPLE.parent))
    dataset = data.load_dataset("sample")
    assert dataset.summary().to_numpy().tolist() == [
        [1875, 1875, 0, 0],
        [125, 125, 0, 0],
        [500, 500, 0, 0],
    ]
    assert dataset.skipped.empty
    assert set(dataset.table["object_class"]) == set(OBJECT_CLASSES)
