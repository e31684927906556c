"""Copies and near copies, against pictures whose relations are known."""

import imagehash
import numpy as np
import pandas as pd
import pytest
from made_up import smooth_pictures
from PIL import Image

from cifake_lib import copies
from cifake_lib.data import Dataset


def near_copies(hashes, **options):
    """All pairs of hashes, closest first."""
    parts = zip(*copies.near_pairs(hashes, **options), strict=True)
    names = ["first", "second", "distance"]
    columns = {name: np.concatenate(values) for name, values in zip(names, parts, strict=True)}
    return pd.DataFrame(columns).sort_values(["distance", "first", "second"], ignore_index=True)


def test_hash_is_that_of_the_library():
    images = smooth_pictures(3)
    hashes = copies.perceptual_hashes(images)
    for value, image in zip(hashes, images, strict=True):
        assert f"{value:016x}" == str(imagehash.dhash(Image.fromarray(image)))


@pytest.mark.parametrize("distance", [0, 1, 4, 7])
def test_near_copies_are_those_of_comparing_all_pairs(distance):
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**63, 150, dtype=np.uint64)
    for index in range(50):  # Relatives of the first fifty, up to eight bits away.
        flips = rng.choice(64, rng.integers(0, 9), replace=False)
        hashes[50 + index] = hashes[index] ^ np.bitwise_or.reduce(
            np.uint64(1) << flips.astype(np.uint64), initial=np.uint64(0)
        )
    pairs = near_copies(hashes, max_distance=distance)
    expected = {
        (i, j): (hashes[i] ^ hashes[j]).item().bit_count()
        for i in range(150)
        for j in range(i + 1, 150)
    }
    expected = {pair: bits for pair, bits in expected.items() if bits <= distance}
    assert expected  # There is something to find.
    assert (
        dict(zip(zip(pairs["first"], pairs["second"], strict=True), pairs["distance"], strict=True))
        == expected
    )
    assert pairs["distance"].is_monotonic_increasing


def test_resaved_image_is_a_near_copy_and_another_is_not(tmp_path):
    images = smooth_pictures(2)
    Image.fromarray(images[0]).save(tmp_path / "again.jpg", quality=60)
    again = np.array(Image.open(tmp_path / "again.jpg"))
    pairs = near_copies(copies.perceptual_hashes(np.stack([*images, again])))
    assert pairs[["first", "second"]].to_numpy().tolist() == [[0, 2]]


def test_pairs_are_handed_on_in_parts_and_none_twice(monkeypatch):
    monkeypatch.setattr(copies, "_TOGETHER", 100)
    hashes = np.zeros(60, dtype=np.uint64)  # Frames of one film: all pairs are alike.
    hashes[30:] = 1
    parts = list(copies.near_pairs(hashes))
    assert len(parts) > 5 and max(len(first) for first, _, _ in parts) < 200
    pairs = near_copies(hashes)
    assert len(pairs) == 60 * 59 / 2 == len(pairs.drop_duplicates())
    assert (pairs["distance"] == 1).sum() == 900


def test_copies_are_counted_by_class_and_across_splits(tmp_path):
    table = pd.DataFrame(
        {
            "label": [0, 1, 0, 1],
            "split": ["train", "train", "validation", "train"],
            "content_hash": ["a", "b", "a", "c"],
        }
    )
    hashes = np.array([0, 0b111, 0, 0b1111 << 3], dtype=np.uint64)
    counted, pairs = copies.alike(Dataset("made", tmp_path, table, table[:0], ""), hashes)
    assert counted.loc["exact pairs"].to_dict() == {
        "REAL": 1,
        "FAKE": 0,
        "both classes": 0,
        "across splits": 1,
    }
    # Three bits from 0 to 1 and from 1 to 2; four from 0 to 3 and from 2 to 3; seven from 1 to 3.
    assert counted.loc["near pairs"].tolist() == [0, 0, 4, 2]
    assert pairs.to_numpy().tolist() == [[0, 1, 3], [1, 2, 3], [0, 3, 4], [2, 3, 4]]


def test_a_data_set_without_copies_has_no_pairs(tmp_path):
    table = pd.DataFrame({"label": [0, 1], "split": "train", "content_hash": ["a", "b"]})
    hashes = np.array([0, 2**40 - 1], dtype=np.uint64)
    counted, pairs = copies.alike(Dataset("made", tmp_path, table, table[:0], ""), hashes)
    assert pairs.empty and not counted.to_numpy().any()


def photographs(count, seed=0):
    """Smooth pictures that differ, so that their perceptual hashes do too."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)
    return coarse.repeat(8, axis=1).repeat(8, axis=2)


def test_copies_in_training_are_found():
    images = photographs(6)
    images[3] = images[0]  # an exact copy of a training image
    images[4] = np.clip(images[1].astype(int) + 3, 0, 255)  # looks like another
    table = pd.DataFrame(
        {
            "split": ["train", "train", "validation", "test", "test", "test"],
            "content_hash": ["a", "b", "c", "a", "d", "e"],
        }
    )
    dataset = Dataset("made-up", None, table, table[:0], "")
    copied = copies.near_training(dataset, images)
    assert copied["exact"].tolist() == [True, False, False]
    assert copied["near"].tolist() == [True, True, False]


def test_a_copy_in_validation_or_in_test_does_not_count():
    images = photographs(4)
    images[2] = images[3] = images[1]
    table = pd.DataFrame(
        {"split": ["train", "validation", "test", "test"], "content_hash": ["a", "b", "b", "b"]}
    )
    copied = copies.near_training(Dataset("m", None, table, table[:0], ""), images)
    assert not copied.to_numpy().any()
