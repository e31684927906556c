"""Packaging: one list of dependencies everything agrees with, and sources in good order."""

import importlib.metadata
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
REQUIREMENTS = [Requirement(text) for text in PROJECT["dependencies"]] + [
    Requirement(text) for extra in PROJECT["optional-dependencies"].values() for text in extra
]
SYSTEMS = [
    {"sys_platform": "linux", "os_name": "posix", "platform_system": "Linux"},
    {"sys_platform": "darwin", "os_name": "posix", "platform_system": "Darwin"},
    {"sys_platform": "win32", "os_name": "nt", "platform_system": "Windows"},
]


def pins(file):
    """The requirements of a file, without its comments."""
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    texts = [line.partition("#")[0].strip() for line in lines]
    return [Requirement(text) for text in texts if text]


@pytest.mark.parametrize("python", ["3.11.9", "3.12.9", "3.13.9"])
@pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: system["sys_platform"])
def test_the_lock_pins_every_dependency_once(system, python):
    environment = system | {"python_full_version": python, "python_version": python[:4]}
    locked = {}
    for pin in pins("requirements.lock"):
        if pin.marker is None or pin.marker.evaluate(environment):
            assert pin.name not in locked, f"{pin.name} is pinned twice"
            (only,) = pin.specifier
            assert only.operator == "=="
            locked[pin.name] = only.version
    for requirement in REQUIREMENTS:
        assert requirement.specifier.contains(locked[requirement.name], prereleases=True), (
            f"{requirement} but the lock has {locked[requirement.name]}: run `make lock`"
        )


def test_the_lock_names_no_package_index_or_folder():
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert "://" not in text
    assert not any(line.startswith(("-", "/", ".")) for line in text.splitlines())


def test_conda_builds_the_environment_of_the_lock():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    python, pip, packages = environment["dependencies"]
    name, _, version = python.partition("=")
    assert (name, pip) == ("python", "pip")
    assert SpecifierSet(PROJECT["requires-python"]).contains(version)
    assert packages == {"pip": ["-r requirements.lock", "-e ."]}


def test_every_dependency_says_why_it_is_there():
    lines = (ROOT / "pyproject.toml").read_text(encoding="utf-8").splitlines()
    for requirement in REQUIREMENTS:
        (line,) = [line for line in lines if line.startswith(f'    "{requirement}"')]
        assert "# " in line, f"no reason given: {line.strip()}"
    lines = (ROOT / "environment.yml").read_text(encoding="utf-8").splitlines()
    packages = [line for line in lines if line.lstrip().startswith("- ") and "pip:" not in line]
    assert len(packages) == 5
    for line in packages:
        assert "# " in line, f"no reason given: {line.strip()}"


def test_lower_bounds_admit_the_versions_of_colab():
    colab = {
        pin.name: next(iter(pin.specifier)).version for pin in pins("tests/colab-versions.txt")
    }
    assert {"tensorflow", "keras", "ipywidgets"} <= set(colab)
    bounds = {requirement.name: requirement.specifier for requirement in REQUIREMENTS}
    for name, version in colab.items():
        assert bounds[name].contains(version), f"{name} {version} is outside {bounds[name]}"
    assert SpecifierSet(PROJECT["requires-python"]).contains("3.13")


def test_this_environment_holds_what_the_notebooks_import():
    for text in PROJECT["dependencies"]:
        requirement = Requirement(text)
        installed = importlib.metadata.version(requirement.name)
        assert requirement.specifier.contains(installed, prereleases=True), f"{text}: {installed}"


def run_tool(*command):
    result = subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, f"{' '.join(command)}\n{result.stdout}{result.stderr}"


def test_ruff_finds_nothing_in_code_and_notebooks():
    run_tool("ruff", "check", ".")


def test_code_and_notebooks_are_formatted():
    run_tool("ruff", "format", "--check", ".")


def test_notebook_sources_carry_no_outputs():
    notebooks = sorted(str(path) for path in (ROOT / "notebooks").glob("*.ipynb"))
    assert notebooks
    run_tool("nbstripout", "--verify", "--keep-id", *notebooks)


def test_only_modules_that_train_import_keras():
    heavy = {
        "framework",
        "device",
        "augmentation",
        "backbones",
        "batches",
        "cnns",
        "comparison",
        "distillation",
        "explain",
        "fine_tuning",
        "generalisation",
        "generated",
        "layers",
        "models",
        "photograph_examples",
        "photographs",
        "training",
        "hypermodel",
        "initial_weights",
        "tuning",
        "results",
        "scope",
        "scoring",
        "spaces",
    }
    modules = sorted(path.stem for path in (ROOT / "cifake_lib").glob("*.py"))
    light = [f"cifake_lib.{name}" for name in modules if name not in heavy | {"__init__"}]
    code = (
        "import importlib, sys\n"
        f"for name in {light!r}:\n"
        "    importlib.import_module(name)\n"
        "    assert not {'keras', 'tensorflow'} & set(sys.modules), name\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


@needs_make
@pytest.mark.parametrize("target", ["dashboard", "test", "pipeline", "lab", "lock", "test-colab"])
def test_make_target_sets_up_an_environment_first(target, tmp_path):
    result = subprocess.run(
        ["make", "--dry-run", "--always-make", target, f"VENV={tmp_path}/venv"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    commands = result.stdout.splitlines()
    assert any("-m venv" in line for line in commands)
    assert any("pip install" in line for line in commands)


@needs_make
def test_a_python_that_is_too_old_is_named_before_anything_is_installed(tmp_path):
    python = tmp_path / "python3.9"
    python.write_text('#!/bin/sh\ncase "$1" in -V) echo "Python 3.9.1";; *) exit 1;; esac\n')
    python.chmod(0o755)
    result = subprocess.run(
        ["make", "dashboard", f"VENV={tmp_path}/venv", f"PYTHON={python}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert result.returncode != 0
    assert "Python 3.11, 3.12 or 3.13 is needed" in result.stdout
    assert "Python 3.9.1" in result.stdout
    assert not (tmp_path / "venv").exists()


def test_continuous_integration_runs_the_tests():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert "make test" in script.read_text(encoding="utf-8")
