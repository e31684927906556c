"""What the dashboard shows of one examined image, as HTML.

Everything that comes from a file or a manifest passes `html.escape` on its way to the page.
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from PIL import Image

from cifake_lib.images import fit_image

if TYPE_CHECKING:
    from cifake_lib.detector import ModelVerdict, Verdict

# Pictures up to this side are shown with hard pixel edges; larger ones are photographs.
PIXEL_ART = 96
PREVIEW = 480
ICONS = {"REAL": "●", "FAKE": "◆"}


@dataclass(frozen=True)
class Result:
    """One examined image, ready to be shown.

    Attributes:
        name: File name as the visitor's computer gave it (not escaped).
        size: Width and height of the original in pixels.
        preview: Data URI of a small version of the image.
        model_input: Data URI of what the models see, or "" if that is the image itself.
        input_size: Side of what the models see in pixels.
        verdict: What the models say.
        truth: The true class of a built-in example, "" for an upload.
    """

    name: str
    size: tuple[int, int]
    preview: str
    model_input: str
    input_size: int
    verdict: Verdict
    truth: str = ""


def make_result(
    image: Image.Image, *, name: str, input_size: int, verdict: Verdict, truth: str = ""
) -> Result:
    """Keep what the page needs of an image, and let go of its pixels.

    Args:
        image: Upright RGB image.
        name: How the card calls it.
        input_size: Side of what the models see in pixels.
        verdict: What the models say.
        truth: True class of a built-in example.

    Returns:
        The record of the image.
    """
    small = image if max(image.size) <= PREVIEW else _shrunk(image)
    same = image.size == (input_size, input_size)
    seen = "" if same else data_uri(Image.fromarray(fit_image(image, input_size)))
    return Result(name, image.size, data_uri(small), seen, input_size, verdict, truth)


def data_uri(image: Image.Image) -> str:
    """Encode an image for an `<img>`: pixel for pixel when small, as a JPEG when large."""
    file_format = "PNG" if max(image.size) <= PIXEL_ART else "JPEG"
    buffer = io.BytesIO()
    image.save(buffer, file_format, **({"quality": 88} if file_format == "JPEG" else {}))
    text = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f"data:image/{file_format.lower()};base64,{text}"


def percent(probability: float) -> str:
    """Write a confidence without ever claiming certainty: 0.934 → "93 %", 0.9996 → "over 99 %"."""
    return "over 99 %" if probability > 0.99 else f"{probability * 100:.0f} %"


def result_card(result: Result, *, number: int) -> str:
    """Lay out an image, the verdict of the ensemble and the answer of each model.

    Args:
        result: The examined image.
        number: Its place in the order of arrival, from 1.

    Returns:
        HTML.
    """
    name = escape(result.name)
    width, height = result.size
    pictures = [_figure(result.preview, f"{width} × {height}", name, max(width, height))]
    if result.model_input:
        side = result.input_size
        caption = f"what the models see, {side} × {side}"
        pictures.append(_figure(result.model_input, caption, caption, side))
    verdict = result.verdict
    together = "All models together" if len(verdict.models) > 1 else "The one model available"
    truth = ""
    if result.truth:
        judged = "right" if result.truth == verdict.label else "wrong"
        truth = (
            f'<p class="cf-truth">True class of this example: <b>{result.truth}</b>. '
            f"The verdict is {judged}.</p>"
        )
    rows = "".join(_model_row(key, answer) for key, answer in verdict.models.items())
    return f"""
<article class="cf-card" data-label="{verdict.label}">
  <header><span class="cf-name" title="{name}">{name}</span><span class="cf-number">#{number}</span>
  </header>
  <div class="cf-pictures">{"".join(pictures)}</div>
  <div class="cf-answer">
    <p class="cf-verdict cf-{verdict.label}"><span aria-hidden="true">{ICONS[verdict.label]}</span>
      <b>{verdict.label}</b> <span class="cf-confidence">{percent(verdict.confidence)} confidence
      </span></p>
    <p class="cf-together">{together}</p>
    {truth}
    <div class="cf-models" role="list">
      <div class="cf-scale" aria-hidden="true"><span>REAL</span><span>FAKE</span></div>
      {rows}
    </div>
  </div>
</article>"""


def summary_line(results: list[Result]) -> str:
    """Count the examined images: "3 images: 1 REAL, 2 FAKE"."""
    if not results:
        return ""
    fake = sum(result.verdict.label == "FAKE" for result in results)
    noun = "image" if len(results) == 1 else "images"
    return f"{len(results)} {noun}: {len(results) - fake} REAL, {fake} FAKE"


def _model_row(key: str, answer: ModelVerdict) -> str:
    """One model: name, a bar from the middle towards its class, verdict and confidence."""
    from cifake_lib.plots import display_name  # brings Matplotlib, which the first page can spare

    reach = abs(answer.p_fake - 0.5) * 100
    start = 50.0 if answer.label == "FAKE" else 50 - reach
    return f"""
<div class="cf-model" role="listitem" data-model="{escape(key)}">
  <span class="cf-model-name">{escape(display_name(key))}</span>
  <span class="cf-bar" aria-hidden="true"><i class="cf-{answer.label}"
    style="left:{start:.1f}%;width:{reach:.1f}%"></i></span>
  <span class="cf-model-answer"><b class="cf-{answer.label}">{answer.label}</b>
    {percent(answer.confidence)}</span>
</div>"""


def _figure(source: str, caption: str, alt: str, side: int) -> str:
    sharp = "cf-pixels" if side <= PIXEL_ART else ""
    image = f'<img class="{sharp}" src="{source}" alt="{alt}">'
    return f"<figure>{image}<figcaption>{caption}</figcaption></figure>"


def _shrunk(image: Image.Image) -> Image.Image:
    scale = PREVIEW / max(image.size)
    return image.resize(tuple(max(1, round(side * scale)) for side in image.size))
