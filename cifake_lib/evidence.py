"""One printable page for each examined image: what was said, by which models, and its limits."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from cifake_lib.decisions import TITLES
from cifake_lib.exports import NOT_PROOF, Examined, Provenance

_TURNING = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
WORDS = {
    "REAL": "The models take it for a photograph.",
    "FAKE": "The models take it for the work of an image generator.",
    "UNCERTAIN": "The models cannot tell.",
}
# Shapes tell the verdicts apart without colour, also on a grey print.
_SVG = '<svg class="icon" viewBox="0 0 20 20" aria-hidden="true">{}</svg>'
ICONS = {
    "REAL": _SVG.format('<circle cx="10" cy="10" r="8"/>'),
    "FAKE": _SVG.format('<path d="M10 0 20 10 10 20 0 10Z"/>'),
    "UNCERTAIN": _SVG.format(
        '<circle cx="10" cy="10" r="7" fill="none" stroke="currentColor" stroke-width="3"/>'
    ),
    "none": _SVG.format('<path d="M3 3 17 17M17 3 3 17" stroke="currentColor" stroke-width="3"/>'),
}
# Class colours are those of `dashboard_style`.
SHEET_STYLE = """
:root { --ink:#1c2733; --muted:#5a6674; --line:#dde3e9; --accent:#1f4e5f; color-scheme:light; }
* { box-sizing:border-box; }
body { margin:0; padding:28px 16px; background:#eef1f4; color:var(--ink);
  font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;
  print-color-adjust:exact; -webkit-print-color-adjust:exact; }
main { max-width:800px; margin:0 auto; padding:32px 44px 40px; background:#fff;
  border-top:5px solid var(--accent); overflow-wrap:anywhere; }
header { display:flex; flex-wrap:wrap; gap:2px 14px; color:var(--muted); font-size:13px; }
header b { color:var(--accent); } header time { margin-left:auto; }
h1 { font-size:20px; line-height:1.35; font-weight:600; margin:14px 0 18px; }
h2 { font-size:15px; font-weight:600; color:var(--accent); margin:0 0 10px; padding-bottom:5px;
  border-bottom:1px solid var(--line); break-after:avoid; }
section { margin-top:28px; break-inside:avoid; } p { margin:0 0 8px; }
ul { margin:0; padding-left:20px; } li { margin-bottom:4px; }
.quiet { color:var(--muted); font-size:13px; text-wrap:pretty; }
.REAL { --tone:#0072b2; --wash:#f0f6fa; } .FAKE { --tone:#b34700; --wash:#fdf4ed; }
.UNCERTAIN, .none { --tone:#4a5560; --wash:#f4f6f8; }
.hero { display:flex; gap:26px; padding:20px 22px; background:var(--wash); border-radius:8px;
  border-left:5px solid var(--tone); break-inside:avoid; }
.hero > div { flex:1 1 300px; min-width:0; } .hero p:last-child { margin:0; }
.hero figure { flex:0 1 200px; } .hero img { max-width:200px; max-height:200px; }
.word { display:flex; align-items:center; gap:11px; color:var(--tone); font-size:31px;
  font-weight:700; line-height:1.1; margin-bottom:6px; }
.says { font-size:17px; text-wrap:balance; }
.icon { width:.78em; height:.78em; fill:currentColor; flex:none; overflow:visible; }
figure { margin:0; break-inside:avoid; }
figure img { display:block; max-width:100%; max-height:220px; border-radius:4px; }
figure img.sharp { image-rendering:pixelated; width:160px; }
figcaption { color:var(--muted); font-size:12.5px; line-height:1.35; margin-top:5px; }
.pictures { display:flex; flex-wrap:wrap; gap:18px; } .pictures figure { max-width:220px; }
.scales { margin-bottom:8px; }
.ends, .scale { display:grid; grid-template-columns:172px minmax(60px,1fr) 172px; gap:16px;
  align-items:center; padding:5px 0; break-inside:avoid; }
.ends { color:var(--muted); font-size:11.5px; letter-spacing:.04em; padding:0; }
.ends span { grid-area:1/2; } .ends span:nth-child(2) { justify-self:end; }
.ends span:nth-child(3) { grid-column:3; }
.scale:nth-child(2) { font-weight:600; }
.line { position:relative; height:12px; border-radius:6px; background:#f1f4f6;
  box-shadow:inset 0 0 0 1px var(--line); }
.line i { position:absolute; top:0; bottom:0; } .band { background:#d5dbe1; }
.tick { width:2px; margin:-5px -1px; background:var(--ink); }
.dot { width:14px; margin:-1px -7px; border-radius:50%; background:var(--tone);
  box-shadow:0 0 0 2px #fff; } .FAKE .dot { border-radius:0; rotate:45deg; scale:.85; }
.UNCERTAIN .dot { background:#fff; box-shadow:0 0 0 2px #fff, inset 0 0 0 3px var(--tone); }
.answer { font-weight:400; white-space:nowrap; } .answer b { color:var(--tone); }
.answer .icon { margin-right:6px; }
table { border-collapse:collapse; width:100%; font-size:13px; }
th, td { padding:6px 0; border-bottom:1px solid var(--line); vertical-align:top; text-align:left; }
th { width:150px; padding-right:14px; font-weight:600; } tr { break-inside:avoid; }
code { font:11px ui-monospace,Menlo,Consolas,"Liberation Mono",monospace; }
@media (max-width:600px) {
  body { padding:0; } main { padding:20px 16px 28px; } .hero { flex-wrap:wrap; padding:16px; }
  .ends, .scale { grid-template-columns:minmax(0,1fr) auto; gap:4px 12px; }
  .ends span, .line { grid-area:2/1/3/3; } .ends { display:none; } th { width:96px; }
}
@page { size:A4; margin:14mm 15mm 16mm;
  @bottom-left { content:"A hint, not proof"; font:8pt sans-serif; color:#5a6674; }
  @bottom-right { content:counter(page) " / " counter(pages); font:8pt sans-serif;
    color:#5a6674; } }
@media print { body { padding:0; background:#fff; font-size:10pt; line-height:1.42; }
  main { max-width:none; padding:12px 0 0; } section { margin-top:18px; }
  section:last-child { break-inside:auto; } th, td { padding:4px 0; } }
"""


@dataclass(frozen=True)
class Picture:
    """A picture on a sheet.

    Attributes:
        source: Data URI of an image, so that the sheet needs nothing from elsewhere.
        caption: What people read below it (not escaped).
        alt: What those hear who cannot see it (not escaped).
        sharp: Whether to enlarge it with hard pixel edges.
    """

    source: str
    caption: str
    alt: str
    sharp: bool = False

    def __post_init__(self):
        if not self.source.startswith("data:image/"):
            raise ValueError(f"expected a data URI of an image, received {self.source[:40]!r}")


def evidence_sheet(
    record: Examined,
    *,
    pictures: Sequence[Picture] = (),
    sections: Mapping[str, str] | None = None,
    provenance: Provenance,
) -> str:
    """Lay out one examined file on a page that prints on A4.

    Args:
        record: The file and what was said about it.
        pictures: The first stands beside the verdict, the others follow.
        sections: Further sections: title (not escaped) → HTML of our own making, used as it is.
        provenance: What it was examined with.

    Returns:
        A complete HTML document. It loads nothing, runs nothing, and works without a network.
    """
    first, *others = [_figure(picture) for picture in pictures] or [""]
    parts = {
        "What each model says": _scales(record, provenance) if record.verdict else "",
        "Pictures": f'<div class="pictures">{"".join(others)}</div>' if others else "",
        **(sections or {}),
        "What this cannot tell": limits_html(provenance) if record.verdict else "",
        "The file": _table(_file_rows(record)),
        "The models": models_html(provenance) if record.verdict else "",
    }
    headline = _headline(record).replace(" %", "&nbsp;%")
    body = "".join(
        f"<section><h2>{plain(title)}</h2>{html}</section>" for title, html in parts.items() if html
    )
    return page(
        f"{plain(record.name)}: {plain(record.verdict or 'not examined')}",
        f"""
<header><b>CIFAKE suite</b><span>Examination of one image</span>
<time>{_when(record)}</time></header>
<h1><bdi>{plain(record.name)}</bdi></h1>
<div class="hero {record.verdict or "none"}">{first}<div>{headline}</div></div>
{body}""",
    )


def page(title: str, body: str, *, style: str = "") -> str:
    """Lay out a page that loads nothing, runs nothing, and works without a network.

    Args:
        title: Escaped.
        body: HTML of our own making.
        style: CSS beside that of every sheet.

    Returns:
        A complete HTML document.
    """
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{SHEET_STYLE}{style}</style>
</head>
<body>
<main>
{body.strip()}
</main>
</body>
</html>
"""


def _headline(record: Examined) -> str:
    if not record.verdict:
        return f"""<p class="word">{ICONS["none"]}Not examined</p>
<p>{plain(record.error)}</p>"""
    return f"""<p class="word">{ICONS[record.verdict]}{record.verdict}</p>
<p class="says">{WORDS[record.verdict]}</p>
<p>Probability of FAKE, all models together: <b>{probability(record.p_fake)}</b>
<span class="quiet">(calibrated score {_score(record.p_fake)})</span></p>
<p>{plain(record.reason)}</p>
<p>{plain(record.meaning)}</p>
<p class="quiet">A hint, not proof: see what this cannot tell, below.</p>"""


def limits_html(provenance: Provenance) -> str:
    """Say that no verdict is proof, and what else limits it."""
    items = "".join(f"<li>{plain(limit)}</li>" for limit in provenance.limits)
    return f"<p><b>{NOT_PROOF}</b></p><ul>{items}</ul>"


def _scales(record: Examined, provenance: Provenance) -> str:
    """One line a model from REAL to FAKE, with a mark where it stands."""
    title = TITLES.get(record.threshold_name, record.threshold_name)
    ends = [record.threshold]
    note = f"The line marks the threshold of {record.threshold:.3g} ({plain(title)})."
    if record.certain_from is not None:
        ends += [1 - record.certain_from, record.certain_from]
        note += " In the grey band the answer is UNCERTAIN."
    left, right = max(min(ends), 0), min(max(ends), 1)
    band = f'<i class="band" style="left:{100 * left:.2f}%;width:{100 * (right - left):.2f}%"></i>'
    tick = f'<i class="tick" style="left:{100 * record.threshold:.2f}%"></i>'
    rows = [_scale("All together", record.p_fake, record.verdict, band + tick)]
    for key, p_fake in record.models.items():
        name = provenance.models[key].name if key in provenance.models else key
        rows.append(_scale(name, p_fake, "FAKE" if p_fake >= 0.5 else "REAL"))
    return f"""<div class="scales" role="list">
<div class="ends" aria-hidden="true"><span>REAL</span><span>FAKE</span>
<span>probability of FAKE</span></div>
{"".join(rows)}</div>
<p class="quiet">Marks and percentages are probabilities of FAKE: 0 % on the left, 100 % on the
right. {note} A single model says FAKE from 50 % on.</p>"""


def _scale(name: str, p_fake: float, word: str, marks: str = "") -> str:
    dot = f'<i class="dot" style="left:{100 * p_fake:.2f}%"></i>'
    return f"""<div class="scale {word}" role="listitem"><span>{plain(name)}</span>
<span class="line" aria-hidden="true">{marks}{dot}</span>
<span class="answer"><b>{ICONS[word]}{word}</b> {probability(p_fake)}</span></div>"""


def _figure(picture: Picture) -> str:
    return f"""<figure><img{' class="sharp"' if picture.sharp else ""}
  src="{escape(picture.source)}" alt="{plain(picture.alt)}">
<figcaption>{plain(picture.caption)}</figcaption></figure>"""


def _file_rows(record: Examined) -> dict[str, str]:
    size = f"{record.width:,} × {record.height:,} pixels" if record.width else "cannot be read"
    return {
        "Name": f"<bdi>{plain(record.name)}</bdi>",
        "SHA-256": f"<code>{plain(record.sha256)}</code>",
        "Size": f"{record.size_bytes:,} bytes",
        "Picture": ", ".join(filter(None, (size, plain(record.format)))),
        "Examined": _when(record),
    }


def models_html(provenance: Provenance) -> str:
    """List the models that answered, and what they were trained on."""
    rows = {
        plain(model.name): f"run <code>{plain(model.run_id)}</code>; learnt from "
        f"{model.train_images:,} images ({plain(model.data)}); temperature {model.temperature:.4g};"
        f" weight {model.weight:.3f}<br>weights SHA-256 <code>{plain(model.weights_sha256)}</code>"
        for model in provenance.models.values()
    }
    thresholds = ", ".join(
        f"{plain(TITLES.get(name, name))} {threshold:.4g}"
        for name, threshold in provenance.thresholds.items()
    )
    versions = ", ".join(f"{plain(n)} {plain(v)}" for n, v in provenance.versions.items())
    measured = "no evaluation has measured just these models; all have the same weight"
    if provenance.evaluation:
        measured = f"evaluation <code>{plain(provenance.evaluation)}</code>"
    together = f"{measured}; temperature {provenance.ensemble_temperature:.4g}"
    return _table(rows | {"Together": together, "Thresholds": thresholds, "Versions": versions})


def _table(rows: Mapping[str, str]) -> str:
    cells = "".join(
        f'<tr><th scope="row">{name}</th><td>{html}</td></tr>' for name, html in rows.items()
    )
    return f"<table>{cells}</table>"


def _when(record: Examined) -> str:
    return plain(record.examined_utc.replace("T", " ").replace("Z", " UTC"))


def probability(p_fake: float) -> str:
    """Write a probability without ever claiming certainty."""
    if p_fake < 0.01:
        return "under 1 %"
    return "over 99 %" if p_fake > 0.99 else f"{100 * p_fake:.0f} %"


def _score(p_fake: float) -> str:
    if p_fake < 0.00005:
        return "under 0.0001"
    return "over 0.9999" if p_fake > 0.99995 else f"{p_fake:.4f}"


def plain(text: str) -> str:
    """Escape, and show what would be invisible or turn the reading direction around."""
    shown = (
        f"\\u{ord(sign):04x}"
        if unicodedata.category(sign) in ("Cc", "Cs") or unicodedata.bidirectional(sign) in _TURNING
        else sign
        for sign in text
    )
    return escape("".join(shown))
