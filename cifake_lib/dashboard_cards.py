"""What the dashboard shows of one examined image, as HTML.

Everything that comes from a file or a manifest passes `html.escape` on its way to the page.
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass, replace
from html import escape
from typing import TYPE_CHECKING

from PIL import Image

from cifake_lib.images import fit_image
from cifake_lib.names import display_name
from cifake_lib.runs import PHOTO_MODEL

if TYPE_CHECKING:
    from cifake_lib.analyst import Analysis, Picture
    from cifake_lib.detector import ModelVerdict, Verdict

# Pictures up to this side are shown with hard pixel edges; larger ones are photographs.
PIXEL_ART = 96
PREVIEW = 480  # pixels
THUMBNAIL = 64
ICONS = {"REAL": "●", "FAKE": "◆", "UNCERTAIN": "○"}


@dataclass(frozen=True)
class Result:
    """One examined image, ready to be shown.

    Attributes:
        name: File name as the visitor's computer gave it (not escaped).
        size: Width and height of the original in pixels.
        thumbnail: Data URI of a tiny version of the image.
        preview: Data URI of a small version.
        model_input: Data URI of what the models see, or "" if that is the image itself.
        input_size: Side of what the models see in pixels.
        analysis: What the models say, and what it is worth.
        content: The file; b"" when it is no longer kept.
        truth: The true class of a built-in example, "" for an upload.
    """

    name: str
    size: tuple[int, int]
    thumbnail: str
    preview: str
    model_input: str
    input_size: int
    analysis: Analysis
    content: bytes
    truth: str = ""

    @property
    def verdict(self) -> Verdict:
        """What the models say."""
        return self.analysis.verdict

    @property
    def word(self) -> str:
        """REAL, FAKE or UNCERTAIN."""
        return self.analysis.record.verdict

    def forgotten(self) -> Result:
        """Return what is left when only verdict and thumbnail are kept."""
        return replace(self, content=b"", preview=self.thumbnail)


def make_result(
    picture: Picture, analysis: Analysis, *, input_size: int, crop: str = "centre", truth: str = ""
) -> Result:
    """Keep what the page needs of an image, and let go of its pixels.

    Args:
        picture: The image and its file.
        analysis: What the models say, and what it is worth.
        input_size: Side of what the models see in pixels.
        crop: How they make a square of it, one of `crops.CROPS`.
        truth: True class of a built-in example.

    Returns:
        The record of the image.
    """
    image = picture.image
    same = image.size == (input_size, input_size) and crop != "random"
    preview = at_most(image, PREVIEW)
    return Result(
        name=picture.name,
        size=image.size,
        thumbnail=data_uri(at_most(preview, THUMBNAIL)),
        preview=data_uri(preview),
        model_input="" if same else data_uri(Image.fromarray(fit_image(image, input_size, crop))),
        input_size=input_size,
        analysis=analysis,
        content=picture.content,
        truth=truth,
    )


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


def result_card(
    result: Result, *, number: int, sheet: str = "", shifted: str = "", lesson: str = ""
) -> str:
    """Lay out an image, the verdict of the ensemble and the answer of each model.

    Args:
        result: The examined image.
        number: Its place in the order of arrival, from 1.
        sheet: Its evidence sheet, HTML of a page of its own; "" for none.
        shifted: What the score means where FAKE is as common as the visitor says (not escaped).
        lesson: What is to be thought of models that are asked beside (not escaped).

    Returns:
        HTML.
    """
    name = escape(result.name)
    width, height = result.size
    pictures = [figure(result.preview, f"{width} × {height}", name, max(width, height))]
    if result.model_input:
        side = result.input_size
        caption = f"what the models see, {side} × {side}"
        pictures.append(figure(result.model_input, caption, caption, side))
    verdict = result.verdict
    together = "All models together" if len(verdict.models) > 1 else "The one model available"
    if PHOTO_MODEL in verdict.models:
        together = "The model of photographs"
    truth = ""
    if result.truth:
        judged = "right" if result.truth == result.word else "wrong"
        judged = "open" if result.word == "UNCERTAIN" else judged
        truth = (
            f'<p class="cf-truth">True class of this example: <b>{result.truth}</b>. '
            f"The verdict is {judged}.</p>"
        )
    rows = "".join(model_row(key, answer) for key, answer in verdict.models.items())
    record = result.analysis.record
    beside = ""
    if (others := result.analysis.beside) is not None:
        said = "".join(model_row(key, answer) for key, answer in others.models.items())
        beside = (
            f'<section class="cf-beside"><h3>Asked beside, without a say in the verdict</h3>'
            f'<p>{escape(lesson)}</p><div class="cf-models" role="list">{said}</div></section>'
        )
    if sheet:
        file_name = f"{result.name.rsplit('.', 1)[0] or 'image'}-evidence.html"
        sheet = download_link(sheet.encode(), file_name, "text/html", "Save the evidence sheet")
    says = f"{percent(verdict.confidence)} confidence"
    if result.word == "UNCERTAIN":
        says = f"leaning {verdict.label}, {says}"
    if result.analysis.outside:  # However sure the models are, it means nothing there.
        says = "outside what the models know"
    notes = [record.reason] if result.word == "UNCERTAIN" else []
    notes = "".join(f"<p>{escape(note)}</p>" for note in [*notes, record.meaning, shifted] if note)
    return f"""
