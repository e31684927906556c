"""What the robustness lab shows: an image at each severity, and the scores over them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from cifake_lib import dashboard_cards as cards
from cifake_lib.corruptions import CHAIN_JPEG_QUALITY, CORRUPTIONS, HUE_DEGREES, corrupt
from cifake_lib.names import display_name
from cifake_lib.runs import RunDamaged

if TYPE_CHECKING:
    from cifake_lib.analyst import Analysis, Analyst
    from cifake_lib.detector import Detector, ModelVerdict

STRONGEST = 5  # severity; 0 is the image itself
# What people read for the families of `corruptions.CORRUPTIONS`, and for a level of each.
FAMILIES = {
    "jpeg": ("Saved as JPEG", "JPEG quality {level:g}"),
    "blur": ("Blurred", "Gaussian blur, σ {level:g} px"),
    "noise": ("Noise added", "Gaussian noise, σ {percent:g} % of full scale"),
    "resize": ("Shrunk and enlarged", "shrunk to {percent:g} % of each side, enlarged back"),
    "crop": ("Cropped and enlarged", "{percent:g} % of each side kept, enlarged back"),
    "colour": ("Colours shifted", "saturation ± {percent:g} %, hue turned by {degrees:g}°"),
    "brightness": ("Brighter or darker", "brightness ± {percent:g} %"),
    "resize_jpeg": (
        "Shrunk, enlarged, JPEG",
        "shrunk to {percent:g} % of each side, enlarged back, JPEG quality {quality}",
    ),
}
DASHES = ("none", "7 3", "2 3")  # tell the models apart without colours

logger = logging.getLogger(__name__)


def severities(image: Image.Image, family: str) -> list[Image.Image]:
    """Return an image as it is, and changed at each severity.

    Args:
        image: RGB.
        family: A key of `FAMILIES`.

    Returns:
        `STRONGEST + 1` images of the same size, the mildest first.
    """
    pixels = np.asarray(image)
    steps = range(1, STRONGEST + 1)
    return [image, *(Image.fromarray(corrupt(pixels, family, severity=step)) for step in steps)]


def level_words(family: str, severity: int) -> str:
    """Say what a severity of a family does: "Severity 3 of 5: JPEG quality 50"."""
    if severity == 0:
        return "Severity 0: unchanged"
    level = CORRUPTIONS[family].levels[severity - 1]
    words = FAMILIES[family][1].format(
        level=level, percent=100 * level, degrees=HUE_DEGREES * level, quality=CHAIN_JPEG_QUALITY
    )
    return f"Severity {severity} of {STRONGEST}: {words}"


def left_out(detector: Detector, family: str) -> str:
    """Say whose training never showed this family; "" if all have seen it or nobody knows."""
    trained = {key: run.manifest.get("parameters", {}) for key, run in detector.runs.items()}
    strange = [
        key
        for key, known in trained.items()
        if "corruption_share" in known
        and (not known["corruption_share"] or known.get("unseen_corruption") == family)
    ]
    if not strange:
        return ""
    whose = "" if len(strange) == len(trained) else f" of {_listed(strange)}"
    return f'<p class="cf-note">Training{whose} left this family out.</p>'


def _listed(keys: Sequence[str]) -> str:
    return " and ".join(escape(display_name(key)) for key in keys)


def measured(analyst: Analyst) -> dict[tuple[str, int], str]:
    """What notebook 06 measured with just these models, by family ("clean" too) and severity."""
    run = analyst.robustness
    if run is None or not run.measured(*analyst.detector.runs.values()):
        return {}
    try:
        rows = [row for row in run.read_rows("severity.csv") if row["model"] == "ensemble"]
    except RunDamaged as error:
        logger.warning("no accuracy by severity: %s", error)
        return {}
    images = run.manifest["parameters"]["corrupted_images"]
    sentences = {}
    for row in rows:
        right, low, high = (
            100 * float(row[name]) for name in ("accuracy", "accuracy_low", "accuracy_high")
        )
        sentences[row["corruption"], int(row["severity"])] = (
            f'<p class="cf-note">Of {images:,} test images like this, the models together were '
            f"right on {right:.1f} % (95 % interval {low:.1f}–{high:.1f} %).</p>"
        )
    return sentences


def answer_html(analysis: Analysis) -> str:
    """The verdict of all, why it is none, and the bar of each model."""
    verdict, word = analysis.verdict, analysis.record.verdict
    says, reason = f"{cards.percent(verdict.confidence)} confidence", ""
    if word == "UNCERTAIN":
        says = f"leaning {verdict.label}, {says}"
        reason = f'<p class="cf-note">{escape(analysis.record.reason)}</p>'
    if analysis.outside:  # However sure the models are, it means nothing there.
        says = "outside what the models know"
    rows = "".join(cards.model_row(*answer) for answer in verdict.models.items())
    return f"""
