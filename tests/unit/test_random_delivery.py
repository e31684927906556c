"""The random chain that photographs go through in training: both labels alike, and by its seed."""

import numpy as np
import pytest
from PIL import Image, ImageFilter

from cifake_lib.random_delivery import RandomDelivery


@pytest.fixture(scope="module")
def photographs():
    """Smooth pictures with an edge and some grain, which every step of the chain changes."""
    rng = np.random.default_rng(0)
    pictures = []
    for _ in range(40):
        coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        large = coarse.resize((128, 128), Image.Resampling.NEAREST)
        pictures.append(np.asarray(large.filter(ImageFilter.GaussianBlur(1))))
    return np.stack(pictures)


def test_the_same_seed_delivers_the_same_and_another_seed_something_else(photographs):
    deliver = RandomDelivery(side=96)
    first, again, other = (deliver(photographs, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first.shape == (40, 96, 96, 3) and first.dtype == np.uint8
    np.testing.assert_array_equal(first, again)
    assert (first != other).any(axis=(1, 2, 3)).mean() > 0.9


def test_pictures_stay_recognisable(photographs):
    """Mean brightness of each picture goes in and out in the same order, nearly."""
    flat = np.stack([np.full((64, 64, 3), 20 + 5 * level, np.uint8) for level in range(40)])
    delivered = RandomDelivery(side=64)(flat, np.random.default_rng(3)).mean(axis=(1, 2, 3))
    assert np.corrcoef(delivered, np.arange(40))[0, 1] > 0.9


def test_what_is_cut_out_has_the_scale_of_the_rescaling(photographs):
    ramp = np.broadcast_to(np.arange(128, dtype=np.uint8)[None, :, None] * 2, (128, 128, 3))
    deliver = RandomDelivery(side=64, qualities=(95, 95))
    drawn = deliver(np.stack([ramp] * 60), np.random.default_rng(4)).astype(float)
    # How steep the ramp is, mirrored or not, says how much the picture was enlarged.
    each = [abs(np.polyfit(range(64), image.mean(axis=(0, 2)), 1)[0]) for image in drawn]
    assert min(each) > 1.2 and max(each) < 5.5
    assert max(each) / min(each) > 1.5


def test_both_formats_and_no_saving_at_all_occur(photographs, monkeypatch):
    seen = []
    save = Image.Image.save
    monkeypatch.setattr(
        Image.Image,
        "save",
        lambda self, to, kind, **kw: (seen.append(kind), save(self, to, kind, **kw)),
    )
    RandomDelivery(side=64)(photographs, np.random.default_rng(5))
    assert set(seen) == {"JPEG", "WEBP"}
    assert 30 < len(seen) < 60


def test_too_small_pictures_are_refused(photographs):
    with pytest.raises(ValueError, match="at least 160 pixels, received 128"):
        RandomDelivery(side=160)(photographs, np.random.default_rng(0))
