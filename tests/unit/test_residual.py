"""What is shown of spectrum and noise, and what is said of it."""

import base64
import io
import re
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from cifake_lib import runs
from cifake_lib.analyst import Analyst
from cifake_lib.residual import noise_residual, spectrum_html
from cifake_lib.spectrum import radial_profiles


def noise(width, height, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def subject(image, run=None, model="one"):
    own = runs.Run("resnet50", None, {"run_id": model})
    analyst = Analyst(SimpleNamespace(runs={"resnet50": own}), robustness=run)
    return SimpleNamespace(image=image, analyst=analyst)


def shown(html):
    return " ".join(re.sub(r"<[^>]*>", " ", html).split())


def pictures(html):
    """Every picture of the page, decoded, by its alternative text."""
    found = re.findall(r'<img src="data:image/png;base64,([^"]+)" alt="([^"]+)"', html, re.S)
    return {
        alt.split(":")[0]: np.array(Image.open(io.BytesIO(base64.b64decode(text))))
        for text, alt in found
    }


def lines(html):
    svg = ElementTree.fromstring(re.search(r"<svg.*?</svg>", html, re.S)[0])
    return {
        line.get("class"): np.array(
            [[float(number) for number in point.split(",")] for point in line.get("points").split()]
        )
        for line in svg.iter("polyline")
    }


@pytest.fixture
def scoped(tmp_path):
    """A run of notebook 06 with the scope check of the model `one`."""
    means = np.zeros((2, 16), np.float32)
    means[0, 1:], means[1, 1:] = np.linspace(6, 3, 15), np.linspace(6, 5, 15)
    np.savez(tmp_path / "scope.npz", spectrum_means=means)
    hashes = {"scope.npz": runs.file_hash(tmp_path / "scope.npz")}
    return runs.Run("robustness", tmp_path, {"upstream": {"resnet50": "one"}, "files": hashes})


def test_it_is_labelled_an_illustration():
    said = shown(spectrum_html(subject(noise(40, 50))))
    assert said.startswith("An illustration, not evidence")
    assert "re-saving, resizing" in said


@pytest.mark.parametrize(
    ("size", "side"), [((32, 32), 32), ((47, 900), 32), ((8, 8), 8), ((1300, 700), 512)]
)
def test_the_spectrum_is_of_the_largest_middle_square_with_a_side_of_a_power_of_two(size, side):
    html = spectrum_html(subject(noise(*size)))
    assert f"middle {side} × {side} pixels" in shown(html)
    spectrum = pictures(html)["power spectrum of the picture"]
    assert spectrum.shape == (min(side, 256),) * 2 and spectrum.std() > 5


def test_a_pattern_in_the_picture_is_a_dot_in_its_spectrum():
    wave = 40 * np.sin(2 * np.pi * np.arange(256) / 4)[None, :, None]
    grain = np.random.default_rng(0).normal(128, 10, (256, 256, 3))
    image = Image.fromarray((grain + wave).astype(np.uint8))
    spectrum = pictures(spectrum_html(subject(image)))["power spectrum of the picture"]
    # A quarter of a cycle per pixel: halfway from the middle to either edge.
    assert spectrum[128, [64, 192]].tolist() == [255, 255]
    assert (spectrum > 240).mean() < 0.01


def test_the_profile_is_that_of_the_audit_without_its_empty_ring():
    image = noise(32, 32)
    drawn = lines(spectrum_html(subject(image)))["cf-own"]
    profile = radial_profiles(np.array(image)[None]).to_numpy()[0]
    assert len(drawn) == 15 and profile[0] == pytest.approx(0, abs=1e-3)
    # A line in a picture goes down where the values go up.
    assert np.corrcoef(drawn[:, 1], profile[1:])[0, 1] == pytest.approx(-1, abs=1e-3)


def test_a_small_picture_is_drawn_beside_the_training_images(scoped):
    html = spectrum_html(subject(noise(32, 32), scoped))
    drawn = lines(html)
    assert set(drawn) == {"cf-own", "cf-REAL", "cf-FAKE"}
    # FAKE keeps more fine detail in this run, so its line ends higher.
    assert drawn["cf-FAKE"][-1, 1] < drawn["cf-REAL"][-1, 1]
    assert "● REAL dashed, mean of training images; ◆ FAKE dotted" in shown(html)
    assert "of the training images" in re.search(r'aria-label="([^"]+)"', html)[1]


def test_nothing_is_compared_that_was_measured_otherwise(scoped):
    others = [subject(noise(64, 64), scoped), subject(noise(32, 32), scoped, "another")]
    others.append(subject(noise(32, 32)))
    (scoped.folder / "scope.npz").write_bytes(b"")
    others.append(subject(noise(32, 32), scoped))
    for other in others:
        html = spectrum_html(other)
        assert set(lines(html)) == {"cf-own"} and "training images" not in shown(html)


def test_the_residual_is_grey_but_for_what_a_median_takes_away():
    pixels = np.full((40, 40, 3), 90, np.uint8)
    pixels[20, 20] = (95, 90, 80)
    residual = noise_residual(Image.fromarray(pixels))
    assert residual[20, 20].tolist() == [128 + 8 * 5, 128, 128 - 8 * 10]
    residual[20, 20] = 128
    assert (residual == 128).all()


def test_a_photograph_keeps_its_scale_in_the_residual():
    image = noise(1000, 40)
    assert noise_residual(image).shape == (40, 256, 3)
    middle = noise_residual(image.crop((372, 0, 628, 40)))
    np.testing.assert_array_equal(noise_residual(image), middle)


def test_a_flat_picture_is_shown_without_a_fuss():
    html = spectrum_html(subject(Image.new("RGB", (64, 64), "navy")))
    assert not pictures(html)["power spectrum of the picture"].any()
    assert np.isfinite(lines(html)["cf-own"]).all()


@pytest.mark.parametrize("size", [(1, 1), (7, 4000), (4000, 2)])
def test_too_small_a_picture_is_told_so(size):
    html = spectrum_html(subject(noise(*size)))
    assert "too few for a spectrum" in html and "<img" not in html


def test_every_picture_has_an_alternative_text():
    html = spectrum_html(subject(noise(100, 100)))
    assert html.count("<img") == len(pictures(html)) == 2
    assert set(pictures(html)) == {"power spectrum of the picture", "noise residual"}
