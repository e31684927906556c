"""Rows of arrays larger than memory come out as they are, at every size a model asks for."""

import numpy as np
import pytest

from cifake_lib import pixels
from cifake_lib.pixels import Pictures, parts_of, take_rows


@pytest.fixture
def mapped(tmp_path):
    """Fifty different images of 6 × 6 in a file, as `batches.load_images` maps them."""
    values = np.random.default_rng(0).integers(0, 256, (50, 6, 6, 3), dtype=np.uint8)
    np.save(tmp_path / "images.npy", values)
    return np.load(tmp_path / "images.npy", mmap_mode="r")


@pytest.mark.parametrize(
    "part",
    [
        lambda images: images,
        lambda images: images[:, 1:-1, 1:-1],  # without its margins
        lambda images: images[10:],
        lambda images: images[:, :4, :4],
        lambda images: np.array(images),
    ],
)
def test_rows_are_copied_in_the_order_asked_for(mapped, part):
    images = part(mapped)
    rows = np.array([7, 3, 3, 30])
    taken = take_rows(images, rows)
    np.testing.assert_array_equal(taken, np.array(images)[rows])
    taken[:] = 0  # A copy: the file stays as it is.
    assert np.array(images)[rows].any()


def test_parts_are_all_rows_and_as_small_as_asked(mapped, monkeypatch):
    monkeypatch.setattr(pixels, "PART_BYTES", 10 * mapped[0].nbytes)
    parts = list(parts_of(mapped))
    assert [len(part) for part in parts] == [10] * 5
    np.testing.assert_array_equal(np.concatenate(parts), mapped)
    rows = np.array([40, 2, 13])
    np.testing.assert_array_equal(np.concatenate(list(parts_of(mapped, rows))), mapped[rows])


def test_one_part_of_an_image_larger_than_a_part(mapped, monkeypatch):
    monkeypatch.setattr(pixels, "PART_BYTES", 1)
    assert len(list(parts_of(mapped))) == 50


@pytest.fixture
def pictures(mapped):
    """The same pictures for one model at 6 px and two at 4 px."""
    arrays = {(6, "centre"): mapped, (4, "centre"): np.array(mapped[:, :4, :4])}
    kinds = {"large": (6, "centre"), "small": (4, "centre"), "other": (4, "centre")}
    return Pictures(arrays, kinds, np.arange(50))


def test_each_model_gets_its_own_size(pictures, mapped):
    assert pictures.of("large").shape == (50, 6, 6, 3)
    assert pictures.of("small").shape == pictures.of("other").shape == (50, 4, 4, 3)
    assert pictures.largest is mapped


@pytest.mark.parametrize("chosen", [slice(5, 9), np.array([3, 1]), np.arange(50) % 7 == 0])
def test_a_selection_of_a_selection(pictures, mapped, chosen):
    chosen = chosen[10:] if isinstance(chosen, np.ndarray) and len(chosen) == 50 else chosen
    some, expected = pictures[10:][chosen], mapped[10:][chosen]
    np.testing.assert_array_equal(some.of("large"), expected)
    assert len(some) == len(expected)


def test_a_change_is_made_at_every_size(pictures):
    dark = pictures[:3].map(lambda images: images // 2)
    for key in pictures.kinds:
        np.testing.assert_array_equal(dark.of(key), pictures[:3].of(key) // 2)
    np.testing.assert_array_equal(dark[1:].of("small"), pictures[1:3].of("small") // 2)
