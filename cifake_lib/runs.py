"""Run folders: where a notebook writes what it made, and how others find and trust it.

A run lives in `artifacts/runs/<stage>/<run_id>/`. Its `manifest.json` is written last, by rename: a
folder without one is a run that was interrupted, which the same run id continues. Released runs lie
in `artifacts/released/<stage>/` with the same files.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from cifake_lib import paths, provenance, recipes

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = 1
STAGES = (
    *("data", "baseline_cnn", "tuned_cnn", "resnet50", "evaluation", "robustness"),
    *("own_model", "photo_resnet50"),
)
PHOTO_MODEL = "photo_resnet50"  # knows photographs, and answers alone
MODEL_STAGES = ("baseline_cnn", "tuned_cnn", "resnet50")
# Models that answer together: which stages, and whether the released runs of them are meant.
MODEL_SETS = {"released": MODEL_STAGES, "latest": MODEL_STAGES, "own": ("own_model",)}
WEIGHTS = "model.weights.h5"
# Written around the run, not by it: excluded from the manifest's hashes and from releases.
CHECKPOINTS = "checkpoints"
NOTEBOOK = ("notebook.ipynb", "notebook.html")
STARTED = "started.json"
STARTED_WITH = (
    *("schema", "stage", "run_id", "started_utc", "started_unix"),
    *("git_commit", "profile", "parameters", "seed"),
)


class RunNotFound(FileNotFoundError):
    """No such run; the message says how to make one."""


class RunDamaged(ValueError):
    """A file of a run is missing or differs from its manifest; the message says what to do."""


@dataclass(frozen=True)
class Run:
    """A complete run, read from its manifest.

    Attributes:
        stage: One of `STAGES`.
        folder: Where its files lie.
        manifest: The parsed `manifest.json`.
    """

    stage: str
    folder: Path
    manifest: dict = field(repr=False)

    @property
    def run_id(self) -> str:
        """Name of the run within its stage."""
        return self.manifest["run_id"]

    @property
    def recipe(self) -> str:
        """Name that runs share which differ in nothing but their seed."""
        return recipes.recipe(self.manifest["parameters"])

    @property
    def unseen_corruption(self) -> str:
        """Family of corruptions that training with others left out on purpose; "" if none."""
        known = self.manifest.get("parameters", {})
        return known["unseen_corruption"] if known.get("corruption_share") else ""

    @property
    def input_contract(self) -> tuple[int, str]:
        """Side in pixels and crop of what the model looks at, as `images.fit_image` takes them."""
        facts = self.manifest["model"]
        return facts["input_size"], facts.get("crop", "centre")

    @property
    def photo_views(self) -> bool:
        """Whether its model's logit is the mean over the views of `views.photo_views`."""
        return self.manifest["model"].get("photo_views", False)

    def measured(self, *models: Run, among_others: bool = False) -> bool:
        """Return whether this run measured just these models; of others it says nothing.

        Args:
            *models: Their runs.
            among_others: Whether it may have measured more than these.
        """
        known = self.manifest.get("upstream", {})
        asked = {run.stage: run.run_id for run in models}
        return asked.items() <= known.items() if among_others else asked == known

    def read_json(self, name: str) -> dict:
        """Read a JSON file of the run."""
        return json.loads(self.checked(name).read_text(encoding="utf-8"))

    def read_csv(self, name: str) -> pd.DataFrame:
        """Read a table of the run; empty cells of text columns stay empty strings."""
        import pandas as pd  # 38 MB that the dashboard can spare.

        return pd.read_csv(self.checked(name), keep_default_na=False, na_values=["nan", "NaN"])

    def read_rows(self, name: str) -> list[dict[str, str]]:
        """Read a small table of the run as texts, without pandas."""
        with self.checked(name).open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    def checked(self, name: str) -> Path:
        """Return the path of a file after comparing its hash with the manifest.

        Raises:
            RunDamaged: The file is missing, unlisted, or was changed after the run.
        """
        expected = self.manifest["files"].get(name)
        path = self.folder / name
        if expected is None or not path.is_file():
            raise RunDamaged(f"{paths.shown(path)} is missing; run the {self.stage} stage again.")
        if (received := file_hash(path)) != expected:
            raise RunDamaged(
                f"{paths.shown(path)} is damaged or was changed: expected SHA-256 "
                f"{expected[:12]}…, received {received[:12]}…. Restore it or run the "
                f"{self.stage} stage again."
            )
        return path


