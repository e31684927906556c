"""Heat maps of one picture by all models, and whether they mean anything on just this picture.

A heat map looks convincing whether it is right or not. So each is put to a test here (deletion,
Petsiuk et al. 2018, "RISE"), and the page says how the model's maps did when the network forgot
what it had learned (Adebayo et al. 2018), which notebook 06 measured. No gradients are needed.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from functools import lru_cache, partial
from html import escape
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from cifake_lib.corruptions import HIDING_SIGMA, blurred
from cifake_lib.dashboard_cards import ICONS, data_uri
from cifake_lib.images import fit_image
from cifake_lib.names import display_name
from cifake_lib.runs import RunDamaged

if TYPE_CHECKING:
    import keras

    from cifake_lib import engine
    from cifake_lib.analyst import Analyst
    from cifake_lib.dashboard_evidence import Subject
    from cifake_lib.detector import Detector, Verdict

METHOD = "grad_cam"  # as in `explain.METHODS`
STEPS = 10  # equal parts of the pixels that are blurred one after the other
# The same for pictures from so many pixels a side on, each of which takes fifty times as long.
LARGE, STEPS_LARGE = 128, 3
# Quarters of a side by which a map is moved down and to the right: by whole cells of every model's
# last map, so that a moved map is cut as the map itself is.
MOVES = [(down, right) for down in range(4) for right in range(4) if down or right]
# Viridis at equal distances, RGB (van der Walt & Smith 2015): equal steps of heat look equal, also
# to the colour-blind.
VIRIDIS = bytes.fromhex(
    "440154481a6c472f7d41448739568c31688e2a788e23888e"
    "1f988b22a88435b77954c5687ad151a5db36d2e21bfde725"
)

STYLE = """
.cifake .cf-heat { display:flex; flex-wrap:wrap; gap:10px 16px; align-items:flex-start;
  border-top:1px solid var(--line); padding:12px 0; }
.cifake .cf-heat figure { margin:0; flex:0 0 128px; }
.cifake .cf-heat figure.cf-heat-test { flex-basis:190px; }
.cifake .cf-heat img { display:block; width:128px; height:128px; margin:0; border-radius:6px;
  image-rendering:pixelated; }
.cifake .cf-heat figcaption { color:var(--muted); font-size:12px; line-height:1.35;
  margin-top:4px; }
