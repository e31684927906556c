"""The split follows from content and seed alone."""

import hashlib

import numpy as np
import pandas as pd
import pytest

from cifake_lib.splits import SMALL, assign_splits, bucket, split_hash, take


def hashes(count, *, start=0):
    return [hashlib.sha256(str(i).encode()).hexdigest() for i in range(start, start + count)]


def make_table(count, *, official="", start=0):
    """An index of `count` different images, alternately REAL and FAKE, without any file."""
    return pd.DataFrame(
        {
            "path": [f"{i:06}.png" for i in range(start, start + count)],
            "label": np.arange(count) % 2,
            "content_hash": hashes(count, start=start),
            "official_split": official,
        }
    )


def shares(table):
    return table["split"].value_counts(normalize=True)


def test_bucket_is_the_same_on_any_machine():
    # Literal values: another version, seed order or byte order must not move an image.
    assert bucket("0" * 64) == 0.39027412103198456
    assert bucket("0" * 64, seed=1) == 0.4868492980684666
    assert 0 <= min(map(bucket, hashes(500))) < 0.01
    assert 0.99 < max(map(bucket, hashes(500))) < 1


def test_shares_of_a_large_table():
    split = assign_splits(make_table(20_000))
    assert shares(split)["test"] == pytest.approx(0.10, abs=0.01)
    assert shares(split)["validation"] == pytest.approx(0.05, abs=0.006)
    for label in (0, 1):
        assert shares(split[split["label"] == label])["test"] == pytest.approx(0.10, abs=0.015)


def test_split_depends_on_content_and_seed_alone():
    table = make_table(5000)
    split = assign_splits(table).set_index("content_hash")["split"]
    shuffled = table.sample(frac=1, random_state=3)
    other = shuffled.assign(
        path=shuffled["path"].str.replace("0", "x"), label=1 - shuffled["label"]
    )
    again = assign_splits(other).set_index("content_hash")["split"]
    assert again[split.index].equals(split)
    assert assign_splits(table).equals(assign_splits(table))
    agree = (assign_splits(table, seed=1)["split"].to_numpy() == split.to_numpy()).mean()
    assert agree == pytest.approx(0.85**2 + 0.05**2 + 0.10**2, abs=0.03)


def test_input_is_not_changed():
    table = make_table(100)
    before = table.copy()
    assign_splits(table)
    pd.testing.assert_frame_equal(table, before)


@pytest.mark.parametrize("rows", [slice(SMALL), slice(None, None, 2), slice(4000, 9000)])
def test_subsets_agree_with_the_whole(rows):
    table = make_table(9000)
    whole = assign_splits(table)["split"]
    part = assign_splits(table.iloc[rows])["split"]
    assert part.equals(whole.iloc[rows])


@pytest.mark.parametrize("count", [300, 6000])
def test_copies_share_a_split(count):
    table = make_table(count)
    # Each content three times under other names, the label staying with the content.
    copies = pd.concat(
        [table.assign(path=table["path"] + suffix) for suffix in ("a", "b", "c")],
        ignore_index=True,
    )
    split = assign_splits(copies)
    assert (split.groupby("content_hash")["split"].nunique() == 1).all()
    assert not split["crosses_split"].any()
    assert {"train", "validation", "test"} == set(split["split"])


@pytest.mark.parametrize("count", [200, 6000])
def test_official_test_is_kept_and_nothing_else_is_tested_on(count):
    table = pd.concat(
        [make_table(count, official="train"), make_table(count, official="test", start=count)],
        ignore_index=True,
    )
    split = assign_splits(table)
    official = split["official_split"] == "test"
    assert (split["split"] == "test").equals(official)
    assert shares(split[~official])["validation"] == pytest.approx(0.05, abs=0.01)
    assert not split["crosses_split"].any()


@pytest.mark.parametrize("count", [200, 6000])
def test_official_validation_is_kept_and_a_test_split_held_out(count):
    table = pd.concat(
        [make_table(count, official="train"), make_table(40, official="validation", start=count)],
        ignore_index=True,
    )
    split = assign_splits(table)
    assert (split["split"] == "validation").equals(split["official_split"] == "validation")
    held_out = shares(split[split["official_split"] == "train"])["test"]
    assert held_out == pytest.approx(0.10, abs=0.015)


@pytest.mark.parametrize("count", [60, 5000])
def test_copies_across_an_official_boundary_are_flagged_on_both_sides(count):
    train = make_table(count, official="train")
    leak = train.iloc[[0, 7]].assign(path=["x", "y"], official_split="test")
    other = make_table(20, official="test", start=count)
    split = assign_splits(pd.concat([train, leak, other], ignore_index=True))
    flagged = split[split["crosses_split"]]
    assert set(flagged["path"]) == {"x", "y", train["path"][0], train["path"][7]}
    assert (split.loc[split["official_split"] == "test", "split"] == "test").all()


@pytest.mark.parametrize("count", [6, 20, 33, 400, SMALL - 1])
def test_small_tables_are_stratified_and_no_split_is_empty(count):
    split = assign_splits(make_table(count))
    counts = pd.crosstab(split["split"], split["label"])
    assert counts.shape == (3, 2)
    for label in (0, 1):
        size = (split["label"] == label).sum()
        assert counts.loc["test", label] == max(1, round(0.10 * size))
        assert counts.loc["validation", label] == max(1, round(0.05 * size))


def test_small_tables_with_an_official_test_have_their_share_of_validation():
    for start in range(20):  # By chance one of these would have none.
        table = pd.concat(
            [
                make_table(40, official="train", start=start),
                make_table(40, official="test", start=start + 40),
            ],
            ignore_index=True,
        )
        split = assign_splits(table)
        assert (split[split["split"] == "validation"]["label"].value_counts() == 1).all()
        assert (split["split"] == "validation").sum() == 2


def test_split_hash_is_the_same_on_any_machine():
    split = assign_splits(make_table(3000))
    expected = "b5e6019b7b75815133f4ebeecc2a43111d6bd5fd379918f933dbfd61933a62f2"
    assert split_hash(split) == expected
    # Neither the order of the rows nor further columns matter.
    assert split_hash(split.sample(frac=1, random_state=0).assign(extra=1)) == expected


def test_split_hash_notices_every_change():
    split = assign_splits(make_table(50))
    known = {split_hash(split)}
    for column, value in (
        ("split", "other"),
        ("label", 5),
        ("content_hash", "f" * 64),
        ("path", "zzz"),
    ):
        changed = split.copy()
        changed.loc[7, column] = value
        known.add(split_hash(changed))
    known.add(split_hash(split.iloc[1:]))
    assert len(known) == 6


def test_take_keeps_shares_order_and_splits():
    split = assign_splits(make_table(8000))
    part = take(split, 800)
    assert len(part) == pytest.approx(800, abs=3)
    assert part.index.is_monotonic_increasing
    assert part.equals(split.loc[part.index])
    for name in ("train", "validation", "test"):
        assert shares(part)[name] == pytest.approx(shares(split)[name], abs=0.002)
    # A smaller part lies within a larger one, and row order does not matter.
    assert set(take(split, 100)["path"]) <= set(part["path"])
    assert set(take(split.iloc[::-1], 800)["path"]) == set(part["path"])


def test_take_never_loses_a_split_or_class():
    part = take(assign_splits(make_table(8000)), 10)
    assert (pd.crosstab(part["split"], part["label"]) >= 1).all(axis=None)


@pytest.mark.parametrize("count", [0, 50, 500])
def test_take_everything(count):
    split = assign_splits(make_table(50))
    assert take(split, count).equals(split)
