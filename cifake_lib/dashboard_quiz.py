"""The quiz: a visitor and the models say REAL or FAKE of the same test images."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from html import escape
from typing import TYPE_CHECKING

import ipywidgets as widgets
import numpy as np
from PIL import Image

from cifake_lib import dashboard_cards as cards
from cifake_lib.dashboard_handlers import button, guarded, show
from cifake_lib.names import display_name

if TYPE_CHECKING:
    from cifake_lib.detector import Detector, Verdict

ROUNDS = 20
CLASSES = ("REAL", "FAKE")
NO_MODELS = (
    '<p class="cf-note" role="status">The models are not loaded yet: the tab Analyse says why.</p>'
)
NO_IMAGES = (
    '<p class="cf-note" role="status">There are no test images of both classes here: run notebook '
    "05, which stores some.</p>"
)
STYLE = """
.cifake .cf-quiz-board { display:grid; grid-template-columns:288px minmax(0,460px); gap:16px 36px;
  align-items:start; overflow:visible; }
.cifake .cf-quiz-picture img { display:block; width:288px; max-width:100%; aspect-ratio:1;
  image-rendering:pixelated; border-radius:10px; background:var(--wash); margin:0 0 12px; }
.cifake .cf-quiz-buttons { gap:12px; overflow:visible; }
.cifake .cf-quiz-buttons .jupyter-button { flex:1 1 0; width:auto; height:48px; margin:0;
  font-size:17px; font-weight:600; background:var(--paper); border:2px solid currentColor; }
.cifake .cf-quiz-buttons .jupyter-button:hover:enabled { background:var(--wash);
  border-color:currentColor; box-shadow:none; }
.cifake .cf-quiz-buttons .jupyter-button.cf-quiz-real:enabled { color:var(--real); }
.cifake .cf-quiz-buttons .jupyter-button.cf-quiz-fake:enabled { color:var(--fake-ink); }
.cifake .jupyter-button.cf-quiz-next { width:100%; height:48px; font-size:16px; font-weight:600;
  background:var(--accent); color:var(--on-accent); border-color:var(--accent); }
.cifake .jupyter-button.cf-quiz-next:hover:enabled { background:var(--accent-strong);
  color:var(--on-accent); }
.cf-quiz-count { display:flex; gap:6px 16px; flex-wrap:wrap; align-items:center; margin:0 0 14px; }
.cf-quiz-count progress { accent-color:var(--accent); width:180px; }
.cifake .cf-quiz-table img { display:block; width:36px; height:36px; max-width:none;
  image-rendering:pixelated; border-radius:4px; margin:0 auto 2px; }
