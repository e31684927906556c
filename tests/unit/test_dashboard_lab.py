"""The robustness lab without a browser: what a visitor sees when a slider moves."""

import base64
import io
import logging
import re
import threading
from dataclasses import replace

import ipywidgets as widgets
import numpy as np
import pytest
from PIL import Image

from cifake_lib.analyst import Analyst
from cifake_lib.corruptions import CORRUPTIONS
from cifake_lib.dashboard_lab import LARGEST, RobustnessLab
from cifake_lib.dashboard_lab_steps import FAMILIES, level_words, severities
from cifake_lib.detector import ModelVerdict, Verdict
from cifake_lib.runs import Run, file_hash

KEYS = ("baseline_cnn", "tuned_cnn", "resnet50")


class Lightness:
    """A detector for which light pictures are FAKE; it counts the images it was asked about."""

    input_size, sees_photographs = 32, False
    crop = "centre"

    def __init__(self, **parameters):
        self.asked = 0
        self.runs = {
            key: Run(key, None, {"run_id": f"own-{key}", "parameters": parameters}) for key in KEYS
        }
        self.models = {}

    def predict(self, images):
        self.asked += len(images)
        scores = [float(np.asarray(image).mean()) / 255 for image in images]
        return [Verdict(score, dict.fromkeys(KEYS, ModelVerdict(score))) for score in scores]


def picture(value=120, size=(32, 32)):
    """A smooth grey picture, so that nothing but brightness changes its mean by much."""
    return Image.new("RGB", size, (value,) * 3)


EXAMPLES = [(picture(120), "REAL"), (picture(60), "FAKE")]


@pytest.fixture
def said():
    return []


@pytest.fixture
def lab(said):
    lab = RobustnessLab(said.append)
    use(lab, Lightness())
    return lab


def use(lab, detector, *, robustness=None, examples=EXAMPLES):
    lab.use(detector, Analyst(detector, None, robustness), examples)


def text(widget):
    """What is written on the page, without tags."""
    if widget.layout.display == "none":
        return ""
    own = widget.value if isinstance(widget, widgets.HTML) else ""
    parts = [own, *(text(child) for child in getattr(widget, "children", ()))]
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", " ".join(parts))).strip()


def test_a_model_that_squashes_is_shown_the_whole_picture(said):
    squashing = RobustnessLab(said.append)
    detector = Lightness()
    detector.crop = "squash"
    halves = np.zeros((40, 80, 3), np.uint8)
    halves[:, 40:] = 255
    left = np.concatenate([halves, halves[:, ::-1]], axis=1)  # Dark but for the middle half.
    use(squashing, detector, examples=[(Image.fromarray(left), "REAL"), *EXAMPLES])
    squashing.open()
    squashing.wait()
    seen = re.findall(r'src="data:image/png;base64,([^"]+)"', squashing._original.value)[-1]
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(seen))))
    assert pixels.shape == (32, 32, 3)
    assert pixels[:, :7].max() < 20 and pixels[:, 12:20].min() > 235


def choose(lab, family=None, severity=None):
    """Move the widgets as a visitor does, and wait for the answers."""
    if family is not None:
        lab._family.value = family
    if severity is not None:
        lab._severity.value = severity
    lab.wait()


def test_nothing_is_computed_before_the_tab_is_opened(lab):
    assert lab._detector.asked == 0 and text(lab.view) == ""
    lab.open()
    lab.wait()
    assert lab._detector.asked == 6
    shown = text(lab.view)
    assert "Example 1 (REAL)" in shown and "Severity 0: unchanged" in shown
    assert "● REAL 53 % confidence" in shown and "Asking the models" not in shown
    for name in ("Baseline CNN", "Tuned CNN", "ResNet-50"):
        assert re.search(rf"{name} REAL 53 %", shown)


def test_opening_the_tab_again_keeps_what_was_chosen(lab):
    lab.open()
    lab.on_example(1)
    choose(lab, "noise", 4)
    asked = lab._detector.asked
    lab.open()
    lab.wait()
    assert lab._detector.asked == asked
    assert "Example 2 (FAKE)" in text(lab.view) and "Severity 4 of 5" in text(lab.view)


def test_the_slider_changes_picture_words_and_scores_without_asking_the_models(lab):
    lab.open()
    choose(lab, "brightness")
    asked, pages = lab._detector.asked, []
    for severity in range(6):
        lab._severity.value = severity
        pages.append((lab._after.value, lab._said.value, lab._answer.value, lab._path.value))
    assert lab._detector.asked == asked
    assert all(len(set(column)) == 6 for column in zip(*pages, strict=True))
    assert "Severity 5 of 5: brightness ± 50 %" in text(lab.view)
    confidence = abs(np.asarray(severities(picture(120), "brightness")[5]).mean() / 255)
    assert f"{max(confidence, 1 - confidence) * 100:.0f} % confidence" in text(lab.view)


