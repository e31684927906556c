"""Profiles and overrides: which values the notebooks' parameters take, every name and type checked.

`notebooks/profiles.yaml` lists the stages (name and notebook, in order) and, for each profile, the
values that differ from the notebooks' own defaults, and which stages it runs if not all.
"""

import ast
import difflib
import logging
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import papermill
import yaml

from cifake_lib import paths

# The pipeline sets these itself, from its own options.
_OWN_OPTIONS = {"run_id": "--run-id", "profile": "--profile"}
# What `data_dir` may say besides a path.
_DATA_WORDS = ("sample", "full", "cifake-train", "auto")


class Refused(ValueError):
    """A request that cannot be carried out; its text is one sentence for the user."""


@dataclass(frozen=True)
class Settings:
    """The content of `profiles.yaml`, with the parameters found in the notebooks.

    Attributes:
        notebooks: Stage to source notebook, in the pipeline's order.
        parameters: Stage to the names and defaults in its notebook's `parameters` cell.
        profiles: Profile to its blocks: `description`, `only` (its stages, if not all), `defaults`
            (for every stage that has the parameter) and one block a stage.
    """

    notebooks: dict[str, Path]
    parameters: dict[str, dict[str, Any]]
    profiles: dict[str, dict[str, Any]]


def read_settings() -> Settings:
    """Read `notebooks/profiles.yaml` and the parameters of the notebooks it names.

    Raises:
        Refused: If a file is missing.
    """
    content, folder = _read_file(), paths.notebooks_dir()
    notebooks = {stage: folder / f"{name}.ipynb" for stage, name in content["stages"].items()}
    for stage, notebook in notebooks.items():
        if not notebook.is_file():
            raise Refused(f"The notebook of stage {stage!r} is missing: {notebook}.")
    parameters = {stage: read_parameters(notebook) for stage, notebook in notebooks.items()}
    return Settings(notebooks, parameters, content["profiles"])


def _read_file() -> dict[str, Any]:
    file = paths.notebooks_dir() / "profiles.yaml"
    if not file.is_file():
        raise Refused(
            f"Expected the notebooks and {file.name} in {file.parent}: run this from the project's "
            "checkout, or set CIFAKE_HOME to it."
        )
    return yaml.safe_load(file.read_text(encoding="utf-8"))


def describe_profiles() -> str:
    """List the profiles: name, what it is for, and the stages it runs, with their time budget.

    Raises:
        Refused: If `profiles.yaml` is missing.
    """
    content, parts = _read_file(), []
    for profile, blocks in content["profiles"].items():
        budgets = content.get("budget_minutes", {}).get(profile, {})
        stages = ", ".join(
            f"{stage} ({budgets[stage]} min)" if stage in budgets else stage
            for stage in blocks.get("only", content["stages"])
        )
        said = textwrap.wrap(blocks.get("description", ""), 92) + textwrap.wrap(
            f"runs {stages}", 92
        )
        parts.append("\n    ".join([profile, *said]))
    return "\n\n".join(parts)


def profile_stages(settings: Settings, profile: str) -> list[str]:
    """Return the stages that a profile runs, in the pipeline's order.

    Raises:
        Refused: For an unknown profile, or a stage of it that is unknown.
    """
    check_name("profile", profile, settings.profiles)
    only = settings.profiles[profile].get("only") or list(settings.notebooks)
    for stage in only:
        check_name(f"stage in profile {profile!r}:", stage, settings.notebooks)
    return [stage for stage in settings.notebooks if stage in only]


def read_parameters(notebook: Path) -> dict[str, Any]:
    """Read names and default values from the cell tagged `parameters`.

    Raises:
        Refused: If a default is not a literal.
    """
    logging.getLogger("papermill").setLevel(logging.ERROR)
    found = papermill.inspect_notebook(str(notebook))
    try:
        return {name: ast.literal_eval(entry["default"]) for name, entry in found.items()}
    except (SyntaxError, ValueError):
        raise Refused(f"Expected literal values in the parameters cell of {notebook}.") from None


def check_name(kind: str, name: str, known: Iterable[str]) -> None:
    """Refuse a name that is not known, and suggest the nearest that is.

    Raises:
        Refused: If `name` is not among `known`.
    """
    known = list(known)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(sorted(known))}."
        raise Refused(f"Unknown {kind} {name!r}; {hint}")