.cifake .cf-heat-said { flex:1 1 240px; min-width:0; }
.cifake .cf-heat-said p { margin:0 0 6px; }
.cf-heat svg { display:block; width:190px; height:128px; }
.cf-heat svg .cf-elsewhere { fill:var(--muted); fill-opacity:.25; }
.cf-heat svg .cf-hottest { fill:none; stroke:var(--ink); stroke-width:2; }
.cf-heat svg .cf-nought { stroke:var(--muted); stroke-width:1; stroke-dasharray:3 3; }
.cf-heat svg text { fill:var(--muted); font-size:10.5px; }
.cifake .cf-ramp { display:flex; gap:8px; align-items:center; color:var(--muted); font-size:13px; }
.cifake .cf-ramp img { width:120px; height:10px; margin:0; border-radius:3px; }
"""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DeletionTest:
    """What blurring a picture bit by bit does to the score of the class that a model called.

    The score is the logit, positive towards that class.

    Attributes:
        shares: `(steps + 1,)`, blurred shares of the pixels, 0–1.
        hottest: `(steps + 1,)`, change of the score while the map's hottest pixels go first.
        elsewhere: `(len(MOVES), steps + 1)`, the same with the map moved to other places.
    """

    shares: np.ndarray
    hottest: np.ndarray
    elsewhere: np.ndarray

    @property
    def change(self) -> float:
        """Mean change of the score, the hottest first: the area over `hottest`, negative."""
        return float(np.trapezoid(self.hottest, self.shares))

    @property
    def changes_elsewhere(self) -> np.ndarray:
        """The same for each other place, `(len(MOVES),)`."""
        return np.trapezoid(self.elsewhere, self.shares, axis=1)

    @property
    def passed(self) -> bool:
        """Whether the hot pixels matter more than as many in any of the other places."""
        return bool(self.change < min(0.0, self.changes_elsewhere.min()))


def maps(detector: Detector, image: Image.Image) -> dict[str, np.ndarray]:
    """Return where each model finds what speaks for the class that it calls an image.

    Args:
        detector: The models.
        image: RGB, of any size.

    Returns:
        By model key float32 `(S, S)`, S the side that the model looks at, from 0 to its maximum 1
        (Grad-CAM, Selvaraju et al. 2017); 0 everywhere where nothing speaks for the class.
    """
    (verdict,) = detector.predict([image])
    return _maps(detector, _seen(detector, image), verdict)


def deletion_test(
    model: engine.Network | keras.Model,
    pixels: np.ndarray,
    heat: np.ndarray,
    label: str,
) -> DeletionTest:
    """Test on one picture whether the pixels that a map names matter (Petsiuk et al. 2018).

    The measure is the same map moved to other places, and not pixels at random: pixels that are
    blurred one here and one there make a texture that the models have never seen, which alone turns
    verdicts.

    Args:
        model: One logit, in the light engine or in Keras.
        pixels: uint8 `(S, S, 3)`, RGB.
        heat: `(S, S)`, as `maps` returns it.
        label: Class that the model calls the picture, "REAL" or "FAKE".

    Returns:
        The curves.
    """
    side, hidden = len(pixels), blurred(pixels, HIDING_SIGMA)
    moved = [np.roll(heat, (down * side // 4, right * side // 4), (0, 1)) for down, right in MOVES]
    flat = np.stack([heat, *moved]).reshape(1 + len(MOVES), -1)
    # Ties are broken at random: in reading order a flat map would look like one of the upper edge.
    order = np.lexsort((np.random.default_rng(0).random(flat.shape), -flat), axis=-1)
    rank = np.argsort(order, axis=-1).reshape(-1, 1, side, side)
    shares = np.linspace(0, 1, 1 + (STEPS if side < LARGE else STEPS_LARGE))
    between = rank < shares[1:-1, None, None] * side**2
    versions = np.where(between[..., None], hidden, pixels).reshape(-1, *pixels.shape)
    # One call for all: each has a cost of its own.
    logits = _logits(model, np.concatenate([pixels[None], hidden[None], versions]))
    changes = (logits - logits[0]) * (1 if label == "FAKE" else -1)
    curves = np.zeros((1 + len(MOVES), len(shares)))
    curves[:, 1:-1] = changes[2:].reshape(len(curves), -1)
    curves[:, -1] = changes[1]
    return DeletionTest(shares, curves[0], curves[1:])


def heat_html(subject: Subject) -> str:
    """Lay out the map of every model beside its tests.

    Args:
        subject: The picture; its maps are made and tested here.
    """
    detector, verdict = subject.analyst.detector, subject.analysis.verdict
    seen, rows, passed = _seen(detector, subject.image), [], []
    for key, heat in _maps(detector, seen, verdict).items():
        pixels, label = seen[key], verdict.models[key].label
        if not heat.any():
            rows.append(
                f"<p>{escape(display_name(key))}: nothing in the picture speaks for {label} in "
                "this network, so there is no map.</p>"
            )
            continue
        test = deletion_test(detector.models[key], pixels, heat, label)
        if test.passed:
            passed.append(display_name(key))
        rows.append(_row(key, label, pixels, heat, test, _likeness(subject.analyst, key)))
    ramp = data_uri(Image.fromarray(_coloured(np.linspace(0, 1, 64)[None])))
    return f"""
