"""The robustness lab: change one image step by step, and watch what the models make of it."""

from __future__ import annotations

import csv
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from html import escape
from typing import TYPE_CHECKING

import ipywidgets as widgets
import numpy as np
from PIL import Image

from cifake_lib import dashboard_cards as cards
from cifake_lib.analyst import Picture
from cifake_lib.dashboard_examples import gallery
from cifake_lib.dashboard_handlers import button, guarded, show
from cifake_lib.images import fit_image
from cifake_lib.names import display_name
from cifake_lib.runs import RunDamaged

if TYPE_CHECKING:
    from cifake_lib.analyst import Analysis, Analyst
    from cifake_lib.detector import Detector, ModelVerdict

STRONGEST = 5  # severity; 0 is the image itself
LARGEST = 512  # pixels; a larger picture would only make the visitor wait
# What people read for the families of `corruptions.CORRUPTIONS`, and for a level of each.
FAMILIES = {
    "jpeg": ("Saved as JPEG", "JPEG quality {level:g}"),
    "blur": ("Blurred", "Gaussian blur, σ {level:g} px"),
    "noise": ("Noise added", "Gaussian noise, σ {percent:g} % of full scale"),
    "resize": ("Shrunk and enlarged", "shrunk to {percent:g} % of each side, enlarged back"),
    "crop": ("Cropped and enlarged", "{percent:g} % of each side kept, enlarged back"),
    "colour": ("Colours shifted", "saturation ± {percent:g} %, hue turned by {degrees:g}°"),
    "brightness": ("Brighter or darker", "brightness ± {percent:g} %"),
    "resize_jpeg": (
        "Shrunk, enlarged, JPEG",
        "shrunk to {percent:g} % of each side, enlarged back, JPEG quality {quality}",
    ),
}
DASHES = ("none", "7 3", "2 3")  # tell the models apart without colours
COMPUTING = (
    '<div class="cf-status" role="status"><span class="cf-spinner"></span>'
    "Asking the models about every severity …</div>"
)
NO_MODELS = '<p class="cf-note" role="status">The models are not loaded yet.</p>'
NO_IMAGE = (
    '<p class="cf-note" role="status">There are no built-in examples here. Examine a picture of '
    "your own first, then take it from here.</p>"
)
STYLE = """
.cifake .cf-lab-answers { display:flex; flex-flow:row wrap; gap:16px 32px; overflow:visible; }
.cifake .cf-lab-answers > * { flex:1 1 300px; min-width:0; max-width:460px; }
.cifake .cf-lab-answers > .cf-lab-pictures { display:flex; flex:0 1 auto; flex-flow:row nowrap;
  gap:16px; }
.cifake .cf-lab-answers > .cf-lab-path { flex:1 1 100%; max-width:640px; }
.cifake .cf-lab-pictures .cf-pictures { flex-flow:column; gap:12px; }
.cifake .cf-lab-pictures .cf-pictures img { width:176px; height:176px; max-width:100%;
  max-height:none; object-fit:contain; }
.cifake .cf-lab-pictures .cf-pictures figcaption { max-width:176px; min-height:2.7em; }
.cifake .cf-lab-controls .widget-inline-hbox { width:100%; margin:0 0 6px; }
.cifake .cf-lab-controls .widget-label { width:74px; color:inherit; font:inherit; }
.cifake .cf-lab-controls .cf-button { max-width:100%; overflow:hidden; text-overflow:ellipsis;
  margin:0 0 12px; }
.cifake .widget-html-content p.cf-lab-level { font-weight:600; margin:0 0 4px; }
.cf-lab-path svg { display:block; width:100%; height:auto; color:var(--ink); }
.cf-lab-path svg text { font-size:11px; fill:var(--muted); }
.cf-lab-path svg text.cf-REAL, .cf-lab-path svg text.cf-FAKE, .cf-lab-path svg text.cf-UNCERTAIN {
  fill:currentColor; }
.cf-lab-path svg text.cf-lab-point { font-size:14px; text-anchor:middle; dominant-baseline:central; }
.cf-lab-path svg line { stroke:var(--line); }
.cf-lab-path .cf-lab-here { stroke:var(--accent); stroke-width:14; opacity:.18; }
.cf-lab-path .cf-lab-model { fill:none; stroke:var(--accent); stroke-width:1.5; }
.cf-lab-path .cf-lab-together { fill:none; stroke:var(--ink); stroke-width:2.5; }
.cf-lab-table summary { cursor:pointer; color:var(--accent); font-weight:600; font-size:14px; }
/* On a telephone the picture comes right below the slider. */
@media (max-width:760px) { .cifake .cf-lab-choice { order:2; } }
"""

logger = logging.getLogger(__name__)


