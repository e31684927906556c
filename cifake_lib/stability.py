"""The stability fan: what becomes of a verdict when the picture is saved again, resized, cropped.

A verdict that turns under a change which leaves the picture the same to the eye hangs on how the
file was handled, not on what it shows.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageEnhance

from cifake_lib.dashboard_cards import ICONS, percent

if TYPE_CHECKING:
    from cifake_lib.analyst import Analysis
    from cifake_lib.dashboard_evidence import Subject
    from cifake_lib.detector import Detector, Verdict

# Services that pass pictures on reduce them to about this side before they save them again. Larger,
# a re-saving leaves no trace in the few pixels that the models see, and takes seconds.
LARGEST = 1024

STYLE = """
.cifake table.cf-fan { border-collapse:collapse; width:100%; margin:0 0 10px; font-size:14px;
  border:0; table-layout:auto; }
.cifake .cf-fan th, .cifake .cf-fan td { padding:4px 0; border:0; background:none;
  border-bottom:1px solid var(--line); text-align:left; font-weight:400; vertical-align:middle; }
.cifake .cf-fan thead th { color:var(--muted); font-size:12px; white-space:nowrap; }
.cifake .cf-fan tbody tr:first-child > * { font-weight:600; }
.cifake .cf-fan tbody tr.cf-turned > * { background:var(--wash); }
.cifake .cf-fan .cf-fan-scale { width:55%; padding:4px 18px; }
.cf-fan-ends { display:flex; justify-content:space-between; letter-spacing:.04em; }
.cf-fan-line { position:relative; display:block; height:16px; min-width:56px; }
.cf-fan-line i { position:absolute; top:50%; }
.cf-fan-line::before { content:""; position:absolute; left:0; right:0; top:50%; height:1px;
  background:var(--line); }
.cf-fan-range { height:4px; margin-top:-2px; border-radius:2px; background:var(--muted);
  opacity:.45; }
.cf-fan-line i.cf-fan-threshold { top:-5px; bottom:-5px; border-left:1.5px dashed var(--muted); }
.cf-fan-dot { width:11px; height:11px; margin:-5.5px; border-radius:50%; background:currentColor;
  box-shadow:0 0 0 2px var(--paper); }
.cf-fan-dot.cf-FAKE { border-radius:1px; transform:rotate(45deg) scale(.85); }
.cf-fan-answer span { white-space:nowrap; }
@media (max-width:960px) {
  .cifake .cf-fan .cf-fan-scale { padding:4px 16px 4px 8px; width:30%; }
  .cf-fan-line { min-width:68px; }
  .cifake .cf-fan thead th { white-space:normal; vertical-align:bottom; }
}
"""


def _step(family: str, level: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(pixels: np.ndarray) -> np.ndarray:
        # Late, because it brings SciPy's filters, which the page can spare until it is asked.
        from cifake_lib.corruptions import CORRUPTIONS

        # None of the families used here draws anything at random.
        return CORRUPTIONS[family].function(pixels, level, np.random.default_rng(0))

    return change


def _webp(pixels: np.ndarray) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "WEBP", quality=80)
    return np.array(Image.open(buffer, formats=("WEBP",)).convert("RGB"))


def _brightness(factor: float) -> Callable[[np.ndarray], np.ndarray]:
    # That of `CORRUPTIONS` draws the sign; here both are wanted.
    return lambda pixels: np.array(ImageEnhance.Brightness(Image.fromarray(pixels)).enhance(factor))


# Functions of uint8 RGB (H, W, 3) by the name that people read; each gives the same size back.
FAN: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    **{f"JPEG, quality {quality}": _step("jpeg", quality) for quality in (95, 85, 70, 50)},
    "WebP, quality 80": _webp,
    **{f"resized to {100 * by:.0f} % and back": _step("resize", by) for by in (0.9, 0.75, 0.5)},
    **{f"cropped to {100 * by:.0f} %": _step("crop", by) for by in (0.95, 0.9)},
    "10 % brighter": _brightness(1.1),
    "10 % darker": _brightness(0.9),
}


@dataclass(frozen=True)
class Fan:
    """Verdicts on a picture and on its changed copies.

    Attributes:
        original: On the picture as it is.
        changed: On each copy, by the name of the change, in the order of `FAN`.
        threshold: FAKE from this p_fake of the ensemble on, 0–1.
    """

    original: Verdict
    changed: dict[str, Verdict]
    threshold: float

    def word(self, verdict: Verdict) -> str:
        """Return "FAKE", "REAL", or "UNCERTAIN" for a lean to FAKE below the threshold."""
        if verdict.p_fake >= self.threshold:
            return "FAKE"
        return "UNCERTAIN" if verdict.p_fake >= 0.5 else "REAL"

    @property
    def names(self) -> list[str]:
        """Names of the changes."""
        return list(self.changed)

    @property
    def flipped(self) -> list[str]:
        """Names of the changes under which the verdict turns; an uncertain one cannot."""
        word = self.word(self.original)
        return [
            name
            for name, verdict in self.changed.items()
            if "UNCERTAIN" != word != self.word(verdict)
        ]


def fan(detector: Detector, image: Image.Image, *, threshold: float = 0.5) -> Fan:
    """Judge a picture together with copies that were changed mildly.

    Args:
        detector: The models.
        image: RGB, of any size; copies of more than `LARGEST` pixels a side are reduced first.
        threshold: FAKE from this p_fake on, 0–1.

    Returns:
        The verdicts; the same ones for the same picture.
    """
    reduced = image.copy()
    reduced.thumbnail((LARGEST, LARGEST))
    pixels = np.array(reduced)
    copies = [Image.fromarray(change(pixels)) for change in FAN.values()]
    original, *changed = detector.predict([image, *copies])
    return Fan(original, dict(zip(FAN, changed, strict=True)), threshold)


def fan_sentence(fan: Fan, analysis: Analysis) -> str:
    """Say in plain words whether a verdict stays (not escaped).

    Args:
        fan: The verdicts under the changes.
        analysis: What was said of the picture itself.
    """
    word, count, flipped = fan.word(fan.original), len(fan.changed), fan.flipped
    if flipped:
        found = {fan.word(fan.changed[name]) for name in flipped}
        other = " or ".join(name for name in ("REAL", "FAKE", "UNCERTAIN") if name in found)
        said = (
            f"{word} turns {other} under {len(flipped)} of {count} changes "
            f"({'; '.join(flipped)}), so the verdict is UNCERTAIN"
        )
    elif analysis.record.verdict == "UNCERTAIN":
        lean = fan.original.label
        same = sum(verdict.label == lean for verdict in fan.changed.values())
        under = f"all {count}" if same == count else f"{same} of {count}"
        said = f"The models lean to {lean} under {under} changes, as for the picture itself"
        if not analysis.outside:
            said += "; the verdict stays UNCERTAIN for the reason given with it"
    else:
        said = f"The verdict stays {word} under all {count} changes"
    if analysis.outside:
        said += (
            "; and as the picture is outside what these models know, the verdict is not to be "
            "relied on anyway"
        )
    return f"{said}."


def fan_html(fan: Fan, subject: Subject) -> str:
    """Lay the fan out: a sentence, and a row for each change.

    Args:
        fan: The verdicts under the changes.
        subject: The picture.
    """
    width, height = subject.image.size
    if max(width, height) > LARGEST:
        made = (
            f"The copies are made of the picture reduced from {width:,} × {height:,} to "
            f"{LARGEST:,} pixels on its longer side, as services do that pass pictures on. "
        )
    else:
        made = "The copies are made of the picture in its own size. "
    detector = subject.analyst.detector
    size = detector.input_size
    parts = " and parts of it at a slightly larger scale" if detector.sees_photographs else ""
    rows = [_row(fan, "as it is", fan.original)]
    rows += [_row(fan, name, verdict) for name, verdict in fan.changed.items()]
    bars = len(fan.original.models) > 1
    bars = "the grey bar spans what the single models say, " if bars else ""
    return f"""
