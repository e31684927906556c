"""The views of a photograph: the whole, and parts of it at a larger scale."""

import numpy as np
import pytest
from PIL import Image

from cifake_lib.images import fit_image
from cifake_lib.views import photo_views


def ramp(width, height):
    """Red says how far right a pixel is, green how far down, both 0–250 over the picture."""
    red = np.linspace(0, 250, width)[None, :] * np.ones((height, 1))
    green = np.linspace(0, 250, height)[:, None] * np.ones((1, width))
    pixels = np.stack([red, green, np.zeros_like(red)], axis=-1)
    return Image.fromarray(pixels.round().astype(np.uint8))


@pytest.mark.parametrize(
    ("size", "count"),
    [((256, 256), 5), ((640, 480), 5), ((480, 640), 5), ((1000, 500), 7), ((3000, 300), 7)],
)
def test_the_whole_comes_first_and_then_parts_from_the_corners(size, count):
    image = ramp(*size)
    views = photo_views(image, 224)
    assert views.shape == (count, 224, 224, 3) and views.dtype == np.uint8
    np.testing.assert_array_equal(views[0], fit_image(image, 224))
    corners = views[1][0, 0, :2], views[-1][-1, -1, :2]
    np.testing.assert_allclose(corners, [(0, 0), (250, 250)], atol=3)


def test_parts_are_cut_out_of_an_image_that_has_their_scale_already():
    image = ramp(256, 256)
    views = photo_views(image, 224)
    np.testing.assert_array_equal(views[2], np.asarray(image)[:224, 32:])


def test_parts_show_the_picture_larger_than_the_whole_view_does():
    whole, part, *_ = photo_views(ramp(512, 512), 112).astype(float)
    steps = [np.polyfit(range(112), view[..., 0].mean(axis=0), 1)[0] for view in (whole, part)]
    assert steps[0] / steps[1] == pytest.approx(256 / 224, rel=0.02)


def test_small_grey_pictures_are_enlarged():
    views = photo_views(Image.new("L", (60, 40), 90), 224)
    assert views.shape[1:] == (224, 224, 3) and (views == 90).all()
