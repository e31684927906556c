"""Every image of a visit as a table that sorts, filters and opens what is clicked."""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

import ipywidgets as widgets
from traitlets import Dict, Int, List, Unicode

try:
    import anywidget
except ImportError:
    anywidget = None

from cifake_lib.dashboard_cards import ICONS, Result
from cifake_lib.exports import Examined
from cifake_lib.names import display_name

Record = Result | Examined  # of an image, or of a file that could not be examined

STYLE = """
.cifake .cf-history { overflow-x:auto; max-width:100%; }
.cifake .cf-history table.dataTable { font-size:14px; color:var(--ink); width:100% !important;
  margin:0; }
.cifake .cf-history td { white-space:nowrap; }
.cifake .cf-history .cf-what { min-width:14em; white-space:normal; overflow-wrap:anywhere; }
@media (max-width:960px) { .cifake .cf-history .cf-what { min-width:9em; } }
.cifake .cf-history .cf-what small { display:block; color:var(--muted); font-size:12.5px; }
.cifake .cf-history table.dataTable td { vertical-align:middle; }
.cifake .cf-history .dt-container, .cifake .cf-history .dt-container * { font-family:inherit; }
.cifake .cf-history .itables_anywidget, .cifake .cf-history .dt-container {
  background:none; color:var(--ink); font-size:14px; }
.cifake .cf-history input, .cifake .cf-history select { background:var(--paper);
  color:var(--ink); border:1px solid var(--line); border-radius:6px; padding:4px 8px; }
.cifake .cf-history tr.selected > td { box-shadow:inset 0 0 0 9999px var(--chosen) !important;
  color:var(--ink) !important; }
.cifake .cf-history .cf-open { border:0; background:none; color:var(--accent); font:inherit;
  font-weight:600; cursor:pointer; padding:2px 0; text-align:left; white-space:normal;
  overflow-wrap:anywhere; }
.cf-thumbnail { display:block; width:40px; height:40px; object-fit:contain; border-radius:4px; }
.cf-thumbnail.cf-pixels { image-rendering:pixelated; }
.cifake .cf-history .dt-paging button.dt-paging-button, .cifake .cf-history label,
.cifake .cf-history .dt-info { color:var(--muted) !important; }
"""
OPTIONS = {
    "select": "single",
    "pageLength": 10,
    "lengthMenu": [10, 50, 200],
    "order": [[0, "desc"]],
    "layout": {
        "topStart": "search",
        "topEnd": "pageLength",
        "bottomStart": "info",
        "bottomEnd": "paging",
    },
    "language": {"search": "Filter:", "lengthMenu": "_MENU_ rows a page"},
}

if anywidget is not None:

    class _Table(anywidget.AnyWidget):
        """The table of itables, to which each row is sent once.

        Its own widget sends all rows with each change, and imports pandas.
        """

        _esm = Path(__file__).with_name("history.js")
        _css = Unicode().tag(sync=True)
        code = Unicode().tag(sync=True)
        options = Dict().tag(sync=True)
        caption = Unicode().tag(sync=True)
        classes = Unicode("compact row-border").tag(sync=True)
        _style = Unicode().tag(sync=True)
        selected_rows = List(Int()).tag(sync=True)

        def __init__(self, itables: Path):
            """Build it without rows.

            Args:
                itables: Folder of the package.
            """
            static = itables / "widget" / "static"
            self._records, self._columns = [], []
            self._asked = False  # A page that does not listen yet would miss the rows.
            self._lock = threading.Lock()  # Or an older state could be sent after a newer one.
            code, style = (
                static.joinpath(name).read_text(encoding="utf-8")
                for name in ("widget.js", "widget.css")
            )
            super().__init__(code=code, _css=style)
            self.on_msg(lambda *_: self.on_asked())

        def show(self, records: Sequence[Record]) -> None:
            """Show these rows, of which only those that are new or have changed are sent."""
            with self._lock:
                known, self._records = self._records, list(records)
                new = [
                    place
                    for place, record in enumerate(records)
                    if place >= len(known) or known[place] is not record
                ]
                if self._head([records[place] for place in new]):
                    new = range(len(records))
                self._send_rows(new)
                self.selected_rows = []

        def _head(self, records: Sequence[Record]) -> bool:
            """Give each kind of cell a column; return whether one was missing."""
            names = [name for record in records for name in _row(0, record)]
            columns = list(dict.fromkeys([*self._columns, *names]))
            if columns == self._columns:
                return False
            self._columns = columns
            head = "".join(f"<th>{escape(name)}</th>" for name in columns)
            self.options = OPTIONS | {
                "table_html": f"<table><thead><tr>{head}</tr></thead></table>"
            }
            return True

        def on_asked(self) -> None:
            """Send all rows to a page that begins to listen."""
            with self._lock:
                self._asked = True
                self._send_rows(range(len(self._records)))

        def _send_rows(self, places: Sequence[int]) -> None:
            if not self._asked:
                return
            rows = [(place, _row(place + 1, self._records[place])) for place in places]
            changed = [
                [place, [row.get(name, "") for name in self._columns]] for place, row in rows
            ]
            self.send({"count": len(self._records), "changed": changed})


