"""One search shared by a chief and two workers, each a process of its own."""

import json
import os
import socket
import subprocess
import sys

import psutil
import pytest


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture
def processes(tmp_path, small_images):
    """`processes(*arguments)` starts `python -m cifake_lib.tuning`; ended with the test."""
    started = []
    common = ["--data-dir", str(small_images), "--directory", str(tmp_path / "shared")]
    common += ["--tuner", "hyperband", "--epochs", "3", "--image-size", "32"]

    def start(*arguments):
        log = (tmp_path / f"{len(started)}.log").open("w+")
        process = subprocess.Popen(
            [sys.executable, "-m", "cifake_lib.tuning", *common, *arguments],
            env=os.environ
            | {"CIFAKE_CACHE": str(tmp_path / "cache"), "CIFAKE_RUNS": str(tmp_path / "runs")},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        process.log = log
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            psutil.Process(process.pid).kill()
            process.wait()
        process.log.close()


def output(process):
    process.log.seek(0)
    return process.log.read()


def test_a_chief_and_two_workers_share_a_search(tmp_path, processes):
    address = f"127.0.0.1:{free_port()}"
    chief = processes("--role", "chief", "--address", address)
    workers = [
        processes("--role", "worker", "--worker-id", name, "--address", address)
        for name in ("1", "2")
    ]
    for process in (*workers, chief):  # Each ends by itself.
        assert process.wait(timeout=240) == 0, output(process)

    (search,) = (tmp_path / "shared").iterdir()
    trials = [json.loads(path.read_text()) for path in search.glob("trial_*/trial.json")]
    assert len(trials) >= 4
    assert {trial["status"] for trial in trials} == {"COMPLETED"}
    # The chief hands out and trains none; every trial was some worker's, and nobody's twice.
    by_worker = [output(worker).count("· status completed ·") for worker in workers]
    assert sum(by_worker) == len(trials)
    assert min(by_worker) >= 1, [output(worker) for worker in workers]
    told = output(chief)
    assert "status completed" not in told
    for trial in trials:
        assert f"{trial['trial_id']} completed" in " ".join(told.split())
    assert f"Trials: {search}" in told

    # Another process in no role finds the finished search and trains nothing.
    weights = {path: path.stat().st_mtime_ns for path in search.glob("*/*.h5")}
    alone = processes()
    assert alone.wait(timeout=120) == 0, output(alone)
    assert {path: path.stat().st_mtime_ns for path in search.glob("*/*.h5")} == weights
