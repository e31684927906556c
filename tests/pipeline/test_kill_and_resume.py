"""`kill -9` in mid-epoch or mid-trial, the same again: it continues and ends complete and right."""

import json
import os
import signal
import subprocess
import sys
import time

import pandas as pd
import psutil

from cifake_lib import paths, runs

# One run of two phases; with a number it kills itself at that batch, without warning.
TRAINING = """
import os, sys, tempfile
from pathlib import Path
import numpy as np, pandas as pd
from cifake_lib import batches, data, models, results, runs, training

folder, kill = sys.argv[1], int(sys.argv[2])
dataset = data.load_dataset(folder)
images = batches.load_images(dataset, image_size=32)
labels = dataset.table["label"].to_numpy()
arguments = {"image_size": 32, "blocks": 1, "width": 8}
phases = [
    training.Phase("head", epochs=2, learning_rate=5e-3, frozen=("conv2d",)),
    training.Phase("all", epochs=2, learning_rate=2e-3, weight_decay=.1, optimizer="sgd"),
]

def train(checkpoints):
    training.prepare(5)
    training.keras.backend.clear_session()
    model = models.build_model("tuned_cnn", **arguments)
    train_batches, validation = (
        batches.ImageBatches(
            images, labels, rows=dataset.rows(split).to_numpy(), batch_size=16,
            shuffle=split == "train", seed=5,
        )
        for split in ("train", "validation")
    )
    history = training.train(
        model, phases, train_batches, validation, checkpoints=checkpoints, seed=5
    )
    return model, history

run = runs.start_run("tuned_cnn", run_id="killed", parameters={"seed": 5}, seed=5)
if kill:
    class Fatal(training.LiveTable):
        batches = 0
        def progress(self, line, share):
            self.batches += 1
            if self.batches == kill:
                os.kill(os.getpid(), 9)
    training.LiveTable = Fatal
model, history = train(run.checkpoints)
results.finish_model_run(run, model, dataset, images, history, arguments=arguments)

untouched, whole = train(Path(tempfile.mkdtemp()))
measured = ["seconds", "images_per_second", "peak_memory_mb"]
pd.testing.assert_frame_equal(
    history.drop(columns=measured), whole.drop(columns=measured), check_exact=True
)
for weights, others in zip(model.get_weights(), untouched.get_weights(), strict=True):
    np.testing.assert_array_equal(weights, others)
"""


def environment(tmp_path):
    return os.environ | {
        "CIFAKE_RUNS": str(tmp_path / "runs"),
        "CIFAKE_CACHE": str(tmp_path / "cache"),
        "TF_CPP_MIN_LOG_LEVEL": "2",
    }


def python(tmp_path, *arguments):
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_a_run_killed_twice_ends_as_if_it_never_was(tmp_path, small_images, monkeypatch):
    folder = tmp_path / "runs" / "tuned_cnn" / "killed"
    rows = []
    for kill in (8, 9):  # Six batches an epoch: in the second epoch, then in the third.
        killed = python(tmp_path, "-c", TRAINING, small_images, kill)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert not (folder / "manifest.json").exists()
        rows.append(json.loads((folder / "checkpoints" / "state.json").read_text())["rows"])
    assert [len(found) for found in rows] == [1, 2]
    assert rows[1][0] == rows[0][0]

    finished = python(tmp_path, "-c", TRAINING, small_images, 0)
    assert finished.returncode == 0, finished.stderr
    monkeypatch.setenv("CIFAKE_RUNS", str(tmp_path / "runs"))
    run = runs.find_run("tuned_cnn", "killed")
    history = run.read_csv("history.csv")
    assert list(history["epoch"]) == [1, 2, 3, 4]
    # What was trained before the kills was kept, not trained again: even its times are the same.
    pd.testing.assert_frame_equal(history.head(2), pd.DataFrame(rows[1]))
    assert not (folder / "checkpoints").exists()
    assert run.manifest["training"]["epochs"] == 4


def test_a_search_killed_in_mid_trial_tries_that_trial_again(tmp_path, small_images):
    command = ["--data-dir", str(small_images), "--directory", str(tmp_path / "searches")]
    command += ["--tuner", "random", "--trials", "3", "--epochs", "1", "--image-size", "32"]
    killing = (
        "import os, sys, keras\n"
        "from cifake_lib import hypermodel, tuning\n"
        "class Fatal(keras.callbacks.Callback):\n"
        "    def on_train_batch_end(self, batch, logs=None):\n"
        "        trials.append(1)\n"
        "        if len(trials) == 4: os.kill(os.getpid(), 9)\n"  # Two batches a trial.
        "trials, real = [], hypermodel.HyperModel.fit\n"
        "def fit(*arguments, callbacks=(), **options):\n"
        "    return real(*arguments, callbacks=[*callbacks, Fatal()], **options)\n"
        "hypermodel.HyperModel.fit = fit\n"
        "tuning.main(sys.argv[1:])\n"
    )
    killed = python(tmp_path, "-c", killing, *command)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    (search,) = (tmp_path / "searches").iterdir()
    states = {
        path.parent.name: json.loads(path.read_text())["status"]
        for path in search.glob("trial_*/trial.json")
    }
    assert states == {"trial_0": "COMPLETED", "trial_1": "RUNNING"}
    first = (search / "trial_0" / "checkpoint.weights.h5").stat().st_mtime_ns

    again = python(tmp_path, "-m", "cifake_lib.tuning", *command)
    assert again.returncode == 0, again.stderr
    states = [json.loads(path.read_text())["status"] for path in search.glob("*/trial.json")]
    assert states == ["COMPLETED"] * 3
    assert (search / "trial_0" / "checkpoint.weights.h5").stat().st_mtime_ns == first
    assert f"Trials: {search}" in again.stdout


def test_a_notebook_killed_with_its_kernel_goes_on_with_the_same_run_id(tmp_path):
    notebook = paths.notebooks_dir() / "02_baseline_cnn.ipynb"
    command = [sys.executable, "-m", "papermill", str(notebook), str(tmp_path / "out.ipynb")]
    command += ["-p", "run_id", "killed", "-p", "max_images", "400", "-p", "epochs", "12"]
    options = {"env": environment(tmp_path), "cwd": paths.notebooks_dir()}
    folder = tmp_path / "runs" / "baseline_cnn" / "killed"
    state = folder / "checkpoints" / "state.json"
    process = subprocess.Popen(
        command,
        **options,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 200
    while not state.exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    kill_with_children(process)
    kept = json.loads(state.read_text())["rows"]
    assert not (folder / "manifest.json").exists()

    again = subprocess.run(command, **options, capture_output=True, text=True, timeout=300)
    assert again.returncode == 0, again.stderr
    manifest = json.loads((folder / "manifest.json").read_text())
    history = pd.read_csv(folder / "history.csv")
    assert list(history["epoch"]) == list(range(1, len(history) + 1))
    assert len(kept) < len(history) == manifest["training"]["epochs"]
    pd.testing.assert_frame_equal(history.head(len(kept)), pd.DataFrame(kept))


def kill_with_children(process):
    family = psutil.Process(process.pid).children(recursive=True)
    for member in [process, *family]:
        member.kill()
    process.wait()
    psutil.wait_procs(family, timeout=10)