<p><b>{escape(_summary(passed, len(rows)))}</b></p>
<p class="cf-ramp"><span>nothing speaks for the class</span><img src="{ramp}" alt="dark to bright">
<span>this place speaks most for it</span></p>
{"".join(rows)}
<p class="cf-note">The models see the picture in few coarse cells, so a map can point at a region
and never at a trace. The test blurs the hottest pixels first, then more, until all are blurred, and
does the same with the map moved to {len(MOVES)} other places. A map passes if it costs the score
more than each of them; a map without meaning passes one time in {len(MOVES) + 1}. The score is the
logit of the network without averaging over views: three units take a probability from 50&nbsp;% to
95&nbsp;%. The likeness to maps of random weights is a rank correlation, measured by notebook 06 on
test images: at 0 a map shows what the network has learned, at 1 only the picture.</p>"""


def _seen(detector: Detector, image: Image.Image) -> dict[str, np.ndarray]:
    """What each model sees of an image, uint8 `(S, S, 3)` by key."""
    # Once for all that see the same: shrinking a photograph takes longer than their answers.
    fit = lru_cache(partial(fit_image, image))
    return {key: fit(*run.input_contract) for key, run in detector.runs.items()}


def _maps(
    detector: Detector, seen: dict[str, np.ndarray], verdict: Verdict
) -> dict[str, np.ndarray]:
    return {
        key: _map(model, seen[key], verdict.models[key].label)
        for key, model in detector.models.items()
    }


def _map(model: engine.Network | keras.Model, pixels: np.ndarray, label: str) -> np.ndarray:
    if not hasattr(model, "look"):
        from cifake_lib import explain  # Brings TensorFlow, which a model in Keras has brought.

        return explain.grad_cam(model, pixels[None], method=METHOD)[0]
    cells = model.look(pixels[None])[1][0]
    towards = np.maximum(cells if label == "FAKE" else -cells, 0).astype(np.float32)
    enlarged = Image.fromarray(towards).resize(pixels.shape[:2], Image.Resampling.BILINEAR)
    heat = np.asarray(enlarged)
    return heat / heat.max() if heat.any() else heat


def _logits(model: engine.Network | keras.Model, images: np.ndarray) -> np.ndarray:
    """Logits of the very network that a map explains, without averaging; float64 `(N,)`."""
    if hasattr(model, "logits"):
        return model.logits(images).ravel().astype(np.float64)
    from cifake_lib import explain

    return explain.unwrapped(model).predict(images, verbose=0).ravel().astype(np.float64)


def _likeness(analyst: Analyst, key: str) -> float:
    """Rank correlation with maps of random weights, as notebook 06 measured it; NaN if unknown."""
    if (run := analyst.robustness_of(key)) is None:
        return math.nan
    try:
        rows = {(row["model"], row["method"]): row for row in run.read_rows("explanations.csv")}
        return float(rows[key, METHOD]["rank_correlation"])
    except (RunDamaged, KeyError) as error:
        logger.warning("no check with random weights: %s", error)
        return math.nan


def _summary(passed: list[str], count: int) -> str:
    if not passed:
        return "No map passes its test on this picture: read nothing into any of them."
    if len(passed) == count:
        said = "The map passes" if count == 1 else "All maps pass"
        return f"{said} the test on this picture: the hot regions matter to the models."
    verb = "passes" if len(passed) == 1 else "pass"
    return (
        f"{len(passed)} of {count} maps {verb} the test on this picture: {', '.join(passed)}. Read "
        "nothing into the rest."
    )


def _row(
    key: str, label: str, pixels: np.ndarray, heat: np.ndarray, test: DeletionTest, likeness: float
) -> str:
    name = escape(display_name(key))
    low, high = np.sort(test.changes_elsewhere)[[0, -1]]
    areas = (
        f"blurring them first changes the score of {label} by {_signed(test.change)} on average, "
        f"blurring as many in other places by {_signed(test.changes_elsewhere.mean())} "
        f"({_signed(low)} to {_signed(high)})"
    )
    verdict = "more than others"
    if not test.passed:
        verdict = "no more than others, so read nothing into the map"
    forgotten = ""
    if not math.isnan(likeness):
        forgotten = f"<p>Likeness to maps of the network with random weights: {likeness:.2f}.</p>"
    side = len(pixels)
    grey = pixels @ np.float32([0.299, 0.587, 0.114])
    overlay = (0.45 * grey[..., None] + 0.55 * _coloured(heat)).astype(np.uint8)
    return f"""
<div class="cf-heat"><figure><img src="{data_uri(Image.fromarray(pixels))}"
alt="the picture as {name} sees it"><figcaption>as {name} sees it, {side} × {side}</figcaption>
</figure><figure><img src="{data_uri(Image.fromarray(overlay))}"
alt="heat map of {name} over the picture in grey"><figcaption>bright: speaks for {label}
</figcaption></figure>
<figure class="cf-heat-test">{_curves(test, areas)}<figcaption>score of {label} from the first
blurred pixel to the last; line: hottest first, band: other places</figcaption></figure>
<div class="cf-heat-said"><p><b>{name}</b> calls it <b class="cf-{label}"><span
aria-hidden="true">{ICONS[label]}</span> {label}</b>.</p>
<p><b>Hot pixels matter {verdict}</b>: {areas}.</p>{forgotten}</div></div>"""


def _curves(test: DeletionTest, areas: str) -> str:
    every = np.concatenate([test.hottest[None], test.elsewhere])
    low, high = every.min(), max(every.max(), every.min() + 1e-6)

    def points(values: np.ndarray, shares: np.ndarray) -> str:
        across, down = 36 + 150 * shares, 8 + 108 * (high - values) / (high - low)
        return " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(across, down, strict=True))

    band = points(test.elsewhere.max(axis=0), test.shares)
    band += " " + points(test.elsewhere.min(axis=0)[::-1], test.shares[::-1])
    nought = points(np.zeros(2), np.array([0.0, 1.0]))
    ends = "".join(
        f'<text x="32" y="{y}" text-anchor="end">{_signed(value)}</text>'
        for value, y in ((high, 12), (low, 116))
    )
    return f"""<svg role="img" aria-label="{areas}" viewBox="0 0 190 128">
<polygon class="cf-elsewhere" points="{band}"/><polyline class="cf-nought" points="{nought}"/>
<polyline class="cf-hottest" points="{points(test.hottest, test.shares)}"/>{ends}
<text x="36" y="127">0 %</text><text x="186" y="127" text-anchor="end">100 % blurred</text></svg>"""


def _signed(value: float) -> str:
    return f"{value:+.1f}".replace("-", "−")


def _coloured(heat: np.ndarray) -> np.ndarray:
    """Heat `(H, W)` from 0 to 1 as uint8 `(H, W, 3)`."""
    colours = np.frombuffer(VIRIDIS, np.uint8).reshape(-1, 3)
    places = np.linspace(0, 1, len(colours))
    mixed = np.stack([np.interp(heat, places, channel) for channel in colours.T], axis=-1)
    return np.rint(mixed).astype(np.uint8)
