"""A training killed in mid-epoch goes on from its checkpoint and ends with a complete run."""

import json
import os
import subprocess
import sys
import time

import pandas as pd
import psutil

COMMAND = ["--profile", "smoke", "--only", "baseline_cnn", "-p", "baseline_cnn.epochs=30"]


def test_a_killed_training_is_continued(tmp_path, run_pipeline):
    runs = tmp_path / "runs"
    process = subprocess.Popen(
        [sys.executable, "-m", "cifake_lib.pipeline", *COMMAND, "--run-id", "killed"],
        env=os.environ | {"CIFAKE_RUNS": str(runs)},
        stdout=subprocess.DEVNULL,
    )
    state = runs / "baseline_cnn" / "killed" / "checkpoints" / "state.json"
    rows = []
    deadline = time.monotonic() + 180
    while len(rows) < 2:
        assert process.poll() is None, "the training ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.1)
        if state.is_file():
            rows = json.loads(state.read_text())["rows"]
    for child in psutil.Process(process.pid).children(recursive=True):
        child.kill()
    process.kill()
    process.wait()
    before = pd.DataFrame(json.loads(state.read_text())["rows"])
    assert not (state.parents[1] / "manifest.json").exists()

    again = run_pipeline(runs, *COMMAND, "--resume")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "continues" in again.stdout
    assert (state.parents[1] / "manifest.json").is_file()
    history = pd.read_csv(state.parents[1] / "history.csv")
    assert len(history) > len(before)
    assert list(history["epoch"]) == list(range(1, len(history) + 1))
    # The epochs before the kill were kept, not trained again: even their times are the same.
    pd.testing.assert_frame_equal(history.head(len(before))[before.columns], before)
