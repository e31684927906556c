"""From a score to what a person can use: a verdict, and what its threshold came to.

All of it is read from the files of an evaluation run. It holds for images drawn like its test
images, and for no others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cifake_lib.intervals import share_interval
from cifake_lib.names import in_percent
from cifake_lib.runs import Run
from cifake_lib.selective import flagged_are_fake

TEST_IMAGES = "the test images"
UNSEEN_SOURCES = "images of sources that were left out of training"
TITLES = {
    "balanced": "Balanced",
    "best_f1": "Best F1",
    "fpr_5": "5 % false alarms",
    "fpr_1": "1 % false alarms",
}


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold with what it came to on the test images.

    Attributes:
        name: Key of the threshold, as in `TITLES`.
        threshold: FAKE from this p_fake on, 0–1; chosen on validation images.
        true_positive_rate: Share of FAKE called FAKE, 0–1.
        true_positive_interval: Its 95 % interval.
        false_positive_rate: Share of REAL called FAKE, 0–1.
        false_positive_interval: Its 95 % interval.
        measured_on: What the rates hold for.
    """

    name: str
    threshold: float
    true_positive_rate: float
    true_positive_interval: tuple[float, float]
    false_positive_rate: float
    false_positive_interval: tuple[float, float]
    measured_on: str = TEST_IMAGES

    @property
    def title(self) -> str:
        """What people read for the name."""
        return TITLES.get(self.name, self.name.replace("_", " ").capitalize())

    @property
    def sentence(self) -> str:
        """What the threshold does, in one sentence."""
        low, high = self.false_positive_interval
        return (
            f"From a score of {self.threshold:.3g} on an image is called FAKE. On "
            f"{self.measured_on} this found {in_percent(self.true_positive_rate)} of the FAKE and "
            f"gave a false alarm on {in_percent(self.false_positive_rate)} of the REAL (95 % "
            f"interval {100 * low:.1f}–{in_percent(high)})."
        )

    def probability_fake_if_flagged(self, prevalence: float) -> float:
        """Return how often an image called FAKE is FAKE, by how common FAKE is.

        Args:
            prevalence: Share of FAKE among the images that come in, 0–1.

        Returns:
            Probability, 0–1; NaN where nothing is called FAKE. See `selective.flagged_are_fake`.
        """
        rates = (self.true_positive_rate, self.false_positive_rate)
        return float(flagged_are_fake(*rates, prevalence))


@dataclass(frozen=True)
class Abstention:
    """From which confidence on an answer counts as certain; see `selective.abstention`.

    Attributes:
        certain_from: Confidence of the likelier class, .5–1, chosen on validation images; above 1
            if no confidence is enough.
        coverage: Share of the test images with a certain answer, 0–1.
        accuracy: Share of those answers that are right, 0–1; None without any.
        measured_on: What coverage and accuracy hold for.
    """

    certain_from: float
    coverage: float
    accuracy: float | None
    measured_on: str = TEST_IMAGES

    @property
    def sentence(self) -> str:
        """What abstaining costs and gains, in one sentence."""
        if self.accuracy is None:
            return f"No answer on {self.measured_on} counts as certain."
        return (
            f"An answer counts as certain from {in_percent(self.certain_from)} confidence on: "
            f"{in_percent(self.coverage)} of {self.measured_on} got one, and "
            f"{in_percent(self.accuracy)} of those were right."
        )


