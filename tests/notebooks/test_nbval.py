"""nbval: what papermill executed runs again, and prints the same where a cell says that it must.

On the smoke profile. nbval fails at any cell that raises, and compares the outputs of those marked
`# NBVAL_CHECK_OUTPUT`.
"""

import os
import shutil
import subprocess
import sys

import nbformat
import pytest

from cifake_lib.plan import make_plan


def validate(folder, runs):
    """Run nbval over a folder's notebooks in their order, with a runs folder of its own."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=short"]
    command += ["--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout=300"]
    result = subprocess.run(
        [*command, *sorted(str(file) for file in folder.glob("*.ipynb"))],
        cwd=folder,
        env=os.environ | {"CIFAKE_RUNS": str(runs)},
        capture_output=True,
        text=True,
        timeout=1500,
    )
    assert result.returncode == 0, result.stdout[-6000:] + result.stderr[-2000:]


# Room for the smoke pipeline, which this test may be the first to need.
@pytest.mark.timeout(3000)
def test_executed_copies_repeat(smoke, tmp_path):
    assert smoke.result.returncode == 0, smoke.result.stdout + smoke.result.stderr
    build = tmp_path / "build"
    build.mkdir()
    marked = 0
    for step in make_plan("smoke", run_id=smoke.run_id + "-again").steps:
        executed = smoke.runs / step.stage / smoke.run_id / "notebook.ipynb"
        copy = shutil.copy(executed, build / step.notebook.name)
        sources = [cell.source for cell in nbformat.read(copy, 4).cells]
        marked += sum("NBVAL_CHECK_OUTPUT" in source for source in sources)
    assert len(list(build.glob("*.ipynb"))) == 8
    assert marked, "no cell is marked # NBVAL_CHECK_OUTPUT, so nothing would be compared"
    validate(build, tmp_path / "runs")
