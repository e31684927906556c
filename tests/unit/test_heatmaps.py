"""Heat maps show what speaks for a class, and their test tells a good one from a picture."""

import math
import re
from types import SimpleNamespace
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from PIL import Image

from cifake_lib import engine, explain, heatmaps, models, runs
from cifake_lib.analyst import Analyst
from cifake_lib.detector import ModelVerdict, Verdict
from cifake_lib.framework import keras
from cifake_lib.heatmaps import MOVES, STEPS, deletion_test, heat_html, maps

CORNER = np.s_[:8, 24:]  # of a picture of 32 x 32


class Grain:
    """A network that takes grain for a trace of FAKE, cell by cell."""

    def __init__(self, sign=1):
        self.sign = sign
        self.calls = 0

    def look(self, images):
        self.calls += 1
        cells = images[..., 0].reshape(-1, 4, 8, 4, 8).astype(np.float64)
        return None, self.sign * cells.std(axis=(2, 4))

    def logits(self, images):
        return self.look(images)[1].sum(axis=(1, 2))[:, None]


class Fixed(Grain):
    """The same, but hottest at a place that has nothing to do with the picture."""

    def look(self, images):
        _, heat = super().look(images)
        heat[:, 3, 0] = 1000
        return None, heat


class OneNetwork:
    """A detector that says one class, with one network."""

    input_size = 32

    def __init__(self, network, label="FAKE"):
        self.models = {"resnet50": network}
        facts = {"run_id": "one", "model": {"input_size": 32}}
        self.runs = {"resnet50": runs.Run("resnet50", None, facts)}
        self.verdict = Verdict(0.9, {"resnet50": ModelVerdict(0.9 if label == "FAKE" else 0.1)})

    def predict(self, images):
        return [self.verdict for _ in images]


def picture(where=CORNER):
    pixels = np.full((32, 32, 3), 120, np.uint8)
    grain = np.random.default_rng(0).integers(0, 256, pixels[where].shape, dtype=np.uint8)
    pixels[where] = grain
    return pixels


def pointing_at(where):
    heat = np.zeros((32, 32), np.float32)
    heat[where] = 1
    return heat


def subject(detector, image, robustness=None):
    analysis = SimpleNamespace(verdict=detector.verdict)
    analyst = Analyst(detector, robustness=robustness)
    return SimpleNamespace(image=Image.fromarray(image), analysis=analysis, analyst=analyst)


def shown(html):
    return " ".join(re.sub(r"<[^>]*>", " ", html).split())


@pytest.fixture
def measured(tmp_path):
    def make(upstream):
        path = tmp_path / "explanations.csv"
        header = "model,method,deletion,insertion,rank_correlation,flat"
        rows = ["resnet50,grad_cam,.7,.8,0.34,0", "resnet50,occlusion,.7,.8,0.99,0"]
        path.write_text("\n".join([header, *rows, ""]))
        hashes = {path.name: runs.file_hash(path)}
        return runs.Run("robustness", tmp_path, {"upstream": upstream, "files": hashes})

    return make


@pytest.mark.parametrize(("label", "sign"), [("FAKE", 1), ("REAL", -1)])
def test_a_map_is_hot_where_something_speaks_for_the_class(label, sign):
    image = Image.fromarray(picture())
    heat = maps(OneNetwork(Grain(sign), label), image)["resnet50"]
    assert heat.shape == (32, 32) and heat.min() == 0 and heat.max() == 1
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    assert row < 8 and column >= 24
    against = maps(OneNetwork(Grain(-sign), label), image)["resnet50"]
    assert not against.any()


def test_a_picture_of_any_size_is_mapped_at_the_side_of_the_model():
    large = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 200, 3), np.uint8))
    assert maps(OneNetwork(Grain()), large)["resnet50"].shape == (32, 32)


def test_a_map_that_names_the_pixels_that_matter_passes():
    network = Grain()
    test = deletion_test(network, picture(), pointing_at(CORNER), "FAKE")
    assert test.passed and test.change < test.changes_elsewhere.min() < 0
    # A sixteenth of the picture is grain: the score is gone after the first step.
    assert test.hottest[1] < 0.9 * test.hottest[-1]
    assert network.calls == 1, "all versions are to be asked in one call"


@pytest.mark.parametrize(
    "heat",
    [pointing_at(np.s_[24:, :8]), np.ones((32, 32), np.float32)],
    ids=["another place", "everywhere"],
)
def test_a_map_that_names_other_pixels_fails(heat):
    assert not deletion_test(Grain(), picture(), heat, "FAKE").passed


def test_a_map_fails_where_blurring_makes_the_model_surer():
    test = deletion_test(Grain(-1), picture(), pointing_at(np.s_[24:, :8]), "FAKE")
    assert test.change > 0 and not test.passed


def test_curves_begin_at_no_change_and_end_at_the_same():
    test = deletion_test(Grain(), picture(), pointing_at(CORNER), "FAKE")
    assert test.hottest.shape == (STEPS + 1,) and test.elsewhere.shape == (len(MOVES), STEPS + 1)
    assert test.hottest[0] == 0 and not test.elsewhere[:, 0].any()
    np.testing.assert_array_equal(test.elsewhere[:, -1], test.hottest[-1])