def test_every_family_has_a_name_and_says_its_level_and_unit():
    assert list(FAMILIES) == list(CORRUPTIONS)
    for family, corruption in CORRUPTIONS.items():
        words = [level_words(family, severity) for severity in range(6)]
        assert words[0] == "Severity 0: unchanged" and len(set(words)) == 6
        for level, said in zip(corruption.levels, words[1:], strict=True):
            numbers = {float(number) for number in re.findall(r"[\d.]+", said.split(": ")[1])}
            assert numbers & {level, round(100 * level, 6)}, said
    assert level_words("jpeg", 3) == "Severity 3 of 5: JPEG quality 50"
    assert level_words("resize_jpeg", 5).endswith(
        "25 % of each side, enlarged back, JPEG quality 50"
    )


def test_the_path_shows_every_model_and_the_ensemble_over_all_severities(lab):
    lab.open()
    choose(lab, "brightness", 2)
    paths = dict(re.findall(r'data-model="(\w+)" points="([^"]+)"', lab._path.value))
    assert list(paths) == [*KEYS, "ensemble"]
    heights = [float(point.split(",")[1]) for point in paths["ensemble"].split()]
    assert len(set(heights)) == 6
    places = re.findall(r'class="cf-lab-here" x1="([\d.]+)"', lab._path.value)
    assert places == [paths["ensemble"].split()[2].split(",")[0]]
    rows = re.findall(r'<th scope="row">([^<]+)</th>(.*?)</tr>', lab._table.value)
    assert [name for name, _ in rows] == ["Baseline CNN", "Tuned CNN", "ResNet-50", "Ensemble"]
    assert all(re.fullmatch(r"(<td>(REAL|FAKE) [\w %]+</td>){6}", cells) for _, cells in rows)


def test_of_changes_that_come_while_one_is_computed_only_the_newest_is(lab, monkeypatch):
    lab.open()
    lab.wait()
    entered, go_on, families = threading.Event(), threading.Event(), []

    def slow(image, family):
        families.append(family)
        entered.set()
        assert go_on.wait(10)
        return severities(image, family)

    monkeypatch.setattr("cifake_lib.dashboard_lab_steps.severities", slow)
    asked = lab._detector.asked
    lab._family.value = "blur"
    assert entered.wait(10)
    for family in ("noise", "resize", "crop", "brightness"):
        lab._family.value = family
    assert "Asking the models" in text(lab.view)
    go_on.set()
    choose(lab, severity=5)
    assert families == ["blur", "brightness"]
    assert lab._detector.asked == asked + 6  # of the first, none
    assert "Severity 5 of 5: brightness" in text(lab.view)


def test_the_severity_that_is_looked_at_is_judged_first(lab):
    lab.open()
    choose(lab, severity=4)
    order = []
    examine = lab._analyst.examine

    def noted(pictures):
        order.extend(np.asarray(one.image).mean() for one in pictures)
        return examine(pictures)

    object.__setattr__(lab._analyst, "examine", noted)
    choose(lab, "brightness")
    means = [np.asarray(image).mean() for image in severities(picture(120), "brightness")]
    assert order == [means[step] for step in (4, 0, 1, 2, 3, 5)]


def test_a_family_that_training_left_out_is_called_so(lab):
    use(lab, Lightness(corruption_share=0.3, unseen_corruption="blur"))
    lab.open()
    choose(lab, "noise")
    assert "left this family out" not in text(lab.view)
    choose(lab, "blur")
    assert "Training left this family out." in text(lab.view)


def test_of_some_models_only_their_names_stand_there(lab):
    detector = Lightness(corruption_share=0.3, unseen_corruption="blur")
    detector.runs["resnet50"].manifest["parameters"] = {
        "corruption_share": 0,
        "unseen_corruption": "",
    }
    use(lab, detector)
    lab.open()
    choose(lab, "noise")
    assert "Training of ResNet-50 left this family out." in text(lab.view)


@pytest.fixture
def robustness(tmp_path):
    """A run that measured the models of `Lightness`."""
    rows = [
        "model,corruption,severity,accuracy,accuracy_low,accuracy_high",
        "baseline_cnn,jpeg,3,0.1,0.1,0.1",
        "ensemble,clean,0,0.991,0.98,0.995",
        "ensemble,jpeg,3,0.876,0.85,0.9",
    ]
    path = tmp_path / "severity.csv"
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    manifest = {
        "upstream": {key: f"own-{key}" for key in KEYS},
        "parameters": {"corrupted_images": 1500},
        "files": {"severity.csv": file_hash(path)},
    }
    return Run("robustness", tmp_path, manifest)


