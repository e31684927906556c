"""Measure what the served dashboard takes: ten visitors at once, then five hundred files of one.

All visitors have opened the page when they begin; then each gives it one picture after the other,
the next as soon as the last is answered. The long visit gives files of several formats, every
tenth of them damaged.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from playwright.async_api import Browser, Page
from playwright.async_api import TimeoutError as NoAnswer
from reporting import machine, say, write
from visiting import (
    PATIENCE,
    at_rest,
    choose,
    chromium,
    clear,
    family,
    judge,
    leave,
    limits_table,
    opened,
    picture,
    private_mb,
    say_missed,
    serve,
    where,
)

PICTURE = (1600, 1200)
FORMATS = ("JPEG", "PNG", "WEBP")
WARM_UP = 20  # uploads before the leak is counted: libraries load, pools fill
# What the project promises on two CPU cores: seconds, and MB for memory.
LIMITS = {"unanswered": 0, "latency_worst": 5.0, "memory_kept": 50, "leak": 50}
NAMES = {
    "opening_worst": "page usable when all open it at once, slowest, s",
    "unanswered": "pictures without an answer",
    "latency_median": "picture chosen → verdict, s (median)",
    "latency_worst": "the same, slowest, s",
    "memory_before": "server and its one waiting kernel, MB",
    "memory_during": "server and all kernels after the last verdict, MB",
    "memory_kept": "more than before, after all have left, MB",
    "soak_seconds": "the long visit, s",
    "history": "more than before the long visit, at its end, MB",
    "leak": "the same once the visitor has cleared the page, MB",
}
LONG_VISIT = ("soak_seconds", "history", "leak")
OUTPUT = Path(__file__).with_suffix(".json")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure; write JSON and Markdown.

    Returns:
        Exit status: 1 with `--check` if a limit is missed, else 0.
    """
    options = _parse(argv)
    facts = machine()
    measured = asyncio.run(measure(options.visitors, options.images, options.uploads))
    facts["browser"] = measured.pop("browser")
    settings = {name: getattr(options, name) for name in ("visitors", "images", "uploads")}
    part_of = {name: "uploads" if name in LONG_VISIT else "visitors" for name in NAMES}
    limits = {name: limit for name, limit in LIMITS.items() if settings[part_of[name]]}
    report = {"machine": facts, "settings": settings, **judge(measured, limits)}
    write(options.output, report, as_markdown(report))
    return 1 if say_missed(report, NAMES) and options.check else 0


async def measure(visitors: int, images: int, uploads: int) -> dict:
    """Return the values of `NAMES` and `browser`, from a server each.

    Args:
        visitors: Visitors at once; 0 leaves them out.
        images: Pictures of each.
        uploads: Files of the one who stays long; 0 leaves that visit out.
    """
    measured = dict.fromkeys(NAMES)
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "server.log")
        async with chromium() as browser:
            if visitors:
                with serve(log) as address:
                    measured |= await crowd(browser, address, visitors, images)
            if uploads:
                with serve(log) as address:
                    measured |= await soak(browser, address, uploads)
            return measured | {"browser": browser.version}


async def crowd(browser: Browser, address: str, visitors: int, images: int) -> dict:
    """Let visitors come at once, each with some pictures, and leave."""
    await at_rest()
    before, processes = private_mb(), len(family())
    arrivals = await asyncio.gather(*(opened(browser, address) for _ in range(visitors)))
    pages = [page for page, *_ in arrivals]
    opening = max(usable for _, usable, _ in arrivals)
    say(f"{visitors} visitors are there, the last after {opening:.1f} s")
    await at_rest()
    pictures = [picture(seed, PICTURE) for seed in range(images)]
    taken = await asyncio.gather(*(_classify(page, pictures) for page in pages))
    latencies = [seconds for visit in taken for seconds in visit]
    answered = [seconds for seconds in latencies if seconds is not None]
    say(f"{len(answered)} of {len(latencies)} answered")
    await at_rest()
    during = private_mb()
    for page in pages:
        await leave(page)
    deadline = time.monotonic() + PATIENCE
    while len(family()) > processes and time.monotonic() < deadline:
        await asyncio.sleep(0.5)
    await at_rest()
    return {
        "opening_worst": opening,
        "unanswered": len(latencies) - len(answered),
        "latency_median": statistics.median(answered) if answered else None,
        "latency_worst": max(answered, default=None),
        "memory_before": before,
        "memory_during": during,
        "memory_kept": private_mb() - before,
    }


async def _classify(page: Page, pictures: Sequence[bytes]) -> list[float | None]:
    """Seconds until each picture was answered; None from the first that never was."""
    taken: list[float | None] = [None] * len(pictures)
    with suppress(TimeoutError, NoAnswer):
        for number, content in enumerate(pictures):
            taken[number] = await choose(page, content, f"picture-{number}.jpg")
    return taken


async def soak(browser: Browser, address: str, uploads: int) -> dict:
    """Let one visitor give many files, and see what memory the server and kernel keep."""
    page, *_ = await opened(browser, address)
    start = time.perf_counter()

    async def rested() -> float:
        await at_rest()
        return private_mb()

    for number in range(WARM_UP):
        await _give(page, number)
    await clear(page)
    before = await rested()
    for number in range(WARM_UP, WARM_UP + uploads):
        await _give(page, number)
        if number % 50 == 0:
            say(f"{number} files: {private_mb() - before:+.0f} MB")
    history = await rested() - before
    await clear(page)
    leak = await rested() - before
    await leave(page)
    return {"soak_seconds": time.perf_counter() - start, "history": history, "leak": leak}


async def _give(page: Page, number: int) -> None:
    """Give the next file of the long visit."""
    file_format = FORMATS[number % len(FORMATS)]
    name, content = f"file-{number}.{file_format.lower()}", picture(number, (800, 600), file_format)
    if number % 10 == 9:
        await choose(page, content[: len(content) // 2], name, answer="message")
    else:
        await choose(page, content, name)


def as_markdown(report: dict) -> str:
    """Return the report as Markdown."""
    settings = report["settings"]
    return "\n\n".join(
        [
            "# The dashboard under load",
            f"{settings['visitors']} visitors at once, each with {settings['images']} pictures of "
            f"{PICTURE[0]} × {PICTURE[1]} pixels; then one visitor with {settings['uploads']} "
            "files. Memory is what would be free without the server and its kernels (USS). Made "
            "by `dashboard_load.py`.",
            limits_table(report, NAMES),
            where(report["machine"]),
        ]
    )


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--visitors", type=int, default=10, help="visitors at once; 0 for none")
    parser.add_argument("--images", type=int, default=20, help="pictures of each")
    parser.add_argument(
        "--uploads", type=int, default=500, help="files of the long visit; 0 for none"
    )
    parser.add_argument("--check", action="store_true", help="exit with 1 if a limit is missed")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="JSON; Markdown lies beside it")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