@pytest.mark.parametrize("cells", [4, 8])
def test_maps_without_meaning_pass_about_one_time_in_sixteen(cells):
    rng = np.random.default_rng(0)
    passed = 0
    for _ in range(80):
        noise = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        heat = Image.fromarray(rng.random((cells, cells), dtype=np.float32))
        heat = np.asarray(heat.resize((32, 32), Image.Resampling.BILINEAR))
        passed += deletion_test(Grain(), noise, heat, "FAKE").passed
    assert 1 <= passed <= 12


def test_blur_and_method_are_those_of_notebook_06():
    assert heatmaps.METHOD in explain.METHODS


def test_both_engines_draw_the_map_of_notebook_06(tmp_path):
    pytest.importorskip("ai_edge_litert")
    keras.utils.set_random_seed(1)
    model = models.build_model("baseline_cnn", filters=(8, 16))
    engine.export(model, tmp_path / engine.FILE, kernels="float32")
    files = {engine.FILE: runs.file_hash(tmp_path / engine.FILE)}
    manifest = {"run_id": "x", "files": files, "model": {"view_averaged": True}}
    light = engine.Network(runs.Run("baseline_cnn", tmp_path, manifest))
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    (expected,) = explain.grad_cam(model, pixels[None])
    label = "FAKE" if model.predict(pixels[None], verbose=0)[0, 0] >= 0 else "REAL"
    tests = []
    for network in (light, models.view_averaged(model)):
        heat = maps(OneNetwork(network, label), Image.fromarray(pixels))["resnet50"]
        np.testing.assert_allclose(heat, expected, atol=1e-3)
        tests.append(deletion_test(network, pixels, expected, label))
    np.testing.assert_allclose(tests[0].hottest, tests[1].hottest, atol=1e-3)


def test_colours_are_those_of_viridis():
    places = np.linspace(0, 1, 200)
    expected = 255 * matplotlib.colormaps["viridis"](places)[:, :3]
    np.testing.assert_allclose(heatmaps._coloured(places[None])[0], expected, atol=7)


def test_the_page_says_what_the_test_said_and_both_areas():
    said = shown(heat_html(subject(OneNetwork(Grain()), picture())))
    assert said.startswith("The map passes the test on this picture")
    assert "ResNet-50 calls it ◆ FAKE" in said and "Hot pixels matter more than others" in said
    assert re.search(
        r"changes the score of FAKE by −\d+\.\d on average, blurring as many in other places by "
        r"−\d+\.\d \(−\d+\.\d to −\d+\.\d\)",
        said,
    )
    assert "random weights:" not in said


def test_the_page_warns_of_a_map_that_fails():
    said = shown(heat_html(subject(OneNetwork(Fixed()), picture())))
    assert said.startswith("No map passes its test on this picture: read nothing into any of them")
    assert "no more than others, so read nothing into the map" in said


def test_nothing_that_speaks_for_the_class_is_no_map():
    html = heat_html(subject(OneNetwork(Grain(-1)), picture()))
    assert "nothing in the picture speaks for FAKE" in shown(html) and "<svg" not in html


@pytest.mark.parametrize(("passed", "count"), [(["A"], 3), (["A", "B"], 3), (["A"], 1)])
def test_only_the_maps_that_pass_are_to_be_read(passed, count):
    said = heatmaps._summary(passed, count)
    assert ("Read nothing into the rest" in said) == (len(passed) < count)
    if len(passed) < count:
        assert said.startswith(f"{len(passed)} of {count} maps pass")
        assert ", ".join(passed) in said


def test_pictures_and_curves_have_alternatives_for_those_who_cannot_see_them():
    html = heat_html(subject(OneNetwork(Grain()), picture()))
    alts = re.findall(r'<img [^>]*alt="([^"]+)"', html, re.S)
    assert len(alts) == html.count("<img") == 3
    assert "heat map of ResNet-50 over the picture in grey" in alts
    svg = ElementTree.fromstring(re.search(r"<svg.*?</svg>", html, re.S)[0])
    assert "changes the score of FAKE" in svg.get("aria-label") and svg.get("role") == "img"


def test_likeness_to_random_weights_is_shown_if_it_was_measured_with_these_models(measured):
    detector = OneNetwork(Grain())
    own = subject(detector, picture(), measured({"resnet50": "one"}))
    assert "random weights: 0.34." in shown(heat_html(own))
    other = subject(detector, picture(), measured({"resnet50": "another"}))
    assert "random weights:" not in shown(heat_html(other))


def test_a_damaged_table_costs_its_figure_and_not_the_map(measured):
    run = measured({"resnet50": "one"})
    (run.folder / "explanations.csv").write_text("")
    page = subject(OneNetwork(Grain()), picture(), run)
    assert math.isnan(heatmaps._likeness(page.analyst, "resnet50"))
    assert "Hot pixels matter more" in shown(heat_html(page))
