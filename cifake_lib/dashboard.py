"""The dashboard: five tabs around one set of models; no model code.

The interface is built once and its state lives on the objects, so that a test calls the handlers
directly and looks at the widgets. Whatever takes time runs in one thread of its own, in the order
of asking. Works with ipywidgets 7 (Colab) and 8.
"""

from __future__ import annotations

import logging
import os
from concurrent.futures import ThreadPoolExecutor
from html import escape
from typing import TYPE_CHECKING

import ipywidgets as widgets
from PIL import Image

from cifake_lib import (
    dashboard_about,
    dashboard_disclosure,
    dashboard_input,
    dashboard_lab,
    dashboard_model_sets,
    dashboard_quiz,
    dashboard_sections,
    dashboard_slider,
    dashboard_table,
    paths,
)
from cifake_lib import dashboard_models as records
from cifake_lib.analyst import Analyst
from cifake_lib.dashboard_analyse import AnalyseTab
from cifake_lib.dashboard_disclosure import Disclosure
from cifake_lib.dashboard_examples import quiz_images, read_examples
from cifake_lib.dashboard_handlers import (
    Messages,
    button,
    guarded,
    log_to_server,
    send_again,
    show,
)
from cifake_lib.dashboard_style import style_sheet
from cifake_lib.names import display_name
from cifake_lib.routing import Router, load_photographs

if TYPE_CHECKING:
    from cifake_lib.detector import Detector

LEAD = (
    "Give this page a picture and neural networks say whether they take it for a photograph "
    "(REAL) or for the work of an image generator (FAKE)."
)
LOADING = (
    '<div class="cf-status" role="status"><span class="cf-spinner"></span>'
    "Loading the models … a few seconds, once.</div>"
)
NOT_LOADED = (
    '<div class="cf-empty" role="alert"><h2>The models could not be loaded</h2>'
    "The server's log says why.</div>"
)
DAMAGED = (
    '<div class="cf-empty" role="alert"><h2>The models are damaged</h2>Files in '
    "<code>{folder}</code> are damaged or were changed, so that no model can be asked: restore "
    "them, then check again. The server's log names each.</div>"
)
_PARTS = (
    dashboard_about,
    dashboard_disclosure,
    dashboard_input,
    dashboard_lab,
    dashboard_model_sets,
    dashboard_quiz,
    dashboard_sections,
    dashboard_slider,
    dashboard_table,
)

logger = logging.getLogger(__name__)


