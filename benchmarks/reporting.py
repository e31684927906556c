"""What the benchmarks share: a fresh process for each measurement, facts, tables and files."""

import multiprocessing
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import psutil

from cifake_lib import provenance, runs


def in_fresh_process(function: Callable, *arguments):
    """Call a function in a process of its own, so that nothing of one call speeds up another.

    Args:
        function: Defined at the top of a module; it imports the framework itself.
        *arguments: Of the function; any picklable values.

    Returns:
        What the function returns; its exceptions pass.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *arguments).result()


def timed(function: Callable) -> tuple[float, object]:
    """Call a function; return the seconds it took and its value."""
    start = time.perf_counter()
    value = function()
    return round(time.perf_counter() - start, 6), value


def say(line: str) -> None:
    """Write a line of progress to standard error, at once."""
    print(line, file=sys.stderr, flush=True)


def machine() -> dict:
    """Return commit, time, versions and processor, and how busy the processor is already."""
    return {
        "git_commit": provenance.git_commit(),
        "measured_utc": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        **provenance.environment(),
        "load_average_before": round(psutil.getloadavg()[0], 2),
    }


def machine_line(facts: dict) -> str:
    """Write the facts of `machine`, with `backend` and `device`, as a paragraph of Markdown."""
    versions = facts["versions"]
    return (
        f"Measured {facts['measured_utc']} at commit `{facts['git_commit'] or 'unknown'}` on "
        f"{facts['processor']} ({facts['platform']}, trains on: {facts['device']}), "
        f"Python {versions['python']}, Keras {versions['keras']} on {facts['backend']} "
        f"{versions.get(facts['backend'], '')}. Load average before: "
        f"{facts['load_average_before']}."
    )


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table: the first column to the left, all others to the right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def write(output: Path, report: dict, markdown: str) -> None:
    """Write a report as JSON and, under the same name, as Markdown, and print the latter."""
    output.parent.mkdir(parents=True, exist_ok=True)
    runs.write_json(output, report)
    output.with_suffix(".md").write_text(markdown + "\n", encoding="utf-8")
    print(markdown)
    say(f"Written: {output} and {output.with_suffix('.md')}")
