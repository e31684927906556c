"""Decode a data set once into a memory-mapped array, and feed shuffled batches from it."""

import copy
import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from cifake_lib import paths
from cifake_lib.corruptions import RandomCorruption
from cifake_lib.crops import check_image_size, margin
from cifake_lib.data import Dataset
from cifake_lib.framework import keras
from cifake_lib.images import decode_image, fit_image
from cifake_lib.mixing import CutMix
from cifake_lib.pixels import middle, take_rows, with_margins
from cifake_lib.random_delivery import RandomDelivery

_DECODE_TOGETHER = 512  # images that are decoded before they are written
_DECODE_BYTES = 64 * 2**20  # fewer of them if they are large
BALANCED = 0.9  # A class with more than this share of the other's images is not rare.


def load_images(dataset: Dataset, *, image_size: int = 32, crop: str = "centre") -> np.memmap:
    """Return all images of a data set as one array that is decoded once and kept on disk.

    Args:
        dataset: An indexed data set.
        image_size: Side in pixels, 32–320.
        crop: How an image becomes a square, see `crops.CROPS`. With `random` the array shows
            the middle of what lies on disk; `ImageBatches` finds the margins around it.

    Returns:
        uint8 `(images, image_size, image_size, 3)`, RGB, row for row as `dataset.table`. It is
        mapped, not read: memory does not grow with the number of images.

    Raises:
        ValueError: The suite is not made for this size or crop.
    """
    check_image_size(image_size)
    edge = margin(image_size, crop)
    side, crop = image_size + 2 * edge, "squash" if crop == "squash" else "centre"
    hashes = "\n".join(dataset.table["content_hash"])
    kind = side if crop == "centre" else f"{side} {crop}"
    key = hashlib.sha256(f"{kind}\n{hashes}".encode()).hexdigest()[:32]
    stored = paths.cache_dir() / "pixels" / f"{key}.npy"
    if not stored.is_file():
        stored.parent.mkdir(parents=True, exist_ok=True)
        temporary = stored.with_name(f".{key}.{os.getpid()}.npy")
        try:
            _decode(dataset, side, crop, temporary)
            temporary.replace(stored)
        finally:
            temporary.unlink(missing_ok=True)
    return middle(np.load(stored, mmap_mode="r"), edge)


