"""Headings that open, with anywidget and without."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from cifake_lib import dashboard_disclosure, dashboard_slider
from cifake_lib.dashboard_disclosure import WORKING, Disclosure
from cifake_lib.dashboard_slider import step_slider


@pytest.fixture(params=["anywidget", "core widgets"])
def kind(request, monkeypatch):
    if request.param == "anywidget":
        pytest.importorskip("anywidget")
    else:
        monkeypatch.setattr(dashboard_disclosure, "anywidget", None)
        monkeypatch.setattr(dashboard_slider, "anywidget", None)
    return request.param


@pytest.fixture
def pool():
    with ThreadPoolExecutor(1) as pool:
        yield pool


def wait(pool):
    pool.submit(bool).result()


def test_what_lies_below_is_computed_once_when_it_is_opened(kind, pool):
    asked = []

    def compute():
        asked.append(1)
        return f"<p>answer {len(asked)}</p>"

    section = Disclosure("Heat maps", compute, pool)
    assert section.html == "" and section.view.title == "Heat maps"
    for is_open in (True, False, True):
        section.view.is_open = is_open
        wait(pool)
    assert section.html == "<p>answer 1</p>"
    section.reset()
    assert section.html == "" and not section.view.is_open
    section.view.is_open = True
    wait(pool)
    assert section.html == "<p>answer 2</p>"


def test_an_answer_that_comes_too_late_is_dropped(kind, pool):
    def compute():
        assert section.html == WORKING
        section.reset()  # Another picture came while this was computed.
        return "<p>of the picture before</p>"

    section = Disclosure("Slow", compute, pool)
    section.view.is_open = True
    wait(pool)
    assert section.html == "" and not section.view.is_open


def test_the_fallback_opens_with_its_button(monkeypatch, pool):
    monkeypatch.setattr(dashboard_disclosure, "anywidget", None)
    section = Disclosure("About", lambda: "<p>words</p>", pool)
    button, body = section.view.children
    assert button.description == "About" and body.layout.display == "none"
    button.value = True
    wait(pool)
    assert body.value == "<p>words</p>" and body.layout.display is None


def test_a_slider_says_its_step(kind):
    slider, heard = step_slider("Fakes", ["1 %", "50 %"], value=1), []
    slider.observe(lambda change: heard.append(change["new"]), "value")
    slider.value = 0
    assert slider.value == 0 and heard == [0]
