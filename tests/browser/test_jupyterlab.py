"""The dashboard's notebook in JupyterLab, where it looks and works as in the served page."""

import re

import pytest
from PIL import Image
from serving import READY, SCREENSHOTS, serve_lab

pytest.importorskip("jupyterlab")


@pytest.fixture
def lab(browser, tmp_path):
    """JupyterLab in its dark theme, with the notebook open, and what its console complains of."""
    with serve_lab(tmp_path, theme="JupyterLab Dark") as address:
        page = browser.new_context(viewport={"width": 1400, "height": 1400}).new_page()
        complaints = []
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda said: said.type == "error" and complaints.append(said.text))
        page.goto(address, timeout=READY)
        page.locator(".jp-Notebook .jp-Cell").first.wait_for(timeout=READY)
        # What is run before the kernel is there is forgotten.
        page.get_by_text("| Idle").first.wait_for(timeout=READY)
        yield page, complaints
        page.context.close()


def test_a_picture_gets_its_verdict_in_jupyterlab(lab, tmp_path):
    page, complaints = lab
    page.locator(".lm-MenuBar-itemLabel", has_text=re.compile("^Run$")).click()
    page.locator(".lm-Menu-itemLabel", has_text=re.compile("^Run All Cells$")).click()
    choose = page.locator(".cf-choose:enabled")  # of the drop zone, which takes anywidget
    choose.wait_for(timeout=READY)
    page.locator(".cf-spinner").wait_for(state="detached", timeout=READY)
    Image.new("RGB", (400, 300), (90, 120, 60)).save(tmp_path / "meadow.png")
    with page.expect_file_chooser() as chooser:
        choose.click()
    chooser.value.set_files(tmp_path / "meadow.png")
    page.locator(".cf-card .cf-name", has_text="meadow.png").wait_for(timeout=30_000)
    page.locator(".cf-example").first.click()
    page.locator(".cf-history .cf-open", has_text="Example 1").wait_for(timeout=30_000)
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / "jupyterlab-dark.png")
    paper = page.locator(".cifake").evaluate("page => getComputedStyle(page).backgroundColor")
    assert max(map(int, re.findall(r"\d+", paper)[:3])) < 60, f"light in the dark: {paper}"
    # What a library writes to standard error would stand below in a red box.
    assert page.locator(".jp-OutputArea-output[data-mime-type$=stderr]").all_inner_texts() == []
    assert complaints == []
