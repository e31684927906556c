"""What the pipeline is going to run, with which parameters, and what is done already.

Everything a user can get wrong is refused here, before the first notebook starts.
"""

import functools
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cifake_lib import paths, runs
from cifake_lib.crops import CROPS, SMALLEST_SIDE, check_image_size, margin
from cifake_lib.profiles import (
    Refused,
    Settings,
    check_name,
    override_values,
    profile_stages,
    profile_values,
    read_settings,
)

# What decides which images a notebook gets, and their split.
_DATA = ("data_dir", "class_names", "split_shares", "left_out_sources")


@dataclass(frozen=True)
class Step:
    """One notebook of a plan.

    Attributes:
        stage: Name of the stage, which is also the folder of its runs.
        notebook: The source notebook.
        parameters: Every parameter of the notebook except `run_id`, with the value it will have.
        changed: Those that the profile or the user set; only these are passed to the notebook.
        run_id: Name of the run folder.
        action: "run"; "continue" if an incomplete run of the same parameters and data exists;
            "skip" if a complete one does.
    """

    stage: str
    notebook: Path
    parameters: dict[str, Any]
    changed: dict[str, Any]
    run_id: str
    action: str = "run"

    @property
    def folder(self) -> Path:
        """The run folder."""
        return paths.runs_dir() / self.stage / self.run_id

    @property
    def complete(self) -> bool:
        """Whether the run exists: its manifest is written last."""
        return (self.folder / "manifest.json").exists()

    def data_hash(self) -> str:
        """Hash of the split table of the data set; "" for a notebook that reads no data set."""
        known = {name: self.parameters[name] for name in _DATA if name in self.parameters}
        return _split_hash(json.dumps(known)) if known.get("data_dir") else ""


@dataclass(frozen=True)
class Plan:
    """The notebooks of one pipeline run, in order."""

    run_id: str
    profile: str
    steps: tuple[Step, ...]

    @property
    def folder(self) -> Path:
        """Where the pipeline keeps this plan, its summary and a notebook that failed."""
        return paths.runs_dir() / "pipeline" / self.run_id

    def write(self) -> None:
        """Write `plan.json`, from which a later run tells what was done with what.

        Raises:
            Refused: If a data set cannot be read.
        """
        steps = {
            step.stage: {
                "run_id": step.run_id,
                "parameters": step.parameters,
                "data": step.data_hash(),
            }
            for step in self.steps
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / "plan.json"
        if file.exists():  # the same run id again, perhaps for other stages
            steps = json.loads(file.read_text(encoding="utf-8"))["steps"] | steps
        record = {
            "run_id": self.run_id,
            "profile": self.profile,
            "started_utc": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "steps": steps,
        }
        runs.write_json(file, record)


def make_plan(
    profile: str = "sample",
    *,
    only: Sequence[str] = (),
    start: str = "",
    overrides: Iterable[str] = (),
    run_id: str = "",
    resume: bool = False,
) -> Plan:
    """Decide what to run, and refuse what cannot be run.

    Args:
        profile: Name of a profile in `notebooks/profiles.yaml`.
        only: Stages to run; those of the profile if empty. They run in the pipeline's order.
        start: Stage to start from; the first if empty.
        overrides: `stage.name=value` or `name=value`, see `profiles.override_values`.
        run_id: Name of the run folders; if empty, a UTC time to the millisecond and the profile.
        resume: Skip stages that are complete for the same parameters and data, and continue an
            incomplete run of the same.

    Returns:
        The plan. Nothing has been written yet.

    Raises:
        Refused: For an unknown profile, stage or parameter, a value of the wrong type, an image
            size or crop that the suite is not made for, a run id that is taken, or a data set that
            cannot be read.
    """
    settings = read_settings()
    from_profile = profile_values(settings, profile)
    selected = _select(settings, profile, only, start)
    explicit = override_values(settings, overrides, selected=selected)
    if not run_id:
        # Milliseconds: two runs that start in the same second are two runs.
        run_id = f"{datetime.now(UTC):%Y%m%d-%H%M%S-%f}"[:-3] + f"-{profile}"
    if run_id in (".", "..") or Path(run_id).name != run_id:
        raise Refused(f"Expected a plain folder name as run id, received {run_id!r}.")

    steps: dict[str, Step] = {}
    for stage in selected:
        defaults = settings.parameters[stage]
        changed = from_profile[stage] | explicit[stage]
        if "profile" in defaults:
            changed["profile"] = profile
        for upstream in settings.notebooks:
            name = f"{upstream}_run"
            if name in defaults and name not in explicit[stage]:
                planned = steps.get(upstream)
                changed[name] = planned.run_id if planned else _latest_run(upstream)
        parameters = {k: v for k, v in (defaults | changed).items() if k != "run_id"}
        try:
            check_image_size(parameters.get("image_size", SMALLEST_SIDE))
            margin(SMALLEST_SIDE, parameters.get("crop", CROPS[0]))
        except ValueError as error:
            raise Refused(f"{stage}: {error}.") from error
        step = Step(stage, settings.notebooks[stage], parameters, changed, run_id)
        if resume:
            step = _resumed(step)
        if step.action == "run" and step.complete:
            raise Refused(
                f"Run {run_id!r} of {stage!r} is complete already: choose another --run-id, "
                "or --resume to skip what is done."
            )
        steps[stage] = step
    return Plan(run_id, profile, tuple(steps.values()))


def _select(settings: Settings, profile: str, only: Sequence[str], start: str) -> list[str]:
    for stage in [*only, start] if start else only:
        check_name("stage", stage, settings.notebooks)
    stages = profile_stages(settings, profile)
    if only:
        return [stage for stage in settings.notebooks if stage in only]
    if start and start not in stages:
        raise Refused(
            f"Profile {profile!r} does not run the stage {start!r}, only {', '.join(stages)}; "
            "choose the stages with --only."
        )
    return stages[stages.index(start) :] if start else stages


def _latest_run(stage: str) -> str:
    """Run id of the stage's latest complete run; "" lets the notebook take the released one."""
    complete = runs.list_runs(stage)
    return complete[-1].run_id if complete else ""


def _resumed(step: Step) -> Step:
    """Point a step at an earlier run of the same parameters and data, if there is one."""
    incomplete = None
    for earlier in _earlier(step.stage):
        if earlier["parameters"] != step.parameters or earlier["data"] != step.data_hash():
            continue
        found = replace(step, run_id=earlier["run_id"])
        if found.complete:
            return replace(found, action="skip")
        if incomplete is None and found.folder.exists():
            incomplete = replace(found, action="continue")
    return incomplete or step


def _earlier(stage: str) -> list[dict[str, Any]]:
    """What earlier pipeline runs recorded about a stage, newest first."""
    files = (paths.runs_dir() / "pipeline").glob("*/plan.json")
    records = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    records.sort(key=lambda record: record["started_utc"], reverse=True)
    return [record["steps"][stage] for record in records if stage in record["steps"]]


@functools.cache
def _split_hash(parameters: str) -> str:
    from cifake_lib.data import load_dataset  # heavy, and not needed to list or refuse

    try:
        return load_dataset(**json.loads(parameters)).split_hash
    except (OSError, ValueError) as error:
        raise Refused(str(error)) from error
