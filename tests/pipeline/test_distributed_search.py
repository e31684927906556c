"""One search shared by a chief and two workers, each a process of its own."""

import json
import os
import socket
import subprocess
import sys
import time

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


def wait_for(found, *alive, seconds=180):
    """What a function finds, once it finds something; the processes must go on meanwhile."""
    for _ in range(seconds * 5):
        if result := found():
            return result
        for process in alive:
            assert process.poll() is None, output(process)
        time.sleep(0.2)
    pytest.fail("waited in vain\n" + "\n".join(map(output, alive)))


def kill(process):
    process.kill()
    process.wait()


def test_a_killed_worker_has_its_trial_again_and_a_killed_chief_goes_on(tmp_path, processes):
    # So many trials that some are left when the first worker is back with its own.
    common = ["--address", f"127.0.0.1:{free_port()}", "--tuner", "random", "--trials", "10"]
    common += ["--epochs", "1"]

    def worker(name):
        return processes("--role", "worker", "--worker-id", name, *common)

    def state():
        """What the chief wrote last; {} before, and while it writes."""
        try:
            (file,) = (tmp_path / "shared").glob("*/oracle.json")
            return json.loads(file.read_text())
        except ValueError:
            return {}

    def completed():
        found = {}
        for path in (tmp_path / "shared").glob("*/trial_*/trial.json"):
            try:
                trial = json.loads(path.read_text())
            except ValueError:
                continue
            if trial["status"] == "COMPLETED":
                found[trial["trial_id"]] = trial
        return found

    chief = processes("--role", "chief", *common)
    workers = [worker("1"), worker("2")]
    under_way = wait_for(lambda: state().get("ongoing_trials", {}).get("worker-1"), chief)
    kill(workers[0])
    workers[0] = worker("1")
    wait_for(lambda: f"{under_way} " in output(workers[0]), chief, *workers)
    wait_for(lambda: under_way in completed(), chief)

    kill(chief)
    before = completed()
    assert workers[0].poll() is None and workers[1].poll() is None, "nothing was left to do"
    chief = processes("--role", "chief", *common)
    for process in (*workers, chief):
        assert process.wait(timeout=240) == 0, output(process)
    after = completed()
    assert {trial: after[trial]["score"] for trial in before} == {
        trial: before[trial]["score"] for trial in before
    }
    (search,) = (tmp_path / "shared").iterdir()
    assert len(after) == len(list(search.glob("trial_*"))) == 10
    assert f"Trials: {search}" in output(chief)
