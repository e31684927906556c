"""What a visitor of the dashboard can take along: tables of everything, a sheet for each image."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import ipywidgets as widgets
import traitlets

from cifake_lib.dashboard_cards import Result, download_link
from cifake_lib.dashboard_handlers import guarded, show
from cifake_lib.evidence import Picture, evidence_sheet
from cifake_lib.exports import Provenance, to_csv, to_json

try:
    import anywidget
except ImportError:
    anywidget = None

if TYPE_CHECKING:
    from cifake_lib.dashboard_visit import Visit

# Words of the link and type of each file.
FILES = {
    "verdicts.csv": ("Save as CSV", "text/csv"),
    "verdicts.json": ("Save as JSON", "application/json"),
}

if anywidget is not None:

    class _Links(anywidget.AnyWidget):
        """Links that ask the kernel for the file, and save what it answers."""

        _esm = """
        function render({ model, el }) {
          const asked = new Set();
          for (const { name, words } of model.get("links")) {
            const link = document.createElement("a");
            Object.assign(link, { href: "#", download: name, textContent: words });
            link.className = "cf-save";
            link.addEventListener("click", (event) => {
              event.preventDefault();
              asked.add(name);
              model.send(name);
            });
            el.append(link, " ");
          }
          model.on("msg:custom", ({ name, type, text }) => {
            if (!asked.delete(name)) return;
            const link = document.createElement("a");
            link.href = URL.createObjectURL(new Blob([text], { type }));
            link.download = name;
            link.click();
            setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
          });
        }
        export default { render };
        """
        links = traitlets.List().tag(sync=True)


def sheet(result: Result, provenance: Provenance, *, metadata: str = "") -> str:
    """Lay out the evidence sheet of an examined image.

    Args:
        result: The examined image.
        provenance: What its verdict was made with.
        metadata: What the file says about itself, as HTML.

    Returns:
        HTML of a page of its own.
    """
    pictures = [Picture(result.preview, "The image", f"The image {result.name}")]
    if result.model_input:
        words = f"What the models see, {result.input_size} × {result.input_size} pixels"
        pictures.append(Picture(result.model_input, words, words, sharp=True))
    return evidence_sheet(
        result.analysis.record,
        pictures=pictures,
        sections={"What the file says about itself": metadata} if metadata else None,
        provenance=provenance,
    )


class SaveLinks:
    """Links that save every record of a visit.

    A file is made when it is asked for: made with each image, the files of a long visit would take
    more time than the verdicts.

    Attributes:
        view: The widget to display.
        say: Shows a sentence to the visitor.
    """

    def __init__(
        self, visit: Visit, provenance: Callable[[], Provenance], say: Callable[[str], None]
    ):
        """Build it.

        Args:
            visit: What is saved.
            provenance: Gives what the verdicts were made with.
            say: Takes a sentence that is not escaped.
        """
        self.say = say
        self._visit, self._provenance = visit, provenance
        if anywidget is None:  # Not on every Colab: the files are part of the page there.
            self.view = widgets.HTML()
        else:
            links = [{"name": name, "words": words} for name, (words, _) in FILES.items()]
            self.view = _Links(links=links)
            self.view.on_msg(lambda _, content, buffers: self.on_message(content))

    def refresh(self) -> None:
        """Follow the visit; without an examined image there is nothing to save."""
        show(self.view, bool(self._visit.results))
        if anywidget is None and self._visit.results:
            self.view.value = " ".join(
                download_link(self.file(name), name, kind, words)
                for name, (words, kind) in FILES.items()
            )

    def file(self, name: str) -> bytes:
        """Return a file, one of `FILES`: the oldest image first, refused files last."""
        # Copied, for more may be on their way.
        results = reversed(list(self._visit.results))
        records = [*(result.analysis.record for result in results), *self._visit.refused]
        if name == "verdicts.csv":
            return to_csv(records)
        return to_json(records, provenance=self._provenance())

    @guarded("making the file")
    def on_message(self, name: str) -> None:
        """Send the page the file that a visitor has asked for."""
        _, kind = FILES[name]
        self.view.send({"name": name, "type": kind, "text": self.file(name).decode()})