@dataclass
class ActiveRun:
    """A run that is being made; `finish` turns it into a `Run`."""

    stage: str
    run_id: str
    folder: Path
    started: dict
    notes: list[str] = field(default_factory=list)

    @property
    def checkpoints(self) -> Path:
        """Folder for what a later start with the same run id continues from."""
        folder = self.folder / CHECKPOINTS
        folder.mkdir(exist_ok=True)
        return folder

    def write_json(self, name: str, value) -> None:
        """Write a JSON file into the run, atomically."""
        write_json(self.folder / name, value)

    def write_csv(self, name: str, table: pd.DataFrame) -> None:
        """Write a table into the run, without its index; compressed if its name ends in `.gz`."""
        # No time in the archive: the same table must have the same hash.
        compression = {"method": "gzip", "mtime": 0} if name.endswith(".gz") else None
        table.to_csv(self.folder / name, index=False, na_rep="nan", compression=compression)

    def save_figure(self, name: str, figure) -> None:
        """Save a Matplotlib figure as `figures/<name>.png`."""
        folder = self.folder / "figures"
        folder.mkdir(exist_ok=True)
        figure.savefig(folder / f"{name}.png", dpi=120, bbox_inches="tight")

    def finish(self, **facts) -> Run:
        """Write the manifest, which makes the run complete, and drop the checkpoints.

        Args:
            **facts: Further entries of the manifest: `data`, `model`, `metrics`, `training`, ….

        Returns:
            The complete run.
        """
        manifest = {
            **self.started,
            "finished_utc": _now(),
            # Time since the first start, so a continued run counts what came before the kill.
            "duration_seconds": round(time.time() - self.started["started_unix"], 1),
            "class_names": ["REAL", "FAKE"],
            "positive_class": "FAKE",
            "notes": self.notes,
            **facts,
            **provenance.environment(),
            "files": _hashes(self.folder),
        }
        write_json(self.folder / "manifest.json", manifest)
        # Last: a kill before the manifest must leave something to continue from.
        (self.folder / STARTED).unlink(missing_ok=True)
        shutil.rmtree(self.folder / CHECKPOINTS, ignore_errors=True)
        return Run(self.stage, self.folder, manifest)


def start_run(
    stage: str,
    *,
    run_id: str = "",
    profile: str = "",
    parameters: dict | None = None,
    seed: int | None = None,
) -> ActiveRun:
    """Start a run, or continue an interrupted one.

    Args:
        stage: One of `STAGES`.
        run_id: Name of the run; empty for a new one from the time (UTC).
        profile: Profile of the pipeline that set the parameters.
        parameters: What the run was asked to do. In a notebook pass `globals()`: only its literal
            variables with lower-case names are kept, that is, the notebook's parameters.
        seed: Seed of all randomness in the run.

    Raises:
        ValueError: The stage is unknown; the run id is complete; or it was started with other
            parameters.
    """
    if stage not in STAGES:
        raise ValueError(f"Expected a stage out of {list(STAGES)}, received {stage!r}")
    run_id = run_id or datetime.now(UTC).strftime("%Y%m%d-%H%M%S-%f")[:-3]
    if not run_id.replace("-", "").replace("_", "").replace(".", "").isalnum():
        raise ValueError(
            f"Expected a run id of letters, digits, '-', '_', '.', received {run_id!r}"
        )
    folder = paths.runs_dir() / stage / run_id
    if (folder / "manifest.json").is_file():
        raise ValueError(
            f"The run {paths.shown(folder)} is complete; choose another run_id, or leave it empty."
        )
    folder.mkdir(parents=True, exist_ok=True)
    started = {
        "schema": SCHEMA,
        "stage": stage,
        "run_id": run_id,
        "started_utc": _now(),
        "started_unix": round(time.time(), 1),
        "git_commit": provenance.git_commit(),
        "profile": profile,
        "parameters": _literals(parameters or {}),
        "seed": seed,
    }
    if (folder / STARTED).is_file():
        before = json.loads((folder / STARTED).read_text(encoding="utf-8"))
        if recipes.told(before["parameters"]) != recipes.told(started["parameters"]):
            raise ValueError(
                f"The interrupted run {paths.shown(folder)} was started with other parameters: "
                f"expected {before['parameters']}, received {started['parameters']}."
            )
        started = before
    else:
        write_json(folder / STARTED, started)
    return ActiveRun(stage, run_id, folder, started, started.pop("notes", []))


