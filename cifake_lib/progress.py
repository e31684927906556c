"""One progress display over the cells of several notebooks that papermill executes."""

import contextlib
import re
import sys
import threading
import time
from collections.abc import Iterator

import nbformat
from papermill.engines import NBClientEngine
from tqdm import tqdm


class Progress:
    """One bar over the cells of all notebooks, with what the running cell printed last.

    Where the output is no terminal, only the lines of `say` appear.
    """

    def __init__(self, cells: int):
        self._bar = tqdm(
            total=cells,
            disable=None,
            dynamic_ncols=True,
            bar_format="{desc}{percentage:3.0f}% |{bar:24}| {n_fmt}/{total_fmt} cells{postfix}",
        )
        self._finished = 0
        self._running = None

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        with tqdm.external_write_mode(file=sys.stdout):
            print(line, flush=True)

    @contextlib.contextmanager
    def stage(self, name: str, *, cells: int) -> Iterator[None]:
        """Show a stage's name and elapsed time, also while one cell runs for long."""
        self._bar.set_description_str(f"{name} 0:00 ", refresh=False)
        self._bar.set_postfix_str("", refresh=False)
        stop = threading.Event()
        ticker = threading.Thread(target=self._tick, args=(name, stop), daemon=True)
        ticker.start()
        try:
            yield
        finally:
            stop.set()
            ticker.join()
            self._finished += cells
            self._running = None
            self._move_to(self._finished)

    def start_cell(self, index: int, cell: nbformat.NotebookNode) -> None:
        """Take note of the cell that the current stage has come to."""
        self._running = cell
        self._move_to(self._finished + index)

    def close(self) -> None:
        """Leave the bar as it stands."""
        self._bar.close()

    def _move_to(self, cells: int) -> None:
        self._bar.n = cells
        self._bar.refresh()

    def _tick(self, name: str, stop: threading.Event) -> None:
        started = time.monotonic()
        while not stop.wait(1):
            minutes, seconds = divmod(int(time.monotonic() - started), 60)
            self._bar.set_description_str(f"{name} {minutes}:{seconds:02d} ", refresh=False)
            self._bar.set_postfix_str(_last_line(self._running))


class ProgressEngine(NBClientEngine):
    """papermill's usual engine, reporting each cell to a `Progress`."""

    @classmethod
    def execute_managed_notebook(cls, nb_man, kernel_name, *, progress: Progress, **options):
        """Execute a notebook; see `papermill.engines.NBClientEngine`."""
        start_cell = nb_man.cell_start

        def start_and_report(cell, index):
            progress.start_cell(index, cell)
            start_cell(cell, index)

        nb_man.cell_start = start_and_report
        return super().execute_managed_notebook(nb_man, kernel_name, **options)


def _last_line(cell: nbformat.NotebookNode | None, *, width: int = 60) -> str:
    """What a cell says last: the line after a progress element, or the last line it printed."""
    for output in reversed(cell.get("outputs", []) if cell else []):
        html = output.get("data", {}).get("text/html", "")
        text = output.text if output.output_type == "stream" else html.rpartition("</progress>")[2]
        lines = re.split(r"[\r\n]+", re.sub("<[^>]*>", "", text).strip())
        if lines[-1]:
            return lines[-1] if len(lines[-1]) <= width else f"{lines[-1][: width - 1]}…"
    return ""