<article class="cf-card" data-label="{result.word}">
  <header><span class="cf-name" title="{name}">{name}</span><span class="cf-number">#{number}</span>
  </header>
  <div class="cf-pictures">{"".join(pictures)}</div>
  <div class="cf-answer">
    <p class="cf-verdict cf-{result.word}"><span aria-hidden="true">{ICONS[result.word]}</span>
      <b>{result.word}</b> <span class="cf-confidence">{says}</span></p>
    <p class="cf-together">{together}</p>
    {truth}
    <div class="cf-notes">{notes}</div>
    <div class="cf-models" role="list">
      <div class="cf-scale" aria-hidden="true"><span>REAL</span><span>FAKE</span></div>
      {rows}
    </div>
    {beside}
    {sheet}
  </div>
</article>"""


def download_link(content: bytes, name: str, media_type: str, words: str) -> str:
    """Return a link that saves a file, which is part of the page and needs no server.

    Args:
        content: The file.
        name: What to call it (not escaped).
        media_type: For instance `text/csv`.
        words: What the visitor reads (not escaped).
    """
    text = base64.b64encode(content).decode("ascii")
    source = f"data:{media_type};charset=utf-8;base64,{text}"
    return f'<a class="cf-save" download="{escape(name)}" href="{source}">{escape(words)}</a>'


def summary_line(results: list[Result]) -> str:
    """Count the examined images: "3 images: 1 REAL, 2 FAKE"."""
    if not results:
        return ""
    words = [result.word for result in results]
    noun = "image" if len(results) == 1 else "images"
    counted = [word for word in ICONS if word != "UNCERTAIN" or word in words]
    counts = ", ".join(f"{words.count(word)} {word}" for word in counted)
    return f"{len(results)} {noun}: {counts}"


def model_row(key: str, answer: ModelVerdict) -> str:
    """One model: name, a bar from the middle towards its class, verdict and confidence."""
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


def figure(source: str, caption: str, alt: str, side: int) -> str:
    """Lay out a picture of so many pixels a side; the texts are escaped by the caller."""
    sharp = "cf-pixels" if side <= PIXEL_ART else ""
    image = f'<img class="{sharp}" src="{source}" alt="{alt}">'
    return f"<figure>{image}<figcaption>{caption}</figcaption></figure>"


def at_most(image: Image.Image, side: int) -> Image.Image:
    """Shrink an image until its longer side has at most so many pixels."""
    scale = side / max(image.size)
    if scale >= 1:
        return image
    smaller = tuple(max(1, round(length * scale)) for length in image.size)
    # Reducing by whole numbers first is many times faster, and nobody sees it.
    return image.resize(smaller, Image.Resampling.BICUBIC, reducing_gap=2.0)
