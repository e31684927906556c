"""The quiz without a browser: a visitor plays, and nothing tells the truth too early."""

import logging
import re

import ipywidgets as widgets
import numpy as np
import pytest
from PIL import Image

from cifake_lib.dashboard_quiz import ROUNDS, Quiz
from cifake_lib.detector import ModelVerdict, Verdict

KEYS = ("baseline_cnn", "tuned_cnn", "resnet50")


class Judge:
    """Says FAKE of pictures with an odd value; its third model is always wrong about that."""

    def predict(self, images):
        verdicts = []
        for image in images:
            score = 0.9 if np.asarray(image)[0, 0, 0] % 2 else 0.2
            models = {key: ModelVerdict(score) for key in KEYS[:2]}
            verdicts.append(Verdict(score, {**models, "resnet50": ModelVerdict(1 - score)}))
        return verdicts


def pictures(per_class):
    """Pictures of which the odd ones are FAKE, so that `Judge` is always right."""
    return [
        (Image.new("RGB", (32, 32), (2 * number + odd, 7, 7)), truth)
        for odd, truth in enumerate(("REAL", "FAKE"))
        for number in range(per_class)
    ]


@pytest.fixture
def said():
    return []


def new_quiz(said, per_class=30, seed=1, examples=None):
    quiz = Quiz(said.append, seed=seed)
    quiz.use(Judge(), pictures(per_class) if examples is None else examples)
    quiz.open()
    return quiz


@pytest.fixture
def quiz(said):
    return new_quiz(said)


def shown_widgets(widget):
    """The widgets that a visitor sees."""
    if widget.layout.display == "none":
        return []
    return [widget, *(w for child in getattr(widget, "children", ()) for w in shown_widgets(child))]


def text(quiz):
    values = [w.value for w in shown_widgets(quiz.view) if isinstance(w, widgets.HTML)]
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", " ".join(values))).strip()


def labels(quiz):
    return [w.description for w in shown_widgets(quiz.view) if isinstance(w, widgets.Button)]


def click(quiz, words):
    (found,) = [
        w
        for w in shown_widgets(quiz.view)
        if isinstance(w, widgets.Button) and words in w.description
    ]
    found.click()


def play(quiz, answer):
    """Play to the end; `answer` gives the answer to a truth. Returns the pictures shown."""
    seen = []
    for image, truth in list(quiz._rounds):
        seen.append(image.getpixel((0, 0))[0])
        click(quiz, answer(truth))
        (*_, last) = labels(quiz)
        click(quiz, last)
    return seen


def right(truth):
    return truth


def test_a_game_is_balanced_and_says_how_far_it_is(quiz):
    assert [truth for _, truth in quiz._rounds].count("FAKE") == ROUNDS // 2
    assert len(quiz._rounds) == ROUNDS
    assert "20 test images" in text(quiz) and "1 of 20" in text(quiz)
    assert labels(quiz) == ["● REAL", "◆ FAKE"]
    for _ in range(6):
        click(quiz, "REAL")
        click(quiz, "Next image")
    assert "7 of 20" in text(quiz)
    correct = [truth for _, truth in quiz._rounds[:6]].count("REAL")
    assert f"You have {correct} of 6 right." in text(quiz)


def test_after_an_answer_the_truth_and_every_model_are_shown(quiz):
    _, truth = quiz._rounds[0]
    wrong = {"REAL": "FAKE", "FAKE": "REAL"}[truth]
    click(quiz, wrong)
    shown = text(quiz)
    assert f"It is {truth}. You said {wrong}." in shown and "You have 0 of 1 right." in shown
    sure, mistaken = (90, 90) if truth == "FAKE" else (80, 80)
    for name, label, percent in (
        ("Baseline CNN", truth, sure),
        ("Tuned CNN", truth, sure),
        ("ResNet-50", wrong, mistaken),
        ("Ensemble", truth, sure),
    ):
        assert f"{name} {label} {percent} %" in shown
    assert labels(quiz) == ["Next image"]
    click(quiz, "Next")
    assert "It is" not in text(quiz) and labels(quiz) == ["● REAL", "◆ FAKE"]


def page_state(quiz):
    """Everything that has been sent to the page, but the numbers that name the widgets."""
    states, boxes = [], [quiz.view]
    while boxes:
        widget = boxes.pop(0)
        boxes += getattr(widget, "children", ())
        hidden = ("layout", "style", "children")
        states.append({k: v for k, v in widget.get_state().items() if k not in hidden})
        states.append(widget.layout.display)
    return states


