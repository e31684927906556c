"""Results to take along: a table, a record for programs, and one printable sheet per image.

Names and error sentences come from strangers' files: a spreadsheet must not run them, and a page
must not obey them.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from PIL import Image

from cifake_lib.decisions import Decision
from cifake_lib.images import FORMATS
from cifake_lib.provenance import environment
from cifake_lib.runs import PHOTO_MODEL, WEIGHTS, Run

if TYPE_CHECKING:
    from cifake_lib.detector import Verdict

SCHEMA = 1
# Source: OWASP, "CSV injection", and ASVS 5 1.2.10; the last four are full-width forms.
FORMULA_STARTS = "=+-@\t\r\n\0＝＋－＠"
NOT_PROOF = (
    "This sheet is a hint, not proof. A verdict is a statistic over images like those of the test; "
    "about one image, its author or its truth it proves nothing."
)
_ALWAYS = (
    "Sending, re-saving, resizing or blurring a picture can turn the verdict around.",
    "The probability holds where half of the pictures are FAKE, as in the test. Where FAKE is "
    "rare, most alarms are false ones.",
)


@dataclass(frozen=True)
class Examined:
    """One examined file, with pixels left behind.

    Attributes:
        name: File name as the visitor's computer gave it (not escaped).
        sha256: Of the file, hexadecimal.
        size_bytes: Of the file.
        examined_utc: When, ISO 8601.
        format: What the file is by its first bytes, as Pillow calls it; "" if no image.
        width: Of the upright image in pixels; None if it cannot be read.
        height: The same.
        p_fake: Probability of FAKE by the ensemble, 0–1; None without a verdict.
        models: The same of each model by key.
        verdict: "REAL", "FAKE" or "UNCERTAIN"; "" without one.
        reason: Why, in one sentence.
        threshold_name: Key of the operating point; "" without a verdict.
        threshold: FAKE from this p_fake on; None without a verdict.
        certain_from: Confidence from which on an answer is certain; None if every answer counts.
        meaning: What the score came to on the test images: `frequencies.SimilarImages.sentence`.
        error: Why the file cannot be examined, in one sentence (not escaped); "" if it can.
    """

    name: str
    sha256: str
    size_bytes: int
    examined_utc: str
    format: str = ""
    width: int | None = None
    height: int | None = None
    p_fake: float | None = None
    models: dict[str, float] = field(default_factory=dict)
    verdict: str = ""
    reason: str = ""
    threshold_name: str = ""
    threshold: float | None = None
    certain_from: float | None = None
    meaning: str = ""
    error: str = ""

    @classmethod
    def judged(
        cls,
        content: bytes,
        *,
        name: str,
        size: tuple[int, int],
        verdict: Verdict,
        decision: Decision,
        meaning: str = "",
    ) -> Examined:
        """Record an image and what was said about it.

        Args:
            content: The file.
            name: Its name.
            size: Width and height of the upright image in pixels.
            verdict: What the models say.
            decision: What is made of it.
            meaning: See the attribute.
        """
        return cls(
            **_file_facts(content, name),
            width=size[0],
            height=size[1],
            p_fake=verdict.p_fake,
            models={key: answer.p_fake for key, answer in verdict.models.items()},
            verdict=decision.word,
            reason=decision.reason,
            threshold_name=decision.threshold_name,
            threshold=decision.threshold,
            certain_from=decision.certain_from,
            meaning=meaning,
        )

    @classmethod
    def refused(cls, content: bytes, *, name: str, error: str) -> Examined:
        """Record a file that cannot be examined; `error` says why in one sentence."""
        return cls(**_file_facts(content, name), error=error)


@dataclass(frozen=True)
class UsedModel:
    """A model that answered.

    Attributes:
        name: What people read.
        run_id: Of the run that trained it.
        weights_sha256: Of the weights file, hexadecimal; loading has compared it.
        temperature: Its logits are divided by this.
        weight: Its share of the ensemble, 0–1.
        input_size: Side of what it looks at in pixels.
        data: Name of the data set it learnt from.
        train_images: How many it learnt from.
    """

    name: str
    run_id: str
    weights_sha256: str
    temperature: float
    weight: float
    input_size: int
    data: str
    train_images: int


@dataclass(frozen=True)
class Provenance:
    """What a verdict was made with.

    Attributes:
        models: By key, in the order they were asked.
        ensemble_temperature: The mean of the models' logits is divided by this.
        evaluation: Run id of the evaluation that fitted weights, temperature and thresholds; "" if
            none has measured just these models.
        thresholds: Operating points of the ensemble by name.
        versions: Version by package, of the machine that answered.
        photographs: The same of the model that photographs go to; None if there is none. The keys
            of a record's `models` say whose verdict it is.
    """

    models: dict[str, UsedModel]
    ensemble_temperature: float
    evaluation: str
    thresholds: dict[str, float]
    versions: dict[str, str]
    photographs: Provenance | None = None

    @classmethod
    def from_runs(cls, models: Mapping[str, Run], evaluation: Run | None = None) -> Provenance:
        """Read it from manifests.

        Args:
            models: Run of each loaded model by key.
            evaluation: What is known of them together. Used only if it is about just these runs,
                as `detector.Detector` does; otherwise all have the same weight.
        """
        ensemble = evaluation.manifest.get("ensemble") if evaluation else None
        if not ensemble or not evaluation.measured(*models.values()):
            ensemble = {"temperature": 1.0, "thresholds": {"balanced": 0.5}}
            evaluation = models.get(PHOTO_MODEL)  # which brings what was fitted along
            if evaluation is not None:
                ensemble["thresholds"] = evaluation.manifest["thresholds"]
        # Evaluations that know no weights have given each model the same.
        weights = ensemble.get("weights") or dict.fromkeys(models, 1.0)
        return cls(
            models={
                key: _used_model(run.manifest, key, weights[key] / sum(weights.values()))
                for key, run in models.items()
            },
            ensemble_temperature=ensemble["temperature"],
            evaluation=evaluation.run_id if evaluation else "",
            thresholds=dict(ensemble["thresholds"]),
            versions=environment()["versions"],
        )

    @property
    def limits(self) -> list[str]:
        """What a verdict cannot tell, in plain words; those of both kinds where there are two."""
        if self.photographs is not None:
            own = replace(self, photographs=None).limits
            return list(dict.fromkeys([*own, *self.photographs.limits]))
        if (photographs := self.models.get(PHOTO_MODEL)) is not None:
            return [
                "The model of photographs looks at the central square and at parts of the picture, "
                f"at {photographs.input_size} × {photographs.input_size} pixels each. All finer "
                "detail plays no part.",
                f"It learned from {photographs.train_images:,} pictures of some sources, and was "
                "measured on others. A generator newer than all of them may pass.",
                *_ALWAYS,
            ]
        side = max((model.input_size for model in self.models.values()), default=32)
        return [
            f"The models look at {side} × {side} pixels. What lies outside the central square of a "
            "larger picture, and all its finer detail, plays no part.",
            "They know one source of photographs (CIFAR-10) and one generator (Stable Diffusion "
            "1.4). On ordinary photographs and on other generators expect little better than "
            "chance.",
            *_ALWAYS,
        ]


def to_csv(records: Sequence[Examined]) -> bytes:
    """Write a table that spreadsheets open as it is meant.

    Args:
        records: One row each.

    Returns:
        CSV after RFC 4180, UTF-8 with a byte order mark. A text that a spreadsheet could take for a
        formula begins with an apostrophe.
    """
    keys = list(dict.fromkeys(key for record in records for key in record.models))
    rows = [_csv_row(record, keys) for record in records]
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, list(_csv_row(Examined("", "", 0, ""), keys)))
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue().encode("utf-8-sig", errors="replace")


def to_json(records: Sequence[Examined], *, provenance: Provenance) -> bytes:
    """Write everything there is to know, for programs.

    Args:
        records: The examined files.
        provenance: What they were examined with.

    Returns:
        UTF-8 JSON with the keys `schema`, `positive_class`, `not_proof`, `limits`, `provenance`
        and `images`, named as the attributes of the records here.
    """
    document = {
        "schema": SCHEMA,
        "positive_class": "FAKE",
        "not_proof": NOT_PROOF,
        "limits": provenance.limits,
        "provenance": asdict(provenance),
        "images": [asdict(record) for record in records],
    }
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)
    return f"{text}\n".encode(errors="replace")


def _file_facts(content: bytes, name: str) -> dict:
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            kind = image.format
    except Exception:  # no image, or one whose header alone is too much
        kind = ""
    return {
        "name": name,
        "sha256": hashlib.sha256(content).hexdigest(),
        "size_bytes": len(content),
        "examined_utc": now,
        "format": kind,
    }


def _used_model(manifest: Mapping, key: str, weight: float) -> UsedModel:
    facts, data = manifest["model"], manifest["data"]
    return UsedModel(
        name=facts.get("display_name", key),
        run_id=manifest["run_id"],
        weights_sha256=manifest["files"][WEIGHTS],
        temperature=manifest["temperature"],
        weight=weight,
        input_size=facts["input_size"],
        data=data["name"],
        train_images=sum(data["counts"]["train"].values()),
    )


def _csv_row(record: Examined, keys: Sequence[str]) -> dict[str, str | int | None]:
    scores = {f"{key}_p_fake": record.models.get(key) for key in keys}
    return {
        "name": _no_formula(record.name),
        "verdict": record.verdict,
        **{
            name: None if p_fake is None else f"{p_fake:.6f}"
            for name, p_fake in {"ensemble_p_fake": record.p_fake, **scores}.items()
        },
        "threshold_name": record.threshold_name,
        "threshold": record.threshold,
        "certain_from": record.certain_from,
        "error": _no_formula(record.error),
        "width": record.width,
        "height": record.height,
        "format": record.format,
        "size_bytes": record.size_bytes,
        "sha256": record.sha256,
        "examined_utc": record.examined_utc,
    }


def _no_formula(text: str) -> str:
    # Some spreadsheets skip white space before they look for the sign.
    risky = text[:1] in FORMULA_STARTS or text.lstrip()[:1] in FORMULA_STARTS
    return f"'{text}" if text and risky else text
