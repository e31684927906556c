"""A page to read of many judged files: what was said of each, beside a small picture of it."""

from __future__ import annotations

from PIL import Image

from cifake_lib.dashboard_cards import data_uri
from cifake_lib.evidence import (
    ICONS,
    limits_html,
    models_html,
    page,
    plain,
    probability,
)
from cifake_lib.exports import Examined, Provenance
from cifake_lib.names import display_name

SIDE = 96  # of a small picture, in pixels
_STYLE = """
main { max-width:1080px; } td { vertical-align:middle; padding-right:12px; } th { width:auto; }
thead th { color:var(--muted); font-size:12px; }
td img { display:block; max-width:96px; max-height:96px; border-radius:4px; }
td b { display:flex; align-items:center; gap:7px; color:var(--tone); white-space:nowrap; }
.counts { display:flex; flex-wrap:wrap; gap:10px; padding:0; list-style:none; }
.counts li { padding:10px 18px; border-radius:8px; background:var(--wash); color:var(--tone);
  border-left:5px solid var(--tone); font-weight:600; }
.files .line { display:block; width:120px; margin:7px 8px 0; }
.files th:last-child { width:50%; }
@media (max-width:600px) {
  .files thead { display:none; }
  .files tr { display:grid; grid-template-columns:96px minmax(0,1fr); gap:4px 14px; padding:12px 0;
    border-bottom:1px solid var(--line); }
  .files td { border:0; padding:0; } .files td:first-child { grid-row:1/3; }
  .files td:last-child { grid-column:1/3; }
}
"""


class Report:
    """Collects records with small pictures, and lays them out."""

    def __init__(self):
        self._rows: list[tuple[Examined, str]] = []

    def add(self, record: Examined, image: Image.Image | None) -> None:
        """Take a record, and a small copy of its image."""
        source = ""
        if image is not None:
            small = image.copy()
            small.thumbnail((SIDE, SIDE))
            source = data_uri(small)
        self._rows.append((record, source))

    def html(self, provenance: Provenance) -> str:
        """Return the page; it needs nothing from elsewhere.

        Args:
            provenance: What the verdicts were made with.
        """
        records = [record for record, _ in self._rows]
        counts = [
            f'<li class="{word}">{sum(record.verdict == word for record in records):,} {word}</li>'
            for word in ("REAL", "FAKE", "UNCERTAIN")
        ]
        if unreadable := sum(bool(record.error) for record in records):
            counts.append(f'<li class="none">{unreadable:,} unreadable</li>')
        kinds = list(filter(None, [provenance, provenance.photographs]))
        models = "".join(models_html(kind) for kind in kinds)
        limits = limits_html(provenance)
        when = plain(records[0].examined_utc[:10]) if records else ""
        rows = "".join(_row(record, source) for record, source in self._rows)
        title = f"Verdicts on {len(records):,} files"
        return page(
            title,
            f"""
<header><b>CIFAKE suite</b><span>Examination of many images</span><time>{when}</time></header>
<h1>{title}</h1>
<ul class="counts">{"".join(counts)}</ul>
<section><h2>The files</h2><table class="files"><thead><tr><th>Picture</th><th>Verdict</th>
<th>Probability of FAKE</th><th>File</th></tr></thead><tbody>{rows}</tbody></table></section>
<section><h2>What this cannot tell</h2>{limits}</section>
<section><h2>The models</h2>{models}</section>""",
            style=_STYLE,
        )


def _row(record: Examined, source: str) -> str:
    name = f"<bdi>{plain(record.name)}</bdi>"
    picture = f'<img src="{source}" alt="">' if source else ""
    if record.error:
        return f"""<tr class="none"><td>{picture}</td><td><b>{ICONS["none"]}unreadable</b></td>
<td></td><td>{name}<div class="quiet">{plain(record.error)}</div></td></tr>"""
    judges = ", ".join(display_name(key) for key in record.models)
    return f"""<tr class="{record.verdict}"><td>{picture}</td>
<td><b>{ICONS[record.verdict]}{record.verdict}</b></td>
<td>{probability(record.p_fake)}<span class="line" aria-hidden="true"><i class="dot"
style="left:{100 * record.p_fake:.1f}%"></i></span></td><td>{name}
<div class="quiet">{record.width:,} × {record.height:,} pixels, judged by {plain(judges)}.
{plain(record.reason)} {plain(record.meaning)}</div></td></tr>"""
