"""A served dashboard and a browser that visits it."""

import shutil
from pathlib import Path

import pytest
from serving import serve, visit


@pytest.fixture(scope="session")
def browser():
    """Chromium, the system's or Playwright's own; without one these tests are skipped."""
    playwright = pytest.importorskip("playwright.sync_api")
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    found = next(filter(None, map(shutil.which, names)), None)
    with playwright.sync_playwright() as driver:
        path = found or driver.chromium.executable_path
        if not Path(path).exists():
            pytest.skip("no browser: install chromium, or run `playwright install chromium`")
        chromium = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def server(browser, tmp_path_factory):
    """The dashboard with the released models."""
    with serve(tmp_path_factory.mktemp("voila") / "server.log") as address:
        yield address


@pytest.fixture(scope="session")
def server_without_models(browser, tmp_path_factory):
    """The dashboard of a project in which nothing has been trained, and its released folder."""
    folder = tmp_path_factory.mktemp("nothing")
    empty = {"CIFAKE_RELEASED": str(folder / "released"), "CIFAKE_RUNS": str(folder / "runs")}
    with serve(folder / "server.log", **empty) as address:
        yield address, folder / "released"


@pytest.fixture(scope="session")
def visitor(browser, server):
    """One visitor whose page most tests share, since every page costs a kernel."""
    page = visit(browser, server)
    yield page
    page.context.close()


@pytest.fixture
def page(visitor):
    """The shared page, emptied before the test."""
    visitor.get_by_role("tab", name="Analyse").click()
    if visitor.get_by_role("button", name="Clear").is_visible():
        visitor.get_by_role("button", name="Clear").click()
    visitor.wait_for_selector(".cf-card", state="detached")
    return visitor
