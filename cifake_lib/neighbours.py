"""The training images that a picture is most like, as the ResNet-50 sees it.

Features from inside a network order images by what they show and how they look to it; near ones are
shown as examples of what the models know, never as evidence of where a picture comes from.
"""

from __future__ import annotations

import io
import logging
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from cifake_lib.analyst import SCOPE_MODEL
from cifake_lib.dashboard_cards import ICONS, data_uri
from cifake_lib.images import fit_image
from cifake_lib.runs import PHOTO_MODEL, RunDamaged
from cifake_lib.scope import features

if TYPE_CHECKING:
    import keras

    from cifake_lib import engine
    from cifake_lib.dashboard_evidence import Subject

FILE = "neighbours.npz"
DIMENSIONS = 64  # of the reduced features; the order of the nearest hardly changes with more
SHOWN = 96  # pixels a side that the page has for an image
CLASSES = ("REAL", "FAKE")  # by label, as in `data`, which brings scikit-learn
NONE_KEPT = (
    "<p>No training images are kept beside these models. Notebook 06 keeps some: run it for them "
    "with <code>python -m cifake_lib.pipeline --only robustness</code>.</p>"
)
NOT_OURS = (
    "<p>The pictures that the model of photographs learnt from belong to others and are no part of "
    "this project, so none can be shown. Its card lists their sources.</p>"
)

STYLE = """
.cifake .cf-near { display:flex; flex-wrap:wrap; gap:12px 16px; margin:0 0 10px; padding:0;
  list-style:none; }
.cifake .cf-near li { margin:0; width:96px; font-size:13.5px; line-height:1.4; }
.cifake .cf-near li:first-child { padding-right:16px; border-right:1px solid var(--line); }
.cifake .cf-near img { display:block; width:96px; height:96px; margin:0 0 4px; border-radius:6px;
  image-rendering:pixelated; }
.cifake .cf-near span.cf-alike { color:var(--muted); display:block; }
"""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Bank:
    """Training images with their places among the reduced features of a network.

    Attributes:
        images: uint8 `(N, S, S, 3)`, RGB, at most `SHOWN` pixels a side.
        labels: uint8 `(N,)`, 0 for REAL and 1 for FAKE.
        mean: float32 `(D,)`, mean of the features.
        axes: float16 `(D, K)`, their principal components.
        places: float16 `(N, K)`, where the images lie, each of length 1.
    """

    images: np.ndarray
    labels: np.ndarray
    mean: np.ndarray
    axes: np.ndarray
    places: np.ndarray

    @classmethod
    def fit(
        cls, network: keras.Model | engine.Network, images: np.ndarray, labels: np.ndarray
    ) -> Bank:
        """Keep images, small ones to be looked at, and reduce what a network sees in them.

        Args:
            network: Whose features are compared.
            images: uint8 `(N, S, S, 3)`, RGB; a few hundred.
            labels: `(N,)`, 0 for REAL and 1 for FAKE.
        """
        seen = features(network, images)
        mean = seen.mean(axis=0)
        axes = np.linalg.svd(seen - mean, full_matrices=False)[2][:DIMENSIONS].T
        # In the precision of the file, so that an image of the bank is just like itself.
        axes = axes.astype(np.float16)
        if images.shape[1] > SHOWN:
            images = np.stack([fit_image(Image.fromarray(image), SHOWN) for image in images])
        places = _placed(seen, mean, axes).astype(np.float16)
        return cls(images, labels.astype(np.uint8), mean, axes, places)

    def nearest(
        self, network: keras.Model | engine.Network, images: np.ndarray, count: int = 6
    ) -> tuple[np.ndarray, np.ndarray]:
        """Find the images of the bank that are most like others.

        Args:
            network: The one it was fitted with.
            images: uint8 `(M, S, S, 3)`, RGB, of the size it was fitted with.
            count: How many to find for each, if there are as many.

        Returns:
            Rows of the bank `(M, count)`, the most similar first; and their cosine similarity of
            reduced features, float32 of the same shape, −1 to 1.
        """
        alike = _placed(features(network, images), self.mean, self.axes) @ self._places.T
        rows = np.argsort(-alike, axis=1, kind="stable")[:, :count]
        return rows, np.take_along_axis(alike, rows, axis=1)

    @cached_property
    def usual(self) -> float:
        """Similarity of an image of the bank to the one most like it, the median over all."""
        alike = self._places @ self._places.T
        np.fill_diagonal(alike, -1)
        return float(np.median(alike.max(axis=1)))

    @property
    def _places(self) -> np.ndarray:
        return self.places.astype(np.float32)

    def save(self, path: Path) -> None:
        """Write to an `.npz` file, the images without loss."""
        # As one tall PNG: its filters save a quarter of what compression alone would take.
        column = io.BytesIO()
        side = self.images.shape[1]
        Image.fromarray(self.images.reshape(-1, side, 3)).save(column, "PNG", optimize=True)
        np.savez_compressed(
            path,
            column=np.frombuffer(column.getvalue(), np.uint8),
            labels=self.labels,
            mean=self.mean,
            axes=self.axes,
            places=self.places,
        )

    @classmethod
    def load(cls, path: Path) -> Bank:
        """Read what `save` wrote."""
        with np.load(path) as stored:
            with Image.open(io.BytesIO(stored["column"].tobytes()), formats=("PNG",)) as column:
                pixels = np.array(column)
            images = pixels.reshape(-1, pixels.shape[1], *pixels.shape[1:])
            return cls(images, *(stored[name] for name in ("labels", "mean", "axes", "places")))


