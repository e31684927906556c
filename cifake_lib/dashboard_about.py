"""What the dashboard says about itself: what a verdict is worth, and the cards of the released set.

Every number is read from run files. The cards are Markdown; markup in them is dropped.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from html import escape
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import ipywidgets as widgets
import mistune

from cifake_lib import runs
from cifake_lib.analyst import KNOWN_ORIGIN
from cifake_lib.names import display_name
from cifake_lib.routing import PHOTOGRAPH, THUMBNAIL, small_models_rank
from cifake_lib.runs import Run, RunDamaged, RunNotFound

if TYPE_CHECKING:
    from cifake_lib.dashboard_models import Records

CIFAKE_NAMES = ("sample", "cifake-train", "full")  # of data sets that are CIFAKE or part of it
CIFAKE = "photographs of CIFAR-10 and pictures by Stable Diffusion 1.4"
INLINE = {".png": "image/png", ".jpg": "image/jpeg"}
STYLE = """
.cifake .cf-about { max-width:820px; }
.cifake .cf-about ol.cf-plain { padding-left:1.3em; margin:0 0 22px; font-size:16px; }
.cifake .cf-about ol.cf-plain li { margin:0 0 8px; }
.cifake details.cf-about-card { border-top:1px solid var(--line); }
.cifake details.cf-about-card > summary { cursor:pointer; color:var(--accent); font-weight:600;
  padding:9px 2px; }
.cifake .cf-about-text { padding:0 2px 16px; font-size:14px; overflow-wrap:anywhere; }
.cifake .cf-about-text h4, .cifake .cf-about-text h5 { font-size:14px; font-weight:650;
  margin:16px 0 6px; }
.cifake .cf-about-text ul { margin:0 0 10px; padding-left:1.3em; }
.cifake .cf-about-text pre { overflow-x:auto; background:var(--wash); color:inherit;
  padding:8px 12px; border-radius:6px; }
