"""The dashboard: widgets and their handlers; no model code.

The interface is built once and its state lives on the object, so that a test calls the handlers
directly and looks at `results` and the widgets. Works with ipywidgets 7 (Colab) and 8.
"""

from __future__ import annotations

import io
import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from html import escape
from typing import TYPE_CHECKING

import ipywidgets as widgets
from PIL import Image

from cifake_lib import dashboard_cards as cards
from cifake_lib import dashboard_examples as examples
from cifake_lib import dashboard_exports as exports
from cifake_lib import dashboard_models as records
from cifake_lib.analyst import Analyst
from cifake_lib.dashboard_handlers import guarded, log_to_server, send_again, uploaded_files
from cifake_lib.dashboard_style import STYLE
from cifake_lib.dashboard_threshold import ThresholdPanel
from cifake_lib.exports import Examined
from cifake_lib.images import MAX_BYTES, MAX_PIXELS, READABLE, ImageError, decode_image
from cifake_lib.metadata import metadata_html, read_metadata

if TYPE_CHECKING:
    from cifake_lib.detector import Detector

MAX_FILES = 50
LEAD = (
    "Give this page a picture and three neural networks say whether they take it for a photograph "
    "(REAL) or for the work of an image generator (FAKE)."
)
UPLOAD_HINT = (
    f"{READABLE}; each at most {MAX_BYTES // 2**20} MB and "
    f"{MAX_PIXELS // 10**6} million pixels, up to {MAX_FILES} files and 500 MB at once. "
    "Pictures are examined in memory and not kept."
)
EMPTY = (
    '<div class="cf-empty"><h3>No picture yet</h3>Choose one of your own, or click an example. '
    "The verdict of every model appears here.</div>"
)
LOADING = (
    '<div class="cf-status" role="status"><span class="cf-spinner"></span>'
    "Loading the models … a few seconds, once.</div>"
)
NOT_LOADED = (
    '<div class="cf-empty" role="alert"><h3>The models could not be loaded</h3>'
    "The server's log says why.</div>"
)

logger = logging.getLogger(__name__)


