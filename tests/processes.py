"""Commands that tests start beside themselves, wait for and kill."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest


def free_port() -> int:
    """Return the number of a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Commands:
    """Modules that run as processes of their own, each with a log; `end` ends them all.

    Args:
        logs: Folder for what they print.
    """

    def __init__(self, logs: Path):
        self._logs, self._started = logs, []

    def start(self, module: str, *arguments, **environment: str) -> subprocess.Popen:
        """Start `python -m module arguments`, with variables beside those of this process."""
        log = (self._logs / f"{len(self._started)}.log").open("w+")
        process = subprocess.Popen(
            [sys.executable, "-m", module, *map(str, arguments)],
            env=os.environ | environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        process.log = log
        self._started.append(process)
        return process

    def end(self) -> None:
        """Kill what still runs."""
        for process in self._started:
            kill(process)
            process.log.close()


def kill(process: subprocess.Popen) -> None:
    """Kill a process and those that it started, at once."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def output(process: subprocess.Popen) -> str:
    """Return what a process of `Commands` has printed."""
    process.log.seek(0)
    return process.log.read()


def wait_for(found: Callable, *alive: subprocess.Popen, seconds: int = 180):
    """Return what a function finds, once it finds something; the processes must go on meanwhile."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if result := found():
            return result
        for process in alive:
            assert process.poll() is None, output(process)
        time.sleep(0.2)
    pytest.fail(f"waited {seconds} s in vain\n" + "\n".join(map(output, alive)))
