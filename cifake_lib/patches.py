"""Two views of a large picture: shrunk to what the models see, and voting of cut-outs of that size.

Shrinking throws away the fine traces of a generator, cutting out throws away what is shown. Where
both views disagree, at least one of them is wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from html import escape
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from cifake_lib.dashboard_cards import ICONS, PREVIEW, data_uri, percent
from cifake_lib.detector import ModelVerdict
from cifake_lib.images import fit_image

if TYPE_CHECKING:
    from cifake_lib.dashboard_evidence import Subject
    from cifake_lib.detector import Detector

SIDE = 32  # pixels of a patch, that of the images in CIFAKE
MOST = 48  # patches; through all three models they take about a second on two cores
SMALLEST = 2 * SIDE  # side of a picture from which on it has patches to vote
# Standard deviation in grey levels of the channel that varies most: below, a patch is noise on one
# colour. The images of CIFAKE all vary at least twice as much.
FLAT = 5.0

STYLE = """
.cifake .cf-views { display:flex; flex-wrap:wrap; gap:16px 32px; align-items:flex-start;
  margin:0 0 10px; }
.cifake .cf-views figure { margin:0; flex:1 1 170px; min-width:0; }
.cifake .cf-views figure:last-child { flex:2 1 300px; }
.cifake .cf-views figcaption { font-size:13.5px; color:var(--muted); }
.cifake .cf-views figcaption b, .cifake .cf-views figcaption .cf-lean { color:var(--ink); }
.cf-views figcaption > * { display:block; }
.cifake .cf-views .cf-lean { font-size:19px; line-height:1.5; }
.cifake .cf-views .cf-lean b.cf-REAL { color:var(--real); }
.cifake .cf-views .cf-lean b.cf-FAKE { color:var(--fake-ink); }
.cifake .cf-views img { display:block; width:128px; height:128px; image-rendering:pixelated;
  border-radius:6px; margin:8px 0 0; }
.cifake .cf-views .cf-legend { display:flex; flex-wrap:wrap; gap:2px 16px; font-size:13.5px;
  margin:6px 0 2px; }
.cf-map { display:block; width:100%; max-width:480px; max-height:420px; margin:8px 0 0;
  border-radius:6px; }
.cf-map rect { fill-opacity:.34; stroke:var(--paper); stroke-width:1; stroke-opacity:.8;
  vector-effect:non-scaling-stroke; }
.cf-map path { stroke:var(--paper); stroke-width:1.5; vector-effect:non-scaling-stroke;
  paint-order:stroke; }
