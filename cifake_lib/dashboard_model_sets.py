"""The Models tab: how good the models are, and beside them those that were trained here."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from html import escape
from typing import NamedTuple

import ipywidgets as widgets

from cifake_lib.dashboard_disclosure import Disclosure
from cifake_lib.dashboard_drawing import Drawing
from cifake_lib.dashboard_handlers import guarded
from cifake_lib.dashboard_model_tables import (
    NOT_COMPARED,
    alert,
    comparison_html,
    provenance_html,
)
from cifake_lib.dashboard_models import NO_MODEL, Records, other_evaluations, records_of, title_of
from cifake_lib.runs import Run, RunDamaged

logger = logging.getLogger(__name__)

STYLE = """
.cifake .cf-choice { width:auto; max-width:540px; margin:0 0 4px; flex-flow:row wrap; height:auto; }
.cifake .cf-choice .widget-label { width:auto; color:var(--ink); font-weight:600; }
.cifake .cf-choice select { max-width:100%; }
.cifake .cf-scroll:focus-visible { outline:3px solid var(--focus); outline-offset:2px; }
.cifake .cf-table small.cf-which { font-weight:400; white-space:normal; max-width:14em;
  overflow-wrap:anywhere; }
.cifake .cf-table tr.cf-joined > * { border-bottom-color:transparent; padding-bottom:0; }
.cifake p.cf-from { color:var(--muted); font-size:13px; margin:0 0 4px;
  overflow-wrap:anywhere; }
.cifake .cf-models h2 { margin:16px 0 6px; }
.cifake p.cf-from a.cf-save { font-size:13px; font-weight:400; margin:0;
  text-decoration:underline; }
