"""The dashboard as others put it on a server: from the Dockerfile, and on Binder."""

import os
import shutil
import subprocess
import sys
import time
import uuid
from contextlib import suppress

import numpy as np
import pytest
from PIL import Image
from processes import free_port
from published import binder_session, build_binder, build_image, container, memory_mb
from serving import READY, fetch, visit

from cifake_lib.paths import project_root

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="containers run Linux; elsewhere memory is not shared out"
)

TOKEN = "correct-horse"
VERDICTS = ("REAL", "FAKE", "UNCERTAIN")
HOST_MB = 2048  # the small host for which README.md sets limits
VISITORS = 6  # who must fit in it together
CORE = min(os.sched_getaffinity(0)) if sys.platform == "linux" else 0
LIMITS = "--init --read-only --tmpfs=/tmp --memory=2g --cpus=1 --pids-limit=512 --cap-drop=all"


@pytest.fixture(scope="module")
def image(browser, tmp_path_factory):
    """What the Dockerfile builds, but that Python compiles only what is used."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIP_NO_COMPILE", "1")
        yield build_image(project_root(), tmp_path_factory.mktemp("image"))


@pytest.fixture(scope="module")
def guarded(image, tmp_path_factory):
    """A container as it starts by itself: its address, its process and the token it has printed."""
    log = tmp_path_factory.mktemp("container") / "log"
    with container(image, log, core=CORE) as (address, server):
        (line,) = [line for line in log.read_text().splitlines() if line.startswith(address)]
        yield address, server, line.partition("?token=")[2]


def classify(page, path):
    """Give a picture to the page and return the verdict."""
    with page.expect_file_chooser() as chooser:
        page.locator(".cf-choose:enabled").click(timeout=READY)
    chooser.value.set_files(path)
    page.locator(".cf-card .cf-name", has_text=path.name).wait_for(timeout=READY)
    return page.locator(".cf-card .cf-verdict b").inner_text()


def lets_in(address, query=""):
    """Tell whether a server answers about kernels, here that there is none like this."""
    status = fetch(address, f"/api/kernels/{uuid.uuid4()}{query}", hops=0)[0]
    assert status in (302, 403, 404)
    return status == 404


def grainy(path, side):
    """Write a picture of noise."""
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


# --- the image -----------------------------------------------------------------------------------


def test_the_image_holds_what_the_dashboard_needs_and_no_more(image):
    packages = next((image.root / "venv" / "lib").glob("*/site-packages"))
    for name in ("tensorflow", "keras", "jupyterlab", "playwright"):
        assert not (packages / name).exists(), name
    copied = {path.relative_to(image.folder).parts[0] for path in image.folder.rglob("*")}
    wanted = {"artifacts", "binder", "cifake_lib", "data", "notebooks", "voila.json"}
    assert wanted <= copied and not copied & {"tests", "benchmarks", ".git", ".venv", "Dockerfile"}
    for folder, names in {"artifacts": ["released"], "data": ["sample.zip"]}.items():
        assert [path.name for path in (image.folder / folder).iterdir()] == names
    assert not list(image.folder.rglob("*.h5"))
    image.run(["python", "-c", "import cifake_lib.dashboard_figures"])  # in a process of its own


def test_everything_that_is_installed_has_its_version_in_the_lock():
    lock, wanted = (
        {line.split("==")[0] for line in (project_root() / file).read_text().splitlines()}
        for file in ("requirements.lock", "binder/requirements.txt")
    )
    assert {name for name in wanted if name[0] not in "#-"} - lock == set()


def test_the_container_is_not_root_and_says_how_it_is_reached(image):
    user = image.said["USER"].partition(":")[0]
    assert user.isdigit() and int(user) > 0  # A number: Kubernetes cannot look up names.
    assert image.said["EXPOSE"] == "8866"
    assert image.said["FROM"] == "python:3.11-slim"


def test_without_the_token_there_is_a_form_and_nothing_else(guarded):
    address, _, token = guarded
    assert len(token) > 30
    for path in ("/", "/?token=wrong"):
        status, headers, body = fetch(address, path, hops=0)
        assert (status, b"jupyter-config-data" in body) == (302, False)
        assert headers["Location"].startswith("/login")
    assert not lets_in(address)


def test_visitors_with_the_token_get_verdicts_and_fit_in_the_host(browser, guarded, tmp_path):
    address, server, token = guarded
    picture = grainy(tmp_path / "grain.png", 64)
    pages, used = [], []
    for _ in range(2):
        pages.append(visit(browser, f"{address}?token={token}"))
        assert classify(pages[-1], picture) in VERDICTS
        used.append(memory_mb(server))
    shot = project_root() / "build" / "screenshots" / "published.png"
    shot.parent.mkdir(parents=True, exist_ok=True)
    pages[0].screenshot(path=shot)
    for page in pages:
        page.context.close()
    everything = used[1] + (VISITORS - 2) * (used[1] - used[0])
    assert everything < HOST_MB, f"{VISITORS} visitors would take {everything:.0f} MB"


def test_a_container_that_is_stopped_ends_in_good_order(guarded):
    """Comes last of those that share the container: it ends it."""
    guarded[1].terminate()
    assert guarded[1].wait(timeout=20) == 0


def test_the_token_can_be_ones_own(image, tmp_path):
    with container(image, tmp_path / "log", core=CORE, JUPYTER_TOKEN=TOKEN) as (address, _):
        assert TOKEN not in (tmp_path / "log").read_text()
        assert lets_in(address, f"?token={TOKEN}") and not lets_in(address)


def test_it_is_open_to_everybody_when_told_so(image, tmp_path):
    with container(image, tmp_path / "log", "--Voila.token=", core=CORE) as (address, _):
        assert lets_in(address)


@pytest.fixture
def engine(tmp_path):
    """A container engine that can run the base image."""
    for name in filter(shutil.which, ("podman", "docker")):
        trial = [name, "run", "--rm", "python:3.11-slim", "python", "--version"]
        if not subprocess.run(trial, capture_output=True, timeout=120).returncode:
            return name
    pytest.skip("no container engine, or none that has python:3.11-slim")


def test_a_container_engine_builds_and_serves_it_within_limits(engine, browser, tmp_path):
    def call(*words):
        return subprocess.run([engine, *words], check=True, capture_output=True, text=True).stdout

    port = free_port()
    call("build", "--tag", "cifake-test", str(project_root()))
    words = [*LIMITS.split(), f"--publish={port}:8866", "cifake-test", "--Voila.token="]
    running = call("run", "--detach", "--rm", *words).strip()
    try:
        while running in call("ps", "--quiet", "--no-trunc"):
            with suppress(OSError):  # not yet
                if fetch(f"http://localhost:{port}/", "/voila/static/voila.js")[0] == 200:
                    break
            time.sleep(0.5)
        page = visit(browser, f"http://localhost:{port}/")
        assert classify(page, grainy(tmp_path / "grain.png", 64)) in VERDICTS
        page.context.close()
    finally:
        call("stop", running)
        call("rmi", "cifake-test")


# --- Binder --------------------------------------------------------------------------------------


def test_binder_shows_the_dashboard_and_takes_large_files(browser, image, tmp_path):
    binder = build_binder(project_root(), image)
    assert (binder.folder / "binder" / "runtime.txt").read_text().strip() == "python-3.11"
    with binder_session(binder, tmp_path / "log", core=CORE, token=TOKEN) as address:
        link = f"{address}voila/render/notebooks/dashboard.ipynb?token={TOKEN}"
        page = visit(browser, link)
        large = grainy(tmp_path / "large.png", 64)
        with large.open("ab") as file:
            file.write(bytes(11 * 2**20))  # More than Jupyter's server takes by itself.
        assert classify(page, large) in VERDICTS
        page.context.close()
