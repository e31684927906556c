"""How images come in: dropped, pasted or chosen in the page, checked and put together here.

`dropzone.js` is the half in the page. One choice of files is one upload; its messages are

- `start`: name and size of each file, and sentences about those that the page left out; the
  answer `ready` says which to send;
- `chunk`: at most `CHUNK` bytes of a file, in order, each answered by `received`; few are sent
  ahead of the answers, so that the progress shown is what arrived and the socket is not flooded;
- `unreadable`: the browser cannot read a file (any more); `cancel`: forget the upload.

Whatever else arrives is answered by `stopped`. Nothing that the page says is trusted.
"""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import ipywidgets as widgets
from traitlets import Bool, Dict

from cifake_lib.dashboard_handlers import guarded, uploaded_files
from cifake_lib.images import MAX_BYTES
from cifake_lib.unpacking import shown_name

try:
    import anywidget
except ImportError:  # `FileUpload` does without drag, paste and progress
    anywidget = None

MAX_FILES = 200
MAX_TOTAL_BYTES = 500 * 2**20
CHUNK = 2**20
ACCEPT = "image/*,.zip,.heic,.heif,.avif"
STYLE = """
.cf-zone { border:1px dashed var(--edge); border-radius:10px; padding:14px; margin:0 0 6px;
  background:var(--wash); text-align:center; color:var(--muted); font-size:13.5px; }
.cf-zone.cf-over { border-color:var(--accent); border-style:solid; color:var(--ink);
  box-shadow:inset 0 0 0 2px var(--accent); }
.cf-zone button { font:inherit; font-weight:600; border-radius:6px; cursor:pointer; }
.cf-zone button:focus-visible { outline:3px solid var(--focus); outline-offset:2px; }
.cf-zone .cf-choose { display:block; width:100%; height:46px; border:0; font-size:16px;
  background:var(--accent); color:var(--on-accent); }
.cf-zone .cf-choose:hover:enabled { background:var(--accent-strong); }
.cf-zone .cf-choose:disabled { opacity:.5; cursor:default; }
.cifake .cf-zone p { margin:8px 0 0; line-height:1.4; overflow-wrap:anywhere; }
.cifake .cf-zone p:empty { display:none; }
.cf-sending { display:flex; align-items:center; gap:12px; min-height:46px; }
.cf-zone [hidden] { display:none; }
.cf-sending progress { flex:1 1 auto; min-width:0; height:10px; accent-color:var(--accent); }
.cf-sending button { height:32px; padding:0 14px; background:var(--paper); color:var(--accent);
  border:1px solid var(--line); }
"""

logger = logging.getLogger(__name__)

if anywidget:

    class DropZone(anywidget.AnyWidget):
        """The zone in the page: files go in, messages come out."""

        _esm = Path(__file__).with_name("dropzone.js")
        disabled = Bool(False).tag(sync=True)
        limits = Dict().tag(sync=True)


class ImageInput:
    """The one way for files into the dashboard.

    Attributes:
        view: The widget to display: a `DropZone`, or a `FileUpload` where there is no anywidget
            and on Colab; both have `disabled`.
        on_files: Called once for each choice of files with the name, size in bytes and content of
            those that arrived, in order. The list is empty if every file was left out.
        say: Called after that with a sentence for each file that was left out (not escaped).
    """

    def __init__(
        self,
        on_files: Callable[[list[tuple[str, int, bytes]]], None],
        say: Callable[[str], None],
        *,
        fallback: bool = False,
    ):
        """Build the widget.

        Args:
            on_files: See the attribute.
            say: See the attribute.
            fallback: Use `FileUpload` even where a drop zone can be shown.
        """
        self.on_files, self.say = on_files, say
        self._upload: _Upload | None = None
        if fallback or anywidget is None or "google.colab" in sys.modules:
            self.view = widgets.FileUpload(
                accept=ACCEPT, multiple=True, description="Choose images", icon=""
            )
            self.view.add_class("cf-upload")
            self.view.observe(lambda change: self.on_upload(change["new"]), "value")
        else:
            most = {"files": MAX_FILES, "file": MAX_BYTES, "total": MAX_TOTAL_BYTES}
            self.view = DropZone(limits=most | {"chunk": CHUNK, "accept": ACCEPT})
            self.view.on_msg(lambda _, content, buffers: self.on_message(content, buffers))

    def disable(self, disabled: bool) -> None:
        """Take no files for now, or again."""
        self.view.disabled = disabled

    @guarded("reading your files")
    def on_upload(self, value) -> None:
        """Take what a `FileUpload` holds, and make it ready for the same files again."""
        files = uploaded_files(value)
        if not files:
            return
        try:
            kept, left_out = within_limits([(name, size) for name, size, _ in files])
            taken = [files[place] for place in kept]
            self._hand_over([(name, size, bytes(data)) for name, size, data in taken], left_out)
        finally:
            # Back to () in ipywidgets 8 and {} in 7: an equal value would raise no event.
            self.view.set_trait("value", type(self.view.value)())

    @guarded("receiving your files")
    def on_message(self, content, buffers: Sequence[bytes | memoryview]) -> None:
        """Take a message of the page.

        Args:
            content: What `dropzone.js` sent, or what somebody made up.
            buffers: The bytes of a chunk.
        """
        try:
            key = str(content["upload"])[:64]
            self._take(key, content, buffers)
        except (LookupError, TypeError, ValueError, OverflowError) as error:
            logger.info("an upload was stopped: %r", error)
            return
        if self._upload and self._upload.complete:
            # Let go before the examination, which may take long or fail.
            upload, self._upload = self._upload, None
            self._hand_over(upload.files(), upload.left_out)

    def _take(self, key: str, content: dict, buffers: Sequence[bytes | memoryview]) -> None:
        kind = content["kind"]
        own = self._upload is not None and self._upload.key == key
        try:
            if kind == "start":
                # Another upload that is on its way comes from a page that was closed.
                self._upload = None
                self._upload = _Upload(key, content["files"], content["left_out"])
                self._answer("ready", key, files=list(self._upload.missing))
            elif kind == "cancel":
                self._upload = None if own else self._upload
            elif not own:
                raise ValueError(f"{kind!r} for an upload that is not known")
            elif kind == "chunk":
                self._upload.add(content["file"], content["offset"], memoryview(buffers[0]))
                self._answer("received", key)
            elif kind == "unreadable":
                self._upload.drop(content["file"])
                self._answer("received", key)
            else:
                raise ValueError(f"unknown message {kind!r}")
        except Exception:
            if own:
                self._upload = None
            self._answer("stopped", key)
            raise

    def _answer(self, kind: str, key: str, **more) -> None:
        self.view.send({"kind": kind, "upload": key, **more})

    def _hand_over(self, files: list[tuple[str, int, bytes]], left_out: list[str]) -> None:
        self.on_files(files)
        for sentence in left_out:
            self.say(sentence)


