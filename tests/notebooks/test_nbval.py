"""nbval: what papermill executed runs again, and prints the same where a cell says that it must.

On the smoke profile. nbval fails at any cell that raises, and compares the outputs of those marked
`# NBVAL_CHECK_OUTPUT`.
"""

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import nbformat
import pytest

from cifake_lib.plan import make_plan

# Notebooks that read each other's runs, in their order, and the others: each as one process.
CHAINS = (("02", "03", "04", "05", "06"), ("01", "07", "08"))


def validate(notebooks, runs):
    """Run nbval over notebooks in their order, with a runs folder of their own."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=short"]
    command += ["--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout=300"]
    return subprocess.run(
        [*command, *map(str, notebooks)],
        cwd=runs.parent,
        env=os.environ | {"CIFAKE_RUNS": str(runs)},
        capture_output=True,
        text=True,
        timeout=1500,
    )


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
    chains = [
        [file for file in sorted(build.iterdir()) if file.name.startswith(numbers)]
        for numbers in CHAINS
    ]
    assert [len(chain) for chain in chains] == [len(numbers) for numbers in CHAINS]
    assert marked, "no cell is marked # NBVAL_CHECK_OUTPUT, so nothing would be compared"
    folders = [tmp_path / numbers[0] / "runs" for numbers in CHAINS]
    for folder in folders:
        folder.parent.mkdir()
    with ThreadPoolExecutor() as pool:
        for result in pool.map(validate, chains, folders):
            assert result.returncode == 0, result.stdout[-6000:] + result.stderr[-2000:]
