"""Follow the files that publish the dashboard, without a container engine or Binder.

Their steps run as they stand, in an empty folder and with an environment of Python of its own. Not
imitated: the base image, its user, and that files elsewhere are out of reach.
"""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Self

import psutil
from processes import free_port

PATIENCE = 120  # seconds until a server answers


@dataclass
class Image:
    """What a Dockerfile makes.

    Attributes:
        root: The folder that stands for `/`.
        environment: Of the commands; the host's only where pip needs it.
        folder: Where the commands run.
        said: What stands behind the other instructions, by their names.
    """

    root: Path
    environment: dict[str, str]
    folder: Path = Path()
    said: dict[str, str] = field(default_factory=dict)

    @classmethod
    def empty(cls, root: Path) -> Self:
        """Start as the base image does: with Python and pip."""
        subprocess.run([sys.executable, "-m", "venv", root / "venv"], check=True)
        (root / "tmp").mkdir()
        ours = re.compile("CIFAKE|JUPYTER|PYTHON|VIRTUAL_ENV|MPL")
        environment = {name: text for name, text in os.environ.items() if not ours.match(name)}
        environment["PATH"] = f"{root / 'venv' / 'bin'}{os.pathsep}{environment['PATH']}"
        return cls(root, environment)

    def inside(self, text: str) -> str:
        """Move the paths of a command below the folder that stands for `/`."""
        return re.sub(r"""(?<![^\s="'])/(?=(srv|tmp)\b)""", f"{self.root}/", text)

    def run(self, command: str | list[str]) -> None:
        """Run a step of building.

        Raises:
            RuntimeError: It failed; the message ends with what it wrote.
        """
        result = subprocess.run(
            command,
            shell=isinstance(command, str),
            cwd=self.folder,
            # Wheels that were fetched before are not fetched again.
            env={
                name: text for name, text in self.environment.items() if name != "PIP_NO_CACHE_DIR"
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if result.returncode:
            raise RuntimeError(f"{command} failed:\n{result.stdout[-3000:]}")


def build_image(context: Path, root: Path) -> Image:
    """Build what `context/Dockerfile` says.

    Args:
        context: Where its files come from.
        root: An empty folder for the image.

    Raises:
        ValueError: The Dockerfile has an instruction that nobody has taught this function.
        RuntimeError: A step failed.
    """
    image = Image.empty(root)
    text = (context / "Dockerfile").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        if not line.strip():
            continue
        instruction, rest = line.split(maxsplit=1)
        rest = image.inside(rest)
        match instruction:
            case "WORKDIR":
                image.folder = Path(rest)
                image.folder.mkdir(parents=True)
            case "ENV":
                image.environment |= dict(part.split("=", 1) for part in shlex.split(rest))
            case "COPY":
                *sources, target = rest.split()
                for source in sources:
                    _copy(context, context / source, image.folder / target)
            case "RUN":
                image.run(rest)
            case "FROM" | "USER" | "EXPOSE" | "HEALTHCHECK" | "ENTRYPOINT" | "CMD":
                image.said[instruction] = rest
            case _:
                raise ValueError(f"Expected an instruction that is known here, received {line!r}")
    return image


def _copy(context: Path, source: Path, target: Path) -> None:
    """Copy a file, or what is in a folder, without what `.dockerignore` leaves out."""
    rules = (context / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [rule for rule in rules if rule and not rule.startswith("#")]

    def kept(path: Path) -> bool:
        names = [path.as_posix(), *(parent.as_posix() for parent in path.parents)][:-1]
        found = True
        for rule in rules:  # The last that fits decides.
            if any(fnmatch(name, rule.removeprefix("!")) for name in names):
                found = rule.startswith("!")
        return found

    def leads_to_kept(path: Path) -> bool:
        return any(rule.startswith(f"!{path.as_posix()}/") for rule in rules)

    def files(folder: Path) -> Iterator[Path]:
        for path in folder.iterdir():
            inner = path.relative_to(context)
            if path.is_dir() and (kept(inner) or leads_to_kept(inner)):
                yield from files(path)
            elif path.is_file() and kept(inner):
                yield path

    if source.is_file():
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
    else:
        _copy_files(files(source), source, target)


def build_binder(repository: Path, image: Image) -> Image:
    """Do in a copy of a checkout what repo2docker does with `binder/`.

    Args:
        repository: The checkout; copied is what git tracks, or would.
        image: Whose packages are there already; Jupyter's server, which Binder's base has, is among
            them.

    Raises:
        RuntimeError: A step failed.
    """
    home = image.root / "home"
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=repository, check=True, capture_output=True, text=True)
    files = (repository / name for name in names.stdout.split("\0") if name)
    _copy_files((path for path in files if path.is_file()), repository, home)
    binder = Image(image.root, image.environment | {"HOME": str(home)}, home)
    binder.run(["pip", "install", "-r", "binder/requirements.txt"])
    binder.run(["./binder/postBuild"])
    return binder


def _copy_files(files: Iterable[Path], source: Path, target: Path) -> None:
    for path in files:
        copy = target / path.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)


# --- serving -------------------------------------------------------------------------------------


@contextmanager
def container(image: Image, log: Path, *command: str, core: int, **environment: str):
    """Run an image until it is no longer needed, on one core and a port of its own.

    Args:
        image: From `build_image`.
        log: Where it writes.
        *command: Instead of the image's `CMD`.
        core: Which one.
        **environment: Variables beside those of the image.

    Yields:
        Its address and its first process, which has answered the image's `HEALTHCHECK`.
    """
    port = str(free_port())
    published = {
        name: said.replace(image.said["EXPOSE"], port) for name, said in image.said.items()
    }
    start = json.loads(published["ENTRYPOINT"]) + (list(command) or json.loads(published["CMD"]))
    check = json.loads(published["HEALTHCHECK"].partition("CMD")[2])
    with _started(image, log, start, core, **environment) as server:
        _wait(log, server, lambda: not _call(image, check).returncode)
        yield f"http://localhost:{port}/", server


@contextmanager
def binder_session(image: Image, log: Path, *, core: int, token: str):
    """Run what Binder runs for a visitor; yields the address of Jupyter's server.

    Args:
        image: From `build_binder`.
        log: Where it writes.
        core: Which one.
        token: That Binder hands to the visitor.
    """
    port, base = str(free_port()), "/user/somebody/"
    options = ["--no-browser", "--allow-root", f"--port={port}", f"--ServerApp.base_url={base}"]
    start = ["jupyter", "server", *options, f"--IdentityProvider.token={token}"]
    address = f"http://localhost:{port}{base}"
    check = ["python", "-c", f"import urllib.request as r; r.urlopen('{address}api')"]
    with _started(image, log, start, core) as server:
        _wait(log, server, lambda: not _call(image, check).returncode)
        yield address


@contextmanager
def _started(image: Image, log: Path, command: list[str], core: int, **environment: str):
    with log.open("w") as output:
        server = subprocess.Popen(
            command,
            cwd=image.folder,
            env=image.environment | environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        psutil.Process(server.pid).cpu_affinity([core])  # Its kernels inherit it.
        yield server
    finally:
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(timeout=20)
        except subprocess.TimeoutExpired:
            server.kill()


def _call(image: Image, command: list[str]) -> subprocess.CompletedProcess:
    return subprocess.run(command, env=image.environment, cwd=image.folder, capture_output=True)


def _wait(log: Path, server: subprocess.Popen, answers) -> None:
    deadline = time.monotonic() + PATIENCE
    while not answers():
        if server.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"The server did not start:\n{log.read_text()[-3000:]}")
        time.sleep(0.2)


def memory_mb(server: subprocess.Popen) -> float:
    """Return the memory in MB of a server and its kernels, what they share counted once (PSS)."""
    first = psutil.Process(server.pid)
    family = [first, *first.children(recursive=True)]
    return sum(process.memory_full_info().pss for process in family) / 2**20
