"""The live table: every row once in a terminal, one calm output in a notebook."""

import re

import pandas as pd
import pytest

from cifake_lib import live


class Cell:
    """Stands for an output of a notebook cell; keeps what it was told to show."""

    def __init__(self):
        self.shown = []

    def update(self, html):
        self.shown.append(html.data)


@pytest.fixture
def cell(monkeypatch):
    handle = Cell()
    monkeypatch.setattr(live, "_notebook_display", lambda: handle)
    return handle


@pytest.fixture
def clock(monkeypatch):
    """The time that the table sees; starts soon after the machine did."""
    now = [0.25]
    monkeypatch.setattr(live.time, "monotonic", lambda: now[0])
    return now


def table(rows):
    losses = [0.7 / (n + 1) for n in range(rows)]
    return pd.DataFrame({"epoch": range(1, rows + 1), "loss": losses, "learning_rate": 3.2e-4})


def test_a_terminal_gets_every_row_once_and_in_order(capsys):
    with live.LiveTable() as shown:
        for rows in (0, 1, 1, 3, 4):
            shown.show(table(rows))
            shown.progress("half way", 0.5)
    lines = capsys.readouterr().out.splitlines()
    assert [re.match(r"epoch (\d+) ", line)[1] for line in lines] == ["1", "2", "3", "4"]
    assert lines[0] == "epoch 1 · loss 0.7000 · learning_rate 3.2e-04"


def test_a_terminal_leaves_out_what_a_trial_did_not_use(capsys):
    trials = pd.DataFrame({"trial": ["0", "1"], "weight_decay": [1e-5, None], "epochs": None})
    with live.LiveTable() as shown:
        shown.show(trials)
    assert capsys.readouterr().out.splitlines() == ["trial 0 · weight_decay 1.0e-05", "trial 1"]


def test_a_notebook_is_updated_at_most_once_a_second(cell, clock):
    with live.LiveTable() as shown:
        for step in range(100):  # Ten seconds of batches, a row each half second.
            clock[0] = 0.25 + step / 10
            shown.progress(f"step {step}", step / 100)
            if step % 5 == 0:
                shown.show(table(step // 5))
    during = len(cell.shown) - 1
    assert 9 <= during <= 11


def test_a_notebook_sees_the_first_row_at_once_and_ends_with_the_table_alone(cell, clock):
    with live.LiveTable() as shown:
        shown.show(table(1))
        assert "<td>1</td>" in cell.shown[-1]
        clock[0] += 2
        shown.progress("epoch 2 · 50 %", 0.5)
        assert '<progress value="0.500"' in cell.shown[-1]
        assert "epoch 2 · 50 %" in cell.shown[-1] and "<td>1</td>" in cell.shown[-1]
        shown.show(table(2))
    assert "<progress" not in cell.shown[-1]
    assert re.findall(r"<td>(\d)</td>", cell.shown[-1]) == ["1", "2"]


def test_a_notebook_keeps_the_rows_when_training_fails(cell, clock):
    with pytest.raises(ZeroDivisionError), live.LiveTable() as shown:
        shown.show(table(1))
        shown.show(table(3))
        clock[0] += 2
        shown.progress("epoch 4", 0.1)
        raise ZeroDivisionError
    assert "<td>3</td>" in cell.shown[-1] and "<progress" not in cell.shown[-1]


def test_names_in_the_table_are_escaped(cell, clock):
    with live.LiveTable() as shown:
        shown.show(pd.DataFrame({"phase": ["<script>alert(1)</script>"]}))
    assert "<script>" not in cell.shown[-1]
