"""What every handler of the dashboard needs: a net under it, its files, a log someone can read."""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Callable, Mapping

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


def log_to_server() -> None:
    """Send the library's log to the server's terminal: a kernel's own stderr goes nowhere."""
    package = logging.getLogger("cifake_lib")
    if not package.handlers and sys.__stderr__ is not None:
        handler = logging.StreamHandler(sys.__stderr__)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        package.addHandler(handler)
