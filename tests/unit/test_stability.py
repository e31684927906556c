"""The stability fan: which copies are judged, and what is said of a verdict that turns."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from cifake_lib.corruptions import corrupt
from cifake_lib.detector import ModelVerdict, Verdict
from cifake_lib.stability import FAN, LARGEST, Fan, fan, fan_html, fan_sentence


class Scripted:
    """A detector that answers with given scores and remembers what it was asked."""

    input_size, sees_photographs = 32, False

    def __init__(self, *scores):
        self.scores = scores
        self.asked = []

    def predict(self, images):
        self.asked.append(list(images))
        return [judged(score) for score in self.scores or [0.5] * len(images)]


def judged(score, low=None, high=None):
    models = {"baseline_cnn": ModelVerdict(low or score), "resnet50": ModelVerdict(high or score)}
    return Verdict(score, models)


def noise(width, height):
    pixels = np.random.default_rng(0).integers(40, 200, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def made(original=0.9, threshold=0.5, **turned):
    """A fan whose copies score as the picture, but for those named."""
    turned = {name.replace("_", " "): score for name, score in turned.items()}
    scores = {name: turned.get(re.sub(r"\W+", " ", name).strip(), original) for name in FAN}
    return Fan(judged(original), {name: judged(score) for name, score in scores.items()}, threshold)


def subject(word="FAKE", outside=False, size=(32, 32)):
    analysis = SimpleNamespace(outside=outside, record=SimpleNamespace(verdict=word))
    analyst = SimpleNamespace(detector=Scripted())
    return SimpleNamespace(image=Image.new("RGB", size), analysis=analysis, analyst=analyst)


def shown(html):
    return " ".join(re.sub(r"<[^>]*>", " ", html).replace("&nbsp;", " ").split())


@pytest.mark.parametrize("size", [(32, 32), (45, 31)])
@pytest.mark.parametrize("name", FAN)
def test_every_change_keeps_the_size_changes_pixels_and_repeats(name, size):
    pixels = np.array(noise(*size))
    changed = FAN[name](pixels.copy())
    assert changed.shape == pixels.shape and changed.dtype == np.uint8
    assert (changed != pixels).any()
    assert (FAN[name](pixels.copy()) == changed).all()


def test_changes_are_those_of_training_where_it_has_them():
    pixels = np.array(noise(40, 32))
    for name, (family, severity) in {
        "JPEG, quality 50": ("jpeg", 3),
        "resized to 75 % and back": ("resize", 2),
        "cropped to 90 %": ("crop", 2),
    }.items():
        assert (FAN[name](pixels) == corrupt(pixels, family, severity=severity)).all()


def test_brighter_is_brighter_and_darker_darker():
    pixels = np.array(noise(32, 32))
    assert FAN["10 % brighter"](pixels).mean() == pytest.approx(1.1 * pixels.mean(), rel=0.01)
    assert FAN["10 % darker"](pixels).mean() == pytest.approx(0.9 * pixels.mean(), rel=0.01)


def test_the_picture_and_its_copies_are_judged_in_one_call():
    detector, image = Scripted(*np.linspace(0, 1, 13)), noise(64, 48)
    judgements = fan(detector, image, threshold=0.3)
    ((first, *copies),) = detector.asked
    assert first is image and [copy.size for copy in copies] == [(64, 48)] * 12
    assert judgements.original.p_fake == 0 and judgements.names == list(FAN)
    assert judgements.changed["10 % darker"].p_fake == 1


def test_copies_of_a_large_picture_are_reduced_and_the_picture_is_not():
    detector, image = Scripted(), noise(2 * LARGEST, LARGEST)
    fan(detector, image)
    ((first, *copies),) = detector.asked
    assert first.size == image.size == (2 * LARGEST, LARGEST)
    assert {copy.size for copy in copies} == {(LARGEST, LARGEST // 2)}


@pytest.mark.parametrize("size", [(1, 1), (3000, 2)])
def test_pictures_of_odd_shapes_have_a_fan_too(size):
    assert len(fan(Scripted(), noise(*size)).changed) == 12


def test_what_turns_depends_on_the_threshold():
    scores = {"JPEG_quality_50": 0.4, "cropped_to_90": 0.7}
    assert made(**scores).flipped == ["JPEG, quality 50"]
    assert made(**scores, threshold=0.8).flipped == ["JPEG, quality 50", "cropped to 90 %"]
    assert made(**scores, threshold=0.3).flipped == []


def test_a_score_at_the_threshold_is_fake_as_for_the_verdict():
    assert made(0.5).word(judged(0.5)) == "FAKE" and made(0.4, JPEG_quality_50=0.5).flipped


def test_below_a_strict_threshold_a_score_for_fake_is_not_called_real():
    judgements = made(0.95, threshold=0.9, JPEG_quality_50=0.8, **{"10_darker": 0.2})
    assert judgements.word(judged(0.8)) == "UNCERTAIN"
    said = fan_sentence(judgements, subject().analysis)
    assert said.startswith("FAKE turns REAL or UNCERTAIN under 2 of 12 changes")
    uncertain = made(0.8, threshold=0.9, JPEG_quality_50=0.2)
    assert uncertain.flipped == []
    said = fan_sentence(uncertain, subject("UNCERTAIN").analysis)
    assert said.startswith("The models lean to FAKE under 11 of 12 changes")


def test_the_sentence_says_whether_the_verdict_stays():
    assert fan_sentence(made(), subject().analysis) == (
        "The verdict stays FAKE under all 12 changes."
    )
    turned = made(0.2, JPEG_quality_50=0.6, **{"10_darker": 0.9})
    assert fan_sentence(turned, subject("REAL").analysis) == (
        "REAL turns FAKE under 2 of 12 changes (JPEG, quality 50; 10 % darker), so the verdict is "
        "UNCERTAIN."
    )


def test_an_uncertain_verdict_is_not_called_steady():
    said = fan_sentence(made(0.6), subject("UNCERTAIN").analysis)
    assert said.startswith("The models lean to FAKE under all 12 changes")
    assert "stays UNCERTAIN" in said and "stays FAKE" not in said


@pytest.mark.parametrize("judgements", [made(), made(JPEG_quality_50=0.1)])
def test_outside_what_the_models_know_nothing_is_to_be_relied_on(judgements):
    said = shown(fan_html(judgements, subject("UNCERTAIN", outside=True)))
    assert "the verdict is not to be relied on anyway" in said and "stays FAKE" not in said
    assert "not to be relied on" not in shown(fan_html(judgements, subject()))


def test_each_change_has_a_row_with_its_verdict_and_turns_are_marked_in_words():
    judgements = made(JPEG_quality_50=0.25)
    page = fan_html(judgements, subject())
    rows = [shown(row) for row in re.findall(r"<tr.*?</tr>", page, re.S)[1:]]
    assert rows[0] == "as it is ◆ FAKE 90 %"
    assert [row.split(" ◆")[0].split(" ●")[0] for row in rows[1:]] == list(FAN)
    assert [row for row in rows if "turned" in row] == ["JPEG, quality 50 ● REAL 25 % turned"]
    assert page.count('style="left:90.0%"') == 12 and page.count('style="left:25.0%"') == 1


def test_the_span_of_the_models_is_drawn_and_told():
    changed = dict.fromkeys(FAN, judged(0.9))
    page = fan_html(Fan(judged(0.7, low=0.004, high=0.8), changed, 0.5), subject())
    assert 'class="cf-fan-range" style="left:0.4%;width:79.6%"' in page
    assert 'aria-label="All together 70 %, models under 1 % to 80 %"' in page


def test_the_threshold_is_the_line():
    page = fan_html(made(threshold=0.25), subject())
    assert page.count('class="cf-fan-threshold" style="left:25.0%"') == 13
    assert "threshold of 0.25" in shown(page)


def test_reducing_a_large_picture_is_told():
    assert "reduced from 4,000 × 3,000 to 1,024" in shown(
        fan_html(made(), subject(size=(4000, 3000)))
    )
    assert "in its own size" in shown(fan_html(made(), subject()))
