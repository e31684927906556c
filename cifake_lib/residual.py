"""Spectrum and noise of a picture: an illustration of traces, not evidence.

Generators, cameras and compression leave traces in the fine detail of a picture. Here they are made
visible; nobody has measured how often such a display misleads, so it is given no weight.
"""

from __future__ import annotations

import base64
import io
import logging
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageFilter

from cifake_lib.analyst import SCOPE_MODEL
from cifake_lib.dashboard_cards import ICONS
from cifake_lib.runs import RunDamaged
from cifake_lib.spectrum import BINS, mean_spectrum, ring_means

if TYPE_CHECKING:
    from cifake_lib.analyst import Analyst
    from cifake_lib.dashboard_evidence import Subject

SMALLEST, LARGEST = 8, 512  # sides in pixels of the middle square whose spectrum is taken
RESIDUAL_SIDE = 256  # pixels; of the part whose noise is shown, at its own scale
AMPLIFIED = 8

STYLE = """
.cifake .cf-traces { display:flex; flex-wrap:wrap; gap:14px 22px; align-items:flex-start;
  margin:0 0 10px; }
.cifake .cf-traces figure { margin:0; flex:0 1 200px; min-width:0; }
.cifake .cf-traces figure.cf-profile { flex:1 1 260px; max-width:340px; }
.cifake .cf-traces img { display:block; width:200px; height:200px; object-fit:contain; margin:0;
  border-radius:6px; image-rendering:pixelated; }
.cifake .cf-traces figcaption { color:var(--muted); font-size:12.5px; line-height:1.4;
  margin-top:5px; }
.cf-profile svg { display:block; width:100%; height:auto; }
.cf-profile polyline { fill:none; stroke:var(--ink); stroke-width:2.2; }
.cf-profile polyline.cf-REAL { stroke:var(--real); stroke-width:1.8; stroke-dasharray:7 4; }
.cf-profile polyline.cf-FAKE { stroke:var(--fake); stroke-width:1.8; stroke-dasharray:2 3; }
.cf-profile line { stroke:var(--line); }
.cf-profile text { fill:var(--muted); font-size:11px; }
"""

logger = logging.getLogger(__name__)


def noise_residual(image: Image.Image) -> np.ndarray:
    """Return what a median filter takes away from the middle of a picture.

    Args:
        image: RGB, of any size.

    Returns:
        uint8 `(H, W, 3)`, at most `RESIDUAL_SIDE` a side at the scale of the picture, which
        shrinking would rob of its noise: the picture less its median over 3 × 3 pixels,
        `AMPLIFIED` times around the grey of 128.
    """
    middle = _middle(image, min(image.width, RESIDUAL_SIDE), min(image.height, RESIDUAL_SIDE))
    smooth = middle.filter(ImageFilter.MedianFilter(3))
    taken = np.asarray(middle, dtype=np.int16) - np.asarray(smooth, dtype=np.int16)
    return np.clip(128 + AMPLIFIED * taken, 0, 255).astype(np.uint8)


