"""Who judges a picture: the models of small images, that of photographs, or both with a warning.

A model knows pictures of the size that it learned from. Asked about others it answers all the same,
and near chance.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from cifake_lib.analyst import Analysis, Analyst, Picture
from cifake_lib.exports import Provenance
from cifake_lib.names import in_percent
from cifake_lib.runs import PHOTO_MODEL, Run, RunDamaged, RunNotFound, find_run

logger = logging.getLogger(__name__)

THUMBNAIL = 64  # longer side in pixels up to which a picture is one for the models of CIFAKE
PHOTOGRAPH = 128  # shorter side in pixels from which on it is a photograph
BETWEEN = (
    "A picture of this size is too large for the models of 32-pixel images, and too small for that "
    "of photographs: what either says of it has not been measured."
)


@dataclass(frozen=True)
class Router:
    """Asks about each picture who knows its kind.

    Attributes:
        small: The models of small images.
        photographs: That of photographs; None if there is none, and `small` is asked about all.
    """

    small: Analyst
    photographs: Analyst | None = None

    @classmethod
    def load(cls, *, runs: str = "released", light: bool = True) -> Router:
        """Load whatever trained models there are, with what was measured of them.

        Args:
            runs: See `Detector.load`.
            light: See `Detector.load`.

        Raises:
            ModelsMissing: There is no model of small images.
        """
        from cifake_lib.dashboard_models import read_records
        from cifake_lib.detector import Detector

        records = read_records(runs)
        detector = Detector.load(runs=runs, light=light)
        small = Analyst(detector, records.evaluation, records.robustness)
        return cls(small, load_photographs(runs, light=light))

    @property
    def provenance(self) -> Provenance:
        """What the answers are made with, of both kinds."""
        own = self.photographs.provenance if self.photographs else None
        return replace(self.small.provenance, photographs=own)

    @cached_property
    def lesson(self) -> str:
        """What the models of small images are worth on photographs, as notebook 08 measured it."""
        try:
            share = small_models_rank(self.photographs.detector.runs[PHOTO_MODEL])
        except RunDamaged as error:
            logger.warning("nothing is said of small models on photographs: %s", error)
            return ""
        if share is None:
            return ""
        ranked = in_percent(share, 0)
        return (
            "The models of 32-pixel images see a photograph shrunk to that size. Of pairs of a "
            f"photograph and a generated picture they ranked {ranked} right; guessing ranks 50 %."
        )

    def lesson_on(self, analysis: Analysis) -> str:
        """Return the lesson where models of small images stand beside the verdict, else ""."""
        beside = analysis.beside
        return self.lesson if beside is not None and PHOTO_MODEL not in beside.models else ""

    def examine(
        self, pictures: Sequence[Picture], *, threshold: str = "balanced"
    ) -> list[Analysis]:
        """Judge images; see `Analyst.examine`.

        A photograph is judged by the model of photographs. What the others say of it stands
        `beside` the verdict, which is a lesson and no evidence. Between the sizes both are asked,
        and the verdict is UNCERTAIN.

        Args:
            pictures: What to judge.
            threshold: Key of the operating point.

        Returns:
            One analysis a picture, in order.
        """
        if self.photographs is None:
            return self.small.examine(pictures, threshold=threshold)
        analyses: dict[int, Analysis] = {}
        for large in (False, True):
            own = [n for n, each in enumerate(pictures) if is_photograph(each) == large]
            judge, other = self.small, self.photographs
            if large:
                judge, other = other, judge
            judged = judge.examine([pictures[n] for n in own], threshold=threshold)
            asked = [n for n in own if not is_thumbnail(pictures[n])]
            said = other.detector.predict([pictures[n].image for n in asked])
            beside = dict(zip(asked, said, strict=True))
            for n, analysis in zip(own, judged, strict=True):
                known = large or n not in beside
                analyses[n] = replace(
                    analysis if known else analysis.doubted(BETWEEN), beside=beside.get(n)
                )
        return [analyses[n] for n in range(len(pictures))]

    def at_threshold(self, analysis: Analysis, threshold: str) -> Analysis:
        """Return the same with the decision at another operating point of whoever made it."""
        decided = analysis.by.at_threshold(analysis, threshold)
        return decided.doubted(BETWEEN) if analysis.record.reason == BETWEEN else decided


def load_photographs(runs: str, *, light: bool = True) -> Analyst | None:
    """Load the model of photographs; None if there is none or it is damaged.

    Photographs then go to the models of small images, with what these say of their limits.

    Args:
        runs: See `Detector.load`; a model of one's own images has none beside it.
        light: See `Detector.load`.
    """
    from cifake_lib.detector import Detector, ModelsMissing

    if runs == "own":
        return None
    try:
        find_run(PHOTO_MODEL, released=runs == "released")
        return Analyst(Detector.load(runs=runs, keys=(PHOTO_MODEL,), light=light))
    except (RunNotFound, ModelsMissing):
        return None


def small_models_rank(run: Run) -> float | None:
    """Return how well the models of small images rank photographs, shrunk to what they know.

    Args:
        run: A run of the stage `photo_resnet50`, which measured them.

    Returns:
        ROC AUC, the share of pairs of a photograph and a generated picture that is ranked right;
        None if they were not asked.

    Raises:
        RunDamaged: A file differs from the manifest.
    """
    rows = run.read_rows("folds.csv")
    found = [float(row["roc_auc"]) for row in rows if row["method"] == "cifake_models_shrunk"]
    return float(np.mean(found)) if found else None


def is_thumbnail(picture: Picture) -> bool:
    """Whether a picture has the size of those that the models of CIFAKE know."""
    return max(picture.image.size) <= THUMBNAIL


def is_photograph(picture: Picture) -> bool:
    """Whether a picture is large enough for the model of photographs."""
    return min(picture.image.size) >= PHOTOGRAPH