.cifake .cf-about-text pre code { background:none; padding:0; }
.cifake .cf-about-text img { max-width:100%; height:auto; }
.cifake .cf-about-text a { color:var(--accent); }
"""


class About:
    """What a verdict is worth, and the cards of models and data.

    Attributes:
        view: The widget to display; empty until it is opened.
    """

    def __init__(self):
        """Build it empty."""
        self.view = widgets.HTML()
        self._records: Records | None = None

    def open(self, records: Records) -> None:
        """Read the run files, if they are others than those that are shown.

        Args:
            records: As `dashboard_models.read_records` returns them.
        """
        if records is self._records:
            return
        sentences = "".join(f"<li>{escape(line)}</li>" for line in plain_words(records))
        cards = "".join(_card(title, run, name) for title, run, name in _cards(records))
        self.view.value = (
            '<div class="cf-about"><h2>What a verdict is and is not</h2>'
            f'<ol class="cf-plain">{sentences}</ol><h2>Models, data and limits in detail</h2>'
            f"{cards}</div>"
        )
        self._records = records


def plain_words(records: Records) -> list[str]:
    """Say what a verdict is and is not, with what was measured.

    Args:
        records: As `dashboard_models.read_records` returns them.

    Returns:
        Five sentences, and two more where photographs have a model of their own; not escaped.
    """
    sides = [run.manifest["model"]["input_size"] for run in records.models.values()]
    side = max(sides, default=32)  # CIFAKE's own size, before there are models
    others = {run.manifest["data"]["name"] for run in records.models.values()} - set(CIFAKE_NAMES)
    learnt = f"those of {' and '.join(sorted(others))}" if others else CIFAKE
    return [
        "A verdict says whether a picture looks to the models more like the photographs (REAL) or "
        f"more like the generated pictures (FAKE) that they learnt from: at {side} × {side} "
        f"pixels, {learnt}.",
        _or_damaged(_tested, records),
        _or_damaged(_changed, records),
        _or_damaged(_strange, records),
        *_of_photographs(records),
        "So a verdict is a hint and never proof: it does not say who made a picture or whether "
        "what it shows is true, and nobody should be accused, believed or banned because of it.",
    ]


def _or_damaged(sentence: Callable[[Records], str], records: Records) -> str:
    try:
        return sentence(records)
    except RunDamaged as error:
        return str(error)


def _tested(records: Records) -> str:
    run = records.evaluation
    if run is None or not run.measured(*records.models.values()):
        return "How often these models are right has not been measured: notebook 05 does it."
    whole = run.read_json("metrics.json")["models"]["ensemble"]
    (real_right, real_wrong), (fake_wrong, fake_right) = whole["confusion"]
    low, high = whole["intervals"]["accuracy"]
    return (
        f"Of {sum(map(sum, whole['confusion'])):,} test images of these two kinds, which no model "
        f"had learnt from, all models together were right on {100 * whole['accuracy']:.1f} % (95 % "
        f"interval {100 * low:.1f}–{100 * high:.1f} %): {real_wrong:,} of "
        f"{real_right + real_wrong:,} photographs were called FAKE, and {fake_wrong:,} of "
        f"{fake_right + fake_wrong:,} generated pictures passed as REAL."
    )


def _changed(records: Records) -> str:
    run = records.robustness
    if run is None or not run.measured(*records.models.values()):
        return "What a changed image does to a verdict has not been measured: notebook 06 does it."
    metrics = run.manifest["metrics"]
    return (
        "On test images that were blurred, cropped, re-saved or changed in other ways they were "
        f"right on {100 * metrics['corrupted_accuracy']:.1f} % on average, and being sent as a "
        f"message or screenshot turned up to {100 * metrics['flipped']:.1f} % of the verdicts "
        "around."
    )


def _strange(records: Records) -> str:
    measured, run = "", records.robustness
    if run is not None and run.measured(*records.models.values()):
        rows = [
            (int(row["images"]), float(row["called_fake"]))
            for row in run.read_rows("origins.csv")
            if (row["model"], row["class"]) == ("ensemble", "FAKE")
            and row["origin"] != KNOWN_ORIGIN
        ]
        if images := sum(count for count, _ in rows):
            caught = sum(count * share for count, share in rows) / images
            measured = (
                f"of {images:,} pictures by generators that they had not learnt from they called "
                f"{100 * caught:.1f} % FAKE, and "
            )
    ranked = small_models_rank(records.photographs) if records.photographs else None
    if ranked is not None:
        return (
            f"About other pictures these models say little: {measured}of pairs of a photograph of "
            f"ordinary size and a generated picture, shrunk to what they know, they ranked "
            f"{100 * ranked:.0f} % right, where guessing ranks half."
        )
    return (
        f"About other pictures a verdict says little: {measured}on photographs of ordinary size "
        "and on today's generators, where nobody has measured these models, expect no better than "
        "guessing."
    )


def _of_photographs(records: Records) -> list[str]:
    """Say for whom the model of photographs is, and what was measured on sources never seen."""
    if (run := records.photographs) is None:
        return []
    images = sum(run.manifest["data"]["counts"]["train"].values())
    try:
        measured = run.read_json("metrics.json")
        sources = len(run.read_rows("sources.csv"))
    except RunDamaged as error:
        return [str(error)]
    right = "no answer was sure enough for a verdict"
    if measured["right"] is not None:
        right = (
            f"{100 * measured['coverage']:.0f} % got a verdict, of which "
            f"{100 * measured['right']:.0f} % were right"
        )
    return [
        f"Pictures with at least {PHOTOGRAPH} pixels a side are photographs here and go to a model "
        f"of their own, which learnt from {images:,} pictures of {sources} sources; pictures of "
        f"up to {THUMBNAIL} pixels go to the models of CIFAKE.",
        f"Of {measured['count']:,} pictures of sources that were left out of training {right}, and "
        f"{100 * measured['roc_auc']:.0f} % of pairs of a photograph and a generated picture were "
        "ranked right; a generator newer than all that it learnt from may pass.",
    ]


def _cards(records: Records) -> list[tuple[str, Run | None, str]]:
    """Title, run and file name of each card."""
    found = [("All models together", records.evaluation, "ENSEMBLE_CARD.md")]
    found += [(display_name(key), run, "MODEL_CARD.md") for key, run in records.models.items()]
    if records.photographs is not None:
        found.append((display_name(runs.PHOTO_MODEL), records.photographs, "MODEL_CARD.md"))
    return [*found, ("Data", _data_run(records), "DATA_CARD.md")]


def _data_run(records: Records) -> Run | None:
    """The released description of the data set, if it is what the models have learnt from."""
    try:
        run = runs.find_run("data", released=True)
    except RunNotFound:
        return None
    splits = {own.manifest["data"].get("split_hash") for own in records.models.values()}
    return run if splits == {run.manifest["data"].get("split_hash")} else None


def _card(title: str, run: Run | None, name: str) -> str:
    if run is None or not (path := run.folder / name).is_file():
        return (
            f'<p class="cf-note">{escape(title)}: there is no card of these; '
            "<code>python -m cifake_lib.report</code> writes those of released runs.</p>"
        )
    text = path.read_text(encoding="utf-8")
    if heading := re.match(r"# (.+)", text):
        title = heading[1]
    try:
        html = mistune.create_markdown(renderer=_CardRenderer(run), plugins=["table"])(text)
    except RunDamaged as error:
        html = f'<p role="alert">{escape(str(error))}</p>'
    return (
        f'<details class="cf-about-card"><summary>{escape(title)}</summary>'
        f'<div class="cf-about-text">{html}</div></details>'
    )


class _CardRenderer(mistune.HTMLRenderer):
    """Markdown to HTML without markup, and without links to what the page does not serve."""

    def __init__(self, run: Run):
        super().__init__(escape=True)
        self._run = run

    def block_html(self, html: str) -> str:
        return ""

    def inline_html(self, html: str) -> str:
        return ""

    def heading(self, text: str, level: int, **attrs) -> str:
        if level == 1:  # It is the summary already.
            return ""
        level = min(level + 2, 6)
        return f"<h{level}>{text}</h{level}>\n"

    def link(self, text: str, url: str, title: str | None = None) -> str:
        if re.match(r"https?://", url):
            address = self.safe_url(url)
            return f'<a href="{address}" target="_blank" rel="noopener noreferrer">{text}</a>'
        file = re.sub(r"^(\.\./)+", "", url)
        if file.endswith("_CARD.md"):  # It is on this page.
            return text
        code = f"<code>{escape(file)}</code>"
        return code if text == file else f"{text} ({code})"

    def image(self, text: str, url: str, title: str | None = None) -> str:
        media_type = INLINE.get(PurePosixPath(url).suffix)
        if media_type is None or url not in self._run.manifest["files"]:
            return ""
        content = base64.b64encode(self._run.checked(url).read_bytes()).decode("ascii")
        return super().image(text, f"data:{media_type};base64,{content}", title)

    def table(self, text: str) -> str:
        return f'<div class="cf-scroll"><table class="cf-table cf-left">{text}</table></div>\n'