def test_before_the_answer_the_page_is_the_same_whatever_the_truth(said):
    # One picture for both classes: whatever differs between the pages tells the truth.
    same = [(image, truth) for _, truth in pictures(12) for image, _ in pictures(1)[:1]]
    first, second = (new_quiz(said, seed=seed, examples=same) for seed in (1, 2))
    truths = [[truth for _, truth in quiz._rounds] for quiz in (first, second)]
    assert truths[0] != truths[1]
    differ = []
    for own, others in zip(*truths, strict=True):
        assert page_state(first) == page_state(second)
        for quiz, truth in ((first, own), (second, others)):
            click(quiz, truth)  # always right, so that the scores agree
        differ.append(page_state(first) != page_state(second))
        for quiz in (first, second):
            click(quiz, labels(quiz)[0])
    assert differ == [own != others for own, others in zip(*truths, strict=True)]


def test_the_result_counts_everybody_and_marks_every_image(quiz):
    truths = [truth for _, truth in quiz._rounds]
    play(quiz, lambda truth: "FAKE")
    assert "You were right on 10 of 20 images." in text(quiz)
    table = quiz._result.value
    rows = {
        name: (int(count), re.findall(r'aria-label="(\w+)"', marks))
        for name, count, marks in re.findall(
            r'<tr><th scope="row">([^<]+)</th><td><b>(\d+)</b></td>(.*?)</tr>', table, re.S
        )
    }
    assert list(rows) == ["You", "Baseline CNN", "Tuned CNN", "ResNet-50", "Ensemble"]
    assert [count for count, _ in rows.values()] == [10, 20, 20, 0, 20]
    assert rows["You"][1] == ["right" if truth == "FAKE" else "wrong" for truth in truths]
    assert rows["ResNet-50"][1] == ["wrong"] * 20
    assert re.findall(r"[●◆] (REAL|FAKE)</small>", table) == truths
    assert table.count("<img") == 20


def test_another_game_has_other_images_while_there_are_any(quiz):
    first = play(quiz, right)
    assert labels(quiz) == ["Play again with other images"]
    click(quiz, "Play again")
    assert "1 of 20" in text(quiz) and "You were right" not in text(quiz)
    second = play(quiz, right)
    assert len(set(first) | set(second)) == 40
    click(quiz, "Play again")
    third = play(quiz, right)
    assert set(first).isdisjoint(third) and labels(quiz) == ["Play again, some images return"]
    click(quiz, "Play again")
    assert len({image.getpixel((0, 0))[0] for image, _ in quiz._rounds}) == 20


def test_few_images_make_a_short_game(said):
    quiz = new_quiz(said, examples=pictures(8)[:13])  # 8 REAL, 5 FAKE
    assert [truth for _, truth in quiz._rounds].count("REAL") == 5
    assert len(quiz._rounds) == 10 and "10 test images" in text(quiz)
    seen = play(quiz, right)
    assert len(set(seen)) == 10 and labels(quiz) == ["Play again, some images return"]


def test_the_seed_decides_images_and_order(said):
    order = [
        [image.getpixel((0, 0))[0] for image, _ in new_quiz(said, seed=seed)._rounds]
        for seed in (3, 3, 4)
    ]
    assert order[0] == order[1] != order[2]


def test_a_second_click_on_its_way_does_not_count(quiz):
    choices = [w for w in shown_widgets(quiz.view) if isinstance(w, widgets.Button)]
    for choice in (*choices, choices[0]):
        choice.click()
    assert "of 1 right." in text(quiz) and "1 of 20" in text(quiz)
    later = [w for w in shown_widgets(quiz.view) if isinstance(w, widgets.Button)]
    for _ in range(2):
        later[0].click()
    assert "2 of 20" in text(quiz)


def test_coming_back_to_the_tab_goes_on_with_the_game(quiz):
    click(quiz, "REAL")
    click(quiz, "Next image")
    quiz.open()
    assert "2 of 20" in text(quiz)


def test_other_models_begin_a_new_game(quiz):
    click(quiz, "REAL")
    quiz.use(Judge(), pictures(3))
    assert "1 of 6" in text(quiz) and "right." not in text(quiz)


def test_without_models_or_images_a_sentence_says_so(said):
    quiz = Quiz(said.append)
    quiz.open()
    assert "not loaded yet" in text(quiz) and labels(quiz) == []
    quiz.use(Judge(), [pictures(3)[0]])
    assert "no test images of both classes" in text(quiz) and labels(quiz) == []
    quiz.use(Judge(), pictures(3))
    assert "1 of 6" in text(quiz) and said == []


def test_a_failing_model_leaves_the_round_open(quiz, said, caplog, monkeypatch):
    def explode(images):
        raise RuntimeError("layer 7")

    with monkeypatch.context() as patch, caplog.at_level(logging.ERROR):
        patch.setattr(quiz._detector, "predict", explode)
        click(quiz, "REAL")
    assert len(said) == 1 and "went wrong while taking your answer" in said[0]
    assert labels(quiz) == ["● REAL", "◆ FAKE"] and "It is" not in text(quiz)
    click(quiz, "REAL")
    assert "of 1 right." in text(quiz) and len(said) == 1
