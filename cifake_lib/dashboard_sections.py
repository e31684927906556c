"""The sections of evidence below a verdict, in the order in which they help."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from cifake_lib import heatmaps, neighbours, patches, residual, stability
from cifake_lib.metadata import metadata_html, read_metadata

if TYPE_CHECKING:
    from cifake_lib.dashboard_evidence import Subject

STYLE = heatmaps.STYLE + neighbours.STYLE + patches.STYLE + residual.STYLE + stability.STYLE
METADATA = "What the file says about itself"


def sections(on_flipped: Callable[[str], None]) -> dict[str, Callable[[Subject], str]]:
    """Return what computes each section, by heading.

    Args:
        on_flipped: Called with the reason, in one sentence, when a mild change of the image turns
            its verdict.
    """

    def holds(subject: Subject) -> str:
        fan = stability.fan(
            subject.analyst.detector, subject.image, threshold=subject.analysis.record.threshold
        )
        if fan.flipped and subject.analysis.record.verdict != "UNCERTAIN":
            on_flipped(stability.fan_sentence(fan, subject.analysis))
        return stability.fan_html(fan, subject)

    return {
        "Does the verdict hold? The image re-saved, resized and cropped": holds,
        "Two views of a large picture": patches.patch_html,
        "Heat maps: where the models look, and whether that means anything": heatmaps.heat_html,
        "The most similar training images": neighbours.neighbours_html,
        "Spectrum and noise: an illustration, not evidence": residual.spectrum_html,
        METADATA: metadata,
    }


def metadata(subject: Subject) -> str:
    """Say what a file tells about itself; a built-in example has no file."""
    if subject.truth:
        return (
            "<p>This example is stored as pixels, without the file it came from. Choose a file of "
            "your own to read what it says.</p>"
        )
    return metadata_of(subject.content, subject.name)


def metadata_of(content: bytes, name: str) -> str:
    """Say what a file tells about itself, as HTML."""
    return metadata_html(read_metadata(content, name=name))
