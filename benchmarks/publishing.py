"""Measure what the published dashboard needs: size of the image, start, memory for each visitor.

The Dockerfile's steps run as they stand in an empty folder, without a container engine. The server
then has one core; visitors come one after the other, stay, and each gives it a picture.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from playwright.async_api import Browser
from reporting import machine, say, write
from visiting import (
    at_rest,
    choose,
    chromium,
    judge,
    leave,
    limits_table,
    opened,
    picture,
    say_missed,
    where,
)

from cifake_lib.paths import project_root

sys.path += [str(project_root() / "tests"), str(project_root() / "tests" / "browser")]
from published import Image, build_image, container, memory_mb

PICTURE = (1600, 1200)
HOST = 2048  # MB, what `--memory 2g` gives
# What the project promises on a small host: MB and seconds.
LIMITS = {"added": 1024, "start_usable": 60, "memory_all": HOST}
NAMES = {
    "packages": "packages that are installed, MB",
    "files": "code, models and sample that are copied, MB",
    "added": "both: what the image adds to its base, MB",
    "start_answers": "container started → it answers, s",
    "start_usable": "container started → page takes pictures, s",
    "memory_idle": "server and its one waiting kernel, MB",
    "memory_visitor": "each visitor after a verdict, MB",
    "memory_all": "server, all visitors and a waiting kernel, MB",
    "verdict_worst": "picture chosen → verdict, slowest visitor, s",
    "visitors_fit": f"visitors that fit in {HOST:,} MB",
}
OUTPUT = Path(__file__).with_suffix(".json")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure; write JSON and Markdown.

    Returns:
        Exit status: 1 with `--check` if a limit is missed, else 0.
    """
    options = _parse(argv)
    facts = machine()
    measured = asyncio.run(measure(options.visitors))
    facts["browser"] = measured.pop("browser")
    report = {"machine": facts, "visitors": options.visitors, **judge(measured, LIMITS)}
    write(options.output, report, as_markdown(report))
    return 1 if say_missed(report, NAMES) and options.check else 0


async def measure(visitors: int) -> dict:
    """Return the values of `NAMES` and `browser`.

    Args:
        visitors: Who are there together in the end.
    """
    with tempfile.TemporaryDirectory() as folder:
        image = build_image(project_root(), Path(folder))
        say("The image is built")
        measured = sizes(image)
        async with chromium() as browser:
            measured |= await visits(image, browser, visitors)
            return measured | {"browser": browser.version}


def sizes(image: Image) -> dict:
    """Return what pip has installed and what was copied, in MB."""
    with tempfile.TemporaryDirectory() as bare:
        subprocess.run([sys.executable, "-m", "venv", bare], check=True)
        packages = _size(image.root / "venv") - _size(Path(bare))
    files = _size(image.folder)
    return {"packages": packages, "files": files, "added": packages + files}


def _size(folder: Path) -> float:
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return sum(path.stat().st_size for path in files) / 2**20


async def visits(image: Image, browser: Browser, visitors: int) -> dict:
    """Start the container and let visitors come, stay and ask; in seconds and MB."""
    core = min(os.sched_getaffinity(0))
    start = time.perf_counter()
    with container(image, image.root / "log", "--Voila.token=", core=core) as (address, server):
        answers = time.perf_counter() - start
        first, *_ = await opened(browser, address)
        usable = time.perf_counter() - start
        await leave(first)
        await at_rest()
        idle = memory_mb(server)
        say(f"Answers after {answers:.1f} s, usable after {usable:.1f} s, idle with {idle:.0f} MB")
        pages, verdicts = [], []
        for number in range(visitors):
            page, *_ = await opened(browser, address)
            pages.append(page)
            verdicts.append(await choose(page, picture(number, PICTURE), f"{number}.jpg"))
            await at_rest()
            say(f"{number + 1} visitors: {memory_mb(server):.0f} MB")
        everything = memory_mb(server)
        for page in pages:
            await leave(page)
    each = (everything - idle) / visitors
    return {
        "start_answers": answers,
        "start_usable": usable,
        "memory_idle": idle,
        "memory_visitor": each,
        "memory_all": everything,
        "verdict_worst": max(verdicts),
        "visitors_fit": (HOST - idle) // each,
    }


def as_markdown(report: dict) -> str:
    """Return the report as Markdown."""
    return "\n\n".join(
        [
            "# The dashboard on a small host",
            f"What the Dockerfile makes, without a container engine, on one core, and "
            f"{report['visitors']} visitors who are there together and have a verdict on a picture "
            f"of {PICTURE[0]} × {PICTURE[1]} pixels. Memory is that of server and kernels, with "
            "what they share counted once (PSS). The size is before compression and without the "
            "base image. Made by `publishing.py`.",
            limits_table(report, NAMES),
            where(report["machine"]),
        ]
    )


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--visitors", type=int, default=6, help="who are there together")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a limit is missed")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="JSON; Markdown lies beside it")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
