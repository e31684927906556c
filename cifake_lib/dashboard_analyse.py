"""The dashboard's first tab: pictures in, verdicts and evidence out."""

from __future__ import annotations

import io
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import ipywidgets as widgets
from PIL import Image

from cifake_lib import dashboard_cards as cards
from cifake_lib import dashboard_examples as examples
from cifake_lib import dashboard_exports as exports
from cifake_lib import dashboard_sections as sections
from cifake_lib.analyst import Picture
from cifake_lib.dashboard_evidence import EvidencePanel, Subject
from cifake_lib.dashboard_handlers import Messages, button, guarded, show
from cifake_lib.dashboard_input import MAX_FILES, MAX_TOTAL_BYTES, ImageInput
from cifake_lib.dashboard_table import HistoryTable
from cifake_lib.dashboard_threshold import ThresholdPanel
from cifake_lib.dashboard_visit import MAX_IMAGES, File, Visit
from cifake_lib.images import MAX_BYTES, MAX_PIXELS, READABLE, decode_image
from cifake_lib.routing import Router

HINT = (
    f"{READABLE}, or a zip of them; each at most {MAX_BYTES // 2**20} MB and "
    f"{MAX_PIXELS // 10**6} million pixels; at once up to {MAX_FILES} files, {MAX_IMAGES:,} images "
    f"and {MAX_TOTAL_BYTES // 2**20} MB. "
    "Pictures are examined in memory, written nowhere, and forgotten when you leave."
)
EMPTY = (
    '<div class="cf-empty"><h2>No picture yet</h2>Choose one of your own, or click an example. '
    "The verdict of every model appears here.</div>"
)


