"""Visitors of the served dashboard: what they do in a browser, and what they cost the server.

Waiting is done in the page, frame by frame: Playwright itself may look half a second late.
"""

import asyncio
import io
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from importlib.metadata import version
from pathlib import Path

import numpy as np
import psutil
from PIL import Image
from playwright.async_api import Browser, Page, async_playwright
from reporting import say, table

from cifake_lib.paths import project_root

sys.path += [str(project_root() / "tests"), str(project_root() / "tests" / "browser")]
from serving import serve  # noqa: F401 (the tests' way of serving, for both benchmarks)

# What the page is known by, as CSS; one place to follow it.
PAGE = {
    "choose": ".cf-choose:enabled",
    "name": ".cf-card .cf-name",
    "message": ".cf-message",
    "loading": ".cf-spinner",
    "sections": ".cf-opened .cf-details summary",
    "heat_map": ".cf-opened .cf-heat img",
    "rows": ".cf-history .dt-info",
    "lab_answer": ".cf-lab-answers .cf-model",
    "lab_change": ".cf-lab-controls select",
    "lab_slider": ".cf-lab-controls [role=slider], .cf-lab-controls input[type=range]",
    "lab_level": ".cf-lab-level",
    "models": "tr[data-model]",
}
PATIENCE = 120  # seconds
_APPEARS = """([selector, text, wanted]) => new Promise((resolve) => {
  const shown = (element) => element.getClientRects().length && element.textContent.includes(text);
  const look = () => [...document.querySelectorAll(selector)].some(shown) === wanted
    ? resolve() : requestAnimationFrame(look);
  look();
})"""


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """Start headless Chromium, the system's or Playwright's own."""
    found = shutil.which("chromium") or shutil.which("google-chrome")
    async with async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        await browser.close()


async def opened(browser: Browser, address: str) -> tuple[Page, float, float]:
    """Open the dashboard as a new visitor, whose cache is empty.

    Returns:
        The page, and the seconds until it took pictures and until its models were loaded.
    """
    context = await browser.new_context(viewport={"width": 1280, "height": 900})
    page = await context.new_page()
    page.set_default_timeout(1000 * PATIENCE)
    start = time.perf_counter()
    await page.goto(address, wait_until="commit")
    await appears(page, "choose")
    usable = time.perf_counter() - start
    await appears(page, "loading", wanted=False)
    return page, usable, time.perf_counter() - start


async def leave(page: Page) -> None:
    """Leave the page as a visitor does, whose kernel then ends."""
    await page.goto("about:blank")
    await page.context.close()


async def appears(page: Page, what: str, text: str = "", *, wanted: bool = True) -> None:
    """Wait until something is visible in the page, or no longer is.

    Args:
        page: With the dashboard.
        what: A key of `PAGE`.
        text: To be found in it.
        wanted: False to wait until it is gone.

    Raises:
        TimeoutError: It took longer than `PATIENCE`.
    """
    waiting = page.evaluate(_APPEARS, [PAGE[what], text, wanted])
    await asyncio.wait_for(waiting, PATIENCE)


async def choose(page: Page, content: bytes, name: str, *, answer: str = "name", text: str = ""):
    """Give a file to the page's chooser.

    Args:
        page: With the dashboard.
        content: Of the file.
        name: Of the file; no other may be called so.
        answer: The key of `PAGE` whose appearance is the answer: by default the verdict's card.
        text: What stands in the answer; by default the name.

    Returns:
        The seconds until the answer was on the page.
    """
    async with page.expect_file_chooser() as chooser:
        await page.locator(PAGE["choose"]).click()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_bytes(content)
        start = time.perf_counter()
        await (await chooser.value).set_files(path)
        await appears(page, answer, text or name)
        return time.perf_counter() - start


async def clear(page: Page) -> None:
    """Make the page forget its pictures."""
    await page.get_by_role("button", name="Clear").click()
    await appears(page, "name", wanted=False)


# --- processes -----------------------------------------------------------------------------------


async def kernel_of(page: Page) -> psutil.Process:
    """Find the process behind a page by the name of its connection file."""
    kernel = await page.evaluate(
        "JSON.parse(document.getElementById('jupyter-config-data').textContent).kernelId"
    )
    for process in family():
        if any(f"kernel-{kernel}" in part for part in process.cmdline()):
            return process
    raise LookupError(f"Expected a process of kernel {kernel}, received none")


def family() -> list[psutil.Process]:
    """Return the server and its kernels: what this process started and runs Python."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # ended meanwhile
            if process.name().startswith("python"):
                found.append(process)
    return found


def private_mb() -> float:
    """Return the memory in MB that would be free without server and kernels (USS)."""
    private = 0
    for process in family():
        with suppress(psutil.NoSuchProcess):
            private += process.memory_full_info().uss
    return private / 2**20


async def at_rest() -> None:
    """Wait until server and kernels have used next to no processor for a second."""

    def used() -> float:
        total = 0.0
        for process in family():
            with suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                total += times.user + times.system
        return total

    before, deadline = used(), time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        await asyncio.sleep(1)
        now = used()
        if abs(now - before) < 0.05:
            return
        before = now


# --- pictures ------------------------------------------------------------------------------------


def picture(seed: int, size: tuple[int, int], file_format: str = "JPEG") -> bytes:
    """Return a file with soft shapes and grain, about as large as a photograph's.

    Args:
        seed: Another one gives another picture.
        size: Width and height in pixels.
        file_format: As Pillow calls it.
    """
    shapes = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    image = Image.fromarray(shapes).resize(size, Image.Resampling.BICUBIC)
    image = Image.blend(image, Image.effect_noise(size, 24).convert("RGB"), 0.15)
    buffer = io.BytesIO()
    image.save(buffer, file_format)
    return buffer.getvalue()


# --- report --------------------------------------------------------------------------------------


def judge(measured: dict, limits: dict) -> dict:
    """Hold what was measured against limits; what could not be measured has not passed.

    Returns:
        `measured` (None for what the page does not have), `limits` and `passed`, name by name.
    """
    measured = {
        name: value if value is None else round(value, 3) for name, value in measured.items()
    }
    passed = {
        name: measured[name] is not None and measured[name] <= limit
        for name, limit in limits.items()
    }
    return {"measured": measured, "limits": dict(limits), "passed": passed}


def say_missed(report: dict, names: dict) -> bool:
    """Say which limits were missed; return whether there are any."""
    missed = [names[name] for name, passed in report["passed"].items() if not passed]
    for name in missed:
        say(f"Limit missed: {name}")
    return bool(missed)


def limits_table(report: dict, names: dict) -> str:
    """Return the figures with their limits as a table in Markdown."""
    rows = []
    for name, text in names.items():
        value, limit = report["measured"][name], report["limits"].get(name)
        shown = "not there" if value is None else f"{value:,.{2 if value < 100 else 0}f}"
        verdict = ["–", "–"]
        if limit is not None:
            verdict = [f"{limit:g}", "pass" if report["passed"][name] else "FAIL"]
        rows.append([text, shown, *verdict])
    return table(["what", "measured", "limit", ""], rows)


def where(facts: dict) -> str:
    """Say in a paragraph of Markdown where and with what was measured."""
    return (
        f"Measured {facts['measured_utc']} at commit `{facts['git_commit'] or 'unknown'}` on "
        f"{facts['processor']} ({facts['platform']}), which server, kernels and browser shared: "
        f"Python {facts['versions']['python']}, Voilà {version('voila')}, Chromium "
        f"{facts['browser']}. Load average before: {facts['load_average_before']}."
    )