def within_limits(files: Sequence[tuple[str, int]]) -> tuple[list[int], list[str]]:
    """Choose the files of one choice that are not too much.

    Args:
        files: Name and size in bytes of each.

    Returns:
        The places of those to take, and a sentence (not escaped) for each that is left out.
    """
    kept, left_out, total = [], [], 0
    for place, (name, size) in enumerate(files[:MAX_FILES]):
        most = MAX_TOTAL_BYTES if name.lower().endswith(".zip") else MAX_BYTES
        if size > most:
            left_out.append(
                f"{name} is too large: expected at most {most / 2**20:.0f} MB, received "
                f"{size / 2**20:.1f} MB; please choose a smaller copy."
            )
        elif total + size > MAX_TOTAL_BYTES:
            left_out.append(
                f"{name} was left out: expected at most {MAX_TOTAL_BYTES / 2**20:.0f} MB at once; "
                "please choose it again by itself."
            )
        else:
            kept.append(place)
            total += size
    if len(files) > MAX_FILES:
        left_out.append(f"At most {MAX_FILES} files at once: the first {MAX_FILES} were taken.")
    return kept, left_out


class _Upload:
    """Files on their way, of which no more is kept than was announced and is allowed.

    Attributes:
        key: The name that the page gave the upload.
        left_out: A sentence for each file that will not come.
        missing: Places of the files that are not complete, in the order in which they come.
    """

    def __init__(self, key: str, announced: list[dict], left_out: list[str]):
        files = [(shown_name(str(file["name"])), file["size"]) for file in announced[:MAX_FILES]]
        if not all(isinstance(size, int) and size >= 0 for _, size in files):
            raise ValueError("a size that is none")
        kept, refused = within_limits(files)
        self.key = key
        self.left_out = [str(sentence)[:500] for sentence in left_out[: MAX_FILES + 1]] + refused
        self._announced = {place: files[place] for place in kept}
        # `getvalue` of a BytesIO copies nothing, so that no file is in memory twice.
        self._contents = {place: io.BytesIO() for place in kept}
        self.missing = [place for place in kept if files[place][1]]

    @property
    def complete(self) -> bool:
        return not self.missing

    def add(self, place: int, offset: int, chunk: memoryview) -> None:
        """Append to the file that is due.

        Raises:
            ValueError: The chunk is not the one that is due, is empty or too long.
        """
        name, size = self._due(place)
        content = self._contents[place]
        if offset != content.tell() or not 0 < chunk.nbytes <= min(CHUNK, size - offset):
            raise ValueError(f"{chunk.nbytes} bytes at {offset!r} of {name!r}, {size} bytes long")
        content.write(chunk)
        if content.tell() == size:
            self.missing.pop(0)

    def drop(self, place: int) -> None:
        """Go on without the file that is due.

        Raises:
            ValueError: Another one is due.
        """
        name, _ = self._due(place)
        self.missing.pop(0)
        del self._announced[place]
        self.left_out.append(f"{name} could not be read by the browser: please choose it again.")

    def files(self) -> list[tuple[str, int, bytes]]:
        """Name, size in bytes and content of each file."""
        return [
            (name, size, self._contents[place].getvalue())
            for place, (name, size) in self._announced.items()
        ]

    def _due(self, place: int) -> tuple[str, int]:
        if not self.missing or place != self.missing[0]:
            raise ValueError(f"file {place!r} is not due")
        return self._announced[place]
