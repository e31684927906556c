"""Two views of a large picture: as the models see it, and voting of cut-outs at a finer scale.

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
# Patches; through the three models of CIFAKE they take about a second on two cores, and through
# that of photographs, which sees fifty times the pixels, two.
MOST, MOST_LARGE = 48, 16
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
        side: Of a patch in the picture's own pixels.
        corners: Left and top of each patch in pixels, row by row.
        p_fake: Probability of FAKE of each patch by the ensemble, 0–1; None for a flat one, which
            has no vote.
    """

    columns: int
    rows: int
    side: int
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

    To models of 32 pixels a patch has as many. To a model of photographs it has the side that it
    looks at, or half the shorter side of a picture that is too small for two by two of those.

    Args:
        detector: The models; all of them judge each patch.
        image: RGB, both sides at least `SMALLEST`.

    Returns:
        At most `MOST` votes, or `MOST_LARGE`, of patches that do not overlap, spread evenly.

    Raises:
        ValueError: The picture is too small for two by two patches.
    """
    width, height = image.size
    if min(width, height) < SMALLEST:
        raise ValueError(f"expected sides of at least {SMALLEST}, received {width} × {height}")
    side, most = SIDE, MOST
    if detector.sees_photographs:
        side, most = min(detector.input_size, min(width, height) // 2), MOST_LARGE
    columns, rows = _grid(width // side, height // side, most, width / height)
    corners = tuple(
        (
            (2 * column + 1) * width // (2 * columns) - side // 2,
            (2 * row + 1) * height // (2 * rows) - side // 2,
        )
        for row in range(rows)
        for column in range(columns)
    )
    patches = [np.array(image.crop((left, top, left + side, top + side))) for left, top in corners]
    textured = [patch.std(axis=(0, 1)).max() >= FLAT for patch in patches]
    voting = [patch for patch, kept in zip(patches, textured, strict=True) if kept]
    verdicts = iter(detector.predict(voting, several_views=False))
    p_fake = tuple(next(verdicts).p_fake if kept else None for kept in textured)
    return PatchVote(columns, rows, side, corners, p_fake)


def _grid(across: int, down: int, most: int, shape: float) -> tuple[int, int]:
    """As many cells as allowed, of those grids the one with the squarest cells.

    Args:
        across: Patches that fit beside each other.
        down: Patches that fit below each other.
        most: Cells of the grid.
        shape: Width of the picture divided by its height.
    """
    grids = [
        (columns, rows)
        for columns in range(2, across + 1)
        for rows in range(2, min(down, most // columns) + 1)
    ]

    def rank(grid: tuple[int, int]) -> tuple[int, float]:
        columns, rows = grid
        return columns * rows, -round(abs(np.log(shape * rows / columns)), 9)

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
<div class="cf-views">{_whole_view(subject)}{_patch_view(subject, votes)}</div>
<p class="cf-note">{_NOTES[subject.analyst.detector.sees_photographs]}</p>"""


# What to think of the second view, of models of small images and of that of photographs.
_NOTES = {
    False: f"""The models learnt from pictures of whole things, shrunk to {SIDE} × {SIDE}. A
cut-out of a photograph at its own scale is outside what they know: these models were not measured
on any, and models of this kind are near chance there. Take the second view as a question put to
the first, not as an answer.""",
    True: """The model learnt from parts of pictures whose shorter side had some 130 to 310 pixels.
Cut-outs of a larger picture show finer detail than it knows, and no vote of cut-outs was measured.
A place that stands out is one to look at, not a proof that something was put there.""",
}


def _comparison(subject: Subject, votes: PatchVote) -> str:
    if votes.together is None:
        return "All patches are nearly of one colour, so the second view has no vote."
    first, second = subject.analysis.verdict.label, votes.together.label
    if first == second:
        said = f"Both views lean to {first}."
        return f"{said} Two views by the same models that agree are no proof."
    seen = "as a whole" if subject.analyst.detector.sees_photographs else "shrunk"
    return (
        f"The two views disagree: {seen} the picture looks {first} to the models, its patches "
        f"look {second}. At least one view is wrong, so rely on neither."
    )


def _whole_view(subject: Subject) -> str:
    detector = subject.analyst.detector
    size, squashed = detector.input_size, detector.crop == "squash"
    word = subject.analysis.record.verdict
    status = "This is the verdict above."
    if word == "UNCERTAIN":
        status = "The verdict above is UNCERTAIN; this is where it leans."
    heading = f"Shrunk to {size} × {size}, as the training images were"
    if detector.sees_photographs:
        heading = f"Shrunk to {size} × {size}, and parts of it at a slightly larger scale"
        status += " The mean over all of these; the first is shown."
    elif subject.image.width != subject.image.height and not squashed:
        status += " Beyond the middle square nothing is seen."
    source = data_uri(Image.fromarray(fit_image(subject.image, size, detector.crop)))
    part = "picture" if squashed else "middle of the picture"
    alt = f"the {part} shrunk to {size} × {size} pixels"
    return f"""
<figure><figcaption><b>{heading}</b>
{_lean(subject.analysis.verdict)}<span>{status}</span></figcaption>
<img src="{source}" alt="{alt}"></figure>"""


def _patch_view(subject: Subject, votes: PatchVote) -> str:
    count, flat = len(votes.votes), len(votes.p_fake) - len(votes.votes)
    width, height = subject.image.size
    cover, side = 100 * len(votes.corners) * votes.side**2 / (width * height), votes.side
    cover = f"{cover:.0f}" if cover >= 1 else f"{cover:.1g}"
    fake = sum(vote.label == "FAKE" for vote in votes.votes)
    said = f"{fake} of {count} patches look FAKE, {count - fake} REAL"
    if flat:
        said += f"; {flat} nearly of one colour {'was' if flat == 1 else 'were'} left out"
    lean = f"{_lean(votes.together)}<span>A lean, not a verdict.</span>" if count else ""
    # Each cell shows the one patch in its middle, which alone would be a dot on a large picture.
    return f"""
<figure><figcaption><b>Vote of {count} native {side} × {side} patches</b>
{lean}<span>{said}.</span></figcaption>
{_map(subject, votes, said)}
<p class="cf-legend"><span><b class="cf-FAKE">{ICONS["FAKE"]}</b> patch looks FAKE</span>
<span><b class="cf-REAL">{ICONS["REAL"]}</b> patch looks REAL</span>
<span><b>–</b> nearly of one colour, no vote</span></p>
<p class="cf-note">Each cell shows the vote of one patch of {side} × {side} pixels in its middle;
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
    mark = min(0.16 * min(across, down), 0.03 * max(width, height))
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
