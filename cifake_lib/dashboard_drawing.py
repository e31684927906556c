"""A process of its own for what draws: the visitor's kernel stays small.

Matplotlib, seaborn and what they bring take 110 MB and more than a second. A second process
has them ready while a visitor looks at figures, and gives the memory back afterwards.
"""

from __future__ import annotations

import os
import sys
import threading
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from multiprocessing import get_context, parent_process

from cifake_lib.dashboard_models import Records

IDLE = 60  # seconds without a wish after which the process ends


class Drawing:
    """Draws in another process, one section after the other."""

    def __init__(self):
        self._lock = threading.Lock()
        self._pool: ProcessPoolExecutor | None = None
        self._timer = threading.Timer(IDLE, self.stop)

    def section_html(self, name: str, records: Records) -> str:
        """Draw a section; see `dashboard_figures.section_html`, whose exceptions come through."""
        with self._lock:
            self._timer.cancel()
            if self._pool is None:
                # Not forked: the kernel has threads, and a fork would copy their locks.
                self._pool = ProcessPoolExecutor(
                    1, mp_context=get_context("spawn"), initializer=_prepare
                )
            try:
                return self._pool.submit(_section_html, name, records).result()
            except BrokenExecutor:  # Killed, most often for want of memory; the next starts anew.
                self._pool = None
                raise
            finally:
                self._timer = threading.Timer(IDLE, self.stop)
                self._timer.daemon = True
                self._timer.start()

    def stop(self) -> None:
        """End the process; the next wish starts another."""
        with self._lock:
            if self._pool is not None:
                self._pool.shutdown(wait=False)
                self._pool = None


def _section_html(name: str, records: Records) -> str:
    from cifake_lib import dashboard_figures  # not in the kernel

    return dashboard_figures.section_html(name, records)


def _prepare() -> None:
    """Set up the new process: no notebook's backend, no red box for warnings, no orphan."""
    os.environ["MPLBACKEND"] = "agg"
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115, PTH123

    def end_with_parent():
        parent_process().join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