def neighbours_html(subject: Subject) -> str:
    """Lay out the training images that a picture is most like.

    Args:
        subject: The picture; its neighbours are found here.
    """
    if PHOTO_MODEL in subject.analyst.detector.runs:
        return NOT_OURS
    run = subject.analyst.robustness_of(SCOPE_MODEL)
    if run is None or FILE not in run.manifest["files"]:
        return NONE_KEPT
    try:
        bank = Bank.load(run.checked(FILE))
    except RunDamaged as error:
        logger.warning("no neighbours: %s", error)
        return NONE_KEPT
    detector = subject.analyst.detector
    pixels = fit_image(subject.image, *detector.runs[SCOPE_MODEL].input_contract)
    found = bank.nearest(detector.models[SCOPE_MODEL], pixels[None])
    rows, alike = (values[0] for values in found)
    labels = [CLASSES[bank.labels[row]] for row in rows]
    items = "".join(
        _item(bank.images[row], label, similarity, place)
        for place, (row, label, similarity) in enumerate(zip(rows, labels, alike, strict=True), 1)
    )
    fake = labels.count("FAKE")
    return f"""
<p><b>Of the {len(rows)} most similar training images {fake} {"is" if fake == 1 else "are"} FAKE
and {len(rows) - fake} REAL. Likeness is not evidence.</b></p>
<ul class="cf-near"><li><img src="{data_uri(Image.fromarray(pixels))}"
alt="the picture as the models see it">this picture</li>{items}</ul>
<p class="cf-note">They are the nearest of {len(bank.labels)} training images, by the cosine between
what the ResNet-50 sees in them and in this picture before its last layer; 1 is the same. Among
themselves, the nearest of these images is usually alike by {bank.usual:.2f}. A picture can be like
a training image in its motif, colour or blur alone, and every picture has a nearest one, also one
of a kind that the models do not know.</p>"""


def _placed(seen: np.ndarray, mean: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """Features `(N, D)` reduced to `(N, K)`, of length 1."""
    places = (seen - mean) @ axes.astype(np.float32)
    return places / np.maximum(np.linalg.norm(places, axis=1, keepdims=True), 1e-12)


def _item(image: np.ndarray, label: str, similarity: float, place: int) -> str:
    icon = f'<span aria-hidden="true">{ICONS[label]}</span>'
    return f"""
<li><img src="{data_uri(Image.fromarray(image))}"
alt="training image, {place} in likeness, {label}"><b class="cf-{label}">{icon} {label}</b>
<span class="cf-alike">alike by {similarity:.2f}</span></li>"""
