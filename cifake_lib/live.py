"""A table and a progress line that update in place: in a notebook cell, or in a terminal."""

import math
import time

import pandas as pd
from tqdm import tqdm

_SECONDS_BETWEEN_UPDATES = 1.0


class LiveTable:
    """Shows a growing table, and under it how far the current row has come.

    In a notebook one output is updated in place, at most once a second, so a long training neither
    floods the page nor leaves a stale bar: what stays is the table. In a terminal new rows are
    printed above a bar.
    """

    def __enter__(self) -> "LiveTable":
        self._handle = _notebook_display()
        self._bar = None
        if self._handle is None:
            self._bar = tqdm(total=100, leave=False, disable=None, bar_format="{desc} {bar:20}")
        self._table, self._shown, self._updated = pd.DataFrame(), 0, -math.inf
        return self

    def __exit__(self, *exception) -> None:
        if self._bar is not None:
            self._bar.close()
        else:
            self._update("")

    def show(self, table: pd.DataFrame) -> None:
        """Show the rows so far."""
        self._table = table
        if self._bar is not None:
            for row in table.iloc[self._shown :].to_dict("records"):
                tqdm.write(
                    " · ".join(
                        f"{name} {text}"
                        for name, value in row.items()
                        if (text := _readable(name, value))
                    )
                )
            self._shown = len(table)
        elif self._is_due():
            self._update("")

    def progress(self, line: str, share: float) -> None:
        """Show how far the current row has come; `share` from 0 to 1."""
        if not self._is_due():
            return
        if self._bar is not None:
            self._bar.n = round(100 * share)
            self._bar.set_description_str(line)
        else:
            self._update(f'<progress value="{share:.3f}" style="width:12em"></progress> {line}')

    def _is_due(self) -> bool:
        now = time.monotonic()
        due = now - self._updated >= _SECONDS_BETWEEN_UPDATES
        if due:
            self._updated = now
        return due

    def _update(self, progress: str) -> None:
        from IPython.display import HTML

        table = pd.DataFrame(
            {name: [_readable(name, v) for v in self._table[name]] for name in self._table}
        )
        rows = table.to_html(index=False, border=0, justify="right") if len(table) else ""
        self._handle.update(HTML(f"<div>{rows}{progress}</div>"))


def _readable(name: str, value) -> str:
    if value is None or value != value:  # A hyperparameter that a trial did not use.
        return ""
    if not isinstance(value, float):
        return str(value)
    if name.endswith(("learning_rate", "weight_decay")):
        return f"{value:.1e}"
    return f"{value:.4f}" if abs(value) < 10 else f"{value:.0f}"


def _notebook_display():
    """Return an output of the running notebook cell that can be updated, or None elsewhere."""
    try:
        from IPython import get_ipython
        from IPython.display import HTML, display
    except ImportError:
        return None
    shell = get_ipython()
    if shell is None or not hasattr(shell, "kernel"):
        return None
    return display(HTML(""), display_id=True)
