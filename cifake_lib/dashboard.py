"""The dashboard: widgets and their handlers; no model code.

The interface is built once and its state lives on the object, so that a test calls the handlers
directly and looks at `results` and the widgets. Works with ipywidgets 7 (Colab) and 8.
"""

from __future__ import annotations

import logging
import threading
from html import escape
from typing import TYPE_CHECKING

import ipywidgets as widgets
import numpy as np
from PIL import Image

from cifake_lib import dashboard_cards as cards
from cifake_lib import dashboard_models as records
from cifake_lib.dashboard_handlers import guarded, log_to_server, uploaded_files
from cifake_lib.dashboard_style import STYLE
from cifake_lib.images import MAX_BYTES, MAX_PIXELS, ImageError, decode_image
from cifake_lib.runs import RunDamaged

if TYPE_CHECKING:
    from cifake_lib.detector import Detector

MAX_FILES = 50
EXAMPLES_PER_CLASS = 8
LEAD = (
    "Give this page a picture and three neural networks say whether they take it for a photograph "
    "(REAL) or for the work of an image generator (FAKE)."
)
LIMITS = (
    "The models know pictures of 32 × 32 pixels only, so a larger picture is cropped to its "
    "centre and shrunk. A verdict is a hint, not proof."
)
UPLOAD_HINT = (
    f"JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF; each at most {MAX_BYTES // 2**20} MB and "
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

logger = logging.getLogger(__name__)


class Dashboard:
    """Upload or pick pictures, see what each model says, and how good the models are.

    Attributes:
        view: The widget to display.
        detector: The loaded models, or None while they load or when there are none.
        results: Examined images, newest first.
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
        self.results: list[cards.Result] = []
        self.messages: list[str] = []
        self._runs = records.choose_runs(runs)
        self._records = records.read_records(self._runs)
        self._examples = self._read_examples()
        self._loading = threading.Thread(target=self._load, daemon=True)
        self._build()
        if detector is None:
            self._status.value = LOADING
            self._loading.start()
        else:
            self._ready(detector)

    # --- the widgets, built once -------------------------------------------------------------

    def _build(self) -> None:
        notice = records.training_notice(self._records)
        head = widgets.HTML(
            f'{STYLE}{self._example_style()}<p class="cf-lead">{LEAD}</p>'
            f'<p class="cf-banner">{notice} {LIMITS}</p>'
        )
        self._upload = widgets.FileUpload(
            accept="image/*", multiple=True, description="Choose images", icon=""
        )
        self._upload.add_class("cf-upload")
        self._upload.observe(lambda change: self.on_upload(change["new"]), "value")
        self._status, self._said, self._summary = widgets.HTML(), widgets.HTML(), widgets.HTML()
        self._empty = widgets.HTML(EMPTY)
        self._progress = widgets.IntProgress(min=0, max=1)
        self._progress.add_class("cf-progress")
        self._clear = widgets.Button(description="Clear")
        self._clear.add_class("cf-clear")
        self._clear.on_click(lambda button: self.on_clear())
        bar = widgets.HBox([self._summary, self._clear])
        bar.add_class("cf-bar-row")
        self._bar = bar
        self._cards = widgets.VBox([])
        side = widgets.VBox(
            [self._upload, widgets.HTML(f'<p class="cf-note">{UPLOAD_HINT}</p>'), *self._gallery()]
        )
        main = widgets.VBox(
            [self._status, self._said, self._progress, self._bar, self._empty, self._cards]
        )
        columns = widgets.VBox([side, main])
        columns.add_class("cf-columns")
        self._models = widgets.HTML()
        self._tabs = widgets.Tab([columns, widgets.VBox([self._models])])
        self._tabs.set_title(0, "Analyse")
        self._tabs.set_title(1, "Models")
        self._tabs.observe(lambda change: self.on_tab(change["new"]), "selected_index")
        self.view = widgets.VBox([head, self._tabs])
        self.view.add_class("cifake")
        self._refresh()
        _show(self._progress, False)

    def _gallery(self) -> list[widgets.Widget]:
        rows = []
        for label, heading in (("REAL", "photographs"), ("FAKE", "generated images")):
            buttons = []
            for index, (_, truth) in enumerate(self._examples):
                if truth == label:
                    button = widgets.Button(tooltip=f"Example {index + 1} ({label})")
                    button.add_class("cf-example").add_class(f"cf-example-{index}")
                    button.on_click(lambda _, index=index: self.on_example(index))
                    buttons.append(button)
            if buttons:
                row = widgets.HBox(buttons)
                row.add_class("cf-examples")
                rows += [widgets.HTML(f"<h3>Or try {heading}</h3>"), row]
        return rows

    def _example_style(self) -> str:
        """Buttons cannot hold a picture, so a style rule gives each its background."""
        rules = "".join(
            f".cf-example-{index}{{background-image:url({cards.data_uri(image)})}}"
            for index, (image, _) in enumerate(self._examples)
        )
        return f"<style>{rules}</style>"

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
        self._examine(image, f"Example {index + 1}", truth)

    @guarded("clearing the page")
    def on_clear(self) -> None:
        """Forget every image."""
        self.results.clear()
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
                self._models.value = records.models_html(self._runs)
            except Exception:
                self._models.value = ""
                raise

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
        if self._loading.ident is not None:
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
                    self._examine(decode_image(content, name=name), name)
                except ImageError as refusal:
                    self.say(str(refusal))
                self._progress.value += 1
        finally:
            _show(self._progress, False)

    def _examine(self, image: Image.Image, name: str, truth: str = "") -> None:
        if not self.wait():
            return
        (verdict,) = self.detector.predict([image])
        result = cards.make_result(
            image,
            name=name,
            input_size=self.detector.input_size,
            verdict=verdict,
            truth=truth,
        )
        self.results.insert(0, result)
        card = widgets.HTML(cards.result_card(result, number=len(self.results)))
        self._cards.children = (card, *self._cards.children)
        self._refresh()

    def _start_action(self) -> None:
        self.messages.clear()
        self._said.value = ""
        self._refresh()

    def _refresh(self) -> None:
        self._summary.value = f'<span class="cf-summary">{cards.summary_line(self.results)}</span>'
        _show(self._bar, bool(self.results))
        _show(self._empty, not self.results)

    def _load(self) -> None:
        """Load the models; runs in a thread of its own, because TensorFlow takes seconds."""
        from cifake_lib.detector import Detector, ModelsMissing

        try:
            detector = Detector.load(runs=self._runs)
            # The first call compiles; the visitor shall not wait for it.
            detector.predict([Image.new("RGB", (32, 32))])
        except ModelsMissing as error:
            logger.warning("%s", error)
            self._disable(records.NO_MODEL)
        except Exception:
            logger.exception("failed while loading the models")
            self._disable(
                '<div class="cf-empty" role="alert"><h3>The models could not be loaded</h3>'
                "The server's log says why.</div>"
            )
        else:
            self._ready(detector)

    def _ready(self, detector: Detector) -> None:
        self.detector = detector
        self._status.value = "".join(
            f'<div class="cf-message" role="status">{escape(sentence)}</div>'
            for sentence in detector.missing.values()
        )

    def _disable(self, card: str) -> None:
        self._status.value = card
        self._empty.value = ""
        for button in (self._upload, *_buttons(self.view)):
            button.disabled = True

    def _read_examples(self) -> list[tuple[Image.Image, str]]:
        """Take real and generated test images in turn from the evaluation run."""
        if self._records.evaluation is None:
            return []
        try:
            path = self._records.evaluation.checked("examples.npz")
        except RunDamaged as error:
            logger.warning("no examples: %s", error)
            return []
        with np.load(path, allow_pickle=False) as stored:
            images, labels = stored["images"], stored["labels"]
        return [
            (Image.fromarray(images[row]), name)
            for label, name in enumerate(("REAL", "FAKE"))
            for row in np.flatnonzero(labels == label)[:EXAMPLES_PER_CLASS]
        ]


def _buttons(box: widgets.Widget) -> list[widgets.Button]:
    """All buttons below a container."""
    found = [box] if isinstance(box, widgets.Button) else []
    for child in getattr(box, "children", ()):
        found += _buttons(child)
    return found


def _show(widget: widgets.Widget, shown: bool) -> None:
    widget.layout.display = None if shown else "none"
