"""What the dashboard's benchmarks make of what they measured."""

import importlib
import io
import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

pytest.importorskip("playwright")
pytest.importorskip("voila")

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(params=["dashboard", "dashboard_load", "publishing"])
def script(request, monkeypatch):
    """One of the scripts, with a browser that measures nothing."""
    monkeypatch.syspath_prepend(FOLDER)
    script = importlib.import_module(request.param)
    measured = {name: limit / 2 for name, limit in script.LIMITS.items()}
    measured = dict.fromkeys(script.NAMES, 1.0) | measured | {"browser": "1.2.3"}

    async def measure(*_):
        return dict(measured)

    monkeypatch.setattr(script, "measure", measure)
    return script, measured


def run(script, folder, *options):
    """Run it; returns its exit status and its report."""
    output = folder / "report.json"
    # In a thread: the browser tests leave an event loop running in the main one.
    with ThreadPoolExecutor(1) as pool:
        status = pool.submit(script.main, [*options, "--output", str(output)]).result()
    return status, json.loads(output.read_text()), output.with_suffix(".md").read_text()


def test_every_limit_met_is_a_pass(script, tmp_path, capsys):
    status, report, table = run(script[0], tmp_path, "--check")
    assert status == 0
    assert set(report["passed"]) == set(script[0].LIMITS) and all(report["passed"].values())
    assert table.count("| pass |") == len(script[0].LIMITS)
    assert "Chromium 1.2.3" in table and "FAIL" not in capsys.readouterr().out


@pytest.mark.parametrize("value", [1.01, None], ids=["missed", "not there"])
def test_a_limit_missed_or_a_figure_not_had_fails_the_check(script, tmp_path, capsys, value):
    script, measured = script
    for name, limit in script.LIMITS.items():
        measured[name] = value and (limit or 1) * value
        status, report, table = run(script, tmp_path, "--check")
        assert status == 1 and run(script, tmp_path)[0] == 0
        assert [key for key, passed in report["passed"].items() if not passed] == [name]
        (row,) = [line for line in table.splitlines() if script.NAMES[name] in line]
        assert "FAIL" in row and ("not there" in row) == (value is None)
        assert f"Limit missed: {script.NAMES[name]}" in capsys.readouterr().err
        measured[name] = limit / 2


def test_a_part_that_is_left_out_is_not_missed(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(FOLDER)
    script = importlib.import_module("dashboard_load")

    @asynccontextmanager
    async def chromium():
        yield SimpleNamespace(version="1.2.3")

    async def soak(*_):
        return {"soak_seconds": 9.0, "history": 3.0, "leak": 1.0}

    monkeypatch.setattr(script, "chromium", chromium)
    monkeypatch.setattr(script, "serve", lambda log: nullcontext("address"))
    monkeypatch.setattr(script, "soak", soak)
    status, report, table = run(script, tmp_path, "--check", "--visitors", "0")
    assert status == 0 and report["passed"] == {"leak": True}
    assert "not there" in table and "FAIL" not in table


def test_pictures_are_files_of_their_size_and_differ(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    picture = importlib.import_module("visiting").picture
    for file_format in ("JPEG", "PNG", "WEBP"):
        image = Image.open(io.BytesIO(picture(1, (64, 48), file_format)))
        assert (image.size, image.format) == ((64, 48), file_format)
    assert picture(1, (64, 48)) != picture(2, (64, 48))
