"""The robustness lab: change one image step by step, and watch what the models make of it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from html import escape
from typing import TYPE_CHECKING

import ipywidgets as widgets
from PIL import Image

from cifake_lib import dashboard_cards as cards
from cifake_lib import dashboard_lab_steps as steps
from cifake_lib.analyst import Picture
from cifake_lib.dashboard_examples import gallery
from cifake_lib.dashboard_handlers import button, guarded, show
from cifake_lib.dashboard_slider import step_slider
from cifake_lib.images import fit_image

if TYPE_CHECKING:
    from cifake_lib.analyst import Analysis, Analyst
    from cifake_lib.detector import Detector

LARGEST = 512  # pixels; a larger picture would only make the visitor wait
COMPUTING = (
    '<div class="cf-status" role="status"><span class="cf-spinner"></span>'
    "Asking the models about every severity …</div>"
)
NO_MODELS = (
    '<p class="cf-note" role="status">The models are not loaded yet: the tab Analyse says why.</p>'
)
NO_IMAGE = (
    '<p class="cf-note" role="status">There are no built-in examples here. Examine a picture of '
    "your own first, then take it from here.</p>"
)
STYLE = """
.cifake .cf-lab-answers { display:flex; flex-flow:row wrap; gap:16px 32px; overflow:visible; }
.cifake .cf-lab-answers > * { flex:1 1 300px; min-width:0; max-width:460px; }
.cifake .cf-lab-answers > .cf-lab-pictures { display:flex; flex:0 1 auto; flex-flow:row nowrap;
  gap:16px; }
.cifake .cf-lab-answers > .cf-lab-path { flex:1 1 100%; max-width:540px; }
.cifake .cf-lab-pictures .cf-pictures { flex-flow:column; gap:12px; }
.cifake .cf-lab-pictures .cf-pictures img { width:176px; height:auto; aspect-ratio:1;
  max-width:100%; max-height:none; object-fit:contain; }
.cifake .cf-lab-pictures .cf-pictures figcaption { max-width:176px; min-height:2.7em; }
.cifake .cf-lab-controls .widget-inline-hbox { width:100%; margin:0 0 6px; }
.cifake .cf-lab-controls .widget-label { width:74px; color:inherit; font:inherit;
  text-align:left; }
.cifake .cf-lab-controls .cf-button { max-width:100%; overflow:hidden; text-overflow:ellipsis;
  margin:0 0 12px; }
.cifake .cf-lab-answers .widget-html-content p.cf-note { margin-top:10px; }
.cifake .widget-html-content p.cf-lab-level { font-weight:600; margin:0 0 4px; }
.cf-lab-path svg { color:var(--ink); }
.cf-lab-chart { display:block; width:100%; height:auto; }
.cf-lab-chart text { font-size:12px; fill:var(--muted); }
.cf-lab-chart text[class] { fill:currentColor; }
.cf-lab-chart .cf-lab-point { font-size:14px; text-anchor:middle; dominant-baseline:central; }
.cf-lab-chart line { stroke:var(--line); }
.cf-lab-chart .cf-lab-here { stroke:var(--accent); stroke-width:14; opacity:.18; }
.cf-lab-path .cf-lab-model { fill:none; stroke:var(--accent); stroke-width:1.5; }
.cf-lab-path .cf-lab-together { fill:none; stroke:var(--ink); stroke-width:2.5; }
.cifake ul.cf-lab-legend { display:flex; flex-wrap:wrap; gap:2px 18px; list-style:none;
  margin:0 0 8px; padding:0; font-size:13px; color:var(--muted); }
