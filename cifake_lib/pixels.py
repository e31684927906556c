"""Pictures that may be larger than memory: rows of arrays on disk, copied when they are needed."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm.auto import tqdm

from cifake_lib.images import fit_image

# Of one part; what is computed of it, in floats, takes some thirty times as much.
PART_BYTES = 2048 * 32 * 32 * 3
TOGETHER_BYTES = 2**28  # of sets of pictures that are shown to models at once


def middle(images: np.ndarray, edge: int) -> np.ndarray:
    """Return a view of images without margins of so many pixels."""
    return images[:, edge:-edge, edge:-edge] if edge else images


def with_margins(images: np.ndarray) -> tuple[np.ndarray, int]:
    """Return the array on disk of which images are the middle, and the width of its margins.

    Args:
        images: As `batches.load_images` returns them; any other array comes back as it is.
    """
    whole = images.base
    if not isinstance(whole, np.memmap) or whole.strides != images.strides:
        return images, 0
    edge = (whole.shape[1] - images.shape[1]) // 2
    seen = middle(whole, edge)
    same = seen.shape == images.shape and seen.ctypes.data == images.ctypes.data
    return (whole, edge) if same else (images, 0)


def take_rows(images: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Copy rows of an array; of a memory map by reading its file.

    Touching one image through the map brings in up to 2 MB around it, which counts as this
    process's memory, so that a pass over all images would end with the whole file in it.

    Args:
        images: `(N, height, width, 3)`; may be a memory map, or its middle.
        rows: Row numbers, in the order wanted.
    """
    whole, edge = with_margins(images)
    if not isinstance(whole, np.memmap) or not isinstance(whole.base, mmap.mmap):
        return images[rows]
    taken = np.empty((len(rows), *images.shape[1:]), dtype=images.dtype)
    one = np.empty((1, *whole.shape[1:]), dtype=images.dtype)
    with Path(whole.filename).open("rb", buffering=0) as file:
        for row, image in zip(np.asarray(rows).tolist(), taken, strict=True):
            file.seek(whole.offset + row * one.nbytes)
            file.readinto(one if edge else image)
            if edge:
                image[:] = middle(one, edge)[0]
    return taken


def parts_of(
    images: np.ndarray, rows: np.ndarray | None = None, *, what: str = "Measuring"
) -> Iterator[np.ndarray]:
    """Cut many images into parts that fit into memory, with a progress display.

    Args:
        images: uint8 `(N, height, width, 3)`; may be a memory map.
        rows: Row numbers of those wanted, in order; all if None.
        what: Name of the progress display.
    """
    rows = np.arange(len(images)) if rows is None else np.asarray(rows)
    count = max(1, PART_BYTES // max(1, images[:1].nbytes))
    if len(rows) <= 2048:  # In a dashboard every display leaves its widgets behind.
        for start in range(0, len(rows), count):
            yield take_rows(images, rows[start : start + count])
        return
    with tqdm(desc=what, total=len(rows), unit="image", delay=1) as progress:
        for start in range(0, len(rows), count):
            part = rows[start : start + count]
            yield take_rows(images, part)
            progress.update(len(part))


@dataclass(frozen=True)
class Pictures:
    """The same pictures as each of several models looks at them.

    Nothing is read before `of` or `map` ask for it, so that a selection costs nothing.

    Attributes:
        arrays: Kind of input, a side in pixels and a crop → uint8 `(N, side, side, 3)`, row for row
            the same pictures.
        kinds: Model key → kind of input.
        rows: Row numbers of the pictures, in order.
    """

    arrays: Mapping[tuple[int, str], np.ndarray]
    kinds: Mapping[str, tuple[int, str]]
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, chosen: slice | np.ndarray) -> Pictures:
        """Select pictures by position or mask, as of an array."""
        return Pictures(self.arrays, self.kinds, self.rows[chosen])

    @property
    def largest(self) -> np.ndarray:
        """All pictures of the data set at the largest side, row for row: what people look at."""
        return self.arrays[max(self.arrays)]

    def seen_by(self, key: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the array a model looks at, and the rows of it that are these pictures."""
        return self.arrays[self.kinds[key]], self.rows

    def of(self, key: str) -> np.ndarray:
        """Copy the pictures as a model looks at them, uint8 `(pictures, side, side, 3)`."""
        return take_rows(*self.seen_by(key))

    @property
    def nbytes(self) -> int:
        """What copies of all of them would take, in bytes."""
        return len(self.rows) * sum(images[:1].nbytes for images in self.arrays.values())

    def like(self, images: np.ndarray) -> Pictures:
        """Return other pictures, uint8 `(N, S, S, 3)`, at the sizes of these."""
        arrays = {
            kind: np.stack([fit_image(Image.fromarray(image), kind[0]) for image in images])
            for kind in self.arrays
        }
        return Pictures(arrays, self.kinds, np.arange(len(images)))

    def map(self, function: Callable[[np.ndarray], np.ndarray]) -> Pictures:
        """Return copies of the pictures that went through a function, at each size by itself."""
        arrays = {
            kind: function(take_rows(images, self.rows)) for kind, images in self.arrays.items()
        }
        return Pictures(arrays, self.kinds, np.arange(len(self.rows)))


def changed(
    images: np.ndarray | Pictures, function: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray | Pictures:
    """Return copies of pictures that went through a function of uint8 `(N, S, S, 3)`."""
    return images.map(function) if isinstance(images, Pictures) else function(images)


def joined(parts: Sequence[np.ndarray | Pictures]) -> np.ndarray | Pictures:
    """Put sets of pictures one after the other; a single one stays as it is."""
    if len(parts) == 1:
        return parts[0]
    if not isinstance(parts[0], Pictures):
        return np.concatenate(parts)
    arrays = {
        kind: np.concatenate([take_rows(part.arrays[kind], part.rows) for part in parts])
        for kind in parts[0].arrays
    }
    return Pictures(arrays, parts[0].kinds, np.arange(sum(map(len, parts))))


def groups(
    parts: Iterable[tuple[Hashable, np.ndarray | Pictures]],
) -> Iterator[tuple[dict[Hashable, slice], np.ndarray | Pictures]]:
    """Gather sets of pictures until they are as large as may be shown to models at once.

    One call for several costs less than one each, and all in one might not fit into memory. A set
    that is too large by itself comes alone, as it is.

    Args:
        parts: Name and pictures of each set; the next is asked for when the last is done with.

    Yields:
        Name → which of the pictures are of that set; and the pictures.
    """
    waiting, size = {}, 0
    for name, images in parts:
        if waiting and size + images.nbytes > TOGETHER_BYTES:
            yield _named(waiting)
            waiting, size = {}, 0
        waiting[name] = images
        size += images.nbytes
    if waiting:
        yield _named(waiting)


def _named(parts: dict) -> tuple[dict[Hashable, slice], np.ndarray | Pictures]:
    ends = np.cumsum([0, *map(len, parts.values())]).tolist()
    places = {name: slice(*ends[index : index + 2]) for index, name in enumerate(parts)}
    return places, joined(list(parts.values()))