.cifake .cf-quiz-table .cf-quiz-mark { text-align:center; padding:6px 4px; }
.cifake .cf-quiz-table small.cf-REAL { color:var(--real); }
.cifake .cf-quiz-table small.cf-FAKE { color:var(--fake-ink); }
.cf-quiz-wrong { font-weight:700; }
.cf-quiz-right { color:var(--muted); }
@media (max-width:760px) {
  .cifake .cf-quiz-board { grid-template-columns:minmax(0,1fr); }
  .cifake .cf-quiz-picture img { margin:0 auto 12px; }
}
"""


class Quiz:
    """Rounds of one image each: the visitor answers, then truth and models are shown.

    What an image is reaches the page only after the answer.

    Attributes:
        view: The widget to display.
        say: Shows a sentence to the visitor.
    """

    def __init__(self, say: Callable[[str], None], *, seed: int | None = None):
        """Build the tab.

        Args:
            say: Takes a sentence that is not escaped.
            seed: Of the choice and order of the images; None for other ones at every visit.
        """
        self.say = say
        self._random = np.random.default_rng(seed)
        self._detector: Detector | None = None
        self._images: dict[str, list[Image.Image]] = dict.fromkeys(CLASSES, [])
        self._decks: dict[str, list[int]] = {}
        self._rounds: list[tuple[Image.Image, str]] = []
        self._answers: list[str] = []
        self._verdicts: list[Verdict] = []
        self._place = 0
        self._opened = False
        self._build()

    def _build(self) -> None:
        self._intro, self._count, self._reveal = (widgets.HTML() for _ in range(3))
        self._picture, self._result = widgets.HTML(), widgets.HTML()
        self._picture.add_class("cf-quiz-picture")
        self._choices = [
            button(f"{cards.ICONS[label]} {label}", partial(self.on_answer, label))
            for label in CLASSES
        ]
        for choice, label in zip(self._choices, CLASSES, strict=True):
            choice.add_class(f"cf-quiz-{label.lower()}")
        self._next = button("", self.on_next)
        self._next.add_class("cf-quiz-next")
        self._again = button("", self.on_again)
        self._buttons = widgets.HBox(self._choices)
        self._buttons.add_class("cf-quiz-buttons")
        left = widgets.VBox([self._picture, self._buttons, self._next])
        self._board = widgets.VBox([left, self._reveal])
        self._board.add_class("cf-quiz-board")
        self.view = widgets.VBox([self._intro, self._count, self._board, self._result, self._again])
        for part in (self._board, self._again):
            show(part, False)

    def use(self, detector: Detector, examples: list[tuple[Image.Image, str]]) -> None:
        """Take other models and images.

        Args:
            detector: The models.
            examples: Test images with their true class, as `dashboard_examples.read_examples`
                returns them.
        """
        self._detector = detector
        self._images = {
            label: [image for image, truth in examples if truth == label] for label in CLASSES
        }
        self._decks = {label: [] for label in CLASSES}
        self._rounds = []
        if self._opened:
            self.open()

    # --- handlers ----------------------------------------------------------------------------

    @guarded("opening the quiz")
    def open(self) -> None:
        """Begin the first game; one that is being played goes on."""
        self._opened = True
        if self._rounds:
            return
        show(self._board, False)
        if self._detector is None:
            self._intro.value = NO_MODELS
        elif not all(self._images.values()):
            self._intro.value = NO_IMAGES
        else:
            self.on_again()

    @guarded("beginning a game")
    def on_again(self) -> None:
        """Begin a game, with images that have not come yet as far as there are any."""
        each = min(ROUNDS // 2, *map(len, self._images.values()))
        dealt = [(image, label) for label in CLASSES for image in self._deal(label, each)]
        self._rounds = [dealt[index] for index in self._random.permutation(len(dealt))]
        self._answers, self._verdicts, self._place = [], [], 0
        self._intro.value = (
            f'<p class="cf-lead">Can you tell them apart better than the models? {len(dealt)} test '
            "images from which no model has learnt, half of them photographs (REAL) and half "
            "generated (FAKE).</p>"
        )
        self._show_round()

    @guarded("taking your answer")
    def on_answer(self, label: str) -> None:
        """Take the visitor's answer and show the truth.

        Args:
            label: "REAL" or "FAKE".
        """
        if len(self._answers) > self._place:  # A second click, on its way when the first came.
            return
        image, truth = self._rounds[self._place]
        (verdict,) = self._detector.predict([image])
        self._verdicts.append(verdict)
        self._answers.append(label)
        self._reveal.value = _reveal(label, truth, verdict)
        self._show_count()
        last = len(self._answers) == len(self._rounds)
        self._next.description = "See the result" if last else "Next image"
        show(self._buttons, False)
        show(self._next, True)
        _focus(self._next)

    @guarded("showing the next image")
    def on_next(self) -> None:
        """Go on to the next image, or to the result."""
        if len(self._answers) <= self._place:
            return
        self._place += 1
        if self._place < len(self._rounds):
            self._show_round()
            return
        show(self._board, False)
        self._count.value = ""
        self._result.value = _result(self._rounds, self._answers, self._verdicts)
        again = "Play again with other images"
        if len(self._rounds) > sum(map(len, self._decks.values())):
            again = "Play again, some images return"
        self._again.description = again
        show(self._again, True)
        _focus(self._again)

    # --- work --------------------------------------------------------------------------------

    def _deal(self, label: str, count: int) -> list[Image.Image]:
        images, deck = self._images[label], self._decks[label]
        if len(deck) < count:
            rest = [row for row in range(len(images)) if row not in deck]
            deck = [*deck, *self._random.permutation(rest)]
        self._decks[label] = deck[count:]
        return [images[row] for row in deck[:count]]

    def _show_round(self) -> None:
        number = self._place + 1
        source = cards.data_uri(self._rounds[self._place][0])
        self._picture.value = f'<img src="{source}" alt="Image {number}: REAL or FAKE?">'
        self._reveal.value = self._result.value = ""
        self._show_count()
        for part, shown in (
            (self._again, False),
            (self._next, False),
            (self._buttons, True),
            (self._board, True),
        ):
            show(part, shown)
        if number > 1:  # The first would pull the page away from what a visitor reads.
            _focus(self._choices[0])

    def _show_count(self) -> None:
        rounds, answered = len(self._rounds), len(self._answers)
        right = sum(
            answer == truth for answer, (_, truth) in zip(self._answers, self._rounds, strict=False)
        )
        score = f"You have {right} of {answered} right." if answered else ""
        self._count.value = (
            f'<div class="cf-quiz-count"><b>{self._place + 1} of {rounds}</b><progress '
            f'max="{rounds}" value="{answered}" aria-label="Answered images"></progress>'
            f'<span role="status">{score}</span></div>'
        )


def _reveal(answer: str, truth: str, verdict: Verdict) -> str:
    """The truth, and what everybody said."""
    judged = "You are right." if answer == truth else f"You said {answer}."
    players = {**verdict.models, "ensemble": verdict}
    rows = "".join(cards.model_row(*player) for player in players.items())
    return f"""
