"""The split follows from content and seed alone."""

import hashlib

import numpy as np
import pandas as pd
import pytest

from cifake_lib.splits import (
    RARE,
    SMALL,
    assign_splits,
    bucket,
    source_folds,
    split_hash,
    take,
    units,
)


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


@pytest.mark.parametrize("count", [60, 5000])
def test_shares_of_your_own(count):
    table = pd.concat(
        [make_table(count, official="train"), make_table(count, official="test", start=count)],
        ignore_index=True,
    )
    split = assign_splits(table, shares=(0.5, 0.2, 0.3))
    assert shares(split)["test"] == pytest.approx(0.3, abs=0.015)
    assert shares(split)["validation"] == pytest.approx(0.2, abs=0.015)
    assert not split["crosses_split"].any()


@pytest.mark.parametrize("rare", [6, 40, RARE - 1])
def test_a_rare_class_has_its_share_of_every_split(rare):
    table = make_table(2 * 4000)
    table = pd.concat([table[table["label"] == 0], table[table["label"] == 1].head(rare)])
    counts = assign_splits(table).query("label == 1")["split"].value_counts()
    assert counts["test"] == max(1, round(0.10 * rare))
    assert counts["validation"] == max(1, round(0.05 * rare))


# Groups


def grouped(sizes, *, mixed=False):
    """One group for each size, of one class each or, if mixed, of both in turn."""
    number = np.repeat(np.arange(len(sizes)), sizes)
    table = make_table(len(number))
    label = np.arange(len(number)) % 2 if mixed else number % 2
    return table.assign(label=label, group=[f"g{i}" for i in number])


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("sizes", [[5] * 40, [2] * 10, [1, 2, 3] * 900, [300, 2, 2, 2, 2, 2] * 2])
def test_groups_share_a_split_and_every_split_has_both_classes(sizes, mixed):
    split = assign_splits(grouped(sizes, mixed=mixed))
    assert (split.groupby("group")["split"].nunique() == 1).all()
    assert pd.crosstab(split["split"], split["label"]).shape == (3, 2)
    assert (pd.crosstab(split["split"], split["label"]) > 0).all(axis=None)
    assert shares(split)["train"] > 0.5


def test_shares_of_groups_count_images():
    split = assign_splits(grouped([5] * 200), shares=(0.7, 0.2, 0.1))
    assert shares(split)["validation"] == pytest.approx(0.2, abs=0.01)
    assert shares(split)["test"] == pytest.approx(0.1, abs=0.01)


def test_copies_in_two_groups_join_them():
    table = grouped([3] * 100)
    table.loc[150, "content_hash"] = table.loc[0, "content_hash"]  # of g50 and of g0
    table.loc[151, "content_hash"] = table.loc[297, "content_hash"]  # and of g99, of another class
    unit = units(table)
    assert set(table.loc[unit == unit[0], "group"]) == {"g0", "g50", "g99"}
    assert unit.nunique() == 98
    for seed in range(5):
        split = assign_splits(table, seed=seed)
        assert (split.groupby(unit)["split"].nunique() == 1).all()


def test_images_without_a_group_are_split_as_if_there_were_none():
    table = make_table(5000)
    some = table.assign(group=["one" if i < 4 else "" for i in range(5000)])
    alone = assign_splits(table).iloc[4:]
    assert assign_splits(some).iloc[4:]["split"].equals(alone["split"])


def test_a_group_follows_those_of_it_with_an_official_split():
    table = grouped([4] * 20).assign(official_split="")
    table.loc[[0, 4], "official_split"] = "test"  # g0 and g1, one image each
    split = assign_splits(table)
    assert set(split.loc[split["split"] == "test", "group"]) == {"g0", "g1"}
    table.loc[1, "official_split"] = "validation"
    with pytest.raises(ValueError, match="'test', 'validation'.* the group 'g0' "):
        assign_splits(table)


def test_a_group_with_a_copy_across_an_official_boundary_is_flagged_whole():
    table = grouped([4] * 40).assign(official_split="train")
    table.loc[table["group"].isin(["g0", "g1"]), "official_split"] = "test"
    table.loc[100, "content_hash"] = table.loc[0, "content_hash"]  # g25 holds a copy of g0's
    flagged = assign_splits(table).query("crosses_split")
    assert set(flagged["group"]) == {"g0", "g25"}
    assert len(flagged) == 8


def test_left_out_sources_take_their_groups_along():
    table = grouped([4] * 60)
    table["source"] = [f"s{i % 6}" for i in range(len(table))]
    table["group"] = [f"{source}{i // 60}" for i, source in enumerate(table["source"])]
    table.loc[1, "group"] = table.loc[0, "group"]  # one of s1 lies in a group of s0
    split = assign_splits(table, left_out_sources=["s0"])
    tested = split[split["split"] == "test"]
    assert (tested["source"] == "s0").sum() == 40
    assert set(split.loc[split["source"] == "s0", "split"]) == {"test"}
    assert set(tested.loc[tested["source"] != "s0", "group"]) == {table.loc[0, "group"]}
    assert {"train", "validation"} == set(split.loc[split["split"] != "test", "split"])


def from_sources(sizes):
    """Images of each source: so many REAL, so many FAKE."""
    rows = [
        (source, label)
        for source, counts in sizes.items()
        for label, count in enumerate(counts)
        for _ in range(count)
    ]
    return pd.DataFrame(rows, columns=["source", "label"])


@pytest.mark.parametrize(
    "sizes",
    [
        {f"camera {i}": (30 + i, 0) for i in range(8)} | {f"model {i}": (0, 50) for i in range(6)},
        {f"site {i}": (10 + i, 40 - i) for i in range(12)},
        {"camera": (900, 0), "site 1": (5, 5), "site 2": (5, 5), "site 3": (5, 5), "phone": (9, 0)},
    ],
)
def test_folds_of_sources_have_both_classes_and_every_source_once(sizes):
    table = from_sources(sizes)
    folds = source_folds(table, 3)
    assert sorted(sum(folds, [])) == sorted(sizes)
    counts = np.array([np.sum([sizes[name] for name in fold], axis=0) for fold in folds])
    assert (counts > 0).all()
    assert source_folds(table.sample(frac=1, random_state=1), 3) == folds


def test_folds_of_sources_are_balanced():
    sizes = {f"camera {i}": (20 + 5 * i, 0) for i in range(12)}
    sizes |= {f"model {i}": (0, 100 + i) for i in range(9)}
    folds = source_folds(from_sources(sizes), 3)
    counts = np.array([np.sum([sizes[name] for name in fold], axis=0) for fold in folds])
    assert (counts.max(axis=0) < 1.2 * counts.min(axis=0)).all()


def test_too_few_sources_for_the_folds():
    table = from_sources({"a": (5, 0), "b": (5, 5), "c": (5, 0), "": (50, 50)})
    with pytest.raises(ValueError, match="each of 2 folds.* 3 sources of REAL and 1 of FAKE"):
        source_folds(table, 2)


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