class HistoryTable:
    """The images of a visit, and the files that could not be examined.

    Attributes:
        view: The widget to display; empty until there are two rows.
    """

    def __init__(self, on_open: Callable[[Result], None]):
        """Build it empty.

        Args:
            on_open: Called with the image whose row was chosen.
        """
        self.view = widgets.VBox([])
        self.view.add_class("cf-history")
        self._on_open = on_open
        self._results: list[Result] = []
        self._table = None

    def show(self, results: Sequence[Result], refused: Sequence[Examined]) -> None:
        """Show these rows.

        Args:
            results: Examined images, newest first.
            refused: Files that could not be examined; they come last.
        """
        # What is sent to the page is its order of arrival, so that a row keeps its place.
        self._results = list(reversed(results))
        records = [*self._results, *refused]
        if self._table is not None:
            self._table.show(records)
        if len(records) < 2:
            self.view.children = []
            return
        found = importlib.util.find_spec("itables")
        if found is None or anywidget is None:  # On Colab.
            self.view.children = self._plain(records)
            return
        if self._table is None:
            self._table = _Table(Path(found.origin).parent)
            self._table.observe(lambda change: self.on_choice(change["new"]), "selected_rows")
            self._table.show(records)
        self.view.children = [self._table]

    def _plain(self, records: Sequence[Record]) -> list[widgets.Widget]:
        """The same of core widgets: it neither sorts nor filters."""
        names = [(f"#{row} {result.name}", row) for row, result in enumerate(self._results, 1)]
        choice = widgets.Dropdown(options=[("…", 0), *names], description="Open")
        choice.observe(lambda change: self.on_choice([change["new"] - 1]), "value")
        rows = [_row(number, record) for number, record in enumerate(records, 1)]
        columns = list(dict.fromkeys(name for row in rows for name in row))
        head = "".join(f"<th>{escape(name)}</th>" for name in columns)
        body = "".join(
            f"<tr>{''.join(f'<td>{row.get(name, str())}</td>' for name in columns)}</tr>"
            for row in rows
        )
        return [choice, widgets.HTML(f"<table><thead>{head}</thead><tbody>{body}</tbody></table>")]

    def on_choice(self, rows: Sequence[int]) -> None:
        """Open the image of the chosen row; a file that could not be examined has none."""
        if rows and 0 <= rows[0] < len(self._results):
            self._on_open(self._results[rows[0]])


def _row(number: int, record: Record) -> dict[str, object]:
    """Cells by column."""
    if isinstance(record, Examined):
        reason = record.error.removeprefix(f"{record.name} ")  # It stands right above.
        what = _what(escape(record.name), escape(reason))
        return {"#": number, "Image": "", "Name": what, "Verdict": "–"}
    models = {
        display_name(key): f"{answer.p_fake:.3f}" for key, answer in record.verdict.models.items()
    }
    width, height = record.size
    sharp = " cf-pixels" if max(record.size) <= 96 else ""
    name = escape(record.name)
    return {
        "#": number,
        "Image": f'<img class="cf-thumbnail{sharp}" alt="" src="{record.thumbnail}">',
        "Name": _what(
            f'<button type="button" class="cf-open" title="Open {name}">{name}</button>',
            "outside what the models know" if record.analysis.outside else "",
        ),
        "Verdict": f'<b class="cf-{record.word}">{ICONS[record.word]} {record.word}</b>',
        "P(FAKE)": f"{record.verdict.p_fake:.3f}",
        **models,
        "Size": f"{width} × {height}",
    }


def _what(name: str, note: str) -> str:
    """A name and what is to be said below it, which would make a column of its own too narrow."""
    return f'<div class="cf-what">{name}{f" <small>{note}</small>" if note else ""}</div>'
