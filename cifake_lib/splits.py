"""Split images by the hash of their content, so that exact copies always share a side.

Above `SMALL` images the split of an image depends on its content hash and the seed alone: it is the
same on any machine, and every subset of a data set agrees with the whole. Where images belong to
named groups, those of a group share a side too.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

SPLITS = ("train", "validation", "test")
TEST_SHARE = 0.10
VALIDATION_SHARE = 0.05
SMALL = 2_000
RARE = 500  # of fewer images of one class, hash buckets could leave a split without any


def bucket(content_hash: str, *, seed: int = 0) -> float:
    """Map a content hash to [0, 1), evenly and reproducibly.

    Args:
        content_hash: SHA-256 of the file in hexadecimal.
        seed: Another seed gives an independent split.
    """
    digest = hashlib.sha256(f"{seed}:{content_hash}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def units(table: pd.DataFrame) -> pd.Series:
    """Name what must stay on one side of a split: copies of one file, and images of one group.

    A copy of an image joins the groups that it lies in.

    Args:
        table: Column `content_hash`, and `group` ("" where there is none) if anything is grouped.

    Returns:
        Aligned with the table: the lowest content hash among the images that belong together.
    """
    digest = table["content_hash"]
    if "group" not in table or not table["group"].any():
        return digest
    hashes, groups = pd.factorize(digest)[0], pd.factorize(table["group"].replace("", None))[0]
    grouped = groups >= 0
    count = hashes.max() + 1
    edges = hashes[grouped], count + groups[grouped]
    size = count + groups.max() + 1
    graph = coo_array((np.ones(grouped.sum(), dtype=bool), edges), shape=(size, size))
    components = connected_components(graph, directed=False)[1][hashes]
    return digest.groupby(components).transform("min")


def assign_splits(
    table: pd.DataFrame,
    *,
    seed: int = 0,
    shares: Sequence[float] = (),
    left_out_sources: Sequence[str] = (),
) -> pd.DataFrame:
    """Assign each image of an index to train, validation or test.

    An official test or validation split is kept as it is, unless shares or sources are given. Of
    all other images those in buckets under .10 are the test split (where there is no official one)
    and those in [.10, .15) the validation split (likewise); the rest is for training. Under `SMALL`
    images, and for a class of fewer than `RARE`, hash buckets would leave the shares to chance:
    there each class's units are taken in the order of their buckets until its shares are full, at
    least one each.

    Args:
        table: Columns `label`, `content_hash` and `official_split` ("" where there is none); also
            `group` and `source` if any image has one.
        seed: Seed of the split.
        shares: Of train, validation and test, in place of .85, .05 and .10.
        left_out_sources: Sources that become the test split, with all that belongs to their units.

    Returns:
        A copy with the columns `split` and `crosses_split`: an exact copy of the image, or of one
        of its group, lies on another side of an official boundary, so evaluation can leave it out.

    Raises:
        ValueError: The shares are not three positive numbers with the sum 1, or an official split
            cuts through a group.
    """
    _, validation, test = _checked(shares) if shares else (0, VALIDATION_SHARE, TEST_SHARE)
    unit = units(table)
    if left_out_sources:
        left_out = unit.isin(unit[table["source"].isin(left_out_sources)])
        official = pd.Series(np.where(left_out, "test", ""), index=table.index)
    elif shares:
        official = pd.Series("", index=table.index)
    else:
        official = _of_whole_groups(table)
    ours = ~official.isin(["test", "validation"])
    sides = _sides(table[ours], unit[ours], seed, test, validation, small=unit.nunique() < SMALL)
    split = unit.map(sides)
    has = [name for name in ("test", "validation") if (official == name).any()]
    split = split.replace(has, "train").where(ours, official)
    sides = split.groupby(unit).transform("nunique")
    return table.assign(split=split, crosses_split=sides > 1)


def source_folds(table: pd.DataFrame, count: int = 5) -> list[list[str]]:
    """Deal whole sources to folds, so that each is once left out of training and tested on.

    Inside one source content often gives the label away; what a detector makes of a source that it
    has never seen is what it will be worth. Each fold has about the same share of either class.

    Args:
        table: `Dataset.table`, with sources; images without one are in no fold.
        count: Folds, at least 2.

    Returns:
        The sources of each fold, sorted: each is a value for `left_out_sources`. The same on any
        machine, and whatever the order of the rows.

    Raises:
        ValueError: Some fold would lack a class.
    """
    from sklearn.model_selection import StratifiedGroupKFold  # Only those who leave sources out.

    table = table[table["source"] != ""]
    labels, sources = table["label"], table["source"]
    parts = StratifiedGroupKFold(count).split(labels, labels, sources)
    tested = [table.iloc[test] for _, test in parts]
    if min(part["label"].nunique() for part in tested) < 2:
        named = sources.groupby(labels).nunique().reindex([0, 1], fill_value=0)
        raise ValueError(
            f"Expected sources of both classes for each of {count} folds, received {named[0]} "
            f"sources of REAL and {named[1]} of FAKE: ask for fewer folds, or name more sources in "
            "index.csv."
        )
    return [sorted(set(part["source"])) for part in tested]


def split_hash(table: pd.DataFrame) -> str:
    """Return the SHA-256 of a split: path, content hash, label and split, in path order."""
    rows = table.sort_values("path")[["path", "content_hash", "label", "split"]]
    text = rows.to_csv(index=False, header=False, lineterminator="\n")
    return hashlib.sha256(text.encode()).hexdigest()


def take(table: pd.DataFrame, max_images: int) -> pd.DataFrame:
    """Take a smaller part of a split table with about the same shares of split and class.

    Args:
        table: Columns `label`, `content_hash` and `split`.
        max_images: Size of the part; at least one image of each split and class is kept.

    Returns:
        Some rows of the table, in its order; the same for the same images on any machine.
    """
    if max_images <= 0 or max_images >= len(table):
        return table
    share = max_images / len(table)
    ranked = table.assign(position=table["content_hash"].map(bucket)).sort_values("position")
    kept = [
        part.head(max(1, round(share * len(part))))
        for _, part in ranked.groupby(["split", "label"])
    ]
    return table.loc[sorted(pd.concat(kept).index)]


def _checked(shares: Sequence[float]) -> Sequence[float]:
    numbers = [share for share in shares if isinstance(share, (int, float)) and share > 0]
    if len(shares) != 3 or len(numbers) != 3 or abs(sum(numbers) - 1) > 1e-6:
        raise ValueError(
            "Expected split_shares to be three positive numbers with the sum 1, of train, "
            f"validation and test (for instance [0.7, 0.2, 0.1]), received {list(shares)}."
        )
    return shares


def _of_whole_groups(table: pd.DataFrame) -> pd.Series:
    """The official split of each image; that of its group where only others of it have one."""
    official = table["official_split"]
    if "group" not in table or not table["group"].any():
        return official
    grouped = table["group"] != ""
    named = official[grouped].replace("", None).groupby(table["group"])
    broken = named.nunique()
    broken = broken.index[broken > 1]
    if len(broken):
        raise ValueError(
            "Expected each group of index.csv to lie in one split, found "
            f"{sorted(official[table['group'] == broken[0]].unique())} for the group "
            f"{broken[0]!r} (and for {len(broken) - 1} others). Mend the splits, or set "
            "split_shares to split anew."
        )
    return official.where(~grouped | (official != ""), named.transform("first").fillna(""))


def _sides(table, unit, seed: int, test: float, validation: float, *, small: bool) -> pd.Series:
    """Deal units to train, validation and test: by bucket, or by rank where there are few."""
    distinct = table.drop_duplicates("content_hash")
    label = distinct["label"].groupby(unit[distinct.index])
    dealt = pd.DataFrame(
        {"kind": 2 * label.min() + label.max(), "size": label.size()}  # REAL, FAKE, or both
    )
    dealt["bucket"] = [bucket(value, seed=seed) for value in dealt.index]
    ends = [dealt["bucket"] < test, dealt["bucket"] < test + validation]
    dealt["side"] = np.select(ends, ["test", "validation"], default="train")
    for _, kind in dealt.groupby("kind"):
        if small or len(kind) < RARE:
            kind = kind.sort_values("bucket")
            targets = {
                name: max(1, round(share * kind["size"].sum()))
                for name, share in (("test", test), ("validation", validation))
            }
            dealt.loc[kind.index, "side"] = _filled(kind["size"].tolist(), targets)
    return dealt["side"]


def _filled(sizes: list[int], targets: dict[str, int]) -> list[str]:
    """Fill targets with units, in order, that overshoot by less than they would leave open.

    What is over is for training. No target takes its second unit while another needs its first.
    """
    sides, filled = ["train"] * len(sizes), dict.fromkeys(targets, 0)
    for index, size in enumerate(sizes):
        needed = list(filled.values()).count(0) + ("train" not in sides[:index])
        for name, target in targets.items():
            spare = not filled[name] or len(sizes) - index > needed
            if spare and filled[name] + size / 2 <= target:
                sides[index] = name
                filled[name] += size
                break
    for name in targets:
        left = [index for index, side in enumerate(sides) if side == "train"]
        if not filled[name] and len(left) > 1:
            sides[min(left, key=lambda index: sizes[index])] = name
    return sides