class Dashboard:
    """Examine pictures, see how good the models are, try them, play against them.

    Attributes:
        view: The widget to display.
        detector: The loaded models, or None while they load or when there are none.
        analyse, models, lab, quiz, about: The tabs.
    """

    def __init__(self, *, detector: Detector | None = None, runs: str = ""):
        """Build the page; models load in the background so that it appears at once.

        Args:
            detector: Loaded models; by default those of `runs` are loaded.
            runs: "released" for the models that come with the project (or, when there are none,
                the latest), "latest" for those trained last on this machine, "own" for the one
                that notebook 07 trained last; by default what the environment variable
                CIFAKE_MODELS says, or else "released".
        """
        log_to_server()
        self.detector: Detector | None = None
        self._wanted = runs or os.environ.get("CIFAKE_MODELS") or "released"
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="dashboard")
        self._build()
        self._read_runs()
        if detector is None:
            self._start_loading()
        else:
            self._ready(detector)

    def _build(self) -> None:
        self._about = widgets.HTML()
        self._messages = Messages()
        self._again = button("Check again", self.on_check_again)
        self._again.add_class("cf-again")
        self.analyse = AnalyseTab(self._pool)
        figures = ThreadPoolExecutor(max_workers=1)  # A picture need not wait for them.
        self.models = dashboard_model_sets.ModelsTab(
            self.say, disclosure=lambda title, compute: Disclosure(title, compute, figures).view
        )
        self.lab = dashboard_lab.RobustnessLab(self.say)
        self.quiz = dashboard_quiz.Quiz(self.say)
        self.about = dashboard_about.About()
        tabs = {
            "Analyse": self.analyse,
            "Models": self.models,
            "Robustness lab": self.lab,
            "Quiz": self.quiz,
            "About": self.about,
        }
        self._tabs = widgets.Tab([tab.view for tab in tabs.values()])
        for place, title in enumerate(tabs):
            self._tabs.set_title(place, title)
        self._tabs.observe(lambda change: self.on_tab(change["new"]), "selected_index")
        style = widgets.HTML(style_sheet(*(part.STYLE for part in _PARTS)))
        above = [self._about, self._messages.view, self._again]
        self.view = widgets.VBox([style, *above, self._tabs])
        self.view.add_class("cifake")
        show(self._again, False)

    # --- handlers ----------------------------------------------------------------------------

    def on_tab(self, index: int) -> None:
        """Fill a tab when it is opened."""
        self._messages.clear()
        self._pool.submit(self._open_tab, index)

    def on_check_again(self) -> None:
        """Look for models that were trained since the page was opened."""
        self._pool.submit(self._read_runs)
        self._start_loading()
        self.on_tab(self._tabs.selected_index)

    def say(self, sentence: str) -> None:
        """Show a sentence to the visitor; it is escaped there."""
        self._messages.say(sentence)

    def wait(self) -> bool:
        """Wait until all that was asked for is done.

        Returns:
            Whether there is a model to ask.
        """
        self._pool.submit(bool).result()
        return self.detector is not None

    # --- work, in the thread ------------------------------------------------------------------

    @guarded("reading the run files")
    def _open_tab(self, index: int) -> None:
        tab = (self.analyse, self.models, self.lab, self.quiz, self.about)[index]
        if tab is self.lab and (subject := self.analyse.subject()) is not None:
            tab.show_image(subject.image, subject.name)
        if tab in (self.models, self.about):
            tab.open(self._records)
        elif tab is not self.analyse:
            tab.open()

    @guarded("reading the run files")
    def _read_runs(self) -> None:
        """Find the models and say on the page what they are; loads none."""
        self._records, self._examples = records.Records({}, None), []
        self._runs = records.choose_runs(self._wanted)
        self._records = records.read_records(self._runs)
        self._examples = read_examples(self._records.evaluation)
        self.analyse.offer(self._examples)
        self._about.value = (
            f'<p class="cf-lead">{LEAD}</p><p>{records.limits_notice(self._records)}</p>'
            f"{records.training_notice(self._records)}"
        )

    def _start_loading(self) -> None:
        self._settle(LOADING, usable=True)  # an upload waits until the models are there
        self._pool.submit(self._load)

    def _load(self) -> None:
        from cifake_lib.detector import Detector, ModelsDamaged, ModelsMissing

        try:
            detector = Detector.load(runs=self._runs)
            photographs = load_photographs(self._runs)
            # The first call compiles; the visitor shall not wait for it.
            detector.predict([Image.new("RGB", (32, 32))])
        except ModelsDamaged:
            folder = paths.released_dir() if self._runs == "released" else paths.runs_dir()
            self._settle(DAMAGED.format(folder=escape(paths.shown(folder))), usable=False)
        except ModelsMissing:
            own = self._runs == "own"
            self._settle(records.NO_OWN_MODEL if own else records.NO_MODEL, usable=False)
        except Exception:
            logger.exception("failed while loading the models")
            self._settle(NOT_LOADED, usable=False)
        else:
            self._ready(detector, photographs)

    def _ready(self, detector: Detector, photographs: Analyst | None = None) -> None:
        analyst = Analyst(detector, self._records.evaluation, self._records.robustness)
        self.analyse.use(Router(analyst, photographs))
        self.lab.use(detector, analyst, self._examples)
        self.quiz.use(detector, quiz_images(self._records.evaluation))
        self.detector = detector
        status = "".join(
            f'<div class="cf-message" role="status"><b>{escape(display_name(key))} does not '
            f"answer.</b> {escape(sentence)}</div>"
            for key, sentence in detector.missing.items()
        )
        self._settle(status, usable=True)

    def _settle(self, status: str, *, usable: bool) -> None:
        changed = self.analyse.settle(status, usable=usable)
        show(self._again, not usable)
        send_again(changed | {self._again.layout: "display"})