.cifake .cf-figures.cf-wide { min-width:680px; margin:0; }
.cifake .cf-figures.cf-wide img { max-width:900px; }
"""
NONE_YET = (
    '<p class="cf-note">Train models of your own with <code>make pipeline</code>, and you can '
    "look at them here beside these.</p>"
)
CHOOSE = (
    '<p class="cf-note">Choose an evaluation that was made on this machine to see its models '
    "beside these.</p>"
)


class Section(NamedTuple):
    """A closed heading of the tab.

    Attributes:
        title: What it says.
        reading: How to read what lies below it; HTML.
    """

    title: str
    reading: str


SECTIONS = {
    "ranking": Section(
        "Ranking: ROC and precision-recall",
        "Every point of a curve is a threshold, from strict to lenient. The ROC curve trades false "
        "alarms for hits, and its area is the probability that a FAKE image scores above a REAL "
        "one. The precision-recall curve trades the purity of what is flagged for completeness.",
    ),
    "confusion": Section(
        "Confusion",
        "How many images of each class were called what, at the threshold 0.5. Precision of FAKE "
        "is the share of FAKE among the images called FAKE; recall of FAKE is the share of FAKE "
        "images that were called so.",
    ),
    "calibration": Section(
        "Calibration",
        "On the diagonal, of the images with a p_fake of 0.8 eight in ten are FAKE. The expected "
        "calibration error (ECE) is the mean distance from it. Each model's logits are divided by "
        "one number, its temperature, fitted on validation images; that changes no verdict at "
        "0.5.",
    ),
    "object_classes": Section(
        "By object class",
        "The number of images stands behind the name; with few of them a low score may be chance, "
        "as the intervals say.",
    ),
    "training": Section(
        "Training curves",
        "Where the validation loss rises while the training loss falls, a model learns its "
        "training images by heart. Training images are altered at random, validation images are "
        "not, so the validation loss can lie below.",
    ),
    "cost": Section(
        "Cost against quality",
        "Up is better; left is cheaper, and for speeds right is. Speeds hold for the machine that "
        "measured them.",
    ),
    "changed": Section(
        "When the image is changed",
        "Re-saved, shrunk, cropped or blurred images are what a detector meets in the world. In "
        "the shaded part of the curves a coin does better.",
    ),
    "origin": Section(
        "Where the models come from",
        "Every figure of this page was read from the files of these runs, after comparing their "
        "hashes with the run's manifest.",
    ),
}


class ModelsTab:
    """How good the models are, read from their runs.

    Attributes:
        view: The widget to display.
        sets: Title → runs of what is shown: one set of models, or two beside each other.
    """

    def __init__(
        self,
        say: Callable[[str], None],
        *,
        disclosure: Callable[[str, Callable[[], str]], widgets.Widget] | None = None,
    ):
        """Build it empty.

        Args:
            say: Shows the visitor a sentence.
            disclosure: Makes a closed heading of a title and a function that returns the HTML
                below it: a widget with the traits `title` and `is_open`.
        """
        self.say = say
        self.sets: dict[str, Records] = {}
        if disclosure is None:
            pool = ThreadPoolExecutor(max_workers=1)
            self._disclosure = lambda title, compute: Disclosure(title, compute, pool).view
        else:
            self._disclosure = disclosure
        self._drawing = Drawing()
        self._records, self._title = None, ""
        self._others: list[Run] = []
        self._choice = widgets.Dropdown(description="Models", options=[("", 0)])
        self._choice.add_class("cf-choice")
        self._choice.observe(lambda change: self.on_choice(change["new"]), "value")
        self._hint, self._top = widgets.HTML(), widgets.HTML()
        self._sections = widgets.VBox([])
        self.view = widgets.VBox([self._choice, self._hint, self._top, self._sections])
        self.view.add_class("cf-models")

    @guarded("reading the run files")
    def open(self, records: Records) -> None:
        """Show models, and offer the others of this machine; the same ones are not read twice.

        Args:
            records: Their runs.
        """
        if records is self._records:
            return
        run = records.evaluation or next(iter(records.models.values()), None)
        self._records, self._others = records, other_evaluations(records) if run else []
        self._title = title_of(run) if run else ""
        names = [f"{self._title} and {title_of(other)}" for other in self._others]
        self._choice.options = [
            (name, place) for place, name in enumerate([f"{self._title} only", *names])
        ]
        self._choice.layout.display = None if self._others else "none"
        self._hint.value = CHOOSE if self._others else NONE_YET if run else ""
        self._show(0)

    @guarded("reading the run files")
    def on_choice(self, place: int) -> None:
        """Show another set of models beside those that are always shown.

        Args:
            place: Of its evaluation among the choices, from 1; 0 for none.
        """
        self._show(place)

    def _show(self, place: int) -> None:
        self.sets = {self._title: self._records}
        if place:
            chosen = self._others[place - 1]
            self.sets[title_of(chosen)] = records_of(chosen)
        old = self._sections.children
        opened = {section.title: section.is_open for section in old}
        if not self._title:
            self._top.value, self._sections.children = NO_MODEL, ()
        else:
            self._top.value = _shielded(lambda: comparison_html(self.sets))
            self._sections.children = [
                self._disclosure(section.title, partial(self._compute, name, self.sets))
                for name, section in SECTIONS.items()
                # The others need notebook 05, which compares the three models of the suite.
                if "own_model" not in self._records.models or name in ("training", "origin")
            ]
        for section in self._sections.children:
            section.is_open = opened.get(section.title, False)
        for section in old:
            for widget in (*getattr(section, "children", ()), section):
                widget.close()

    def _compute(self, name: str, sets: Mapping[str, Records]) -> str:
        """Fill a section: one block a set, of which one that fails does not harm the other."""
        parts = [f"<p>{SECTIONS[name].reading}</p>"]
        for title, records in sets.items():
            if len(sets) > 1:
                parts.append(f"<h2>{escape(title)}</h2>")
            parts.append(_shielded(partial(self._block, name, records)))
        return "".join(parts)

    def _block(self, name: str, records: Records) -> str:
        if name == "origin":
            return provenance_html(records)
        if records.evaluation is None and name != "training":
            return NOT_COMPARED
        return self._drawing.section_html(name, records)


def _shielded(compute: Callable[[], str]) -> str:
    """Compute HTML; where a file is damaged or lacks something, a sentence takes its place."""
    try:
        return compute()
    except RunDamaged as error:
        return alert(error)
    except Exception:
        logger.exception("failed while reading run files")
        return (
            '<p class="cf-note" role="alert">This could not be made of the files of these runs; '
            "the server's log says why.</p>"
        )
