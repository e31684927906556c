"""Fixtures that tests of several kinds share."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class PipelineRun:
    """A pipeline that ran in its own runs folder; call it to run the pipeline there again."""

    runs: Path
    run_id: str
    result: subprocess.CompletedProcess

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess:
        return _run_pipeline(self.runs, *arguments)


def _run_pipeline(runs: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Run the pipeline's command from a folder that is not the project's."""
    return subprocess.run(
        [sys.executable, "-m", "cifake_lib.pipeline", *arguments],
        cwd=runs.parent,
        env=os.environ | {"CIFAKE_RUNS": str(runs)},
        capture_output=True,
        text=True,
        timeout=1500,
    )


@pytest.fixture(scope="session")
def run_pipeline() -> Callable[..., subprocess.CompletedProcess]:
    """`run_pipeline(runs, *arguments)` runs the pipeline's command with that runs folder."""
    return _run_pipeline


@pytest.fixture(scope="session")
def smoke(tmp_path_factory) -> PipelineRun:
    """The smoke pipeline, run once for all tests that look at what it made."""
    runs = tmp_path_factory.mktemp("smoke") / "runs"
    result = _run_pipeline(runs, "--profile", "smoke", "--run-id", "smoke")
    return PipelineRun(runs, "smoke", result)