def profile_values(settings: Settings, profile: str) -> dict[str, dict[str, Any]]:
    """Collect the values a profile gives to each stage; a stage's own block wins over `defaults`.

    Returns:
        Stage to name to value.

    Raises:
        Refused: For an unknown profile, stage or parameter, or a value of the wrong type.
    """
    check_name("profile", profile, settings.profiles)
    blocks = {key: block or {} for key, block in settings.profiles[profile].items()}
    for key in ("description", "only"):
        blocks.pop(key, None)
    defaults = blocks.pop("defaults", {})
    everywhere = {name for names in settings.parameters.values() for name in names}
    for name in defaults:
        check_name(f"parameter in the defaults of profile {profile!r}:", name, everywhere)
    for stage in blocks:
        check_name(f"stage in profile {profile!r}:", stage, settings.parameters)
    values: dict[str, dict[str, Any]] = {}
    for stage, known in settings.parameters.items():
        shared = {name: value for name, value in defaults.items() if name in known}
        block = shared | blocks.get(stage, {})
        for name in block:
            check_name(f"parameter of {stage!r} in profile {profile!r}:", name, known)
        values[stage] = {n: _typed(v, known[n], f"{stage}.{n}") for n, v in block.items()}
    return values


def override_values(
    settings: Settings, texts: Iterable[str], *, selected: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Read overrides from the command line.

    Args:
        settings: The stages and their parameters.
        texts: `stage.name=value`, or `name=value` for every selected stage with that parameter.
            Values are read as YAML; text parameters keep the text as it stands.
        selected: The stages that are going to run.

    Returns:
        Stage to name to value; a value for one stage wins over one for all.

    Raises:
        Refused: For an unknown stage or parameter, a stage not selected, or a value of the wrong
            type.
    """
    known = settings.parameters
    for_all: dict[str, dict[str, Any]] = {stage: {} for stage in known}
    for_one: dict[str, dict[str, Any]] = {stage: {} for stage in known}
    for text in texts:
        target, equals, value = text.partition("=")
        stage, dot, name = target.strip().rpartition(".")
        if not equals or not name:
            raise Refused(f"Expected -p stage.name=value or -p name=value, received {text!r}.")
        if name in _OWN_OPTIONS:
            raise Refused(f"Parameter {name!r} is set by {_OWN_OPTIONS[name]}, not by -p.")
        if dot:
            check_name("stage", stage, known)
            check_name(f"parameter of {stage!r}:", name, known[stage])
            if stage not in selected:
                raise Refused(f"Parameter {target!r} belongs to a stage that this run leaves out.")
            for_one[stage][name] = _parsed(value, known[stage][name], f"{stage}.{name}")
        else:
            check_name("parameter", name, {key for stage in selected for key in known[stage]})
            for stage in selected:
                if name in known[stage]:
                    for_all[stage][name] = _parsed(value, known[stage][name], f"{stage}.{name}")
    return {stage: for_all[stage] | for_one[stage] for stage in known}


def _parsed(text: str, default: Any, name: str) -> Any:
    """Read the value of `-p name=text`; a path that exists is made to hold in any folder."""
    text = text.strip()
    if isinstance(default, str):
        # Kernels start in the notebooks' folder, so a path typed elsewhere must not stay relative;
        # a word such as "imagenet" stays a word even if a file happens to have that name.
        if name.endswith(".data_dir"):
            is_path = text not in _DATA_WORDS
        else:
            is_path = "/" in text or "\\" in text or bool(Path(text).suffix)
        path = Path(text).expanduser()
        return paths.shown(path) if is_path and path.exists() else text
    try:
        return _typed(yaml.safe_load(text), default, name)
    except yaml.YAMLError:
        raise Refused(f"The value of {name!r} does not parse as YAML: {text!r}.") from None


def _typed(value: Any, default: Any, name: str) -> Any:
    """Check a value against the type of the notebook's default."""
    if isinstance(default, float) and isinstance(value, (int, str)) and not isinstance(value, bool):
        try:
            return float(value)  # YAML reads 1e-3 as text and 1 as an integer
        except ValueError:
            pass
    if default is None or type(value) is type(default):
        return value
    raise Refused(
        f"Parameter {name!r} takes a value of type {type(default).__name__} "
        f"(default {default!r}), received {value!r}."
    )
