"""What a visitor of the dashboard can take along: tables of everything, a sheet for each image."""

from __future__ import annotations

from collections.abc import Sequence

from cifake_lib.dashboard_cards import Result, download_link
from cifake_lib.evidence import Picture, evidence_sheet
from cifake_lib.exports import Examined, Provenance, to_csv, to_json


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


def save_links(
    results: Sequence[Result], refused: Sequence[Examined], provenance: Provenance
) -> str:
    """Return links that save every record as CSV and as JSON.

    Args:
        results: Examined images, newest first; the tables list the oldest first.
        refused: Files that could not be examined; they stay as rows.
        provenance: What the verdicts were made with.

    Returns:
        HTML.
    """
    records = [*(result.analysis.record for result in reversed(results)), *refused]
    as_json = to_json(records, provenance=provenance)
    return " ".join(
        [
            download_link(to_csv(records), "verdicts.csv", "text/csv", "Save as CSV"),
            download_link(as_json, "verdicts.json", "application/json", "Save as JSON"),
        ]
    )
