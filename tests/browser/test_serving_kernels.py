"""No visitor meets a dead kernel in silence: not one that has waited, not one that ends."""

import json
import re
import time

import pytest
from serving import READY, fetch, kernel_of, process_of, serve, visit

IDLE = 4  # seconds until a kernel is culled


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    return tmp_path_factory.mktemp("culling") / "server.log"


@pytest.fixture(scope="module")
def culling(log):
    """The address of a server that culls soon."""
    options = {"cull_idle_timeout": IDLE, "cull_interval": 1}
    with serve(log, *(f"--MappingKernelManager.{name}={n}" for name, n in options.items())) as at:
        yield at


def arrive(address):
    """Get the page and no more, as a browser has it before it connects; returns its kernel."""
    status, _, body = fetch(address, "/")
    assert status == 200
    data = re.search(r'id="jupyter-config-data"[^>]*>(.*?)</script>', body.decode(), re.DOTALL)
    return json.loads(data[1])["kernelId"]


def wait_for(happened, seconds=60):
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.2)


def filled(log):
    """Return how often the pool was filled so far."""
    return log.read_text().count("is filled with 1 kernel")


def test_a_kernel_that_waited_long_is_there_for_its_visitor(culling, log):
    wait_for(lambda: filled(log) == 1)
    time.sleep(IDLE + 8)  # after the notebook has run, longer than a kernel may be idle
    kernel = arrive(culling)
    assert f"Using pre-heated kernel: {kernel}" in log.read_text()
    time.sleep(2)  # the culler has passed, and the page is still loading
    assert fetch(culling, f"/api/kernels/{kernel}")[0] == 200
    process = process_of(kernel)
    process.wait(timeout=30)  # nobody has connected


def test_a_kernel_that_died_while_waiting_is_given_to_nobody(culling, log):
    before = filled(log)
    arrive(culling)
    wait_for(lambda: filled(log) > before)
    started = re.findall(r"Kernel started: (\S+)", log.read_text())[-1]
    process_of(started).kill()
    wait_for(lambda: f"Kernel {started} died" in log.read_text())
    kernel = arrive(culling)
    assert kernel != started and process_of(kernel).is_running()


def test_the_page_says_that_its_kernel_died(browser, culling):
    page = visit(browser, culling)
    said = "getComputedStyle(document.querySelector('.cifake'), '::before').content"
    assert page.evaluate(said) == "none"
    process_of(kernel_of(page)).kill()
    page.locator(".cifake.cf-lost").wait_for(timeout=READY)
    assert "connection to the server is lost" in page.evaluate(said)
    page.context.close()