class RobustnessLab:
    """One image, one family of changes and its severity; the scores follow.

    All severities of a family are judged when image or family changes, the chosen one first, so
    that a step of the slider mostly shows what is known already.

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
        names = [(title, family) for family, (title, _) in FAMILIES.items()]
        self._family = widgets.Dropdown(options=names, description="Change")
        self._family.observe(lambda _: self.on_family(), "value")
        self._severity = widgets.IntSlider(max=STRONGEST, description="Severity", readout=False)
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
        path = widgets.VBox([self._path, self._table])
        path.add_class("cf-lab-path")
        answers = widgets.Box([pictures, self._answer, self._status, path])
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
        self._last = (cards._at_most(image, LARGEST), name)
        self._take_last.description = f"Take {name}"
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
        self._measured = _measured(self._analyst)
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
        self._left_out.value = _left_out(self._detector, self._family.value)
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
        self._chosen.value = f'<h3>{escape(name)}</h3><p class="cf-note">{where}</p>'
        self._original.value = self._figures(image, "original")
        self.on_family()

    @guarded("asking the models")
    def _compute(self, asked: int, image: Image.Image, family: str) -> None:
        if asked != self._asked:
            return
        try:
            self._changed, analyses = severities(image, family), {}
            first = self._severity.value
            # One by one: together they take as long and more memory, and could not be dropped.
            for severity in sorted(range(STRONGEST + 1), key=lambda step: step != first):
                picture = Picture(self._changed[severity], b"", "")
                (analyses[severity],) = self._analyst.examine([picture])
                if asked != self._asked:
                    return
                self._analyses = dict(analyses)
                self._show()
            self._table.value = _path_table([analyses[step] for step in sorted(analyses)])
        finally:
            if asked == self._asked:
                self._status.value = ""

    def _show(self) -> None:
        changed, analyses = self._changed, self._analyses  # The other thread may reset them.
        if not changed:
            return
        family, severity = self._family.value, self._severity.value
        words = level_words(family, severity)
        measured = ""
        if changed[0].size == (self._detector.input_size,) * 2:
            measured = self._measured.get((family if severity else "clean", severity), "")
        self._said.value = f'<p class="cf-lab-level">{words}</p><p class="cf-note">{measured}</p>'
        self._after.value = self._figures(changed[severity], words)
        self._answer.value = _answer(analyses[severity]) if severity in analyses else ""
        if len(analyses) == len(changed):
            steps = [analyses[step] for step in range(len(changed))]
            self._path.value = _path_svg(steps, severity)

    def _figures(self, image: Image.Image, caption: str) -> str:
        """An image, and what the models see of it where that is another one."""
        side = self._detector.input_size
        figures = [cards._figure(cards.data_uri(image), caption, caption, max(image.size))]
        if image.size != (side, side):
            seen = f"{caption}, as the models see it"
            source = cards.data_uri(Image.fromarray(fit_image(image, side)))
            figures.append(cards._figure(source, seen, seen, side))
        return f'<div class="cf-pictures">{"".join(figures)}</div>'


def severities(image: Image.Image, family: str) -> list[Image.Image]:
    """Return an image as it is, and changed at each severity.

    Args:
        image: RGB.
        family: A key of `FAMILIES`.

    Returns:
        `STRONGEST + 1` images of the same size, the mildest first.
    """
    from cifake_lib.corruptions import corrupt  # late: it brings scipy.ndimage

    pixels = np.asarray(image)
    steps = range(1, STRONGEST + 1)
    return [image, *(Image.fromarray(corrupt(pixels, family, severity=step)) for step in steps)]


def level_words(family: str, severity: int) -> str:
    """Say what a severity of a family does: "Severity 3 of 5: JPEG quality 50"."""
    from cifake_lib.corruptions import CHAIN_JPEG_QUALITY, CORRUPTIONS, HUE_DEGREES

    if severity == 0:
        return "Severity 0: unchanged"
    level = CORRUPTIONS[family].levels[severity - 1]
    words = FAMILIES[family][1].format(
        level=level, percent=100 * level, degrees=HUE_DEGREES * level, quality=CHAIN_JPEG_QUALITY
    )
    return f"Severity {severity} of {STRONGEST}: {words}"


def _left_out(detector: Detector, family: str) -> str:
    """Say whose training never showed this family; "" if all have seen it or nobody knows."""
    trained = {key: run.manifest.get("parameters", {}) for key, run in detector.runs.items()}
    strange = [
        key
        for key, known in trained.items()
        if "corruption_share" in known
        and (not known["corruption_share"] or known.get("unseen_corruption") == family)
    ]
    if not strange:
        return ""
    whose = "" if len(strange) == len(trained) else f" of {_listed(strange)}"
    return f'<p class="cf-note">Training{whose} left this family out.</p>'


def _listed(keys: Sequence[str]) -> str:
    return " and ".join(escape(display_name(key)) for key in keys)


def _measured(analyst: Analyst) -> dict[tuple[str, int], str]:
    """What notebook 06 measured with just these models, by family ("clean" too) and severity."""
    run = analyst.robustness
    own = {key: run.run_id for key, run in analyst.detector.runs.items()}
    if run is None or run.manifest.get("upstream") != own:
        return {}
    try:
        with run.checked("severity.csv").open(encoding="utf-8", newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["model"] == "ensemble"]
    except RunDamaged as error:
        logger.warning("no accuracy by severity: %s", error)
        return {}
    images = run.manifest["parameters"]["corrupted_images"]
    return {
        (row["corruption"], int(row["severity"])): (
            f"Of {images:,} test images like this, the models together were right on "
            f"{100 * float(row['accuracy']):.1f} % (95 % interval "
            f"{100 * float(row['accuracy_low']):.1f}–{100 * float(row['accuracy_high']):.1f} %)."
        )
        for row in rows
    }


def _answer(analysis: Analysis) -> str:
    """The verdict of all, why it is none, and the bar of each model."""
    verdict, word = analysis.verdict, analysis.record.verdict
    says, reason = f"{cards.percent(verdict.confidence)} confidence", ""
    if word == "UNCERTAIN":
        says, reason = f"leaning {verdict.label}, {says}", analysis.record.reason
    if analysis.outside:  # However sure the models are, it means nothing there.
        says = "outside what the models know"
    rows = "".join(cards._model_row(*answer) for answer in verdict.models.items())
    return f"""
