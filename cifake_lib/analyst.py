"""What is said of one image, beyond the scores: verdict, what it is worth, whether to give one.

All that is measured comes from the files of notebooks 05 and 06, and is used only where they
measured just the models that answer.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from cifake_lib import decisions, frequencies
from cifake_lib.exports import Examined, Provenance
from cifake_lib.images import fit_image
from cifake_lib.names import in_percent
from cifake_lib.runs import PHOTO_MODEL, Run, RunDamaged
from cifake_lib.scope import FILE, Scope

if TYPE_CHECKING:
    from cifake_lib.detector import Detector, Verdict

SCOPE_MODEL = "resnet50"  # whose features the scope check was fitted to
LARGEST = 2  # times the side of the training images: beyond, an image is of another kind
ORDINARY = 200  # pixels a side that a photograph has at least
KNOWN_ORIGIN = "known"  # as in `data`, which brings scikit-learn

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Picture:
    """An image to judge.

    Attributes:
        image: Upright RGB image.
        content: The file it was decoded from.
        name: Of the file (not escaped).
    """

    image: Image.Image
    content: bytes
    name: str


@dataclass(frozen=True)
class Analysis:
    """What was found out about one image.

    Attributes:
        verdict: What the models say.
        outside: Whether the image is unlike those that the models know; None if nobody checked.
        record: The same for exports, with the decision at the threshold that was asked for.
        by: Whose verdict it is.
        beside: What others say of it who do not know its kind; see `routing`.
    """

    verdict: Verdict
    outside: bool | None
    record: Examined
    by: Analyst | None = None
    beside: Verdict | None = None

    def doubted(self, reason: str) -> Analysis:
        """Return the same with UNCERTAIN for a verdict, and why in one sentence."""
        return replace(self, record=replace(self.record, verdict="UNCERTAIN", reason=reason))


@dataclass(frozen=True)
class Analyst:
    """Loaded models, with what an evaluation knows about them.

    Attributes:
        detector: The models.
        evaluation: Run that compared them, or None; of other models it is not used.
        robustness: Run that fitted the scope check, or None; of another model it is not used.
    """

    detector: Detector
    evaluation: Run | None = None
    robustness: Run | None = None

    @cached_property
    def points(self) -> decisions.OperatingPoints | None:
        """The thresholds that were measured with just these models; None if none were."""
        run, photographs = self.evaluation, self.detector.runs.get(PHOTO_MODEL)
        measured = run is not None and run.measured(*self.detector.runs.values())
        if photographs is None and not measured:
            return None
        try:
            if photographs is not None:
                return decisions.OperatingPoints.from_photographs(photographs)
            return decisions.OperatingPoints.from_run(run)
        except (RunDamaged, KeyError) as error:
            logger.warning("no operating points: %s", error)
            return None

    @cached_property
    def provenance(self) -> Provenance:
        """What the answers are made with."""
        return Provenance.from_runs(self.detector.runs, self.evaluation)

    @cached_property
    def _measured(self) -> frequencies.MeasuredScores | None:
        if self.points is None:
            return None
        try:
            if (own := self.detector.runs.get(PHOTO_MODEL)) is not None:
                return frequencies.MeasuredScores.from_photographs(own)
            return frequencies.MeasuredScores.from_run(self.evaluation)
        except RunDamaged as error:
            logger.warning("no scores of test images: %s", error)
            return None

    def robustness_of(self, key: str) -> Run | None:
        """Return the run of notebook 06 if it measured this one of the loaded models, else None."""
        own, run = self.detector.runs.get(key), self.robustness
        if own is None or run is None or not run.measured(own, among_others=True):
            return None
        return run

    @property
    def _scope_model(self) -> str:
        return PHOTO_MODEL if PHOTO_MODEL in self.detector.runs else SCOPE_MODEL

    @cached_property
    def _scope(self) -> Scope | None:
        key = self._scope_model
        run = self.detector.runs[key] if key == PHOTO_MODEL else self.robustness_of(key)
        if run is None:
            return None
        try:
            return Scope.load(run.checked(FILE))
        except (RunDamaged, KeyError) as error:
            logger.warning("no scope check: %s", error)
            return None

    def examine(
        self, pictures: Sequence[Picture], *, threshold: str = "balanced"
    ) -> list[Analysis]:
        """Judge images, all at once.

        Args:
            pictures: What to judge.
            threshold: Key of the operating point.

        Returns:
            One analysis a picture, in order.
        """
        if not pictures:
            return []
        verdicts = self.detector.predict([picture.image for picture in pictures])
        outside = self._outside([picture.image for picture in pictures])
        analyses = []
        for picture, verdict, unlike in zip(pictures, verdicts, outside, strict=True):
            similar = self._measured.like(verdict.p_fake) if self._measured else None
            record = Examined.judged(
                picture.content,
                name=picture.name,
                size=picture.image.size,
                verdict=verdict,
                decision=self._decide(verdict.p_fake, threshold),
                # Measured on images like those of training; of others it would be a false promise.
                meaning=similar.sentence if similar and not unlike else "",
            )
            analyses.append(Analysis(verdict, unlike, self._scoped(record, unlike), self))
        return analyses

    def at_threshold(self, analysis: Analysis, threshold: str) -> Analysis:
        """Return the same with the decision at another operating point."""
        made = self._decide(analysis.verdict.p_fake, threshold)
        record = replace(
            analysis.record,
            verdict=made.word,
            reason=made.reason,
            threshold_name=made.threshold_name,
            threshold=made.threshold,
        )
        return replace(analysis, record=self._scoped(record, analysis.outside))

    def _decide(self, p_fake: float, threshold: str) -> decisions.Decision:
        if self.points is None:
            return decisions.decide(p_fake)
        point = self.points.points.get(threshold)
        return decisions.decide(p_fake, point, abstention=self.points.abstention)

    def _outside(self, images: Sequence[Image.Image]) -> list[bool | None]:
        if self._scope is None:
            return [None] * len(images)
        run = self.detector.runs[self._scope_model]
        pixels = np.stack([fit_image(image, *run.input_contract) for image in images])
        unlike = self._scope.outside(self.detector.models[self._scope_model], pixels)
        # A photograph that was shrunk is not what models of small images know, however alike it
        # then looks.
        most = np.inf if run.photo_views else LARGEST * self._known_side
        return [
            max(image.size) > most or bool(far) for image, far in zip(images, unlike, strict=True)
        ]

    @property
    def _known_side(self) -> int:
        """Longer side in pixels of the largest images that the models were trained on."""
        return self._scope.largest or self.detector.runs[self._scope_model].input_contract[0]

    @cached_property
    def _accuracy_outside(self) -> float | None:
        """Share of right verdicts on changed test images that the scope check refuses."""
        if self.robustness is None or self._scope_model == PHOTO_MODEL:
            return None
        try:
            rows = self.robustness.read_rows("scope.csv")
        except RunDamaged as error:
            logger.warning("no accuracy outside the scope: %s", error)
            return None
        refused = [
            (float(row["outside"]) * float(row["images"]), float(row["accuracy_outside"]))
            for row in rows
            if row["kind"] != KNOWN_ORIGIN and row["accuracy_outside"] != "nan"
        ]
        total = sum(images for images, _ in refused)
        return sum(images * right for images, right in refused) / total if total else None

    def _scoped(self, record: Examined, outside: bool | None) -> Examined:
        if not outside:
            return record
        reason = "This image is outside what these models know."
        if self._accuracy_outside is not None:
            reason += (
                " On test images that were changed until they were outside, they were right "
                f"{in_percent(self._accuracy_outside, 0)} of the time; on images of other kinds "
                "nobody has measured them"
            )
            if self._known_side < ORDINARY:
                reason += (
                    ", and on photographs of ordinary size models of this kind are near chance"
                )
            reason += "."
        return replace(record, verdict="UNCERTAIN", reason=reason)
