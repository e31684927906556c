import io
import itertools

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter

from cifake_lib import corruptions
from cifake_lib.corruptions import (
    CONDITIONS,
    CORRUPTIONS,
    RandomCorruption,
    corrupt,
    corrupt_batch,
)

FAMILIES = ["jpeg", "blur", "noise", "resize", "crop", "colour", "brightness", "resize_jpeg"]


@pytest.fixture(scope="module")
def images():
    """Smooth coloured scenes with fine texture, 32×32, as photographs have."""
    rng = np.random.default_rng(0)
    scenes = []
    for _ in range(24):
        coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        scene = np.array(coarse.resize((32, 32), Image.Resampling.BICUBIC), dtype=float)
        scenes.append(np.clip(scene + rng.normal(scale=6, size=scene.shape), 0, 255))
    return np.array(scenes).astype(np.uint8)


def as_jpeg(image, quality):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="JPEG", quality=quality)
    return np.array(Image.open(buffer))


def there_and_back(image, size):
    small = Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC)
    return np.array(small.resize((32, 32), Image.Resampling.BICUBIC))


def test_the_families_are_complete():
    assert list(CORRUPTIONS) == FAMILIES
    assert all(len(corruption.levels) == 5 for corruption in CORRUPTIONS.values())
    assert all(corruption.unit for corruption in CORRUPTIONS.values())


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("severity", [1, 5])
def test_output_is_a_new_image_like_the_input(images, name, severity):
    image = images[0].copy()
    image.setflags(write=False)  # writing into the input would raise
    corrupted = corrupt(image, name, severity=severity)
    assert corrupted.dtype == np.uint8
    assert corrupted.shape == image.shape
    assert (corrupted != image).any()
    np.testing.assert_array_equal(image, images[0])


@pytest.mark.parametrize("name", FAMILIES)
def test_wide_images_keep_their_shape(name):
    image = np.random.default_rng(1).integers(0, 256, (21, 50, 3), dtype=np.uint8)
    for severity in range(1, 6):
        assert corrupt(image, name, severity=severity).shape == (21, 50, 3)


@pytest.mark.parametrize("name", FAMILIES)
def test_damage_grows_with_severity(images, name):
    damage = [
        np.abs(corrupt_batch(images, name, severity=severity).astype(int) - images).mean()
        for severity in range(1, 6)
    ]
    # Within a thousandth: after a mild shrinking the chain's JPEG does nearly all of its damage.
    assert all(later > 0.999 * earlier for earlier, later in itertools.pairwise(damage))
    assert damage[-1] > (1.3 if name == "resize_jpeg" else 1.5) * damage[0]


@pytest.mark.parametrize("name", FAMILIES)
def test_a_seed_repeats_and_order_of_the_batch_is_kept(images, name):
    batch = corrupt_batch(images, name, severity=3, seed=7)
    np.testing.assert_array_equal(batch, corrupt_batch(images, name, severity=3, seed=7))
    np.testing.assert_array_equal(batch[:5], corrupt_batch(images[:5], name, severity=3, seed=7))
    np.testing.assert_array_equal(batch[0], corrupt(images[0], name, severity=3, seed=7))


@pytest.mark.parametrize("name", ["noise", "colour", "brightness"])
def test_another_seed_draws_anew(images, name):
    first = corrupt_batch(images, name, severity=3, seed=0)
    assert (first != corrupt_batch(images, name, severity=3, seed=1)).any()


def test_images_of_a_batch_get_noise_of_their_own(images):
    twice = np.stack([images[0], images[0]])
    noisy = corrupt_batch(twice, "noise", severity=3)
    assert (noisy[0] != noisy[1]).any()


@pytest.mark.parametrize(("severity", "quality"), list(enumerate((90, 75, 50, 30, 10), start=1)))
def test_jpeg_is_what_pillow_writes(images, severity, quality):
    expected = as_jpeg(images[0], quality)
    np.testing.assert_array_equal(corrupt(images[0], "jpeg", severity=severity), expected)