.cf-map .cf-REAL { fill:var(--real); } .cf-map .cf-FAKE { fill:var(--fake); }
.cf-map rect.cf-flat { fill:var(--muted); fill-opacity:.12; stroke-dasharray:4 3; }
.cf-map path.cf-flat { fill:var(--muted); }
"""

# Shapes of `ICONS` in a box from -1 to 1; flat patches get a dash.
_SHAPES = {
    "REAL": "M-1 0A1 1 0 1 1 1 0A1 1 0 1 1-1 0Z",
    "FAKE": "M0-1.2 1.2 0 0 1.2-1.2 0Z",
    "flat": "M-1-.2H1V.2H-1Z",
}


@dataclass(frozen=True)
class PatchVote:
    """What the models say of patches of a picture, each judged by itself.

    Attributes:
        columns: Of the grid.
        rows: Of the grid.
        corners: Left and top of each patch in pixels, row by row.
        p_fake: Probability of FAKE of each patch by the ensemble, 0–1; None for a flat one, which
            has no vote.
    """

    columns: int
    rows: int
    corners: tuple[tuple[int, int], ...]
    p_fake: tuple[float | None, ...]

    @cached_property
    def votes(self) -> tuple[ModelVerdict, ...]:
        """The verdicts on patches that are not flat."""
        return tuple(ModelVerdict(p_fake) for p_fake in self.p_fake if p_fake is not None)

    @property
    def share_fake(self) -> float | None:
        """Share of the votes for FAKE, 0–1; None without any vote."""
        if not self.votes:
            return None
        return sum(vote.label == "FAKE" for vote in self.votes) / len(self.votes)

    @property
    def together(self) -> ModelVerdict | None:
        """The sigmoid of the mean logit of the votes; None without any vote."""
        if not self.votes:
            return None
        p_fake = np.clip([vote.p_fake for vote in self.votes], 1e-6, 1 - 1e-6)
        mean = np.log(p_fake / (1 - p_fake)).mean()
        return ModelVerdict(float(1 / (1 + np.exp(-mean))))


def vote(detector: Detector, image: Image.Image) -> PatchVote:
    """Let patches of a picture vote, cut out at its own scale.

    Args:
        detector: The models; all of them judge each patch.
        image: RGB, both sides at least `SMALLEST`.

    Returns:
        At most `MOST` votes of patches that do not overlap, spread evenly.

    Raises:
        ValueError: The picture is too small for two by two patches.
    """
    width, height = image.size
    if min(width, height) < SMALLEST:
        raise ValueError(f"expected sides of at least {SMALLEST}, received {width} × {height}")
    columns, rows = _grid(width, height)
    corners = tuple(
        (
            (2 * column + 1) * width // (2 * columns) - SIDE // 2,
            (2 * row + 1) * height // (2 * rows) - SIDE // 2,
        )
        for row in range(rows)
        for column in range(columns)
    )
    patches = [np.array(image.crop((left, top, left + SIDE, top + SIDE))) for left, top in corners]
    textured = [patch.std(axis=(0, 1)).max() >= FLAT for patch in patches]
    verdicts = iter(
        detector.predict([patch for patch, kept in zip(patches, textured, strict=True) if kept])
    )
    p_fake = tuple(next(verdicts).p_fake if kept else None for kept in textured)
    return PatchVote(columns, rows, corners, p_fake)


def _grid(width: int, height: int) -> tuple[int, int]:
    """As many cells as allowed, of those grids the one with the squarest cells."""
    grids = [
        (columns, rows)
        for columns in range(2, width // SIDE + 1)
        for rows in range(2, min(height // SIDE, MOST // columns) + 1)
    ]

    def rank(grid: tuple[int, int]) -> tuple[int, float]:
        columns, rows = grid
        return columns * rows, -round(abs(np.log(width * rows / (height * columns))), 9)

    return max(grids, key=rank)


def patch_html(subject: Subject) -> str:
    """Lay out both views of a picture, with a map of the second.

    Args:
        subject: The picture; its patches are judged here.
    """
    width, height = subject.image.size
    if min(width, height) < SMALLEST:
        return (
            f"<p>This picture has {width} × {height} pixels. A second view needs at least "
            f"{SMALLEST} on each side, room for two by two cut-outs of {SIDE} × {SIDE}, so there "
            "is none.</p>"
        )
    votes = vote(subject.analyst.detector, subject.image)
    return f"""
<p><b>{_comparison(subject, votes)}</b></p>
<div class="cf-views">{_shrunk_view(subject)}{_patch_view(subject, votes)}</div>
<p class="cf-note">The models learnt from pictures of whole things, shrunk to {SIDE} × {SIDE}. A
cut-out of a photograph at its own scale is outside what they know: these models were not measured
on any, and models of this kind are near chance there. Take the second view as a question put to
the first, not as an answer.</p>"""


def _comparison(subject: Subject, votes: PatchVote) -> str:
    if votes.together is None:
        return "All patches are nearly of one colour, so the second view has no vote."
    first, second = subject.analysis.verdict.label, votes.together.label
    if first == second:
        said = f"Both views lean to {first}."
        return f"{said} Two views by the same models that agree are no proof."
    return (
        f"The two views disagree: shrunk the picture looks {first} to the models, its patches "
        f"look {second}. At least one view is wrong, so rely on neither."
    )


def _shrunk_view(subject: Subject) -> str:
    detector = subject.analyst.detector
    size, squashed = detector.input_size, detector.crop == "squash"
    word = subject.analysis.record.verdict
    status = "This is the verdict above."
    if word == "UNCERTAIN":
        status = "The verdict above is UNCERTAIN; this is where it leans."
    if subject.image.width != subject.image.height and not squashed:
        status += " Beyond the middle square nothing is seen."
    source = data_uri(Image.fromarray(fit_image(subject.image, size, detector.crop)))
    part = "picture" if squashed else "middle of the picture"
    alt = f"the {part} shrunk to {size} × {size} pixels"
    return f"""