<div class="cf-answer">
  <p class="cf-verdict cf-{truth}" role="status">
    <span aria-hidden="true">{cards.ICONS[truth]}</span> <b>It is {truth}.</b>
    <span class="cf-confidence">{judged}</span></p>
  <p class="cf-together">What the models say</p>
  <div class="cf-models" role="list">
    <div class="cf-scale" aria-hidden="true"><span>REAL</span><span>FAKE</span></div>
    {rows}
  </div>
</div>"""


def _result(
    rounds: list[tuple[Image.Image, str]], answers: list[str], verdicts: list[Verdict]
) -> str:
    """Who was right of how many, and about which images."""
    truths = [truth for _, truth in rounds]
    said = {"You": answers}
    for key in verdicts[0].models:
        said[display_name(key)] = [verdict.models[key].label for verdict in verdicts]
    said[display_name("ensemble")] = [verdict.label for verdict in verdicts]
    heads = "".join(
        f'<th scope="col" class="cf-quiz-mark"><img src="{cards.data_uri(image)}" '
        f'alt="Image {number}"><small class="cf-{truth}">{cards.ICONS[truth]} {truth}</small></th>'
        for number, (image, truth) in enumerate(rounds, 1)
    )
    rows = ""
    for name, labels in said.items():
        right = [label == truth for label, truth in zip(labels, truths, strict=True)]
        rows += (
            f'<tr><th scope="row">{escape(name)}</th><td><b>{sum(right)}</b></td>'
            f"{''.join(map(_mark, right))}</tr>"
        )
    return f"""
<h2>You were right on {sum(map(str.__eq__, answers, truths))} of {len(rounds)}
images.</h2>
<p class="cf-note">So few images leave much to luck: in another game each may be several better or
worse. The tab Models has the figures of the whole test.</p>
<div class="cf-scroll"><table class="cf-table cf-quiz-table">
<thead><tr><th scope="col">Who</th><th scope="col">Right of {len(rounds)}</th>{heads}</tr></thead>
<tbody>{rows}</tbody></table></div>"""


def _mark(right: bool) -> str:
    word, sign = ("right", "✓") if right else ("wrong", "✗")
    return (
        f'<td class="cf-quiz-mark"><span class="cf-quiz-{word}" role="img" '
        f'aria-label="{word}">{sign}</span></td>'
    )


def _focus(choice: widgets.Button) -> None:
    """Put the keyboard on a button, since the one that was pressed is gone."""
    if hasattr(choice, "focus"):  # not in ipywidgets 7
        choice.focus()
