"""The standard folders lie in the checkout and move with environment variables."""

import pytest

from cifake_lib import paths

VARIABLES = ("CIFAKE_HOME", "CIFAKE_DATA", "CIFAKE_CACHE", "CIFAKE_RUNS", "CIFAKE_RELEASED")


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def test_folders_lie_in_the_checkout_from_any_working_directory(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    root = paths.project_root()
    assert (root / "pyproject.toml").is_file()
    assert paths.data_dir() == root / "data"
    assert paths.cache_dir() == root / "data" / "cache"
    assert paths.notebooks_dir() == root / "notebooks"
    assert paths.runs_dir() == root / "artifacts" / "runs"
    assert paths.released_dir() == root / "artifacts" / "released"


def test_home_moves_every_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("CIFAKE_HOME", str(tmp_path))
    assert paths.data_dir() == tmp_path / "data"
    assert paths.runs_dir() == tmp_path / "artifacts" / "runs"
    assert paths.notebooks_dir() == tmp_path / "notebooks"


@pytest.mark.parametrize(
    ("variable", "function"),
    [
        ("CIFAKE_DATA", paths.data_dir),
        ("CIFAKE_CACHE", paths.cache_dir),
        ("CIFAKE_RUNS", paths.runs_dir),
        ("CIFAKE_RELEASED", paths.released_dir),
    ],
)
def test_each_folder_moves_alone(monkeypatch, tmp_path, variable, function):
    monkeypatch.setenv(variable, str(tmp_path / "elsewhere"))
    assert function() == tmp_path / "elsewhere"
    others = {paths.data_dir, paths.cache_dir, paths.runs_dir, paths.released_dir} - {function}
    assert all(other().is_relative_to(paths.project_root()) for other in others)


def test_installed_package_finds_the_checkout_above_the_working_directory(monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "__file__", str(tmp_path / "site-packages/cifake_lib/paths.py"))
    checkout = tmp_path / "checkout"
    (checkout / "notebooks" / "deep").mkdir(parents=True)
    (checkout / "pyproject.toml").touch()
    monkeypatch.chdir(checkout / "notebooks" / "deep")
    assert paths.project_root() == checkout
    monkeypatch.chdir(tmp_path)
    assert paths.project_root() == tmp_path


def test_shown_paths_name_no_folder_outside_the_project(monkeypatch, tmp_path):
    monkeypatch.setenv("CIFAKE_HOME", str(tmp_path / "home"))
    assert paths.shown(tmp_path / "home" / "artifacts" / "x") == "artifacts/x"
    assert paths.shown(tmp_path / "other") == str(tmp_path / "other")
