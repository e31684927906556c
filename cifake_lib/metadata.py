"""What an image file says about itself: origin, camera, software, encoder, content credentials.

Nothing here looks at a pixel. All of it is what somebody wrote into the file: evidence of a kind of
its own, next to what the models see.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from html import escape
from itertools import groupby

from cifake_lib.content_credentials import credential_facts
from cifake_lib.images import MAX_BYTES
from cifake_lib.metadata_containers import Contents, read_contents
from cifake_lib.metadata_exif import exif_facts, read_tags
from cifake_lib.metadata_facts import (
    CAMERA,
    CREDENTIALS,
    ENCODER,
    FILE,
    GENERATOR,
    GROUPS,
    ORIGIN,
    SOFTWARE,
    UNREADABLE,
    Fact,
    guarded,
    readable,
)
from cifake_lib.metadata_origin import text_facts, xmp_facts

CAVEAT = (
    "Metadata is a hint, not a proof: its absence proves nothing, because most websites and apps "
    "strip it, and its presence can be forged with ordinary tools."
)
# Longer values are folded away on the page.
FOLD = 160
_NOTHING = {
    ORIGIN: ("Digital source type", "none stated"),
    GENERATOR: ("Parameters of a generator", "none found"),
    CAMERA: ("EXIF", "none"),
    SOFTWARE: ("Software", "none named"),
}


@dataclass(frozen=True)
class Metadata:
    """What a file says about itself.

    Attributes:
        name: File name as the visitor's computer gave it; escape it for HTML.
        facts: In the order of the groups.
    """

    name: str
    facts: tuple[Fact, ...]

    @property
    def summary(self) -> str:
        """One sentence: what the statements of origin amount to."""
        claims = {fact.suggests for fact in self.facts} - {""}
        if len(claims) == 2:
            return "The file contradicts itself: some entries say FAKE, others REAL."
        if claims:
            names = dict.fromkeys(fact.name for fact in self.facts if fact.suggests)
            return f"The file itself says {claims.pop()}: {'; '.join(names)}."
        return "The file does not say how the picture was made."


def read_metadata(data: bytes, *, name: str) -> Metadata:
    """Read what a file says about itself, without decoding a pixel.

    Args:
        data: The whole file, untrusted; beyond `MAX_BYTES` only its size and hash are taken.
        name: How the result calls the file.

    Returns:
        The facts. Never raises: a damaged block gives the fact that it is unreadable.
    """
    name = readable(name, limit=255)
    digest = hashlib.sha256(data).hexdigest()
    facts = [Fact(FILE, "Size", f"{len(data):,} bytes"), Fact(FILE, "SHA-256", digest)]
    if len(data) > MAX_BYTES:
        limit = f"not read: larger than {MAX_BYTES // 2**20} MB"
        return Metadata(name, (*facts, Fact(FILE, "Content", limit)))
    contents = read_contents(data)
    facts += _file_facts(contents)
    facts += guarded(ORIGIN, "XMP", lambda: xmp_facts(contents.xmp)) if contents.xmp else []
    facts += guarded(CREDENTIALS, "Manifest", lambda: credential_facts(data))
    facts += guarded(SOFTWARE, "Text blocks", lambda: text_facts(contents.texts))
    facts += guarded(CAMERA, "EXIF", lambda: _exif(contents))
    found = {fact.group for fact in facts}
    facts += [Fact(group, *rest) for group, rest in _NOTHING.items() if group not in found]
    return Metadata(name, tuple(sorted(facts, key=lambda fact: GROUPS.index(fact.group))))


def _file_facts(contents: Contents) -> list[Fact]:
    facts = [Fact(FILE, "Format", contents.format or "not recognised")]
    if contents.mode:
        facts.append(Fact(FILE, "Colours", contents.mode))
    if any(contents.size):
        width, height = contents.size
        facts.append(Fact(FILE, "Width × height", f"{width:,} × {height:,} pixels"))
    if contents.damaged and contents.format:
        facts.append(Fact(FILE, "Rest of the file", UNREADABLE))
    return facts + [Fact(ENCODER, name, value) for name, value in contents.encoder.items()]


def _exif(contents: Contents) -> list[Fact]:
    thumbnails = contents.thumbnails
    facts = []
    if contents.exif:
        tags = read_tags(contents.exif)
        thumbnails += tags.thumbnails()
        texts = text_facts(list(tags.texts().items()))
        shown = {fact.value for fact in texts}
        facts = texts + [fact for fact in exif_facts(tags) if fact.value not in shown]
    if contents.format in ("JPEG", "TIFF"):
        facts.append(Fact(ENCODER, "Embedded thumbnails", str(thumbnails)))
    return facts


def metadata_html(metadata: Metadata) -> str:
    """Lay out the facts as an accessible table.

    Args:
        metadata: As `read_metadata` returns it.

    Returns:
        HTML with every text from the file escaped, and long values folded.
    """
    bodies = []
    for group, facts in groupby(metadata.facts, key=lambda fact: fact.group):
        head = f'<tr><th scope="rowgroup" colspan="2">{escape(group)}</th></tr>'
        bodies.append(f"<tbody>{head}{''.join(_row(fact) for fact in facts)}</tbody>")
    return f"""
<div class="cf-metadata">
<p><b>{escape(metadata.summary)}</b> {escape(CAVEAT)}</p>
<div class="cf-scroll"><table class="cf-table cf-left cf-facts">
<caption>Metadata of {escape(metadata.name)}</caption>
{"".join(bodies)}</table></div></div>"""


def _row(fact: Fact) -> str:
    value = escape(fact.value)
    if len(fact.value) > FOLD:
        start = escape(fact.value[: FOLD // 2])
        value = f"<details><summary>{start} …</summary><pre>{value}</pre></details>"
    if fact.suggests:
        value = f'<b class="cf-{fact.suggests}">says {fact.suggests}</b> {value}'
    return f'<tr><th scope="row">{escape(fact.name)}</th><td>{value}</td></tr>'


def metadata_json(metadata: Metadata) -> dict:
    """Return the facts as plain lists and dictionaries, for a report or a download.

    Args:
        metadata: As `read_metadata` returns it.

    Returns:
        `name`, `summary`, `caveat`, and `facts` with group, name, value and suggests.
    """
    return {
        "name": metadata.name,
        "summary": metadata.summary,
        "caveat": CAVEAT,
        "facts": [asdict(fact) for fact in metadata.facts],
    }