class AnalyseTab:
    """Give it pictures, and see what each model says.

    Attributes:
        view: The widget to display.
        visit: What the visitor has shown to the models.
        messages: What the visitor is told about the last action.
        status: How it stands with the models.
    """

    def __init__(self, pool: ThreadPoolExecutor):
        """Build it without models.

        Args:
            pool: One thread for all that takes time, so that the page stays alive meanwhile and
                answers come in the order of asking.
        """
        self.visit, self.messages, self.status = Visit(), Messages(), widgets.HTML()
        self._pool = pool
        self._router: Router | None = None
        self._shown: cards.Result | None = None
        self._examples: list[tuple[Image.Image, str]] = []
        self._cancelled = threading.Event()
        self._input = ImageInput(on_files=self.on_files, say=self.say)
        self._gallery = widgets.VBox([])
        self._threshold = ThresholdPanel(self.on_threshold)
        self._decided_at = self._threshold.threshold
        self._build()
        self._refresh()

    def _build(self) -> None:
        self._empty = widgets.HTML(EMPTY)
        self._progress, self._done = widgets.IntProgress(min=0, max=1), widgets.HTML()
        self._progress.add_class("cf-progress")
        cancel = button("Cancel", self._cancelled.set)
        self._working = widgets.HBox([self._progress, self._done, cancel])
        self._working.add_class("cf-working")
        self._summary = widgets.HTML()
        self._saves = exports.SaveLinks(self.visit, lambda: self._router.provenance, self.say)
        self._bar = widgets.HBox([self._summary, self._saves.view, button("Clear", self.on_clear)])
        self._bar.add_class("cf-bar-row")
        self._card = widgets.HTML()
        self._evidence = EvidencePanel(sections.sections(self.on_flipped), self._pool)
        self._opened = widgets.VBox([self._card, self._evidence.view])
        self._opened.add_class("cf-opened")
        self._history = HistoryTable(self.on_open)
        hint = widgets.HTML(f'<p class="cf-note cf-limits">{HINT}</p>')
        ask = [self._input.view, hint, self._gallery, self._threshold.view]
        answer = [self.messages.view, self._working, self._bar, self._empty, self._opened]
        self.view = widgets.VBox(
            [widgets.VBox(ask), widgets.VBox([self.status, *answer, self._history.view])]
        )
        self.view.add_class("cf-columns")
        show(self._working, False)
        show(self._opened, False)

    # --- what the dashboard tells it ----------------------------------------------------------

    def offer(self, found: list[tuple[Image.Image, str]]) -> None:
        """Offer examples: RGB images with their true class."""
        self._examples = found
        self._gallery.children = examples.gallery(found, self.on_example)

    def use(self, router: Router) -> None:
        """Ask these models from now on."""
        self._router = router
        self._threshold.show(router.small)

    def settle(self, status: str, *, usable: bool) -> dict[widgets.Widget, str]:
        """Show how it stands with the models, and let the visitor act accordingly.

        Args:
            status: HTML.
            usable: Whether a picture that is given now will be examined.

        Returns:
            The widgets that changed, and which of their attributes.
        """
        rows = [row for row in self._gallery.children if isinstance(row, widgets.HBox)]
        buttons = [choice for row in rows for choice in row.children]
        self.status.value = status
        self._input.disable(not usable)
        for choice in buttons:
            choice.disabled = not usable
        self._refresh()
        changed = {self.status: "value", self._empty.layout: "display"}
        return changed | dict.fromkeys([*buttons, self._input.view], "disabled")

    # --- handlers ----------------------------------------------------------------------------

    def on_files(self, files: Sequence[File]) -> None:
        """Examine files: name, size in bytes and content of each."""
        self._start_action()
        self._cancelled.clear()
        self._pool.submit(self._examine_files, files)

    def on_example(self, index: int) -> None:
        """Examine a built-in example."""
        self._start_action()
        self._pool.submit(self._examine_example, index)

    def on_threshold(self) -> None:
        """Decide anew on every examined image."""
        self._pool.submit(self._decide_anew)

    def on_open(self, result: cards.Result) -> None:
        """Show an image of this visit again."""
        self._pool.submit(self._open, result)

    def on_flipped(self, reason: str) -> None:
        """Take back the verdict of the image that is shown, because it does not hold."""
        self._shown = self.visit.doubt(self._shown, reason)
        self._draw_card()
        self._refresh()

    def on_clear(self) -> None:
        """Forget every image, and stop what is being done."""
        self._cancelled.set()
        self._pool.submit(self._forget)

    def say(self, sentence: str) -> None:
        """Show a sentence to the visitor; it is escaped there."""
        self.messages.say(sentence)

    # --- work, in the thread ------------------------------------------------------------------

    @guarded("examining your files")
    def _examine_files(self, files: Sequence[File]) -> None:
        if self._router is None:
            return
        threshold = self._threshold.threshold
        steps = self.visit.examine_files(
            files, self._router, threshold=threshold, stop=self._cancelled, say=self.say
        )
        try:
            for done, count in steps:
                self._progress.max, self._progress.value = count, done
                self._done.value = f"{done:,} of {count:,}"
                show(self._working, count > 1)
        finally:
            show(self._working, False)
            self._present()

    @guarded("examining the example")
    def _examine_example(self, index: int) -> None:
        image, truth = self._examples[index]
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        picture = Picture(image, buffer.getvalue(), f"Example {index + 1}")
        threshold = self._threshold.threshold
        self.visit.examine([picture], self._router, threshold=threshold, truth=truth)
        self._present()

    @guarded("applying the threshold")
    def _decide_anew(self) -> None:
        threshold = self._threshold.threshold
        if threshold != self._decided_at:
            number = self.visit.number_of(self._shown) if self._shown else 0
            self.visit.decide_anew(self._router, threshold=threshold)
            self._decided_at = threshold
            if number:
                self._open(self.visit.results[-number])
        elif self._shown:  # Only how common fakes are has changed; what was opened stays open.
            self._draw_card()
        self._refresh()

    @guarded("clearing the page")
    def _forget(self) -> None:
        self.visit.clear()
        self._shown = None
        self._evidence.show(lambda: None)
        show(self._opened, False)
        self._card.value = ""
        self._start_action()

    @guarded("opening the picture")
    def _open(self, result: cards.Result) -> None:
        self._shown = result
        self._threshold.say_of(result.analysis.by)
        self._draw_card()
        self._evidence.show(self.subject)

    def subject(self) -> Subject | None:
        """Return the image that is shown, decoded; None if there is none or it is not kept."""
        shown = self._shown
        if shown is None or not shown.content:
            return None
        image = decode_image(shown.content, name=shown.name)
        analysis = shown.analysis
        return Subject(image, shown.content, shown.name, analysis, analysis.by, shown.truth)

    def _draw_card(self) -> None:
        shown, known = self._shown, bool(self._shown.content) and not self._shown.truth
        metadata = sections.metadata_of(shown.content, shown.name) if known else ""
        self._card.value = cards.result_card(
            shown,
            number=self.visit.number_of(shown),
            sheet=exports.sheet(shown, shown.analysis.by.provenance, metadata=metadata),
            shifted=self._threshold.shifted(shown.verdict.p_fake),
            lesson=self._router.lesson_on(shown.analysis),
        )
        show(self._opened, True)

    def _present(self) -> None:
        """Show the newest image, and all of them below."""
        if self.visit.results:
            self._open(self.visit.results[0])
        self._refresh()

    def _start_action(self) -> None:
        self.messages.clear()
        self._refresh()

    def _refresh(self) -> None:
        results, refused = self.visit.results, self.visit.refused
        self._summary.value = f'<span class="cf-summary">{cards.summary_line(results)}</span>'
        self._saves.refresh()
        self._history.show(results, refused)
        show(self._bar, bool(results or refused))
        show(self._empty, not results and not self._input.view.disabled)
