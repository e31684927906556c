"""A heading that opens; what lies under it is computed when a visitor opens it, and only then."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from html import escape

import ipywidgets as widgets
import traitlets

try:
    import anywidget
except ImportError:  # Not on every Colab: a button that stays pressed takes its place there.
    anywidget = None

logger = logging.getLogger(__name__)

WORKING = '<div class="cf-status" role="status"><span class="cf-spinner"></span>Computing …</div>'
STYLE = """
.cf-details { border-top:1px solid var(--line); }
.cf-details summary { cursor:pointer; color:var(--accent); font-weight:600; padding:9px 2px;
  font-size:15px; }
.cf-details summary:focus-visible { outline:3px solid var(--focus); outline-offset:2px;
  border-radius:4px; }
.cf-details-body { padding:2px 2px 14px; font-size:14px; }
.cifake .cf-details-body p { margin:0 0 8px; line-height:1.5; }
.cifake .cf-details-toggle { width:100%; text-align:left; background:none; color:var(--accent);
  font-weight:600; }
"""

if anywidget is not None:

    class _Details(anywidget.AnyWidget):
        """The browser's own `<details>`: keyboard and screen readers know it."""

        _esm = """
        function render({ model, el }) {
          const details = document.createElement("details");
          const summary = document.createElement("summary");
          const body = document.createElement("div");
          el.classList.add("cf-details");
          body.className = "cf-details-body";
          const draw = () => {
            summary.textContent = model.get("title");
            body.innerHTML = model.get("html");
            details.open = model.get("is_open");
          };
          details.addEventListener("toggle", () => {
            if (details.open === model.get("is_open")) return;
            model.set("is_open", details.open);
            model.save_changes();
          });
          for (const name of ["title", "html", "is_open"]) model.on(`change:${name}`, draw);
          draw();
          details.append(summary, body);
          el.append(details);
        }
        export default { render };
        """
        title = traitlets.Unicode().tag(sync=True)
        html = traitlets.Unicode().tag(sync=True)
        is_open = traitlets.Bool(False).tag(sync=True)


class _Pressed(widgets.VBox):
    """The same of core widgets."""

    title = traitlets.Unicode()
    html = traitlets.Unicode()
    is_open = traitlets.Bool(False)

    def __init__(self, title: str):
        button, body = widgets.ToggleButton(description=title), widgets.HTML()
        button.add_class("cf-details-toggle")
        body.layout.display = "none"
        super().__init__([button, body], title=title)
        traitlets.link((button, "value"), (self, "is_open"))
        traitlets.link((self, "html"), (body, "value"))
        self.observe(
            lambda change: setattr(body.layout, "display", None if change["new"] else "none"),
            "is_open",
        )
        self.add_class("cf-details")


class Disclosure:
    """A closed heading.

    Attributes:
        view: The widget to display.
    """

    def __init__(self, title: str, compute: Callable[[], str], pool: ThreadPoolExecutor):
        """Build it closed.

        Args:
            title: The heading (not escaped).
            compute: Returns the HTML below it.
            pool: Where that runs, so that the page stays alive meanwhile.
        """
        self._compute, self._pool = compute, pool
        self._asked = 0  # Counts up with every reset, so that a late answer is dropped.
        self.view = _Pressed(title) if anywidget is None else _Details(title=title)
        self.view.observe(lambda change: self._opened(change["new"]), "is_open")

    @property
    def html(self) -> str:
        """What is shown below the heading; "" while it was never opened."""
        return self.view.html

    def reset(self) -> None:
        """Close it and forget what was computed."""
        self._asked += 1
        self.view.is_open = False
        self.view.html = ""

    def _opened(self, is_open: bool) -> None:
        if is_open and not self.view.html:
            self.view.html = WORKING
            self._pool.submit(self._fill, self._asked)

    def _fill(self, asked: int) -> None:
        if asked != self._asked:
            return
        try:
            html = self._compute()
        except Exception:
            logger.exception("failed while computing %s", self.view.title)
            html = (
                '<p role="alert">Something went wrong here; the rest of the page still works, and '
                f"the server's log says more about “{escape(self.view.title)}”.</p>"
            )
        if asked == self._asked:
            self.view.html = html