def test_what_was_measured_at_a_severity_stands_beside_it(lab, robustness):
    use(lab, Lightness(), robustness=robustness)
    lab.open()
    choose(lab, "jpeg", 0)
    assert "Of 1,500 test images like this" in text(lab.view) and "99.1 %" in text(lab.view)
    choose(lab, severity=3)
    assert "right on 87.6 % (95 % interval 85.0–90.0 %)" in text(lab.view)
    choose(lab, severity=4)
    assert "test images like this" not in text(lab.view)
    lab.show_image(picture(size=(64, 64)), "large.png")
    lab.on_last()
    choose(lab, severity=3)
    assert "test images like this" not in text(lab.view)


@pytest.mark.parametrize("spoil", ["other models", "damaged"])
def test_numbers_of_other_models_or_damaged_ones_do_not(lab, robustness, spoil):
    if spoil == "damaged":
        with (robustness.folder / "severity.csv").open("a") as file:
            file.write("ensemble,jpeg,4,1,1,1\n")
    else:
        robustness.manifest["upstream"]["resnet50"] = "another"
    use(lab, Lightness(), robustness=robustness)
    lab.open()
    choose(lab, "jpeg", 3)
    assert "test images like this" not in text(lab.view)
    assert "JPEG quality 50" in text(lab.view) and "REAL 53 % confidence" in text(lab.view)


def test_a_larger_picture_is_changed_at_a_bounded_size_and_then_shrunk(lab):
    asked = []
    predict = lab._detector.predict
    lab._detector.predict = lambda images: asked.extend(images) or predict(images)
    lab.show_image(picture(size=(1600, 800)), "large.jpg")
    lab.open()
    choose(lab, "blur", 1)
    assert {image.size for image in asked} == {(LARGEST, LARGEST // 2)}
    shown = text(lab.view)
    assert "large.jpg Changed at its own size, reduced to at most 512 pixels" in shown
    assert "shrunk to the 32 × 32 that the models see" in shown
    for figures in (lab._original.value, lab._after.value):
        assert figures.count("<img") == 2 and "as the models see it" in figures


def test_the_picture_examined_last_is_offered_and_an_example_can_follow(lab):
    lab.open()
    lab.wait()
    assert lab._take_last.layout.display == "none"
    lab.show_image(picture(200), "<b>mine</b>.png")
    assert lab._take_last.layout.display is None
    assert lab._take_last.description == "Use <b>mine</b>.png"
    lab._take_last.click()
    lab.wait()
    assert "&lt;b&gt;mine" in lab._chosen.value and "<b>mine" not in lab._chosen.value
    assert "FAKE 78 % confidence" in text(lab.view)
    examples = [row for row in lab._gallery.children if getattr(row, "children", ())]
    examples[1].children[0].click()
    lab.wait()
    assert "Example 2 (FAKE)" in text(lab.view) and "REAL 76 % confidence" in text(lab.view)


def test_without_models_or_images_a_sentence_says_so(said):
    lab = RobustnessLab(said.append)
    lab.show_image(picture(), "early.png")
    lab.open()
    lab.on_last()
    assert "models are not loaded yet" in text(lab.view)
    use(lab, Lightness(), examples=[])
    lab.wait()
    assert "early.png" in text(lab.view) and "not loaded yet" not in text(lab.view)
    empty = RobustnessLab(said.append)
    use(empty, Lightness(), examples=[])
    empty.open()
    empty._family.value = "blur"
    empty._severity.value = 2
    assert "no built-in examples" in text(empty.view) and said == []


def test_a_failing_model_gives_one_sentence_and_the_next_change_works(lab, said, caplog):
    lab.open()
    lab.wait()
    working = lab._detector.predict

    def explode(images):
        raise RuntimeError("layer 7")

    lab._detector.predict = explode
    with caplog.at_level(logging.ERROR):
        choose(lab, "blur")
    assert len(said) == 1 and "went wrong while asking the models" in said[0]
    assert "layer 7" in caplog.text and "Asking the models" not in text(lab.view)
    lab._detector.predict = working
    choose(lab, "noise", 1)
    assert "Severity 1 of 5" in text(lab.view) and "confidence" in text(lab.view)
    assert len(said) == 1


def test_a_verdict_outside_what_the_models_know_is_none(lab):
    class Stranger(Analyst):
        def examine(self, pictures):
            found = super().examine(pictures)
            return [replace(one.doubted("It is <strange>."), outside=True) for one in found]

    detector = Lightness()
    lab.use(detector, Stranger(detector), EXAMPLES)
    lab.open()
    lab.wait()
    shown = text(lab.view)
    assert "○ UNCERTAIN outside what the models know" in shown
    assert "confidence" not in shown and "It is &lt;strange&gt;." in shown
