"""Scoring an archive: how much is read at once, and what is refused."""

import numpy as np
import pytest
from PIL import Image

bulk = pytest.importorskip("cifake_lib.bulk", exc_type=ImportError)
Store = bulk.Store


def test_large_files_are_read_a_few_at_a_time(monkeypatch):
    monkeypatch.setattr(bulk, "_BYTES_TOGETHER", 10)
    listed = [("a", 4), ("b", 4), ("c", 4), ("d", 99), ("e", 1)]
    assert [[path for path, _ in part] for part in bulk._bounded(listed)] == [
        ["a", "b"],
        ["c"],
        ["d"],
        ["e"],
    ]


def test_a_judge_gives_a_row_for_every_file(archive, tmp_path, monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(archive / "b" / "2.png")
    judge = bulk.Judge(Store(str(archive)), "released", "fpr_1")
    monkeypatch.setattr(bulk, "MAX_BYTES", 10_000)
    paths = [str(archive / name) for name in ("b/2.png", "a/3.webp", "gone.png", "large.png")]
    sizes = [1, 1, 1, 10_001]
    table = judge({"path": np.array(paths), "bytes": np.array(sizes)})
    assert table.schema == bulk.schema(judge._router)
    rows = table.to_pylist()
    assert [row["path"] for row in rows] == paths
    assert rows[0]["verdict"] and rows[0]["threshold_name"] == "fpr_1" and not rows[0]["error"]
    assert 0 <= rows[0]["p_fake_tuned_cnn"] <= 1 and rows[0]["width"] == 32
    assert all(row["error"] and not row["verdict"] for row in rows[1:])
    assert "too large" in rows[3]["error"]


def test_verdicts_of_other_settings_are_not_mixed(archive, tmp_path, capsys):
    router = bulk.Router.load()
    out = Store(str(tmp_path / "out"))
    bulk._keep_settings(out, router, "balanced")
    bulk._keep_settings(out, router, "balanced")
    with pytest.raises(bulk.OtherModels, match="threshold.*choose another folder"):
        bulk._keep_settings(out, router, "fpr_1")


def test_what_cannot_work_is_said_before_anything_runs(archive, tmp_path, capsys, monkeypatch):
    assert bulk.main([str(tmp_path / "none"), "--out", str(tmp_path / "out")]) == 2
    assert "found none" in capsys.readouterr().err
    monkeypatch.setattr(bulk, "_join", lambda address: None)
    monkeypatch.setattr(bulk.ray, "cluster_resources", lambda: {"CPU": 3.0})
    assert bulk.main([str(archive), "--out", str(tmp_path / "out2")]) == 2
    assert "at least 4 cores, found 3" in capsys.readouterr().err


def test_a_ray_that_does_not_start_is_told_in_a_sentence(archive, tmp_path, capsys, monkeypatch):
    def fail(**_):
        raise Exception("The current node timed out during startup.")

    monkeypatch.setattr(bulk.ray, "init", fail)
    monkeypatch.setattr(bulk.ray, "is_initialized", lambda: False)
    assert bulk.main([str(archive), "--out", str(tmp_path / "out")]) == 2
    assert "did not start in 3 tries; a busy machine" in capsys.readouterr().err


def test_a_folder_without_images_gives_no_verdicts(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert bulk.main([str(tmp_path / "empty"), "--out", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out.startswith("0 images")
