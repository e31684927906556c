"""What a run ran on: commit, versions, processor. Kept in every manifest."""

import importlib.metadata
import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from cifake_lib import paths

WATTS_PER_CORE = 10.0  # assumed for the energy estimate: a server core with its share of memory
_PACKAGES = ("cifake-suite", "tensorflow", "jax", "keras", "keras-tuner", "numpy", "pillow")


def git_commit() -> str:
    """Return the commit of the checkout, with `+changes` for a changed tree, or an empty string."""
    command = ["git", "-C", str(paths.project_root()), "describe", "--always", "--abbrev=40"]
    try:
        result = subprocess.run(
            [*command, "--dirty=+changes"], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return result.stdout.strip()


def environment() -> dict:
    """Return versions, platform and processor; backend and precision once Keras is imported."""
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    facts = {
        "versions": versions,
        "platform": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
    }
    if keras := sys.modules.get("keras"):
        facts["backend"] = keras.config.backend()
        facts["precision"] = keras.mixed_precision.dtype_policy().name
    return facts


def training_energy_wh(manifest: Mapping) -> float | None:
    """Return the energy that a run's training took, in Wh.

    What the run recorded as `energy_wh`; else on processors an estimate, `WATTS_PER_CORE` × cores ×
    seconds; else, for a GPU, None: there is nothing to estimate it from.
    """
    training = manifest["training"]
    cores = re.search(r"× (\d+)$", manifest["processor"])
    if "energy_wh" in training:
        return training["energy_wh"]
    if training["device"] == "CPU" and cores:
        return WATTS_PER_CORE * int(cores[1]) * training["seconds"] / 3600
    return None


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return f"{line.split(':', 1)[1].strip()} × {os.cpu_count()}"
    return f"{platform.processor() or platform.machine()} × {os.cpu_count()}"