<div class="cf-answer">
  <p class="cf-verdict cf-{word}" role="status"><span aria-hidden="true">{cards.ICONS[word]}</span>
    <b>{word}</b> <span class="cf-confidence">{says}</span></p>
  <p class="cf-together">All models together</p>
  <div class="cf-models" role="list">
    <div class="cf-scale" aria-hidden="true"><span>REAL</span><span>FAKE</span></div>
    {rows}
  </div>
  <p class="cf-note">{escape(reason)}</p>
</div>"""


def _paths(analyses: Sequence[Analysis]) -> dict[str, list[ModelVerdict]]:
    """The answers of each model over the severities, those of all together last."""
    verdicts = [analysis.verdict for analysis in analyses]
    paths = {key: [verdict.models[key] for verdict in verdicts] for key in verdicts[0].models}
    return {**paths, "ensemble": verdicts}


def _path_svg(analyses: Sequence[Analysis], severity: int) -> str:
    """Draw the scores over the severities; the chosen one is marked."""
    left, right, top, bottom = 62, 408, 14, 138

    def x(step: float) -> float:
        return left + (right - left) * step / STRONGEST

    def y(p_fake: float) -> float:
        return bottom - (bottom - top) * p_fake

    parts = [f'<line class="cf-lab-here" x1="{x(severity)}" x2="{x(severity)}" y1="4" y2="148"/>']
    parts += [f'<line x1="{left}" x2="{right}" y1="{y(p)}" y2="{y(p)}"/>' for p in (0, 0.5, 1)]
    parts += [
        f'<text class="cf-{word}" x="0" y="{y(p) + 4}">{cards.ICONS[word]} {word}</text>'
        for word, p in (("REAL", 0), ("FAKE", 1))
    ]
    parts += [
        f'<text x="{x(step)}" y="158" text-anchor="middle">{step}</text>'
        for step in range(STRONGEST + 1)
    ]
    parts.append(f'<text x="{x(STRONGEST / 2)}" y="173" text-anchor="middle">severity</text>')
    for place, (key, answers) in enumerate(_paths(analyses).items()):
        points = " ".join(f"{x(step)},{y(said.p_fake):.1f}" for step, said in enumerate(answers))
        look = 'class="cf-lab-together"'
        if key != "ensemble":
            look = f'class="cf-lab-model" stroke-dasharray="{DASHES[place % len(DASHES)]}"'
        start = 105 * place
        parts.append(
            f'<polyline {look} data-model="{escape(key)}" points="{points}"/>'
            f'<polyline {look} points="{start},190 {start + 22},190"/>'
            f'<text x="{start + 27}" y="194">{escape(display_name(key))}</text>'
        )
    for step, analysis in enumerate(analyses):
        word = analysis.record.verdict
        parts.append(
            f'<text class="cf-lab-point cf-{word}" x="{x(step)}" '
            f'y="{y(analysis.verdict.p_fake):.1f}">{cards.ICONS[word]}</text>'
        )
    words = ", ".join(analysis.record.verdict for analysis in analyses)
    return (
        f'<svg viewBox="0 0 420 200" role="img" aria-label="Scores over '
        f"severity 0 to {STRONGEST}. All models together say, in this order: {words}. The table "
        f'below has the numbers.">{"".join(parts)}</svg>'
    )


def _path_table(analyses: Sequence[Analysis]) -> str:
    heads = "".join(f'<th scope="col">{step}</th>' for step in range(STRONGEST + 1))
    rows = "".join(
        f'<tr><th scope="row">{escape(display_name(key))}</th>'
        + "".join(f"<td>{said.label} {cards.percent(said.confidence)}</td>" for said in answers)
        + "</tr>"
        for key, answers in _paths(analyses).items()
    )
    return (
        '<details class="cf-lab-table"><summary>The scores as a table</summary>'
        '<div class="cf-scroll"><table class="cf-table"><thead><tr><th scope="col">Severity</th>'
        f"{heads}</tr></thead><tbody>{rows}</tbody></table></div></details>"
    )
