"""The table of a visit: what its page is sent, and that this does not grow with the visit."""

import io
import json
import re

import ipywidgets as widgets
import numpy as np
import pytest
from PIL import Image

from cifake_lib import dashboard_table
from cifake_lib.analyst import Analysis
from cifake_lib.dashboard import Dashboard
from cifake_lib.dashboard_cards import Result
from cifake_lib.dashboard_table import OPTIONS, HistoryTable
from cifake_lib.detector import ModelVerdict, Verdict
from cifake_lib.exports import Examined


class Page:
    """What `history.js` keeps of the messages to it."""

    def __init__(self, history):
        pytest.importorskip("itables")
        self.rows, self.messages = [], []
        self.table = history._table
        self.table.send = self.receive
        self.table.on_asked()

    def receive(self, message):
        self.messages.append(message)
        self.rows = (self.rows + [None] * message["count"])[: message["count"]]
        for place, row in message["changed"]:
            self.rows[place] = row

    @property
    def columns(self):
        return re.findall("<th>(.*?)</th>", self.table.options["table_html"])

    def names(self):
        cells = [row[self.columns.index("Name")] for row in self.rows]
        return [re.sub(r"<[^>]*>", "", cell) for cell in cells]

    def places(self):
        """Of the rows that came last."""
        return [place for place, _ in self.messages[-1]["changed"]]


def result(name, p_fake=0.9):
    verdict = Verdict(p_fake, {"resnet50": ModelVerdict(p_fake)})
    record = Examined(name, "", 1, "", verdict="FAKE")
    return Result(name, (32, 32), "data:,", "data:,", "", 32, Analysis(verdict, None, record), b"")


def refused(name):
    return Examined.refused(b"", name=name, error=f"{name} is not an image.")


@pytest.fixture
def history():
    if dashboard_table.anywidget is None:
        pytest.skip("no anywidget")
    return HistoryTable(lambda result: None)


def test_a_page_gets_all_rows_when_it_begins_to_listen_and_each_further_row_once(history):
    results = [result(f"{number}.png") for number in range(3)]
    history.show(results[::-1], [])
    page = Page(history)
    assert page.names() == ["0.png", "1.png", "2.png"] and page.places() == [0, 1, 2]
    results.append(result("3.png"))
    history.show(results[::-1], [])
    assert page.places() == [3] and page.names()[3] == "3.png"


def test_a_page_that_was_opened_again_gets_all_rows(history):
    results = [result("0.png"), result("1.png")]
    history.show(results, [])
    Page(history)
    results.insert(0, result("2.png"))
    history.show(results, [])
    assert Page(history).names() == ["1.png", "0.png", "2.png"]


def test_files_without_a_verdict_stay_last(history):
    history.show([result("0.png")], [refused("a.txt")])
    page = Page(history)
    history.show([result("1.png"), history._results[0]], [refused("a.txt"), refused("b.txt")])
    assert page.places() == [1, 2, 3]
    assert page.names() == ["0.png", "1.png", *("a.txt is not an image.", "b.txt is not an image.")]
    assert [row[0] for row in page.rows] == [1, 2, 3, 4]


def test_what_is_said_anew_of_an_image_is_sent_anew(history):
    first, second = result("0.png"), result("1.png")
    history.show([second, first], [])
    page = Page(history)
    history.show([result("1.png", 0.2), first], [])
    assert page.places() == [1] and "0.200" in page.rows[1]


def test_a_column_that_comes_later_is_one_of_every_row(history):
    unread = [refused("a.txt"), refused("b.txt")]
    history.show([], unread)
    page = Page(history)
    assert "P(FAKE)" not in page.columns
    history.show([result("0.png")], unread)
    assert "P(FAKE)" in page.columns and page.places() == [0, 1, 2]
    assert {len(row) for row in page.rows} == {len(page.columns)}
    assert page.rows[1][page.columns.index("P(FAKE)")] == ""


def test_a_cleared_visit_is_forgotten_by_page_and_kernel(history):
    history.show([result("0.png"), result("1.png")], [])
    page = Page(history)
    history.show([], [])
    assert page.rows == [] and page.table._records == [] and history.view.children == ()


def test_itables_gets_what_its_own_widget_would_give_it(history):
    pd = pytest.importorskip("pandas")
    own_widget = pytest.importorskip("itables.widget")
    history.show([result("0.png"), result("1.png")], [])
    page = Page(history)
    theirs = own_widget.ITable(
        pd.DataFrame(page.rows, columns=page.columns),
        **OPTIONS,
        allow_html=True,
        showIndex=False,
        maxBytes=0,
        classes=page.table.classes,
        text_in_header_can_be_selected=False,
    )
    expected = dict(theirs._dt_args)
    assert json.loads(expected.pop("data_json")) == page.rows
    head = re.sub(r' style="[^"]*"|\s+', "", expected.pop("table_html"))
    assert head == re.sub(r"\s+", "", page.table.options["table_html"])
    assert expected == {name: page.table.options[name] for name in expected}
    assert theirs.classes == page.table.classes
    # All that the page asks its model for.
    assert {"caption", "classes", "_style", "selected_rows"} <= set(page.table.keys)


class Redness:
    """A detector for which red pictures are FAKE."""

    input_size, sees_photographs = 32, False
    crop = "centre"
    missing, runs, models = {}, {}, {}

    def predict(self, images):
        reds = [float(np.asarray(image)[..., 0].mean()) / 255 for image in images]
        return [Verdict(red, {"resnet50": ModelVerdict(red)}) for red in reds]


def files(first, count):
    for number in range(first, first + count):
        buffer = io.BytesIO()
        noise = np.random.default_rng(number).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(noise).save(buffer, "PNG")
        yield f"{number}.png", len(buffer.getvalue()), buffer.getvalue()


def test_what_an_upload_sends_does_not_grow_with_the_visit(history, monkeypatch, tmp_path):
    monkeypatch.setenv("CIFAKE_RELEASED", str(tmp_path))
    monkeypatch.setenv("CIFAKE_RUNS", str(tmp_path))
    page = Dashboard(detector=Redness())
    sent = []
    send = widgets.Widget._send

    def counted(self, message, buffers=None):
        sent.append(len(json.dumps(message, default=str)))
        return send(self, message, buffers)

    def upload(first, count):
        sent.clear()
        page.analyse.on_files(list(files(first, count)))
        page.wait()
        return sum(sent)

    upload(0, 3)
    page.analyse._history._table.on_asked()
    monkeypatch.setattr(widgets.Widget, "_send", counted)
    early = upload(100, 1)
    assert upload(200, 200) > 100 * 3000  # Pictures are sent, and counted.
    assert upload(500, 1) < 1.2 * early < 100_000