@pytest.mark.parametrize(("severity", "size"), list(enumerate((29, 24, 16, 11, 8), start=1)))
def test_resize_and_its_chain_are_what_pillow_does(images, severity, size):
    expected = there_and_back(images[0], size)
    np.testing.assert_array_equal(corrupt(images[0], "resize", severity=severity), expected)
    np.testing.assert_array_equal(
        corrupt(images[0], "resize_jpeg", severity=severity), as_jpeg(expected, 50)
    )


@pytest.mark.parametrize(("severity", "kept"), list(enumerate((30, 29, 26, 22, 19), start=1)))
def test_crop_enlarges_the_centre(images, severity, kept):
    start = (32 - kept) // 2
    box = (start, start, start + kept, start + kept)
    expected = Image.fromarray(images[0]).crop(box).resize((32, 32), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(corrupt(images[0], "crop", severity=severity), expected)


def test_blur_is_gaussian(images):
    blurred = corrupt(images[0], "blur", severity=5).astype(int)
    # Pillow approximates a Gaussian by boxes and treats the border in another way.
    pillow = Image.fromarray(images[0]).filter(ImageFilter.GaussianBlur(2.0))
    inner = np.abs(blurred - np.array(pillow, dtype=int))[6:-6, 6:-6]
    assert inner.mean() < 1
    assert inner.max() <= 5

    spot = np.zeros((33, 33, 3), np.uint8)
    spot[16, 16] = 255
    distance = np.arange(-16, 17)
    weight = np.exp(-(distance**2) / 2)
    expected = 255 * np.outer(weight, weight) / weight.sum() ** 2
    found = corrupt(spot, "blur", severity=3)
    assert np.abs(found[..., 0] - expected).max() <= 0.6


@pytest.mark.parametrize(
    ("severity", "sigma"), list(enumerate((0.01, 0.025, 0.05, 0.10, 0.20), start=1))
)
def test_noise_has_the_stated_strength(severity, sigma):
    grey = np.full((200, 200, 3), 128, np.uint8)
    noise = corrupt(grey, "noise", severity=severity).astype(float) - 128
    clipped = 0.02 if sigma < 0.2 else 0.05  # full scale cuts the tails
    assert noise.std() / 255 == pytest.approx(sigma, rel=clipped)
    assert abs(noise.mean()) < 0.5


def test_brightness_goes_both_ways_by_the_stated_factor(images):
    batch = corrupt_batch(images, "brightness", severity=5)
    signs = set()
    for image, found in zip(images, batch, strict=True):
        picture = ImageEnhance.Brightness(Image.fromarray(image))
        options = {sign: np.array(picture.enhance(1 + sign * 0.5)) for sign in (-1, 1)}
        matching = [sign for sign, option in options.items() if (option == found).all()]
        assert len(matching) == 1
        signs.update(matching)
    assert signs == {-1, 1}


def test_colour_changes_saturation_and_hue_and_leaves_luma_and_grey_alone(images):
    grey = np.repeat(images[0][..., :1], 3, axis=-1)
    np.testing.assert_array_equal(corrupt(grey, "colour", severity=5), grey)

    dull = (96 + images // 4).astype(np.uint8)  # far from black and white, nothing is clipped
    reference = np.array([0.299, 0.587, 0.114])
    changed = corrupt_batch(dull, "colour", severity=5)
    assert np.abs(changed @ reference - dull @ reference).max() < 1

    def chroma(stack):
        values = [np.array(Image.fromarray(image).convert("YCbCr"), dtype=float) for image in stack]
        return (np.array(values)[..., 1:] - 128) @ [1, 1j]

    before, after = chroma(dull), chroma(changed)
    strong = np.abs(before) > 12
    for old, new, mask in zip(before, after, strong, strict=True):
        ratio = np.median(np.abs(new[mask]) / np.abs(old[mask]))
        turn = np.rad2deg(np.median(np.angle(new[mask] / old[mask])))
        assert min(abs(ratio - 0.5), abs(ratio - 1.5)) < 0.05
        assert abs(turn) == pytest.approx(30, abs=3)


@pytest.mark.parametrize(
    ("image", "name", "severity", "message"),
    [
        (np.zeros((8, 8, 3), np.uint8), "fog", 1, "expected a corruption out of jpeg"),
        (np.zeros((8, 8, 3), np.uint8), "jpeg", 0, "expected a severity from 1 to 5, received 0"),
        (np.zeros((8, 8, 3), np.uint8), "jpeg", 6, "received 6"),
        (np.zeros((8, 8, 3), np.float32), "jpeg", 1, "received float32"),
        (np.zeros((8, 8), np.uint8), "jpeg", 1, "expected uint8 RGB"),
        (np.zeros((8, 8, 4), np.uint8), "jpeg", 1, "expected uint8 RGB"),
    ],
)
def test_wrong_input_is_refused_in_words(image, name, severity, message):
    with pytest.raises(ValueError, match=message):
        corrupt(image, name, severity=severity)


# ------------------------------------------------------------------------------ in training
def test_the_conditions_of_the_report_are_thirteen_named_levels():
    levels = {(name, CORRUPTIONS[name].levels[severity - 1]) for name, severity in CONDITIONS}
    assert levels == {
        *(("jpeg", 50), ("jpeg", 30), ("blur", 0.5), ("blur", 1.0), ("blur", 1.5)),
        *(("resize", 0.75), ("resize", 0.5), ("resize", 0.25), ("noise", 0.05), ("noise", 0.10)),
        *(("crop", 0.8), ("colour", 0.2), ("resize_jpeg", 0.5)),
    }


def test_random_corruption_changes_its_share_of_the_images(images):
    batch = np.tile(images, (40, 1, 1, 1))
    untouched = batch.copy()
    corrupted = RandomCorruption(0.25)(batch, np.random.default_rng(0))
    changed = (corrupted != batch).any(axis=(1, 2, 3)).mean()
    # Three standard deviations; a few corruptions change no pixel of these small scenes.
    assert changed == pytest.approx(0.25, abs=3 * (0.25 * 0.75 / len(batch)) ** 0.5 + 0.01)
    np.testing.assert_array_equal(batch, untouched)
    assert corrupted.dtype == np.uint8


def test_random_corruption_repeats_with_its_generator(images):
    corrupt_some = RandomCorruption(0.7, unseen=("blur",))
    first, again, other = (corrupt_some(images, np.random.default_rng(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_random_corruption_never_uses_the_unseen_family(images, monkeypatch):
    used = set()
    for name, family in list(CORRUPTIONS.items()):

        def function(image, level, rng, name=name, family=family):
            low, high = sorted((family.levels[0], family.levels[-1]))
            assert low <= level <= high
            used.add(name)
            return image

        spied = type(family)(name, family.levels, family.unit, function)
        monkeypatch.setitem(CORRUPTIONS, name, spied)
    RandomCorruption(1.0, unseen=("blur",))(
        np.tile(images, (10, 1, 1, 1)), np.random.default_rng(0)
    )
    assert used == set(FAMILIES) - {"blur"}


@pytest.mark.parametrize(("share", "unseen"), [(1.5, ()), (-0.1, ()), (0.5, ("rain",))])
def test_a_wrong_share_or_family_is_refused(share, unseen):
    with pytest.raises(ValueError, match="received"):
        RandomCorruption(share, unseen=unseen)


@pytest.mark.parametrize("name", corruptions.DELIVERIES)
def test_delivery_is_its_steps_one_after_the_other(images, name):
    delivered = corruptions.deliver_batch(images, name)
    assert delivered.shape == images.shape and delivered.dtype == np.uint8
    expected = images[1]
    for step, level in corruptions.DELIVERIES[name]:
        expected = corruptions.CORRUPTIONS[step].function(expected, level, None)
    np.testing.assert_array_equal(delivered[1], expected)
    assert not np.array_equal(delivered, images)


def test_screenshot_enlarges_before_it_shrinks(images):
    """Nothing is lost by enlarging first; the crop that follows moves every pixel a little."""
    enlarged = corruptions.CORRUPTIONS["resize"].function(images[0], 1.5, None)
    assert np.abs(enlarged.astype(int) - images[0]).mean() < 3


def test_unknown_delivery_is_refused(images):
    with pytest.raises(ValueError, match="delivery out of messenger, .*received 'pigeon'"):
        corruptions.deliver_batch(images, "pigeon")
