import numpy as np
import pandas as pd
import pytest

from cifake_lib import cross_validation
from cifake_lib.data import Dataset, DatasetError


def collection(tmp_path, *, images=60, sources=("",), groups=None):
    """Images of both classes in turn; source and group follow one another."""
    numbers = np.arange(images)
    table = pd.DataFrame(
        {
            "path": [f"{number}.png" for number in numbers],
            "label": numbers % 2,
            "content_hash": [f"{number:064x}" for number in numbers],
            "source": [sources[number // 2 % len(sources)] for number in numbers],
            "group": "" if groups is None else [str(group) for group in groups],
            "split": "train",
        }
    )
    return Dataset("own", tmp_path, table, table[:0], "")


def test_each_image_is_tested_once_a_repeat_and_classes_keep_their_shares(tmp_path):
    dealt = list(cross_validation.folds(collection(tmp_path), count=5, repeats=2))
    assert len(dealt) == 10
    for repeat in (dealt[:5], dealt[5:]):
        assert (sum(part.rows("test").to_numpy().astype(int) for part in repeat) == 1).all()
    for part in dealt:
        shares = part.table.groupby("split")["label"].mean()
        assert shares[["train", "validation", "test"]].between(0.35, 0.65).all()
    assert not dealt[0].rows("test").equals(dealt[5].rows("test"))


def test_images_of_one_group_and_copies_stay_together(tmp_path):
    dataset = collection(tmp_path, groups=np.arange(60) // 3)
    dataset.table.loc[[0, 58], "content_hash"] = "f" * 64  # a copy that joins two groups
    joined = {0, 1, 2, 57, 58, 59}
    for part in cross_validation.folds(dataset, count=3, repeats=1):
        assert (part.table.groupby(np.arange(60) // 3)["split"].nunique() == 1).all()
        assert part.table.loc[sorted(joined), "split"].nunique() == 1


def test_whole_sources_are_left_out(tmp_path):
    dataset = collection(tmp_path, sources=("cameras", "phones", "scans"))
    dealt = list(cross_validation.folds(dataset, count=3, repeats=1, by_source=True))
    tested = [set(part.table.loc[part.rows("test"), "source"]) for part in dealt]
    assert sorted(map(tuple, tested)) == [("cameras",), ("phones",), ("scans",)]
    for part, sources in zip(dealt, tested, strict=True):
        assert not sources & set(part.table.loc[~part.rows("test"), "source"])


def test_named_parts_of_the_sources_are_left_out_in_turn(tmp_path):
    dataset = collection(tmp_path, images=96, sources=("a", "b", "c"))
    first, second = cross_validation.leave_out(dataset, [["a", "c"], ["b"]])
    assert set(first.table.loc[first.rows("test"), "source"]) == {"a", "c"}
    assert first.table.loc[first.rows("test"), "split"].size == 64
    assert set(second.table.loc[~second.rows("test"), "source"]) == {"a", "c"}
    assert second.rows("validation").sum() == 8
    assert second.table.loc[second.rows("validation"), "label"].nunique() == 2


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [
        ([["a"], ["b"]], r"each source in one part of them, received otherwise \['c'\]"),
        ([["a", "b"], ["c", "a"]], r"received otherwise \['a'\]"),
        ([["a", "b"], ["c", "zoo"]], r"received otherwise \['zoo'\]"),
    ],
)
def test_each_source_is_left_out_once(tmp_path, parts, sentence):
    dataset = collection(tmp_path, sources=("a", "b", "c"))
    with pytest.raises(DatasetError, match=sentence):
        list(cross_validation.leave_out(dataset, parts))


def test_a_part_has_both_classes(tmp_path):
    dataset = collection(tmp_path, sources=("a", "b"))
    dataset.table["source"] = dataset.table["label"].map({0: "camera", 1: "generator"})
    with pytest.raises(DatasetError, match=r"among the sources \['camera'\]"):
        list(cross_validation.leave_out(dataset, [["camera"], ["generator"]]))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"images": 12}, "at least 10 different images .* of each class for 5 folds, received 6"),
        ({"sources": ("one",)}, "at least 5 sources of each class for 5 folds, received 1"),
    ],
)
def test_too_little_to_deal_is_a_sentence(tmp_path, options, sentence):
    dealt = cross_validation.folds(collection(tmp_path, **options), by_source="sources" in options)
    with pytest.raises(DatasetError, match=sentence):
        next(dealt)


def test_what_tells_the_source_alone_does_not_help_with_others(tmp_path):
    dataset = collection(tmp_path, images=240, sources=("cameras", "phones", "scans"))
    table, generator = dataset.table, np.random.default_rng(0)
    # Within a source one number gives the class away, and each source has its own number.
    own = pd.get_dummies(table["source"]).to_numpy() * (2.0 * table[["label"]].to_numpy() - 1)
    features = np.hstack([3 * own, generator.normal(size=(240, 5))])
    tested = cross_validation.cross_validate(features, dataset, count=3, repeats=2)
    assert len(tested) == 12
    means = tested.groupby("dealt")["roc_auc"].mean()
    assert means[cross_validation.IMAGES] > 0.95
    assert 0.3 < means[cross_validation.SOURCES] < 0.7


def test_without_sources_only_images_are_dealt(tmp_path):
    features = np.random.default_rng(0).normal(size=(60, 3))
    tested = cross_validation.cross_validate(features, collection(tmp_path), count=2, repeats=1)
    assert list(tested["dealt"]) == [cross_validation.IMAGES] * 2


def test_interval_is_the_corrected_one_of_nadeau_and_bengio():
    # Worked by hand: ten folds of five, mean .8, standard deviation .02.
    scores = np.array([0.78, 0.82] * 5) * 1.0
    scores = 0.8 + (scores - 0.8) * 0.02 / scores.std(ddof=1)
    tested = pd.DataFrame({"dealt": "images_mixed", "count": 5, "accuracy": scores})
    tested = tested.assign(f1=0.5, roc_auc=[1.0, 0.9] * 5)
    row = cross_validation.summary(tested).loc["images_mixed"]
    half = 2.2622 * np.sqrt(1 / 10 + 1 / 4) * 0.02
    assert row["accuracy"] == pytest.approx(0.8)
    assert row["accuracy_low"] == pytest.approx(0.8 - half, abs=1e-5)
    assert row["accuracy_high"] == pytest.approx(0.8 + half, abs=1e-5)
    assert row["f1_low"] == row["f1_high"] == 0.5
    assert row["roc_auc_high"] == 1  # never beyond what a score can be