@dataclass(frozen=True)
class OperatingPoints:
    """The thresholds of the ensemble and its band of uncertainty, from an evaluation run.

    Attributes:
        points: Operating point by name, in the order of the run.
        abstention: When an answer counts as certain.
    """

    points: dict[str, OperatingPoint]
    abstention: Abstention

    @classmethod
    def from_run(cls, evaluation: Run) -> OperatingPoints:
        """Read them.

        Args:
            evaluation: A run of the stage `evaluation`.

        Raises:
            RunDamaged: A file differs from the manifest.
        """
        ensemble = evaluation.manifest["ensemble"]
        metrics = evaluation.read_json("metrics.json")["models"]["ensemble"]
        real = sum(metrics["confusion"][0])
        points = {}
        for name, threshold in ensemble["thresholds"].items():
            rates = metrics["operating_points"][name]
            interval = share_interval(round(rates["false_positive_rate"] * real), real)
            points[name] = _point(name, threshold, rates, interval, TEST_IMAGES)
        kept = metrics["abstention"]
        abstention = Abstention(kept["certain_from"], kept["coverage"], kept["accuracy"])
        return cls(points, abstention)

    @classmethod
    def from_photographs(cls, run: Run) -> OperatingPoints:
        """Read those of a model of photographs, measured on sources that were left out.

        Args:
            run: A run of the stage `photo_resnet50`.

        Raises:
            RunDamaged: A file differs from the manifest.
        """
        metrics = run.read_json("metrics.json")
        points = {
            name: _point(
                name,
                run.manifest["thresholds"][name],
                rates,
                rates["false_positive_rate_interval"],
                UNSEEN_SOURCES,
            )
            for name, rates in metrics["operating_points"].items()
        }
        kept = (run.manifest["certain_from"], metrics["coverage"], metrics["right"])
        return cls(points, Abstention(*kept, measured_on=UNSEEN_SOURCES))


def _point(
    name: str,
    threshold: float,
    rates: Mapping,
    false_positive_interval: Sequence[float],
    measured_on: str,
) -> OperatingPoint:
    return OperatingPoint(
        name=name,
        threshold=threshold,
        true_positive_rate=rates["true_positive_rate"],
        true_positive_interval=tuple(rates["true_positive_rate_interval"]),
        false_positive_rate=rates["false_positive_rate"],
        false_positive_interval=tuple(false_positive_interval),
        measured_on=measured_on,
    )


@dataclass(frozen=True)
class Decision:
    """What to say about one image.

    Attributes:
        word: "REAL", "FAKE" or "UNCERTAIN".
        p_fake: Probability of FAKE by the ensemble, 0–1.
        reason: Why, in one sentence.
        threshold_name: Of the operating point, as in `TITLES`.
        threshold: Of the operating point, 0–1.
        certain_from: Confidence from which on an answer is certain; None if every answer counts.
    """

    word: str
    p_fake: float
    reason: str
    threshold_name: str
    threshold: float
    certain_from: float | None = None


def decide(
    p_fake: float, point: OperatingPoint | None = None, *, abstention: Abstention | None = None
) -> Decision:
    """Say REAL, FAKE or UNCERTAIN.

    Uncertain is an answer with less confidence than `abstention` asks for, and one where threshold
    and probability point to different classes: a score of .9 below a threshold of .95 is no reason
    to call an image REAL.

    Args:
        p_fake: Probability of FAKE by the ensemble, 0–1.
        point: Whose threshold parts REAL from FAKE; .5 where no evaluation has measured the models.
        abstention: When an answer is certain; without it the threshold alone decides.

    Raises:
        ValueError: `p_fake` is no probability.
    """
    p_fake = checked(p_fake)
    name, threshold = (point.name, point.threshold) if point else ("balanced", 0.5)
    certain_from = abstention.certain_from if abstention else None
    word = "FAKE" if p_fake >= threshold else "REAL"
    side = "at or above" if word == "FAKE" else "below"
    reason = f"The score is {side} the threshold of {threshold:.3g}."
    if abstention and max(p_fake, 1 - p_fake) < certain_from:
        word = "UNCERTAIN"
        reason = (
            f"The models are not sure enough: {in_percent(certain_from)} confidence would do."
            if certain_from <= 1
            else "These models are never sure enough."
        )
    elif abstention and (p_fake >= 0.5) != (word == "FAKE"):
        word = "UNCERTAIN"
        reason = f"The likelier class is on the other side of the threshold of {threshold:.3g}."
    return Decision(word, p_fake, reason, name, threshold, certain_from)


def checked(p_fake: float) -> float:
    """Return a probability; ValueError if it is none."""
    if not 0 <= p_fake <= 1:
        raise ValueError(f"expected a probability of 0–1, received {p_fake}")
    return float(p_fake)