.cf-lab-table summary { cursor:pointer; color:var(--accent); font-weight:600; font-size:14px; }
/* On a telephone the picture comes right below the slider. */
@media (max-width:760px) {
  .cifake .cf-lab-choice { order:2; } .cf-lab-chart text { font-size:14px; }
}
"""

logger = logging.getLogger(__name__)


class RobustnessLab:
    """One image, one family of changes and its severity; the scores follow.

    All severities of a family are judged when image or family changes, the chosen one first, so
    that a step of the slider shows what is known already.

    Attributes:
        view: The widget to display.
        say: Shows a sentence to the visitor.
    """

    def __init__(self, say: Callable[[str], None]):
        """Build the tab; `say` takes a sentence that is not escaped."""
        self.say = say
        self._detector: Detector | None = None
        self._analyst: Analyst | None = None
        self._examples: list[tuple[Image.Image, str]] = []
        self._last: tuple[Image.Image, str] | None = None
        self._image: Image.Image | None = None
        self._measured: dict[tuple[str, int], str] = {}
        self._changed: list[Image.Image] = []
        self._analyses: dict[int, Analysis] = {}
        self._opened = False
        self._pool, self._job = ThreadPoolExecutor(1), None
        self._asked = 0  # Counts up with every change, so that only the newest is computed.
        self._build()

    def _build(self) -> None:
        self._said, self._left_out, self._chosen, self._status = (widgets.HTML() for _ in range(4))
        self._original, self._after, self._answer = (widgets.HTML() for _ in range(3))
        self._path, self._table = widgets.HTML(), widgets.HTML()
        names = [(title, family) for family, (title, _) in steps.FAMILIES.items()]
        self._family = widgets.Dropdown(options=names, description="Change", tooltip="")
        self._family.observe(lambda _: self.on_family(), "value")
        self._severity = step_slider("Severity", [str(step) for step in range(steps.STRONGEST + 1)])
        self._severity.observe(lambda _: self.on_severity(), "value")
        self._take_last = button("", self.on_last)
        show(self._take_last, False)
        self._gallery = widgets.VBox([])
        settings = [self._family, self._severity, self._said, self._left_out]
        choice = widgets.VBox([self._chosen, self._take_last, self._gallery])
        choice.add_class("cf-lab-choice")
        controls = widgets.VBox([*settings, choice])
        controls.add_class("cf-lab-controls")
        pictures = widgets.Box([self._original, self._after])
        pictures.add_class("cf-lab-pictures")
        path = widgets.VBox([self._status, self._path, self._table])
        path.add_class("cf-lab-path")
        answers = widgets.Box([pictures, self._answer, path])
        answers.add_class("cf-lab-answers")
        self.view = widgets.VBox([controls, answers])
        self.view.add_class("cf-columns")

    def use(
        self, detector: Detector, analyst: Analyst, examples: list[tuple[Image.Image, str]]
    ) -> None:
        """Take other models and built-in examples.

        Args:
            detector: The models.
            analyst: The same with what was measured about them.
            examples: As `dashboard_examples.read_examples` returns them.
        """
        self._detector, self._analyst, self._examples = detector, analyst, examples
        self._image = None
        if self._opened:
            self.open()

    def show_image(self, image: Image.Image, name: str) -> None:
        """Offer the picture that was examined last.

        Args:
            image: Upright RGB image; what is kept of it has at most `LARGEST` pixels a side.
            name: Of the file (not escaped).
        """
        self._last = (cards.at_most(image, LARGEST), name)
        self._take_last.description = f"Use {name}"
        show(self._take_last, True)

    def wait(self) -> None:
        """Wait until the newest change is on the page."""
        if self._job is not None:
            self._job.result()

    # --- handlers ----------------------------------------------------------------------------

    @guarded("opening the robustness lab")
    def open(self) -> None:
        """Begin with the picture that was examined last, else with the first example."""
        self._opened = True
        if self._detector is None:
            self._status.value = NO_MODELS
            return
        if self._image is not None:
            return
        self._measured = steps.measured(self._analyst)
        self._gallery.children = gallery(self._examples, self.on_example)
        if self._last is not None:
            self.on_last()
        elif self._examples:
            self.on_example(0)
        else:
            self._status.value = NO_IMAGE

    @guarded("taking the example")
    def on_example(self, index: int) -> None:
        """Take a built-in example."""
        image, truth = self._examples[index]
        self._take(image, f"Example {index + 1} ({truth})")

    @guarded("taking the picture")
    def on_last(self) -> None:
        """Take the picture that was examined last."""
        if self._detector is not None:
            self._take(*self._last)

    @guarded("changing the image")
    def on_family(self) -> None:
        """Judge the image under the chosen family of changes."""
        if self._image is None:
            return
        self._asked += 1
        self._changed, self._analyses = [], {}
        self._answer.value = self._path.value = self._table.value = ""
        self._status.value = COMPUTING
        self._left_out.value = steps.left_out(self._detector, self._family.value)
        self._job = self._pool.submit(self._compute, self._asked, self._image, self._family.value)

    @guarded("changing the image")
    def on_severity(self) -> None:
        """Show what is known of the chosen severity."""
        self._show()

    # --- work --------------------------------------------------------------------------------

    def _take(self, image: Image.Image, name: str) -> None:
        self._image = image
        side = self._detector.input_size
        where = f"Changed at {side} × {side} pixels, as the models see it."
        if image.size != (side, side):
            where = (
                f"Changed at its own size, reduced to at most {LARGEST} pixels, and then shrunk to "
                f"the {side} × {side} that the models see: a fine change may vanish on the way."
            )
        self._chosen.value = f'<h2>{escape(name)}</h2><p class="cf-note">{where}</p>'
        self._original.value = self._figures(image, "original")
        self.on_family()

    @guarded("asking the models")
    def _compute(self, asked: int, image: Image.Image, family: str) -> None:
        if asked != self._asked:
            return
        try:
            changed, analyses = steps.severities(image, family), {}
            # One by one: together they take as long and more memory, and could not be dropped.
            while asked == self._asked and len(analyses) < len(changed):
                self._changed, self._analyses = changed, dict(analyses)
                self._show()
                unknown = [step for step in range(len(changed)) if step not in analyses]
                wanted = self._severity.value
                severity = wanted if wanted in unknown else unknown[0]
                picture = Picture(changed[severity], b"", "")
                (analyses[severity],) = self._analyst.examine([picture])
            if asked == self._asked:
                self._analyses = analyses
                self._table.value = steps.path_table([analyses[step] for step in sorted(analyses)])
                self._show()
        finally:
            if asked == self._asked:
                self._status.value = ""

    def _show(self) -> None:
        changed, analyses = self._changed, self._analyses  # The other thread may reset them.
        if not changed:
            return
        family, severity = self._family.value, self._severity.value
        words = steps.level_words(family, severity)
        measured = self._measured.get((family if severity else "clean", severity), "")
        if changed[0].size != (self._detector.input_size,) * 2:
            measured = ""  # It was measured on images of this size only.
        self._said.value = f'<p class="cf-lab-level">{words}</p>{measured}'
        self._after.value = self._figures(changed[severity], words)
        self._answer.value = steps.answer_html(analyses[severity]) if severity in analyses else ""
        if len(analyses) == len(changed):
            self._path.value = steps.path_svg(
                [analyses[step] for step in sorted(analyses)], severity
            )

    def _figures(self, image: Image.Image, caption: str) -> str:
        """An image, and what the models see of it where that is another one."""
        side = self._detector.input_size
        figures = [cards.figure(cards.data_uri(image), caption, caption, max(image.size))]
        if image.size != (side, side):
            seen = f"{caption}, as the models see it"
            source = cards.data_uri(Image.fromarray(fit_image(image, side, self._detector.crop)))
            figures.append(cards.figure(source, seen, seen, side))
        return f'<div class="cf-pictures">{"".join(figures)}</div>'
