"""What every handler of the dashboard needs: a net under it, its files, a log someone can read."""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable, Mapping
from html import escape

from ipywidgets import HTML, Button, Widget
from traitlets.config import Application

SENTENCES = 5

logger = logging.getLogger(__name__)


def guarded(doing: str) -> Callable:
    """Keep the page alive when a handler fails: log the traceback, show one sentence.

    Widgets drop the exceptions of their callbacks silently.

    Args:
        doing: What the handler does, as in "reading your files".

    Returns:
        A decorator for handlers of `Dashboard`.
    """

    def decorate(handler):
        @functools.wraps(handler)
        def safe(self, *arguments):
            try:
                handler(self, *arguments)
            except Exception:
                logger.exception("failed while %s", doing)
                self.say(
                    f"Something went wrong while {doing}; the page still works, and the server's "
                    "log says more."
                )

        return safe

    return decorate


class Messages:
    """Sentences to the visitor about the last action.

    Attributes:
        view: The widget to display.
        sentences: What it shows (not escaped).
    """

    def __init__(self):
        self.view = HTML()
        self.sentences: list[str] = []

    def say(self, sentence: str) -> None:
        """Show a sentence below those before it; beyond a few they are only counted."""
        self.sentences.append(sentence)
        shown = self.sentences[:SENTENCES]
        if more := len(self.sentences) - len(shown):
            shown.append(f"… and {more:,} more like these; the table lists all of them.")
        self.view.value = "".join(
            f'<div class="cf-message" role="alert">{escape(text)}</div>' for text in shown
        )

    def clear(self) -> None:
        """Show none."""
        self.sentences.clear()
        self.view.value = ""


def button(words: str, on_click: Callable[[], None]) -> Button:
    """Return a quiet button."""
    made = Button(description=words)
    made.add_class("cf-button")
    made.on_click(lambda _: on_click())
    return made


def show(widget: Widget, shown: bool) -> None:
    """Show or hide a widget."""
    widget.layout.display = None if shown else "none"


def uploaded_files(value) -> list[tuple[str, int, bytes | memoryview]]:
    """Read the value of a `FileUpload`.

    Args:
        value: ipywidgets 8: a tuple of items with name, size and content; ipywidgets 7 (Colab):
            a dict from name to metadata and content.

    Returns:
        Name, size in bytes and content of each file.
    """
    if isinstance(value, Mapping):
        return [(name, len(item["content"]), item["content"]) for name, item in value.items()]
    return [(item["name"], len(item["content"]), item["content"]) for item in value]


def send_again(states: dict[Widget, str], *, after: tuple[float, ...] = (2, 10)) -> None:
    """Repeat to the page what changed without its asking, from a thread.

    A page that is just opening can miss the change: it asks for the state of all widgets, and
    listens only after the answer. It would show "loading" for ever.

    Args:
        states: The widgets that changed, and which of their attributes.
        after: When to repeat, in seconds from now.
    """

    def send():
        for widget, name in states.items():
            widget.send_state(name)

    for seconds in after:
        timer = threading.Timer(seconds, send)
        timer.daemon = True
        timer.start()


def log_to_server() -> None:
    """Send the library's log where the kernel's own goes: the terminal of the server.

    Anything else that a kernel writes to its standard error fills a red box in JupyterLab.
    """
    package = logging.getLogger("cifake_lib")
    if Application.initialized() and not package.handlers:
        for handler in Application.instance().log.handlers:
            package.addHandler(handler)
