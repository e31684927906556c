"""What every handler of the dashboard needs: a net under it, its files, a log someone can read."""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable, Mapping

from ipywidgets import Widget
from traitlets.config import Application

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
