"""What a score came to on the test images, and where fakes are rarer than there."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy.special import logit

from cifake_lib.decisions import checked
from cifake_lib.intervals import share_interval
from cifake_lib.runs import Run

NEIGHBOURS = 100  # at least; fewer tell too little about a share
SAME_SCORE = 0.5  # logits apart: .5 from .38 to .62, .99 from .984 to .994
LEAST_TEST_IMAGES = 400  # of fewer, the nearest hundred are not near
SMALLEST = 1e-6  # scores are stored with six decimals


@dataclass(frozen=True)
class SimilarImages:
    """The test images whose scores are nearest to a score.

    Attributes:
        count: How many there are, at least `NEIGHBOURS`.
        fake: How many of them are FAKE.
        lowest: Lowest p_fake among them, 0–1.
        highest: Highest p_fake among them, 0–1.
        what: What people read for them.
        interval: 95 % interval of the share of FAKE, 0–1; see `intervals.share_interval`.
    """

    count: int
    fake: int
    lowest: float
    highest: float
    what: str = "test images"
    interval: tuple[float, float] = field(init=False)

    def __post_init__(self):
        object.__setattr__(self, "interval", share_interval(self.fake, self.count))

    @property
    def share(self) -> float:
        """Share of FAKE, 0–1."""
        return self.fake / self.count

    @property
    def sentence(self) -> str:
        """The share as a frequency, with its interval and what it was measured on."""
        low, high = math.floor(100 * self.interval[0]), math.ceil(100 * self.interval[1])
        # As many decimals as it takes to tell the ends apart.
        spans = [f"{self.lowest:.{n}f}–{self.highest:.{n}f}" for n in range(2, 7)]
        span = next((text for text in spans if len(set(text.split("–"))) == 2), spans[-1])
        return (
            f"Of 100 {self.what} with a score like this, {_of_100(self.share)} FAKE (95 % "
            f"interval {low}–{high}; measured on {self.count:,} images with scores of {span})."
        )


@dataclass(frozen=True)
class MeasuredScores:
    """Scores of images from which nothing was learned, with the truth.

    Attributes:
        p_fake: float array `(N,)`, 0–1.
        is_fake: bool array `(N,)`.
        what: What people read for the images.
    """

    p_fake: np.ndarray
    is_fake: np.ndarray
    what: str = "test images"

    @classmethod
    def from_run(cls, evaluation: Run) -> MeasuredScores:
        """Read those of the ensemble on the test images from an evaluation run.

        Raises:
            RunDamaged: A file differs from the manifest.
        """
        return cls(*_read(evaluation.checked("predictions.csv"), "ensemble_p_fake"))

    @classmethod
    def from_photographs(cls, run: Run) -> MeasuredScores:
        """Read those of images of left-out sources from a run of the stage `photo_resnet50`.

        Raises:
            RunDamaged: A file differs from the manifest.
        """
        scores = _read(run.checked("left_out.csv"), "p_fake")
        return cls(*scores, "pictures of sources it had not seen")

    def like(self, p_fake: float) -> SimilarImages | None:
        """Find the test images with about this score, so that they tell what it means.

        Near is what is near in logits: most scores lie close to 0 or 1, so that of the nearest by
        probability too many would come from the crowded side. All images within `SAME_SCORE` count,
        and where they are fewer than `NEIGHBOURS`, the circle widens until it holds as many.

        Args:
            p_fake: Probability of FAKE by the ensemble, 0–1.

        Returns:
            What they are; None if there are fewer than `LEAST_TEST_IMAGES` test images.

        Raises:
            ValueError: `p_fake` is no probability.
        """
        if len(self.p_fake) < LEAST_TEST_IMAGES:
            return None
        distance = np.abs(_logit(self.p_fake) - _logit(checked(p_fake)))
        hundredth = np.partition(distance, NEIGHBOURS - 1)[NEIGHBOURS - 1]
        # With all that are equally far: which of them to leave out would be chance.
        near = distance <= max(hundredth, SAME_SCORE) + 1e-9
        scores = self.p_fake[near]
        counts = int(near.sum()), int(self.is_fake[near].sum())
        return SimilarImages(*counts, float(scores.min()), float(scores.max()), self.what)


def _read(path: Path, column: str) -> tuple[np.ndarray, np.ndarray]:
    """Read a column of scores, and which of the images are FAKE."""
    # Without pandas, 38 MB that the dashboard can spare.
    with path.open(encoding="utf-8", newline="") as file:
        names = next(csv.reader(file))
        places = [names.index(name) for name in (column, "label")]
        options = {"delimiter": ",", "quotechar": '"', "comments": None}
        p_fake, label = np.loadtxt(file, usecols=places, ndmin=2, **options).T
    return p_fake, label == 1


def fake_at_prevalence(p_fake: float, prevalence: float, *, calibrated_at: float = 0.5) -> float:
    """Return what a score becomes where FAKE is rarer, or more common, than in calibration.

    Prior shift: the odds are multiplied by the ratio of prior odds. It assumes that FAKE images
    look like the FAKE of the test and REAL like its REAL, and only their shares differ. A score
    close to 0 or 1 claims more than the test images can check: take both ends of
    `SimilarImages.interval` along. Source: Saerens et al. 2002, "Adjusting the outputs of a
    classifier to new a priori probabilities".

    Args:
        p_fake: Calibrated probability of FAKE, 0–1.
        prevalence: Share of FAKE among the images that come in, above 0 and below 1.
        calibrated_at: Share of FAKE among the images of the calibration, above 0 and below 1; half
            of CIFAKE is FAKE.

    Returns:
        Probability of FAKE, 0–1.

    Raises:
        ValueError: `p_fake` is no probability, or a share is not above 0 and below 1.
    """
    p_fake = checked(p_fake)
    for share in (prevalence, calibrated_at):
        if not 0 < share < 1:
            raise ValueError(f"expected a share of FAKE above 0 and below 1, received {share}")
    fake = p_fake * prevalence / calibrated_at
    real = (1 - p_fake) * (1 - prevalence) / (1 - calibrated_at)
    return fake / (fake + real)


def _logit(p_fake):
    return logit(np.clip(p_fake, SMALLEST, 1 - SMALLEST))


def _of_100(share: float) -> str:
    """Write a share as a count that is 0 or 100 only if it is none or all."""
    if 0 < share < 0.005:
        return "fewer than 1 is"
    count = "more than 99" if 0.995 <= share < 1 else f"{100 * share:.0f}"
    return f"{count} is" if count == "1" else f"{count} are"
