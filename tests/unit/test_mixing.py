"""CutMix: labels follow areas, pixels come from two images, everything from the generator."""

import numpy as np
import pytest

from cifake_lib.batches import ImageBatches
from cifake_lib.mixing import CutMix


def flat_images(count=200, size=16):
    """One grey value per image, so that a pasted pixel shows where it came from; labels 0 and 1."""
    values = np.arange(count, dtype=np.uint8)
    images = np.broadcast_to(values[:, None, None, None], (count, size, size, 3)).copy()
    return images, (values % 2).astype(np.float32)[:, None]


def test_label_is_the_mean_weighted_by_the_pixels_of_each_image():
    images, labels = flat_images()
    mixed, mixed_labels = CutMix(1.0)(images, labels, np.random.default_rng(0))
    assert mixed.dtype == np.uint8 and mixed_labels.dtype == np.float32
    for index, picture in enumerate(mixed):
        np.testing.assert_allclose(mixed_labels[index, 0], (picture[..., 0] % 2).mean(), atol=1e-6)
        assert len(np.unique(picture)) <= 2
    assert images[0].max() == 0  # What was passed in is not written to.


def test_pasted_part_is_a_rectangle_of_any_size_and_place():
    images, labels = flat_images()
    mixed, _ = CutMix(1.0)(images, labels, np.random.default_rng(0))
    pasted = mixed[..., 0] != images[..., 0]
    areas = pasted.mean(axis=(1, 2))
    assert areas.min() < 0.05 and areas.max() > 0.6
    for part in pasted[areas > 0]:
        rows, columns = np.flatnonzero(part.any(axis=1)), np.flatnonzero(part.any(axis=0))
        assert part.sum() == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
    assert pasted.mean(axis=0).min() > 0.05  # No corner is out of reach.


def test_share_is_the_part_of_the_batch_that_is_mixed():
    images, labels = flat_images()
    mixed, _ = CutMix(0.3)(images, labels, np.random.default_rng(0))
    assert 0.15 < (mixed != images).any(axis=(1, 2, 3)).mean() < 0.4
    unmixed, unmixed_labels = CutMix(0.0)(images, labels, np.random.default_rng(0))
    np.testing.assert_array_equal(unmixed, images)
    np.testing.assert_array_equal(unmixed_labels, labels)


def test_share_out_of_range_is_refused():
    with pytest.raises(ValueError, match=r"share from 0 to 1, received 1\.5"):
        CutMix(1.5)


def test_batches_are_mixed_repeatably():
    images, labels = flat_images()
    feeds = [
        ImageBatches(images, labels[:, 0], batch_size=64, shuffle=True, seed=5, mix=CutMix(0.5))
        for _ in range(2)
    ]
    for one, other in zip(feeds[0][1], feeds[1][1], strict=True):
        np.testing.assert_array_equal(one, other)
    assert ((feeds[0][1][1] > 0) & (feeds[0][1][1] < 1)).any()
    feeds[0].on_epoch_end()
    assert not np.array_equal(feeds[0][1][0], feeds[1][1][0])