<p><b>{escape(fan_sentence(fan, subject.analysis))}</b></p>
<table class="cf-fan">
<thead><tr><th scope="col">Change</th>
  <th scope="col" class="cf-fan-scale"><span class="cf-fan-ends"><span>REAL</span>
    <span>FAKE</span></span></th>
  <th scope="col">Probability of FAKE</th></tr></thead>
<tbody>{"".join(rows)}</tbody></table>
<p class="cf-note">The mark is the score of all models together, {bars}and the dashed line is the
threshold of {fan.threshold:.3g}. {made}The models then see every copy shrunk to {size} × {size}
pixels{parts}, where less of a change is left the larger the picture is. A verdict that stays is not
thereby right: the models may be wrong in the same way every time.</p>"""


def _row(fan: Fan, name: str, verdict: Verdict) -> str:
    word = fan.word(verdict)
    turned = name in fan.flipped
    scores = [answer.p_fake for answer in verdict.models.values()]
    low, high = min(scores), max(scores)
    span = "the one model" if len(scores) == 1 else f"models {_percent(low)} to {_percent(high)}"
    said = f"All together {_percent(verdict.p_fake)}, {span}"
    name = escape(name).replace(" %", "&nbsp;%")
    return f"""
<tr{' class="cf-turned"' if turned else ""}><th scope="row">{name}</th>
<td class="cf-fan-scale"><span class="cf-fan-line" role="img" aria-label="{said}" title="{said}">
  <i class="cf-fan-range" style="left:{100 * low:.1f}%;width:{100 * (high - low):.1f}%"></i>
  <i class="cf-fan-threshold" style="left:{100 * fan.threshold:.1f}%"></i>
  <i class="cf-fan-dot cf-{word}" style="left:{100 * verdict.p_fake:.1f}%"></i></span></td>
<td class="cf-fan-answer"><span><b class="cf-{word}"><span aria-hidden="true">{ICONS[word]}</span>
  {word}</b> {_percent(verdict.p_fake)}</span>
  {"<b>turned</b>" if turned else ""}</td></tr>"""


def _percent(p_fake: float) -> str:
    """Write a probability of FAKE without ever claiming certainty."""
    return "under 1 %" if p_fake < 0.01 else percent(p_fake)
