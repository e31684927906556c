"""Every image of a visit as a table that sorts, filters and opens what is clicked."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from html import escape

import ipywidgets as widgets

from cifake_lib.dashboard_cards import ICONS, Result
from cifake_lib.exports import Examined
from cifake_lib.names import display_name

STYLE = """
.cifake .cf-history { overflow-x:auto; max-width:100%; }
.cifake .cf-history table.dataTable { font-size:14px; color:var(--ink); width:100% !important;
  margin:0; }
.cifake .cf-history td { white-space:nowrap; }
.cifake .cf-history .cf-what { min-width:14em; white-space:normal; overflow-wrap:anywhere; }
@media (max-width:760px) { .cifake .cf-history .cf-what { min-width:9em; } }
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
    "allow_html": True,  # Everything from a file is escaped below.
    "select": "single",
    "selected_rows": [],
    "showIndex": False,
    "pageLength": 10,
    "lengthMenu": [10, 50, 200],
    "order": [[0, "desc"]],
    "maxBytes": 0,
    "classes": "compact row-border",
    "text_in_header_can_be_selected": False,  # A click anywhere on a heading sorts.
    "layout": {
        "topStart": "search",
        "topEnd": "pageLength",
        "bottomStart": "info",
        "bottomEnd": "paging",
    },
    "language": {"search": "Filter:", "lengthMenu": "_MENU_ rows a page"},
}


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
        if len(results) + len(refused) < 2:
            self.view.children = []
            return
        # Late, because pandas takes 50 MB that a visitor with one picture can spare.
        import pandas as pd

        rows = [_row(number, result) for number, result in enumerate(self._results, 1)]
        rows += [_refused(number, record) for number, record in enumerate(refused, len(rows) + 1)]
        # Texts and whole numbers only: for others itables sends code, which the page's policy bars.
        table = pd.DataFrame(rows).fillna("")
        if importlib.util.find_spec("itables") is None:  # On Colab.
            self.view.children = self._plain(table)
            return
        from itables.widget import ITable

        if self._table is None:
            self._table = ITable(table, **OPTIONS)
            self._table.observe(lambda change: self.on_choice(change["new"]), "selected_rows")
        else:
            self._table.update(table, **OPTIONS)
        self.view.children = [self._table]

    def _plain(self, table) -> list[widgets.Widget]:
        """The same of core widgets: it neither sorts nor filters."""
        names = [(f"#{row} {result.name}", row) for row, result in enumerate(self._results, 1)]
        choice = widgets.Dropdown(options=[("…", 0), *names], description="Open")
        choice.observe(lambda change: self.on_choice([change["new"] - 1]), "value")
        return [choice, widgets.HTML(table.to_html(index=False, escape=False, border=0))]

    def on_choice(self, rows: Sequence[int]) -> None:
        """Open the image of the chosen row; a file that could not be examined has none."""
        if rows and 0 <= rows[0] < len(self._results):
            self._on_open(self._results[rows[0]])


def _row(number: int, result: Result) -> dict[str, object]:
    models = {
        display_name(key): f"{answer.p_fake:.3f}" for key, answer in result.verdict.models.items()
    }
    width, height = result.size
    sharp = " cf-pixels" if max(result.size) <= 96 else ""
    name = escape(result.name)
    return {
        "#": number,
        "Image": f'<img class="cf-thumbnail{sharp}" alt="" src="{result.thumbnail}">',
        "Name": _what(
            f'<button type="button" class="cf-open" title="Open {name}">{name}</button>',
            "outside what the models know" if result.analysis.outside else "",
        ),
        "Verdict": f'<b class="cf-{result.word}">{ICONS[result.word]} {result.word}</b>',
        "P(FAKE)": f"{result.verdict.p_fake:.3f}",
        **models,
        "Size": f"{width} × {height}",
    }


def _refused(number: int, record: Examined) -> dict[str, object]:
    reason = record.error.removeprefix(f"{record.name} ")  # It stands right above.
    what = _what(escape(record.name), escape(reason))
    return {"#": number, "Image": "", "Name": what, "Verdict": "–"}


def _what(name: str, note: str) -> str:
    """A name and what is to be said below it, which would make a column of its own too narrow."""
    return f'<div class="cf-what">{name}{f" <small>{note}</small>" if note else ""}</div>'