<figure><figcaption><b>Shrunk to {size} × {size}, as the training images were</b>
{_lean(subject.analysis.verdict)}<span>{status}</span></figcaption>
<img src="{source}" alt="{alt}"></figure>"""


def _patch_view(subject: Subject, votes: PatchVote) -> str:
    count, flat = len(votes.votes), len(votes.p_fake) - len(votes.votes)
    width, height = subject.image.size
    cover = 100 * len(votes.corners) * SIDE**2 / (width * height)
    cover = f"{cover:.0f}" if cover >= 1 else f"{cover:.1g}"
    fake = sum(vote.label == "FAKE" for vote in votes.votes)
    said = f"{fake} of {count} patches look FAKE, {count - fake} REAL"
    if flat:
        said += f"; {flat} nearly of one colour {'was' if flat == 1 else 'were'} left out"
    lean = f"{_lean(votes.together)}<span>A lean, not a verdict.</span>" if count else ""
    # Each cell shows the one patch in its middle, which alone would be a dot on a large picture.
    return f"""
<figure><figcaption><b>Vote of {count} native {SIDE} × {SIDE} patches</b>
{lean}<span>{said}.</span></figcaption>
{_map(subject, votes, said)}
<p class="cf-legend"><span><b class="cf-FAKE">{ICONS["FAKE"]}</b> patch looks FAKE</span>
<span><b class="cf-REAL">{ICONS["REAL"]}</b> patch looks REAL</span>
<span><b>–</b> nearly of one colour, no vote</span></p>
<p class="cf-note">Each cell shows the vote of one patch of {SIDE} × {SIDE} pixels in its middle;
together the patches cover {cover}&nbsp;% of the picture.</p></figure>"""


def _lean(verdict: ModelVerdict) -> str:
    word = verdict.label
    return (
        f'<span class="cf-lean"><b class="cf-{word}"><span aria-hidden="true">{ICONS[word]}</span> '
        f"{word}</b> {percent(verdict.confidence)}</span>"
    )


def _map(subject: Subject, votes: PatchVote, said: str) -> str:
    """The picture under a cell for each patch, in the picture's own pixels."""
    width, height = subject.image.size
    preview = subject.image.copy()
    preview.thumbnail((PREVIEW, PREVIEW))
    across, down = width / votes.columns, height / votes.rows
    mark = min(across, down) * 0.16
    cells = []
    for place, p_fake in enumerate(votes.p_fake):
        row, column = divmod(place, votes.columns)
        kind, answer = "flat", "nearly of one colour"
        if p_fake is not None:
            verdict = ModelVerdict(p_fake)
            kind, answer = verdict.label, f"{verdict.label} {percent(verdict.confidence)}"
        left, top = column * across, row * down
        cells.append(
            f"<g><title>row {row + 1}, column {column + 1}: {answer}</title>"
            f'<rect class="cf-{kind}" x="{left:.1f}" y="{top:.1f}" width="{across:.1f}" '
            f'height="{down:.1f}"/><path class="cf-{kind}" d="{_SHAPES[kind]}" transform='
            f'"translate({left + across / 2:.1f} {top + down / 2:.1f}) scale({mark:.2f})"/></g>'
        )
    alt = f"Map of the patches of {escape(subject.name)}: {said}"
    return (
        f'<svg class="cf-map" role="img" aria-label="{alt}" viewBox="0 0 {width} {height}">'
        f'<image href="{data_uri(preview)}" width="{width}" height="{height}"/>'
        f"{''.join(cells)}</svg>"
    )
