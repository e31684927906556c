"""What lies below a verdict: sections that are closed, and computed when they are opened."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import ipywidgets as widgets
from PIL import Image

from cifake_lib.analyst import Analysis, Analyst
from cifake_lib.dashboard_disclosure import Disclosure

GONE = (
    "<p>The picture itself is no longer kept: only the latest are. Choose its file again to look "
    "closer.</p>"
)


@dataclass(frozen=True)
class Subject:
    """The image that a section is about.

    Attributes:
        image: Upright RGB image in its own size.
        content: The file it was decoded from.
        name: Of the file (not escaped).
        analysis: What was said about it.
        analyst: Who said so.
        truth: True class of a built-in example, "" for an upload.
    """

    image: Image.Image
    content: bytes
    name: str
    analysis: Analysis
    analyst: Analyst
    truth: str = ""


class EvidencePanel:
    """Sections about the image that the page shows.

    Attributes:
        view: The widget to display.
        sections: Each section by its heading.
    """

    def __init__(self, sections: Mapping[str, Callable[[Subject], str]], pool: ThreadPoolExecutor):
        """Build every section, closed.

        Args:
            sections: By heading, what gives a section's HTML.
            pool: Where they are computed.
        """
        self._subject: Callable[[], Subject | None] = lambda: None
        self.sections = {
            title: Disclosure(title, partial(self._compute, section), pool)
            for title, section in sections.items()
        }
        self.view = widgets.VBox([section.view for section in self.sections.values()])
        self.view.add_class("cf-sections")

    def show(self, subject: Callable[[], Subject | None]) -> None:
        """Close every section and turn to another image.

        Args:
            subject: Gives the image when a section asks for it; None if it is no longer kept.
        """
        self._subject = subject
        for section in self.sections.values():
            section.reset()

    def _compute(self, section: Callable[[Subject], str]) -> str:
        subject = self._subject()
        return GONE if subject is None else section(subject)
