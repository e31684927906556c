"""The benchmark of archives: what it makes, what it counts, and how it plans."""

import importlib
from pathlib import Path

import pytest

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")
pytest.importorskip("ray")
FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module("bulk")


def test_the_files_are_small_and_all_different(script, tmp_path):
    script.make_archive(tmp_path, 1500)
    files = sorted(tmp_path.rglob("*.jpg"))
    assert len(files) == 1500
    assert [folder.name for folder in sorted(tmp_path.iterdir())] == ["0000", "0001"]
    assert len({file.read_bytes() for file in files}) > 1490
    assert max(file.stat().st_size for file in files) < 5_000


def test_only_what_is_kept_counts(script, tmp_path):
    table = pyarrow.table({"path": ["a", "b", "c"]})
    for name in ("1.parquet", "2.parquet", "3.pending.parquet"):
        parquet.write_table(table, tmp_path / name)
    (tmp_path / "4.parquet").write_bytes(b"half")
    assert script.rows(tmp_path) == 6
    assert script.rows(tmp_path / "none") == 0


def test_the_plan_follows_from_what_was_measured(script):
    start = {"seconds_to_first": 9.0, "seconds": 59.0, "images_per_second": 20.0}
    measured = {
        "images": 1000,
        "bytes_per_image": 1100,
        "nodes": 2,
        "cores": 2,
        "listing_seconds": 0.6,
        "kept_at_kill": 300,
        "first": start,
        "second": start,
        "rows": 1000,
        "distinct": 1000,
        "unreadable": 0,
        "bytes_per_row": 200.0,
        "peak_memory_mb": {"Judge": 300, "raylet": 50},
    }
    plan = script.plan(measured, price=0.1)
    # Ten a second and core are a million seconds of a core for ten million images.
    assert plan["core_hours"] == 278 and plan["dollars"] == 28
    assert plan["hours_by_cores"]["16"] == pytest.approx(17.4)
    assert plan["listing_minutes"] == 100
    page = script.as_markdown(
        {
            "measured": measured,
            "plan": plan,
            "settings": {"price_per_core_hour": 0.1},
            "machine": script.machine() | {"backend": "tensorflow", "device": "CPU"},
        }
    )
    assert "278 core hours: about 28 dollars at 0.1 dollars" in page
    assert "| first, killed | 9 | 59 | 20.0 | 300 |" in page
