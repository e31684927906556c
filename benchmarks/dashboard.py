"""Measure how fast the served dashboard answers in a browser, and what a visitor costs.

Voilà serves the notebook as `make dashboard` does, headless Chromium opens it with an empty cache,
and the clock runs from the visitor's action until the answer is in the page.
"""

import argparse
import asyncio
import io
import statistics
import sys
import tempfile
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path

from playwright.async_api import Browser, Page
from reporting import machine, say, write
from visiting import (
    PAGE,
    appears,
    at_rest,
    choose,
    chromium,
    clear,
    judge,
    kernel_of,
    leave,
    limits_table,
    opened,
    picture,
    say_missed,
    serve,
    where,
)

PHOTO = (4000, 3000)  # 12 megapixels
SMALL = 200  # images in the zip
REPEATS = 5  # of what is not the headline
# What the project promises on two CPU cores: seconds, and MB for memory.
LIMITS = {
    "usable_preheated": 2.0,
    "usable_cold": 5.0,
    "verdict": 1.2,
    "heat_maps": 1.5,
    "zip": 10.0,
    "lab_step": 0.3,
    "memory_idle": 350,
    "memory_after_verdict": 350,
    "memory_after_models": 350,
}
NAMES = {
    "usable_preheated": f"page usable after opening, preheated kernel, s (median of {REPEATS})",
    "usable_cold": f"page usable after opening, cold kernel, s (median of {REPEATS})",
    "loaded_cold": "models loaded after opening, cold kernel, s (median)",
    "verdict": "12-megapixel JPEG chosen → verdict, s (median of all photographs)",
    "verdict_worst": "the same, slowest, s",
    "heat_maps": f"heat maps of such an image opened → shown, s (median of {REPEATS})",
    "zip": f"{SMALL} small images in a zip → full table, s",
    "lab_step": f"robustness lab, one step of the slider → scores, s (median of {REPEATS})",
    "lab_step_worst": "the same, slowest: the first, when no score is known yet, s",
    "memory_idle": "resident memory of a visitor's kernel, models loaded, MB",
    "memory_after_verdict": "the same after a verdict on a 12-megapixel JPEG, MB",
    "memory_after_models": "the same after the Models tab, MB",
}
OUTPUT = Path(__file__).with_suffix(".json")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure; write JSON and Markdown.

    Returns:
        Exit status: 1 with `--check` if a limit is missed or a figure could not be had, else 0.
    """
    options = _parse(argv)
    facts = machine()
    measured = asyncio.run(measure(options.photos))
    facts["browser"] = measured.pop("browser")
    report = {"machine": facts, "photos": options.photos, **judge(measured, LIMITS)}
    write(options.output, report, as_markdown(report))
    return 1 if say_missed(report, NAMES) and options.check else 0


async def measure(photos: int) -> dict:
    """Return the values of `NAMES` (None for what the page does not have) and `browser`.

    Args:
        photos: How many photographs are chosen for the median.
    """
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "server.log")
        async with chromium() as browser:
            with serve(log) as address:
                preheated = await open_often(browser, address)
                costs = await memory(browser, address)
                answers = await answer_times(browser, address, photos)
            with serve(log, "--preheat_kernel=False") as address:
                cold = await open_often(browser, address)
            return {
                "browser": browser.version,
                "usable_preheated": preheated[0],
                "usable_cold": cold[0],
                "loaded_cold": cold[1],
                **costs,
                **answers,
            }


async def open_often(browser: Browser, address: str) -> tuple[float, float]:
    """Median seconds from opening the page until it takes pictures, and until models are loaded."""
    taken = []
    for _ in range(REPEATS):
        await at_rest()  # the next kernel is preheated, if any is
        page, *seconds = await opened(browser, address)
        taken.append(seconds)
        await leave(page)
    usable, loaded = zip(*taken, strict=True)
    say(f"usable: {_listed(usable)}; models loaded: {_listed(loaded)}")
    return statistics.median(usable), statistics.median(loaded)


async def memory(browser: Browser, address: str) -> dict:
    """Resident memory of one visitor's kernel at three moments, in MB."""
    page, *_ = await opened(browser, address)
    kernel, measured = await kernel_of(page), {}

    async def note(moment: str) -> None:
        await at_rest()
        measured[f"memory_{moment}"] = kernel.memory_info().rss / 2**20

    await note("idle")
    await choose(page, picture(0, PHOTO), "memory.jpg")
    await note("after_verdict")
    await page.get_by_role("tab", name="Models").click()
    await appears(page, "models")
    await note("after_models")
    await leave(page)
    say(f"memory: {', '.join(f'{value:.0f}' for value in measured.values())} MB")
    return measured