def find_run(stage: str, run_id: str = "", *, released: bool = False) -> Run:
    """Find a complete run.

    Args:
        stage: One of `STAGES`.
        run_id: Name of the run; empty for the latest complete one, or else the released one.
        released: Look at the released run only.

    Raises:
        RunNotFound: There is none.
    """
    if not released:
        found = list_runs(stage)
        if run_id:
            found = [run for run in found if run.run_id == run_id]
        if found:
            return found[-1]
    manifest = paths.released_dir() / stage / "manifest.json"
    if manifest.is_file():
        run = Run(stage, manifest.parent, json.loads(manifest.read_text(encoding="utf-8")))
        if run_id in ("", run.run_id):
            return run
    wanted = f"run {run_id!r} of" if run_id else "run of"
    raise RunNotFound(
        f"There is no complete {wanted} the stage {stage!r}. "
        f"Make one with: python -m cifake_lib.pipeline --only {stage}"
    )


def list_runs(stage: str) -> list[Run]:
    """List the complete runs of a stage in `artifacts/runs`, oldest start first."""
    manifests = (paths.runs_dir() / stage).glob("*/manifest.json")
    found = [
        Run(stage, path.parent, json.loads(path.read_text(encoding="utf-8"))) for path in manifests
    ]
    return sorted(found, key=lambda run: (run.manifest["started_utc"], run.run_id))


def load_model(run: Run):
    """Rebuild a run's model from the registry and load its weights.

    The stored configuration is never executed, and the weights are read only if their hash is the
    manifest's. A run whose scores are averages over views loads as a model that averages.

    Returns:
        A float32 `keras.Model`, uncompiled.

    Raises:
        RunDamaged: The weights are missing or were changed.
    """
    facts = run.manifest["model"]
    model = rebuild(facts["builder"], facts["arguments"], run.checked(WEIGHTS))
    if facts.get("view_averaged"):
        from cifake_lib.models import view_averaged

        return view_averaged(model)
    return model


def rebuild(builder: str, arguments: dict, weights: Path):
    """Build a model of the registry in float32 and load its weights from a file."""
    from cifake_lib import models
    from cifake_lib.framework import keras

    policy = keras.mixed_precision.dtype_policy()
    keras.mixed_precision.set_global_policy("float32")
    try:
        model = models.build_model(builder, **arguments)
    finally:
        keras.mixed_precision.set_global_policy(policy)
    model.load_weights(weights)
    return model


def write_json(path: Path, value) -> None:
    """Write JSON by rename, so that a reader sees the old file or the new one, never a part."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    temporary.write_text(text + "\n", encoding="utf-8")
    temporary.replace(path)


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _hashes(folder: Path) -> dict[str, str]:
    skipped = {STARTED, "manifest.json", *NOTEBOOK}
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    names = {path.relative_to(folder).as_posix(): path for path in files}
    return {
        name: file_hash(path)
        for name, path in names.items()
        if name not in skipped and not name.startswith(f"{CHECKPOINTS}/")
    }


def _literals(variables: dict) -> dict:
    plain = (str, int, float, bool, list, dict, type(None))
    return {
        name: value
        for name, value in variables.items()
        if name[0].islower() and type(value) in plain
    }


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