class Dashboard:
    """Upload or pick pictures, see what each model says, and how good the models are.

    Attributes:
        view: The widget to display.
        detector: The loaded models, or None while they load or when there are none.
        analyst: The same with what was measured about them.
        results: Examined images, newest first.
        refused: Files that could not be examined, as records for the exports.
        messages: Sentences shown to the visitor about the last action.
    """

    def __init__(self, *, detector: Detector | None = None, runs: str = "released"):
        """Build the page; models load in the background so that it appears at once.

        Args:
            detector: Loaded models; by default those of `runs` are loaded.
            runs: "released" for the models that come with the project (or, when there are none,
                the latest), "latest" for those trained last on this machine.
        """
        log_to_server()
        self.detector: Detector | None = None
        self.analyst: Analyst | None = None
        self.results: list[cards.Result] = []
        self.refused: list[Examined] = []
        self.messages: list[str] = []
        self._wanted = runs
        self._loading = threading.Thread()
        self._build()
        self._read_runs()
        if detector is None:
            self._start_loading()
        else:
            self._ready(detector)

    # --- the widgets, built once -------------------------------------------------------------

    def _build(self) -> None:
        self._about = widgets.HTML()
        self._upload = widgets.FileUpload(
            accept="image/*", multiple=True, description="Choose images", icon=""
        )
        self._upload.add_class("cf-upload")
        self._upload.observe(lambda change: self.on_upload(change["new"]), "value")
        self._gallery = widgets.VBox([])
        self._status, self._said, self._summary = widgets.HTML(), widgets.HTML(), widgets.HTML()
        self._again = _button("Check again", lambda _: self.on_check_again())
        self._empty = widgets.HTML(EMPTY)
        self._progress = widgets.IntProgress(min=0, max=1)
        self._progress.add_class("cf-progress")
        self._saves = widgets.HTML()
        clear = _button("Clear", lambda _: self.on_clear())
        self._bar = widgets.HBox([self._summary, self._saves, clear])
        self._bar.add_class("cf-bar-row")
        self._cards = widgets.VBox([])
        self._threshold = ThresholdPanel(self.on_threshold)
        self._models = widgets.HTML()
        hint = widgets.HTML(f'<p class="cf-note">{UPLOAD_HINT}</p>')
        answers = [self._said, self._progress, self._bar, self._empty, self._cards]
        columns = widgets.VBox(
            [
                widgets.VBox([self._upload, hint, self._gallery, self._threshold.view]),
                widgets.VBox([self._status, self._again, *answers]),
            ]
        )
        columns.add_class("cf-columns")
        # The button stands on both tabs, because the card above it does.
        self._tabs = widgets.Tab([columns, widgets.VBox([self._models, self._again])])
        self._tabs.set_title(0, "Analyse")
        self._tabs.set_title(1, "Models")
        self._tabs.observe(lambda change: self.on_tab(change["new"]), "selected_index")
        self.view = widgets.VBox([widgets.HTML(STYLE), self._about, self._tabs])
        self.view.add_class("cifake")
        _show(self._again, False)
        _show(self._progress, False)
        self._refresh()

    # --- handlers ----------------------------------------------------------------------------

    @guarded("reading your files")
    def on_upload(self, value) -> None:
        """Examine what was uploaded, and make the button ready for the same files again."""
        files = uploaded_files(value)
        if not files:
            return
        try:
            self._start_action()
            if len(files) > MAX_FILES:
                self.say(f"{len(files)} files are too many: the first {MAX_FILES} were taken.")
            self._examine_files(files[:MAX_FILES])
        finally:
            # Back to () in ipywidgets 8 and {} in 7: an equal value would raise no event.
            self._upload.set_trait("value", type(self._upload.value)())

    @guarded("examining the example")
    def on_example(self, index: int) -> None:
        """Examine a built-in example."""
        self._start_action()
        image, truth = self._examples[index]
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        self._examine(image, buffer.getvalue(), f"Example {index + 1}", truth)

    @guarded("applying the threshold")
    def on_threshold(self) -> None:
        """Decide anew on every examined image."""
        threshold = self._threshold.threshold
        self.results = [
            replace(result, analysis=self.analyst.at_threshold(result.analysis, threshold))
            for result in self.results
        ]
        for place, card in enumerate(self._cards.children):
            card.value = self._card(self.results[place], len(self.results) - place)
        self._refresh()

    @guarded("clearing the page")
    def on_clear(self) -> None:
        """Forget every image."""
        self.results.clear()
        self.refused.clear()
        old, self._cards.children = self._cards.children, ()
        for card in old:
            card.close()
        self._start_action()

    @guarded("reading the run files")
    def on_tab(self, index: int) -> None:
        """Fill the second tab when it is opened for the first time."""
        if index == 1 and not self._models.value:
            self._models.value = LOADING.replace("the models", "the figures")
            try:
                self._models.value = records.models_html(self._records)
            except Exception:
                self._models.value = ""
                raise

    @guarded("looking for models")
    def on_check_again(self) -> None:
        """Look for models that were trained since the page was opened."""
        if not self._loading.is_alive():
            self._read_runs()
            self.on_tab(self._tabs.selected_index)
            self._start_loading()

    def say(self, sentence: str) -> None:
        """Show a sentence to the visitor; it is escaped here."""
        self.messages.append(sentence)
        self._said.value = "".join(
            f'<div class="cf-message" role="alert">{escape(text)}</div>' for text in self.messages
        )

    # --- work --------------------------------------------------------------------------------

    def wait(self) -> bool:
        """Wait until the models are loaded.

        Returns:
            Whether there is a model to ask.
        """
        if self._loading.is_alive():
            self._loading.join()
        return self.detector is not None

    def _examine_files(self, files: list[tuple[str, int, bytes | memoryview]]) -> None:
        self._progress.max, self._progress.value = len(files), 0
        _show(self._progress, True)
        try:
            for name, size, content in files:
                try:
                    # Looked at before copying: a file far over the limit stays where it is.
                    content = bytes(content) if size <= MAX_BYTES else content
                    self._examine(decode_image(content, name=name), content, name)
                except ImageError as refusal:
                    self.say(str(refusal))
                    self.refused.append(Examined.refused(content, name=name, error=str(refusal)))
                self._progress.value += 1
        finally:
            _show(self._progress, False)

    def _examine(self, image: Image.Image, content: bytes, name: str, truth: str = "") -> None:
        if not self.wait():
            return
        threshold = self._threshold.threshold
        result = cards.make_result(
            image,
            name=name,
            input_size=self.detector.input_size,
            analysis=self.analyst.examine(image, content, name=name, threshold=threshold),
            truth=truth,
            # An example is stored as pixels; its file was made a moment ago and says nothing.
            metadata="" if truth else metadata_html(read_metadata(content, name=name)),
        )
        self.results.insert(0, result)
        card = widgets.HTML(self._card(result, len(self.results)))
        self._cards.children = (card, *self._cards.children)
        self._refresh()

    def _card(self, result: cards.Result, number: int) -> str:
        sheet = exports.sheet(result, self.analyst.provenance)
        shifted = self._threshold.shifted(result.verdict.p_fake)
        return cards.result_card(result, number=number, sheet=sheet, shifted=shifted)

    def _start_action(self) -> None:
        self.messages.clear()
        self._said.value = ""
        self._refresh()

    def _refresh(self) -> None:
        self._summary.value = f'<span class="cf-summary">{cards.summary_line(self.results)}</span>'
        self._saves.value = ""
        if self.results:
            self._saves.value = exports.save_links(
                self.results, self.refused, self.analyst.provenance
            )
        _show(self._bar, bool(self.results))
        _show(self._empty, not self.results and not self._upload.disabled)

    # --- models ------------------------------------------------------------------------------

    @guarded("reading the run files")
    def _read_runs(self) -> None:
        """Find the models and say on the page what they are; loads none."""
        self._records, self._examples = records.Records({}, None), []
        self._runs = records.choose_runs(self._wanted)
        self._records = records.read_records(self._runs)
        self._examples = examples.read_examples(self._records.evaluation)
        self._gallery.children = examples.gallery(self._examples, self.on_example)
        self._models.value = ""
        self._about.value = (
            f'<p class="cf-lead">{LEAD}</p><p>{records.limits_notice(self._records)}</p>'
            f"{records.training_notice(self._records)}"
        )

    def _start_loading(self) -> None:
        self._settle(LOADING, usable=True)  # an upload waits until the models are there
        self._loading = threading.Thread(target=self._load, daemon=True)
        self._loading.start()

    def _load(self) -> None:
        """Load the models; runs in a thread of its own, because TensorFlow takes seconds."""
        from cifake_lib.detector import Detector, ModelsMissing

        try:
            detector = Detector.load(runs=self._runs)
            # The first call compiles; the visitor shall not wait for it.
            detector.predict([Image.new("RGB", (32, 32))])
        except ModelsMissing:
            self._settle(records.NO_MODEL, usable=False)
        except Exception:
            logger.exception("failed while loading the models")
            self._settle(NOT_LOADED, usable=False)
        else:
            self._ready(detector)

    def _ready(self, detector: Detector) -> None:
        self.analyst = Analyst(detector, self._records.evaluation, self._records.robustness)
        self._threshold.show(self.analyst)
        self.detector = detector
        status = "".join(
            f'<div class="cf-message" role="status">{escape(sentence)}</div>'
            for sentence in detector.missing.values()
        )
        self._settle(status, usable=True)

    def _settle(self, status: str, *, usable: bool) -> None:
        """Show how it stands with the models, and let the visitor act accordingly."""
        rows = [row for row in self._gallery.children if isinstance(row, widgets.HBox)]
        buttons = [self._upload, *(button for row in rows for button in row.children)]
        self._status.value = status
        for button in buttons:
            button.disabled = not usable
        _show(self._again, not usable)
        self._refresh()
        changed = {self._status: "value", self._again.layout: "display"}
        changed |= {self._empty.layout: "display", **dict.fromkeys(buttons, "disabled")}
        send_again(changed)


def _button(words: str, on_click: Callable) -> widgets.Button:
    button = widgets.Button(description=words)
    button.add_class("cf-button")
    button.on_click(on_click)
    return button


def _show(widget: widgets.Widget, shown: bool) -> None:
    widget.layout.display = None if shown else "none"
