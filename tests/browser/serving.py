"""Serve the dashboard and visit it."""

import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import psutil
import pytest
from processes import free_port

from cifake_lib.paths import project_root

SCREENSHOTS = project_root() / "build" / "screenshots"
READY = 120_000  # milliseconds; loading TensorFlow on a busy machine


@contextmanager
def serve(log: Path, *options: str, **environment: str):
    """Serve the dashboard as `make dashboard` does, on a free port; yields its address."""
    command = ["voila", "notebooks/dashboard.ipynb", "--no-browser", *options]
    with _started(log, command, environment | {"TF_CPP_MIN_LOG_LEVEL": "2"}) as address:
        yield address


@contextmanager
def serve_lab(folder: Path, *, theme: str):
    """Start JupyterLab, with a copy of the dashboard's notebook, as one who never used it."""
    (folder / "work").mkdir()
    shutil.copy(project_root() / "notebooks" / "dashboard.ipynb", folder / "work")
    themes = folder / "settings/@jupyterlab/apputils-extension/themes.jupyterlab-settings"
    themes.parent.mkdir(parents=True)
    themes.write_text(json.dumps({"theme": theme}))
    options = [f"--notebook-dir={folder / 'work'}", "--IdentityProvider.token=", "--allow-root"]
    own = {"JUPYTER_CONFIG_DIR": "config", "JUPYTERLAB_WORKSPACES_DIR": "workspaces"}
    own |= {"JUPYTERLAB_SETTINGS_DIR": "settings", "IPYTHONDIR": "ipython"}
    environment = {name: str(folder / path) for name, path in own.items()}
    command = ["jupyterlab", "--no-browser", *options]
    with _started(folder / "server.log", command, environment) as address:
        yield f"{address}lab/tree/dashboard.ipynb"


@contextmanager
def _started(log: Path, command: list[str], environment: dict[str, str]):
    """Run a module that serves, on a free port, until it is no longer needed."""
    port = free_port()
    with log.open("w") as output:
        server = subprocess.Popen(
            [sys.executable, "-m", *command, f"--port={port}"],
            cwd=project_root(),
            env=os.environ | environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + 60
        while True:
            if server.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"{command[0]} did not start:\n{log.read_text()[-3000:]}")
            with socket.socket() as attempt:
                if attempt.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.2)
        yield f"http://localhost:{port}/"
    finally:
        server.terminate()  # It then ends its kernels.
        try:
            server.wait(timeout=20)
        except subprocess.TimeoutExpired:
            server.kill()


def visit(browser, address: str, *, width: int = 1280, height: int = 900):
    """Open the page as a new visitor and wait until the models are loaded."""
    page = browser.new_context(viewport={"width": width, "height": height}).new_page()
    page.goto(address, timeout=READY)
    page.wait_for_selector(".cifake .cf-lead", timeout=READY)
    page.wait_for_selector(".cf-spinner", state="detached", timeout=READY)
    return page


def kernel_of(page):
    """Return the id of the kernel behind a page."""
    return page.evaluate(
        "JSON.parse(document.getElementById('jupyter-config-data').textContent).kernelId"
    )


def process_of(kernel):
    """Return the process of a kernel, which is known by the name of its connection file."""
    for process in psutil.process_iter(["cmdline"]):
        if any(f"kernel-{kernel}" in part for part in process.info["cmdline"] or ()):
            return process
    raise AssertionError(f"Expected a process of kernel {kernel}, received none")


def fetch(address, path, *, method="GET", hops=3):
    """Ask for a path exactly as it stands, which no browser does; follows redirections.

    Returns:
        Status, headers and body.
    """
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=30)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        body = answer.read()
    finally:
        connection.close()
    if answer.status in (301, 302) and hops:
        target = urlsplit(urljoin(address, answer.headers["Location"]))
        assert target.netloc == parts.netloc, f"{path} leads to {target.geturl()}"
        target = f"{target.path}?{target.query}" if target.query else target.path
        return fetch(address, target, hops=hops - 1)
    return answer.status, answer.headers, body