async def answer_times(browser: Browser, address: str, photos: int) -> dict:
    """Seconds from what a visitor does to the answer, all in one page."""
    page, *_ = await opened(browser, address)
    await at_rest()
    verdicts = [
        await choose(page, picture(seed, PHOTO), f"photo-{seed}.jpg") for seed in range(photos)
    ]
    say(f"verdicts: {_listed(verdicts)}")
    measured = {"verdict": statistics.median(verdicts), "verdict_worst": max(verdicts)}
    measured["heat_maps"] = await heat_maps(page)
    measured["zip"] = await zip_to_table(page)
    measured |= await lab(page)
    await leave(page)
    return measured


async def heat_maps(page: Page) -> float | None:
    """Open the heat maps of a photograph that was just examined."""
    heading, taken = page.locator(PAGE["sections"], has_text="Heat maps"), []
    if not await heading.count():
        return None
    for seed in range(REPEATS):
        await choose(page, picture(seed, PHOTO), f"heat-{seed}.jpg")
        await at_rest()
        start = time.perf_counter()
        await heading.evaluate("summary => summary.click()")
        await appears(page, "heat_map")
        taken.append(time.perf_counter() - start)
    say(f"heat maps: {_listed(taken)}")
    return statistics.median(taken)


async def zip_to_table(page: Page) -> float | None:
    """Choose a zip of small images and wait until all are in the table."""
    await clear(page)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for seed in range(SMALL):
            archive.writestr(f"{seed:03d}.png", picture(seed, (32, 32), "PNG"))
    try:
        taken = await choose(
            page, buffer.getvalue(), "small.zip", answer="rows", text=f"of {SMALL} "
        )
    except TimeoutError:
        return None
    say(f"zip: {taken:.2f} s")
    return taken


async def lab(page: Page) -> dict:
    """Turn to another kind of change in the robustness lab, and step through its severities."""
    tab = page.get_by_role("tab", name="Robustness lab")
    if not await tab.count():
        return {"lab_step": None, "lab_step_worst": None}
    await tab.click()
    await appears(page, "lab_answer")
    await at_rest()
    await page.locator(PAGE["lab_change"]).select_option(index=1)
    await page.locator(PAGE["lab_slider"]).focus()
    steps = []
    for severity in range(1, REPEATS + 1):
        start = time.perf_counter()
        await page.keyboard.press("ArrowRight")
        await appears(page, "lab_level", f"Severity {severity}")
        await asyncio.sleep(0.03)  # until the answer to the step before is gone
        await appears(page, "lab_answer")
        steps.append(time.perf_counter() - start)
    say(f"lab: {_listed(steps)}")
    return {"lab_step": statistics.median(steps), "lab_step_worst": max(steps)}


def as_markdown(report: dict) -> str:
    """Return the report as Markdown."""
    return "\n\n".join(
        [
            "# The dashboard in a browser",
            "From the visitor's action to the answer in the page, which Voilà serves; "
            f"{report['photos']} photographs. Made by `dashboard.py`.",
            limits_table(report, NAMES),
            where(report["machine"]),
        ]
    )


def _listed(seconds: Sequence[float]) -> str:
    return f"{', '.join(f'{value:.2f}' for value in seconds)} s"


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=int, default=20, help="how many photographs are chosen")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a limit is missed")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="JSON; Markdown lies beside it")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
