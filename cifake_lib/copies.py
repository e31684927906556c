"""Pictures that look alike: found by perceptual hashes, so that a re-saved copy is found too."""

from collections.abc import Iterator

import imagehash
import numpy as np
import pandas as pd
from PIL import Image

from cifake_lib.data import CLASS_NAMES, Dataset
from cifake_lib.pixels import parts_of

HASH_BITS = 64
MAX_DISTANCE = 4  # bits in which the hashes of near copies may differ
SHOWN = 1000  # pairs that are kept to look at
_TOGETHER = 2**18  # pairs that are handed on at once


def perceptual_hashes(images: np.ndarray, rows: np.ndarray | None = None) -> np.ndarray:
    """Return a difference hash of every image, with a progress display.

    Source: `imagehash.dhash`, after Krawetz 2013, "Kind of like that": in a grey 9×8 thumbnail each
    pixel is brighter than its right neighbour or not.

    Args:
        images: uint8 `(N, height, width, 3)`, RGB; may be a memory map.
        rows: Row numbers of those to use; all if None.

    Returns:
        uint64 `(N,)`; the Hamming distance between two tells how alike the images look.
    """
    bits = [
        imagehash.dhash(Image.fromarray(image)).hash.ravel()
        for part in parts_of(images, rows, what="Hashing")
        for image in part
    ]
    packed = np.packbits(np.reshape(bits, (-1, HASH_BITS)).astype(bool), axis=1)
    return packed.view(">u8").ravel().astype(np.uint64)


def near_pairs(
    hashes: np.ndarray, *, max_distance: int = MAX_DISTANCE
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Find all pairs of images whose hashes differ in few bits.

    Two hashes that differ in at most `d` bits agree in at least one of `d + 1` parts, so that only
    images with a part in common have to be compared. Frames of one film are all alike, and their
    pairs more than memory holds: they come a part at a time.

    Args:
        hashes: uint64 `(N,)`, see `perceptual_hashes`.
        max_distance: Bits that may differ, 0–15 of 64.

    Yields:
        Row numbers `first` < `second`, and `distance` in bits, of some pairs; no pair twice.
    """
    hashes = np.asarray(hashes, dtype=np.uint64)
    edges = np.linspace(0, HASH_BITS, max_distance + 2).round().astype(int)
    parts = [
        (hashes >> np.uint64(low)) & np.uint64((1 << int(high - low)) - 1)
        for low, high in zip(edges[:-1], edges[1:], strict=True)
    ]
    found, count = [], 0
    for number, part in enumerate(parts):
        order = np.argsort(part, kind="stable")
        starts = np.flatnonzero(np.diff(part[order], prepend=part[order][:1] + np.uint64(1)))
        for group in np.split(order, starts[1:]):
            # Row by row: all pairs of a large group at once would not fit into memory.
            for position, first in enumerate(group[:-1]):
                others = group[position + 1 :]
                distance = np.bitwise_count(hashes[others] ^ hashes[first])
                near = distance <= max_distance
                if not near.any():
                    continue
                others, distance = others[near], distance[near]
                new = np.ones(len(others), dtype=bool)
                for earlier in parts[:number]:  # An earlier part in common has brought it already.
                    new &= earlier[others] != earlier[first]
                found.append((np.full(new.sum(), first), others[new], distance[new]))
                count += len(found[-1][0])
                if count >= _TOGETHER:
                    yield _joined(found)
                    found, count = [], 0
    if found:
        yield _joined(found)


def _joined(found: list) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    one, other, distance = (np.concatenate(values) for values in zip(*found, strict=True))
    return np.minimum(one, other), np.maximum(one, other), distance.astype(np.int64)


def alike(
    dataset: Dataset, hashes: np.ndarray, *, max_distance: int = MAX_DISTANCE
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Count pairs of images that look alike, and keep some to look at.

    Args:
        dataset: An indexed data set.
        hashes: Of its images, row for row, see `perceptual_hashes`.
        max_distance: Bits that may differ, 0–15 of 64.

    Returns:
        The counts, index `images`: `exact pairs`, of equal files, and `near pairs`; columns: REAL,
        FAKE, both classes (one of each), and how many of the pairs lie in two splits. And near
        pairs, at most `SHOWN`: row numbers `first` < `second`, and `distance` in bits; closest
        first.
    """
    label, split = (dataset.table[name].to_numpy() for name in ("label", "split"))
    content = pd.factorize(dataset.table["content_hash"])[0]
    columns = [*CLASS_NAMES, "both classes", "across splits"]
    counts = pd.DataFrame(0, index=["exact pairs", "near pairs"], columns=columns)
    kept = pd.DataFrame({"first": [], "second": [], "distance": []}, dtype=np.int64)
    for first, second, distance in near_pairs(hashes, max_distance=max_distance):
        equal = content[first] == content[second]
        same = label[first] == label[second]
        kinds = [*(same & (label[first] == value) for value in (0, 1)), ~same]
        kinds.append(split[first] != split[second])
        for name, chosen in (("exact pairs", equal), ("near pairs", ~equal)):
            counts.loc[name] += [int((chosen & kind).sum()) for kind in kinds]
        new = {"first": first[~equal], "second": second[~equal], "distance": distance[~equal]}
        kept = pd.concat([kept, pd.DataFrame(new)])
        kept = kept.sort_values(["distance", "first", "second"], ignore_index=True).head(SHOWN)
    return counts.rename_axis("images"), kept


def near_training(
    dataset: Dataset, images: np.ndarray, *, max_distance: int = MAX_DISTANCE
) -> pd.DataFrame:
    """Find the test images that have a copy among the training images.

    Args:
        dataset: An indexed data set.
        images: Of the whole data set, row for row, uint8 `(images, S, S, 3)`; may be a memory map.
        max_distance: Bits that may differ, 0–15 of 64.

    Returns:
        One row per test image, in its order: bool columns `exact` (a training image has the same
        content) and `near` (one looks alike, exact copies included).
    """
    table = dataset.table
    train, test = (dataset.rows(name).to_numpy() for name in ("train", "test"))
    exact = table["content_hash"].isin(table.loc[train, "content_hash"]).to_numpy()[test]
    # Training and test images are all that can make a pair that counts.
    rows = np.flatnonzero(train | test)
    hashes = perceptual_hashes(images, rows)
    near = np.zeros(len(table), bool)
    for pair in near_pairs(hashes, max_distance=max_distance):
        first, second = rows[pair[0]], rows[pair[1]]
        for one, other in ((first, second), (second, first)):
            near[one[test[one] & train[other]]] = True
    return pd.DataFrame({"exact": exact, "near": near[test] | exact})