<div class="cf-answer">
  <p class="cf-verdict cf-{word}" role="status"><span aria-hidden="true">{cards.ICONS[word]}</span>
    <b>{word}</b> <span class="cf-confidence">{says}</span></p>
  <p class="cf-together">All models together</p>
  <div class="cf-models" role="list">
    <div class="cf-scale" aria-hidden="true"><span>REAL</span><span>FAKE</span></div>
    {rows}
  </div>
  {reason}
</div>"""


def _paths(analyses: Sequence[Analysis]) -> dict[str, list[ModelVerdict]]:
    """The answers of each model over the severities, those of all together last."""
    verdicts = [analysis.verdict for analysis in analyses]
    paths = {key: [verdict.models[key] for verdict in verdicts] for key in verdicts[0].models}
    return {**paths, "ensemble": verdicts}


def path_svg(analyses: Sequence[Analysis], severity: int) -> str:
    """Draw the scores over the severities; the chosen one is marked."""
    left, right, top, bottom = 62, 408, 14, 138

    def x(step: float) -> float:
        return left + (right - left) * step / STRONGEST

    def y(p_fake: float) -> float:
        return bottom - (bottom - top) * p_fake

    parts = [f'<line class="cf-lab-here" x1="{x(severity)}" x2="{x(severity)}" y1="4" y2="148"/>']
    parts += [f'<line x1="{left}" x2="{right}" y1="{y(p)}" y2="{y(p)}"/>' for p in (0, 0.5, 1)]
    parts += [
        f'<text class="cf-{word}" x="0" y="{y(p) + 4}">{cards.ICONS[word]} {word}</text>'
        for word, p in (("REAL", 0), ("FAKE", 1))
    ]
    parts += [
        f'<text x="{x(step)}" y="158" text-anchor="middle">{step}</text>'
        for step in range(STRONGEST + 1)
    ]
    parts.append(f'<text x="{x(STRONGEST / 2)}" y="173" text-anchor="middle">severity</text>')
    legend = ""
    for place, (key, answers) in enumerate(_paths(analyses).items()):
        points = " ".join(f"{x(step)},{y(said.p_fake):.1f}" for step, said in enumerate(answers))
        look = 'class="cf-lab-together"'
        if key != "ensemble":
            look = f'class="cf-lab-model" stroke-dasharray="{DASHES[place % len(DASHES)]}"'
        parts.append(f'<polyline {look} data-model="{escape(key)}" points="{points}"/>')
        legend += (
            f'<li><svg width="28" height="10" aria-hidden="true"><polyline {look} '
            f'points="0,5 28,5"/></svg> {escape(display_name(key))}</li>'
        )
    for step, analysis in enumerate(analyses):
        word = analysis.record.verdict
        parts.append(
            f'<text class="cf-lab-point cf-{word}" x="{x(step)}" '
            f'y="{y(analysis.verdict.p_fake):.1f}">{cards.ICONS[word]}</text>'
        )
    words = ", ".join(analysis.record.verdict for analysis in analyses)
    return (
        f'<svg class="cf-lab-chart" viewBox="0 0 420 176" role="img" aria-label="Scores over '
        f"severity 0 to {STRONGEST}. All models together say, in this order: {words}. The table "
        f'below has the numbers.">{"".join(parts)}</svg><ul class="cf-lab-legend">{legend}</ul>'
    )


def path_table(analyses: Sequence[Analysis]) -> str:
    """Write the scores over the severities as a table that opens."""
    heads = "".join(f'<th scope="col">{step}</th>' for step in range(STRONGEST + 1))
    rows = "".join(
        f'<tr><th scope="row">{escape(display_name(key))}</th>'
        + "".join(f"<td>{said.label} {cards.percent(said.confidence)}</td>" for said in answers)
        + "</tr>"
        for key, answers in _paths(analyses).items()
    )
    return (
        '<details class="cf-lab-table"><summary>The scores as a table</summary>'
        '<div class="cf-scroll"><table class="cf-table"><thead><tr><th scope="col">Severity</th>'
        f"{heads}</tr></thead><tbody>{rows}</tbody></table></div></details>"
    )
