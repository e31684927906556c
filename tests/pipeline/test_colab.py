"""On Colab: a bare environment, an empty folder, a notebook of which nothing else is there.

The environment has the packages of this one but not the suite, and a module `google.colab`. By
`make test-colab`, whose environment has Colab's versions, every notebook runs; elsewhere the first.
"""

import os
import shutil
import subprocess
import sysconfig
import venv
from pathlib import Path

import nbformat
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PROFILES = yaml.safe_load((ROOT / "notebooks" / "profiles.yaml").read_text(encoding="utf-8"))
STAGES = PROFILES["stages"] if "CIFAKE_COLAB" in os.environ else ["data"]


@pytest.fixture(scope="module")
def colab(tmp_path_factory):
    """Python of an environment as Colab's, which knows neither this checkout nor its suite."""
    folder = tmp_path_factory.mktemp("colab")
    venv.create(folder / "venv", with_pip=True)
    python = folder / "venv" / "bin" / "python"
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(folder / "venv")}))
    google = folder / "google-package" / "google" / "colab"
    google.mkdir(parents=True)
    (google / "__init__.py").write_text("")
    # Found through a .pth file, this environment's own .pth files, the suite's among them, are not.
    lines = [sysconfig.get_path("purelib"), str(google.parent.parent)]
    lines.append("import sys; sys.modules.setdefault('google.colab', sys)")
    (packages / "colab.pth").write_text("\n".join(lines))
    return python


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A copy of this checkout, with what is not committed yet, that can be cloned."""
    folder = tmp_path_factory.mktemp("repository") / "suite"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@example.org"]
    for command in (["init", "-q"], ["add", "-A", "-f"], ["commit", "-q", "-m", "all"]):
        subprocess.run([*git, *command], cwd=folder, check=True, capture_output=True)
    return folder


@pytest.mark.parametrize("stage", STAGES)
def test_a_lone_notebook_fetches_the_suite_and_runs(stage, colab, repository, tmp_path):
    file = ROOT / "notebooks" / f"{PROFILES['stages'][stage]}.ipynb"
    smoke = PROFILES["profiles"]["smoke"]
    notebook = nbformat.read(file, 4)
    (cell,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    wanted = {"profile": "smoke"} | smoke["defaults"] | smoke.get(stage, {})
    names = {line.split(" = ")[0].split(":")[0] for line in cell.source.splitlines()}
    lines = [f"{name} = {value!r}" for name, value in wanted.items() if name in names]
    cell.source += "\n" + "\n".join(lines)
    nbformat.write(notebook, tmp_path / file.name)
    execute = "import nbformat, nbclient, sys; n = nbformat.read(sys.argv[1], 4); "
    execute += "nbclient.NotebookClient(n, kernel_name='python3').execute()"
    environment = {key: os.environ[key] for key in ("PATH", "HOME", "LANG") if key in os.environ}
    environment |= {"CIFAKE_REPOSITORY": str(repository), "TF_CPP_MIN_LOG_LEVEL": "2"}
    environment |= {"CIFAKE_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(
        [colab, "-c", execute, file.name],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    fetched = tmp_path / "cifake-suite"
    assert (fetched / "cifake_lib").is_dir()
    (manifest,) = (fetched / "artifacts" / "runs" / stage).glob("*/manifest.json")
    assert "finished_utc" in manifest.read_text()