def _decode(dataset: Dataset, side: int, crop: str, target: Path) -> None:
    def decode(name: str) -> np.ndarray:
        image = decode_image((dataset.folder / name).read_bytes(), name=name)
        return fit_image(image, side, crop)

    names = dataset.table["path"]
    shape = (len(names), side, side, 3)
    together = max(1, min(_DECODE_TOGETHER, _DECODE_BYTES // (3 * side**2)))
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    progress = tqdm(desc="Decoding images", total=len(names), unit="image", delay=1)
    # Written, not mapped: a full disk is then an error and not the end of the process.
    with progress, ThreadPoolExecutor(os.cpu_count()) as pool, target.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, len(names), together):
            part = names[start : start + together]
            file.write(np.stack(list(pool.map(decode, part))).data)
            progress.update(len(part))


class ImageBatches(keras.utils.PyDataset):
    """Batches of images and labels from one array, shuffled anew for each epoch.

    The order of epoch `n` follows from the seed and `n` alone, so that a run that was killed goes
    on exactly as it would have.
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        *,
        rows: np.ndarray | None = None,
        batch_size: int = 128,
        shuffle: bool = False,
        seed: int = 0,
        transform: Callable[[np.ndarray, np.random.Generator], np.ndarray] | None = None,
        mix: Callable[..., tuple[np.ndarray, np.ndarray]] | None = None,
        class_weights: tuple[float, float] = (1.0, 1.0),
        random_crop: bool = False,
        parts: int = 1,
        shares: np.ndarray | None = None,
    ):
        """Make batches.

        Args:
            images: uint8 `(images, height, width, 3)`; may be a memory map.
            labels: `(images,)`, 0 REAL or 1 FAKE.
            rows: Row numbers or boolean mask of the images to use; all if None.
            batch_size: Images in a batch; the last batch holds the rest.
            shuffle: Draw a new order for each epoch.
            seed: Seed of the order, of `transform` and of `mix`.
            transform: Changes a batch of images before the model sees it, for instance a
                corruption; receives the batch and a random generator.
            mix: Then changes images and labels, as `mixing.CutMix` does.
            class_weights: How much an image of REAL and one of FAKE count in the loss; one with a
                mixed label counts in between.
            random_crop: Where the images have margins (see `load_images`), move what the model
                sees at random, before everything else.
            parts: Cut the rows into this many equal parts; epoch `n` is part `n mod parts`.
            shares: `(images,)`, how often each image is drawn relative to the others, where they
                are shuffled; an epoch has as many draws as rows. Each once if None.
        """
        super().__init__()
        rows = np.arange(len(images)) if rows is None else np.asarray(rows)
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows
        if not len(rows):
            raise ValueError("Expected at least one image, received none")
        self.images, self.labels = images, np.asarray(labels, dtype=np.float32)
        self.batch_size, self.shuffle, self.seed = batch_size, shuffle, seed
        self.transform, self.mix = transform, mix
        self.class_weights, self.random_crop, self.shares = class_weights, random_crop, shares
        self._parts = np.array_split(rows, parts)
        self.start_epoch(0)

    def __len__(self) -> int:
        return -(-len(self.rows) // self.batch_size)

    def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
        """Return batch `index`: uint8 `(batch, height, width, 3)` and float32 `(batch, 1)`.

        Where one class counts more than the other, weights follow, float32 `(batch,)`.
        """
        rows = self._order[index * self.batch_size : (index + 1) * self.batch_size]
        if self.shuffle:
            # In file order within the batch, which is how a disk reads fastest.
            rows = np.sort(rows)
        generator = np.random.default_rng((self.seed, self.epoch, index))
        images, labels = self._take(rows, generator), self.labels[rows, None]
        if self.transform:
            images = self.transform(images, generator)
        if self.mix:
            images, labels = self.mix(images, labels, generator)
        real, fake = self.class_weights
        if real == fake:
            return images, labels
        return images, labels, real + labels[:, 0] * np.float32(fake - real)

    def _take(self, rows: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        whole, edge = with_margins(self.images)
        if not edge or not self.random_crop:
            return take_rows(self.images, rows)
        images = take_rows(whole, rows)
        side = self.images.shape[1]
        corners = generator.integers(0, 2 * edge, (len(images), 2), endpoint=True)
        return np.stack(
            [
                image[top : top + side, left : left + side]
                for image, (top, left) in zip(images, corners, strict=True)
            ]
        )

    def with_batch_size(self, batch_size: int) -> "ImageBatches":
        """Return the same images in batches of another size."""
        other = copy.copy(self)
        other.batch_size = batch_size
        return other

    def start_epoch(self, epoch: int) -> None:
        """Set rows and order of the batches to those of an epoch, counted from 0."""
        self.epoch, self.rows = epoch, self._parts[epoch % len(self._parts)]
        generator = np.random.default_rng((self.seed, epoch))
        rows = self.rows if self.shares is None else self._drawn(generator)
        self._order = generator.permutation(rows) if self.shuffle else self.rows

    def _drawn(self, generator: np.random.Generator) -> np.ndarray:
        """Draw each row as often as its share says, give or take less than one."""
        ends = np.cumsum(self.shares[self.rows], dtype=np.float64)
        points = (np.arange(len(self.rows)) + generator.random()) / len(self.rows)
        return self.rows[np.searchsorted(ends / ends[-1], points)]

    def on_epoch_end(self) -> None:
        """Draw the order of the next epoch; Keras calls this."""
        self.start_epoch(self.epoch + 1)


def training_batches(
    dataset: Dataset,
    images: np.ndarray,
    *,
    batch_size: int,
    seed: int,
    corruption_share: float = 0.0,
    unseen_corruption: str = "",
    cutmix_share: float = 0.0,
) -> tuple[ImageBatches, ImageBatches]:
    """Make the batches that a model is trained and validated with.

    Args:
        dataset: An indexed data set.
        images: Of the whole data set, row for row.
        batch_size: Images in a batch.
        seed: Seed of order, corruption and mixing.
        corruption_share: Share of the training images that `corruptions.RandomCorruption` changes,
            0–1.
        unseen_corruption: Family of corruptions that it leaves out; "" for none.
        cutmix_share: Share of the training images that `mixing.CutMix` changes after that, 0–1.

    Returns:
        Training batches, in a new order each epoch and with the weights of `class_weights`, and
        validation batches, always the same.
    """
    labels = dataset.table["label"].to_numpy()
    corrupt = RandomCorruption(corruption_share, unseen=tuple(filter(None, [unseen_corruption])))
    train, validation = (dataset.rows(split).to_numpy() for split in ("train", "validation"))
    options = {"batch_size": batch_size, "seed": seed}
    mix = CutMix(cutmix_share) if cutmix_share else None
    training = ImageBatches(
        images,
        labels,
        rows=train,
        shuffle=True,
        transform=corrupt,
        mix=mix,
        class_weights=class_weights(labels[train]),
        random_crop=True,
        **options,
    )
    return training, ImageBatches(images, labels, rows=validation, **options)


def delivered_batches(
    dataset: Dataset, images: np.ndarray, *, side: int, batch_size: int, seed: int
) -> tuple[ImageBatches, ImageBatches]:
    """Make the batches that a model of photographs is trained and validated with.

    Args:
        dataset: An indexed data set.
        images: Of the whole data set, row for row, larger than `side` by an even number of pixels.
        side: Of what the model sees.
        batch_size: Images in a batch.
        seed: Seed of draws and deliveries.

    Returns:
        Training batches, balanced over labels and sources (see `source_shares`), each image after
        another `RandomDelivery`; and the middle of the validation images, always the same.

    Raises:
        ValueError: The images have no such middle.
    """
    if (around := images.shape[1] - side) < 0 or around % 2:
        raise ValueError(
            f"Expected images larger than {side} pixels by an even number, received "
            f"{images.shape[1]}"
        )
    labels = dataset.table["label"].to_numpy()
    train, validation = (dataset.rows(split).to_numpy() for split in ("train", "validation"))
    options = {"batch_size": batch_size, "seed": seed}
    training = ImageBatches(
        images,
        labels,
        rows=train,
        shuffle=True,
        transform=RandomDelivery(side),
        shares=source_shares(dataset, train),
        **options,
    )
    seen = middle(images, around // 2)
    return training, ImageBatches(seen, labels, rows=validation, **options)


def class_weights(labels: np.ndarray) -> tuple[float, float]:
    """Return how much an image of each class is to count in training, so that both weigh alike.

    Args:
        labels: Of the training images, 0 REAL or 1 FAKE.

    Returns:
        Weights of REAL and FAKE, with a mean of 1 over the images (King & Zeng 2001); both exactly
        1 where the rarer class has at least `BALANCED` times the images of the other.
    """
    counts = np.bincount(np.asarray(labels, dtype=int), minlength=2)
    if counts.min() >= BALANCED * counts.max():
        return 1.0, 1.0
    real, fake = len(labels) / (2 * counts)
    return float(real), float(fake)


def source_shares(dataset: Dataset, rows: np.ndarray) -> np.ndarray:
    """Return how often to draw each image so that labels and sources are balanced.

    Both labels are drawn alike; within a label a source is drawn in proportion to the root of the
    number of its images: large ones do not drown the others, small ones are not learned by heart.

    Args:
        dataset: An indexed data set; an image without a source belongs to one that has no name.
        rows: Boolean mask of the images to balance.

    Returns:
        float64 `(images,)`, for `ImageBatches`; 0 outside `rows`, with a sum of 1.
    """
    table = dataset.table[["label", "source"]][np.asarray(rows)]
    each = 1 / np.sqrt(table.groupby(["label", "source"])["label"].transform("size"))
    each /= 2 * each.groupby(table["label"]).transform("sum")
    return each.reindex(dataset.table.index, fill_value=0).to_numpy()