def spectrum_html(subject: Subject) -> str:
    """Lay out the spectrum of a picture and its noise.

    Args:
        subject: The picture.
    """
    image = subject.image
    if min(image.size) < SMALLEST:
        return (
            f"<p>This picture has {image.width} × {image.height} pixels, too few for a spectrum: "
            f"at least {SMALLEST} on each side are needed.</p>"
        )
    side = min(2 ** (min(image.size).bit_length() - 1), LARGEST)
    part = np.asarray(_middle(image, side, side))[None]
    # The lowest ring holds nothing but the mean, which is taken away before.
    profile = ring_means(part, bins=min(side // 2, 2 * BINS))[0, 1:]
    known = _known_profiles(subject.analyst) if image.size == (2 * BINS, 2 * BINS) else {}
    known_lines = " and of the training images" if known else ""
    noise = noise_residual(image)
    return f"""
<p><b>An illustration, not evidence: the verdict does not come from here.</b></p>
<div class="cf-traces">
<figure><img src="{_png(_shown(mean_spectrum(part)))}" alt="power spectrum of the picture: coarse
structure in the middle, fine detail at the edges; brighter is more"><figcaption>Power spectrum
(logarithm) of the middle {side} × {side} pixels: coarse structure in the middle, fine detail at the
edges</figcaption></figure>
<figure class="cf-profile">{_profile_lines({"": profile, **known}, known_lines)}
<figcaption>{_legend(known)}</figcaption></figure>
<figure><img src="{_png(noise)}" alt="noise residual: grey where the picture is smooth, speckled
where it has grain or edges"><figcaption>Noise residual of {noise.shape[1]} × {noise.shape[0]}
pixels, {AMPLIFIED} times amplified: the picture less its median over 3 × 3
pixels</figcaption></figure></div>
<p class="cf-note">Bright dots or a grid away from the middle of the spectrum can come from the
upsampling in a generator; they come as well from re-saving, resizing and regular patterns in the
scene. A camera leaves grain all over the residual, and a part that differs may have been pasted,
painted or merely be smooth or out of focus.</p>"""


def _middle(image: Image.Image, width: int, height: int) -> Image.Image:
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def _shown(spectrum: np.ndarray) -> np.ndarray:
    """Log power as grey levels; a large spectrum at half its size, which hides only speckle."""
    if len(spectrum) > RESIDUAL_SIDE:
        half = len(spectrum) // 2
        spectrum = spectrum.reshape(half, 2, half, 2).mean(axis=(1, 3))
    # A picture's few strongest frequencies would leave all others black.
    low, high = np.percentile(spectrum, (1, 99.9))
    return (255 * np.clip((spectrum - low) / max(high - low, 1e-6), 0, 1)).astype(np.uint8)


def _known_profiles(analyst: Analyst) -> dict[str, np.ndarray]:
    """Mean profiles of the training images by class, without the lowest ring; {} if unknown."""
    if (run := analyst.robustness_of(SCOPE_MODEL)) is None:
        return {}
    try:
        with np.load(run.checked("scope.npz")) as stored:
            means = stored["spectrum_means"]
    except RunDamaged as error:
        logger.warning("no mean spectra: %s", error)
        return {}
    return {"REAL": means[0, 1:], "FAKE": means[1, 1:]}


def _profile_lines(profiles: dict[str, np.ndarray], known_lines: str) -> str:
    values = np.concatenate(list(profiles.values()))
    low, high = np.floor(values.min()), max(np.ceil(values.max()), np.floor(values.min()) + 1)

    def line(name: str, profile: np.ndarray) -> str:
        across = np.linspace(34, 312, len(profile))
        down = 10 + 150 * (high - profile) / (high - low)
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(across, down, strict=True))
        return f'<polyline class="cf-{name or "own"}" points="{points}"/>'

    # The picture's own line comes last, on top of the others.
    lines = "".join(line(name, profile) for name, profile in reversed(profiles.items()))
    said = f"power by frequency, from coarse to fine, of the picture{known_lines}"
    return f"""<svg role="img" aria-label="{said}" viewBox="0 0 320 182">
<line x1="34" y1="10" x2="34" y2="160"/><line x1="34" y1="160" x2="312" y2="160"/>{lines}
<text x="28" y="16" text-anchor="end">{high:.0f}</text>
<text x="28" y="160" text-anchor="end">{low:.0f}</text>
<text x="34" y="176">coarse</text><text x="312" y="176" text-anchor="end">fine</text></svg>"""


def _legend(known: dict[str, np.ndarray]) -> str:
    said = "Power by fineness (logarithm, mean over all directions): line, this picture"
    for name, dashes in (("REAL", "dashed"), ("FAKE", "dotted")):
        if name in known:
            icon = f'<span aria-hidden="true">{ICONS[name]}</span>'
            said += f'; <b class="cf-{name}">{icon} {name}</b> {dashes}, mean of training images'
    return said


def _png(pixels: np.ndarray) -> str:
    """Encode without loss: the blocks of a JPEG would look like traces."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
