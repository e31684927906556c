"""One search shared by a chief and two workers, each a process of its own."""

import json

import pytest
from processes import Commands, free_port, kill, output, wait_for


@pytest.fixture
def processes(tmp_path, small_images):
    """`processes(*arguments)` starts `python -m cifake_lib.tuning`; ended with the test."""
    common = ["--data-dir", small_images, "--directory", tmp_path / "shared"]
    common += ["--tuner", "hyperband", "--epochs", "3", "--image-size", "32"]
    folders = {"CIFAKE_CACHE": str(tmp_path / "cache"), "CIFAKE_RUNS": str(tmp_path / "runs")}
    commands = Commands(tmp_path)
    yield lambda *arguments: commands.start("cifake_lib.tuning", *common, *arguments, **folders)
    commands.end()


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
