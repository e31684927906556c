"""How files come in, without a browser: the messages that the page sends are called by hand."""

import sys
import tracemalloc

import ipywidgets as widgets
import pytest

from cifake_lib import dashboard_input
from cifake_lib.dashboard_input import CHUNK, MAX_FILES, MAX_TOTAL_BYTES, ImageInput, within_limits
from cifake_lib.images import MAX_BYTES

MB = 2**20


class Page:
    """An `ImageInput` with what it told the dashboard and the page."""

    def __init__(self, **options):
        self.choices, self.said, self.answers = [], [], []
        self.input = ImageInput(self.choices.append, self.said.append, **options)
        self.input.view.send = lambda content, buffers=None: self.answers.append(content)

    def send(self, kind, *buffers, upload="u1", **more):
        """Send a message as `dropzone.js` does; return the kind of the answer, if there is one."""
        before = len(self.answers)
        self.input.on_message({"kind": kind, "upload": upload, **more}, list(buffers))
        return self.answers[-1]["kind"] if len(self.answers) > before else None

    def start(self, *files, left_out=(), upload="u1"):
        announced = [{"name": name, "size": size} for name, size in files]
        return self.send("start", files=announced, left_out=list(left_out), upload=upload)

    def upload(self, *files, upload="u1"):
        """Send whole files: name, content."""
        self.start(*[(name, len(content)) for name, content in files], upload=upload)
        for place in self.answers[-1]["files"]:
            content = files[place][1]
            for offset in range(0, len(content), CHUNK):
                chunk = memoryview(content[offset : offset + CHUNK])
                answer = self.send("chunk", chunk, file=place, offset=offset, upload=upload)
                assert answer == "received"


@pytest.fixture
def page():
    if dashboard_input.anywidget is None:
        pytest.skip("no anywidget")
    return Page()


def test_the_files_of_a_choice_arrive_together_and_in_order(page):
    large = bytes(range(256)) * (CHUNK // 100)  # more than two chunks
    page.upload(("b.png", b"first"), ("a.zip", large), ("c.jpg", b"third"))
    assert page.choices == [
        [("b.png", 5, b"first"), ("a.zip", len(large), large), ("c.jpg", 5, b"third")]
    ]
    assert page.said == []
    assert all(type(content) is bytes for _, _, content in page.choices[0])


def test_nothing_is_handed_over_before_the_last_chunk(page):
    page.start(("a.png", CHUNK + 1), ("b.png", 1))
    page.send("chunk", bytes(CHUNK), file=0, offset=0)
    page.send("chunk", b"1", file=0, offset=CHUNK)
    assert page.choices == []
    page.send("chunk", b"1", file=1, offset=0)
    assert len(page.choices) == 1


def test_the_last_answer_does_not_wait_for_the_examination(page):
    answered = []
    page.input.on_files = lambda files: answered.extend(page.answers)
    page.upload(("a.png", b"content"))
    assert [answer["kind"] for answer in answered] == ["ready", "received"]


def test_the_same_file_twice(page):
    for upload in ("u1", "u2"):
        page.upload(("a.png", b"content"), upload=upload)
    assert page.choices == [[("a.png", 7, b"content")]] * 2


def test_an_empty_file_arrives_for_its_own_sentence(page):
    page.upload(("empty.png", b""), ("a.png", b"content"))
    assert page.choices == [[("empty.png", 0, b""), ("a.png", 7, b"content")]]


def test_names_are_made_fit_to_show(page):
    page.upload(("../x/\u202egnp.png", b"1"), ("<b>.png", b"2"))
    assert [name for name, _, _ in page.choices[0]] == ["x/gnp.png", "<b>.png"]


def test_what_the_page_left_out_is_said_after_the_others_were_handed_over(page):
    order = []
    page.input.on_files, page.input.say = order.append, order.append
    page.start(("a.png", 1), left_out=["b.png is too large."])
    page.send("chunk", b"1", file=0, offset=0)
    assert order == [[("a.png", 1, b"1")], "b.png is too large."]


def test_a_choice_of_which_nothing_is_left_ends_at_once(page):
    assert page.start(left_out=["b.png is too large."]) == "ready"
    assert page.choices == [[]] and page.said == ["b.png is too large."]


def test_a_page_that_does_not_know_the_limits_is_told_what_to_send(page):
    page.start(("a.png", 2), ("huge.png", 31 * MB), ("big.zip", 501 * MB), ("b.png", 1))
    assert page.answers == [{"kind": "ready", "upload": "u1", "files": [0, 3]}]
    page.send("chunk", b"12", file=0, offset=0)
    page.send("chunk", b"1", file=3, offset=0)
    assert [name for name, _, _ in page.choices[0]] == ["a.png", "b.png"]
    assert page.said == [
        "huge.png is too large: expected at most 30 MB, received 31.0 MB; please choose a "
        "smaller copy.",
        "big.zip is too large: expected at most 500 MB, received 501.0 MB; please choose a "
        "smaller copy.",
    ]


def test_a_file_that_the_browser_cannot_read_costs_a_sentence(page):
    page.start(("gone.png", 2 * CHUNK), ("a.png", 1))
    page.send("chunk", bytes(CHUNK), file=0, offset=0)
    assert page.send("unreadable", file=0) == "received"
    page.send("chunk", b"1", file=1, offset=0)
    assert page.choices == [[("a.png", 1, b"1")]]
    assert page.said == ["gone.png could not be read by the browser: please choose it again."]


def test_cancel_forgets_the_upload_and_the_next_one_works(page):
    page.start(("a.png", 2))
    page.send("chunk", b"1", file=0, offset=0)
    page.send("cancel")
    assert page.send("chunk", b"2", file=0, offset=1) == "stopped"
    assert page.choices == [] and page.said == []
    page.upload(("b.png", b"content"), upload="u2")
    assert [name for name, _, _ in page.choices[0]] == ["b.png"]


def test_a_new_upload_replaces_one_whose_page_was_closed(page):
    page.start(("a.png", 2), upload="old")
    page.start(("b.png", 1), upload="new")
    assert page.send("chunk", b"1", file=0, offset=0, upload="old") == "stopped"
    page.send("cancel", upload="old")
    assert page.send("chunk", b"1", file=0, offset=0, upload="new") == "received"
    assert page.choices == [[("b.png", 1, b"1")]]


@pytest.mark.parametrize(
    ("chunk", "where"),
    [
        (b"1", {"file": 1, "offset": 0}),  # not its turn
        (b"1", {"file": 7, "offset": 0}),  # never announced
        (b"1", {"file": 2, "offset": 0}),  # refused
        (b"1", {"file": "0", "offset": 0}),
        (b"1", {"file": [0], "offset": 0}),
        (b"1", {"file": 0, "offset": 1}),  # a gap
        (b"1", {"file": 0, "offset": -1}),
        (b"1", {"file": 0, "offset": None}),
        (b"1", {"file": 0}),
        (b"", {"file": 0, "offset": 0}),
        (bytes(11), {"file": 0, "offset": 0}),  # beyond the announced size
        ("text", {"file": 0, "offset": 0}),
    ],
)
def test_a_chunk_that_is_not_due_stops_the_upload(page, chunk, where):
    page.start(("a.png", 10), ("b.png", 10), ("huge.png", 31 * MB))
    assert page.send("chunk", chunk, **where) == "stopped"
    assert page.send("chunk", bytes(10), file=0, offset=0) == "stopped"
    assert page.choices == [] and page.said == []


def test_a_chunk_longer_than_a_chunk_is_not_kept(page):
    page.start(("a.png", 5 * CHUNK))
    assert page.send("chunk", bytes(CHUNK + 1), file=0, offset=0) == "stopped"


@pytest.mark.parametrize(
    "content",
    [
        None,
        [],
        "start",
        {},
        {"kind": "start"},
        {"kind": "start", "upload": "u1"},
        {"kind": "start", "upload": "u1", "files": 5, "left_out": []},
        {"kind": "start", "upload": "u1", "files": ["a.png"], "left_out": []},
        {"kind": "start", "upload": "u1", "files": [{"name": "a"}], "left_out": []},
        {"kind": "start", "upload": "u1", "files": [{"name": "a", "size": -1}], "left_out": []},
        {"kind": "start", "upload": "u1", "files": [{"name": "a", "size": "1"}], "left_out": []},
        {"kind": "start", "upload": "u1", "files": [{"name": "a", "size": 1.5}], "left_out": []},
        {
            "kind": "start",
            "upload": "u1",
            "files": [{"name": "a", "size": 10**400}],
            "left_out": [],
        },
        {"kind": "start", "upload": "u1", "files": [], "left_out": None},
        {"kind": "chunk", "upload": "u1", "file": 0, "offset": 0},
        {"kind": "dance", "upload": "u1"},
        {"kind": ["start"], "upload": {"a": 1}},
    ],
)
def test_a_message_that_makes_no_sense_changes_nothing(page, content, caplog):
    page.input.on_message(content, [])
    assert page.choices == [] and page.said == [] and "Traceback" not in caplog.text
    assert all(answer["kind"] == "stopped" for answer in page.answers)
    page.upload(("a.png", b"content"))
    assert len(page.choices) == 1


def test_a_chunk_without_bytes_stops_the_upload(page):
    page.start(("a.png", 10))
    assert page.send("chunk", file=0, offset=0) == "stopped"


def test_no_more_files_than_allowed_are_taken(page):
    page.start(*[(f"{number}.png", 1) for number in range(MAX_FILES + 50)])
    assert page.answers[-1]["files"] == list(range(MAX_FILES))


def test_made_up_sentences_are_few_and_short(page):
    page.start(left_out=["x" * 10_000] * 5_000)
    assert len(page.said) <= MAX_FILES + 1 and max(map(len, page.said)) <= 500


def test_announcing_much_and_sending_nothing_costs_no_memory(page):
    tracemalloc.start()
    for number in range(50):
        page.start(("a.zip", MAX_TOTAL_BYTES), upload=f"u{number}")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert page.answers[-1]["files"] == [0] and peak < MB


def test_a_file_is_in_memory_once(page):
    page.start(("a.zip", 40 * CHUNK))
    tracemalloc.start()
    for number in range(40):
        page.send("chunk", bytes(CHUNK), file=0, offset=number * CHUNK)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(page.choices) == 1 and peak < 60 * CHUNK


def test_a_failing_examination_is_a_sentence_and_the_next_upload_works(page):
    def fail(files):
        raise KeyError("layer 7")

    taken, page.input.on_files = page.input.on_files, fail
    page.upload(("a.png", b"content"))
    assert "Something went wrong while receiving your files" in page.said[0]
    assert "layer 7" not in page.said[0]
    page.input.on_files = taken
    page.upload(("b.png", b"content"), upload="u2")
    assert len(page.choices) == 1


def test_the_page_is_told_the_limits_of_the_kernel(page):
    assert page.input.view.limits | {} == {
        "files": MAX_FILES,
        "file": MAX_BYTES,
        "total": MAX_TOTAL_BYTES,
        "chunk": CHUNK,
        "accept": "image/*,.zip,.heic,.heif,.avif",
    }
    assert "export default { render }" in page.input.view._esm


def test_messages_reach_the_handler_through_the_widget(page):
    start = {"kind": "start", "upload": "u1", "files": [], "left_out": ["b.png is too large."]}
    page.input.view._handle_custom_msg(start, [])
    assert page.choices == [[]] and page.said == ["b.png is too large."]


@pytest.mark.parametrize("fallback", [False, True])
def test_disable_and_enable(fallback):
    view = (owner := Page(fallback=fallback).input).view
    owner.disable(True)
    assert view.disabled is True
    owner.disable(False)
    assert view.disabled is False


def test_the_total_is_limited():
    files = [("a.zip", 300 * MB), ("b.zip", 300 * MB), ("c.zip", 200 * MB), ("d.png", 1)]
    kept, (sentence, last) = within_limits(files)
    assert kept == [0, 2]
    assert "b.zip was left out: expected at most 500 MB at once" in sentence
    assert "d.png" in last


def test_too_many_files_are_cut_in_words():
    kept, left_out = within_limits([("a.png", 1)] * (MAX_FILES + 3))
    assert len(kept) == MAX_FILES
    assert left_out == ["At most 200 files at once: the first 200 were taken."]


# --- without a drop zone ---------------------------------------------------------------------


@pytest.fixture
def plain():
    return Page(fallback=True)


def held(*files):
    """What ipywidgets 8 holds after a choice of files: name, content."""
    return tuple({"name": name, "content": memoryview(content)} for name, content in files)


def test_colab_and_a_missing_anywidget_get_a_file_upload(monkeypatch):
    monkeypatch.setitem(sys.modules, "google.colab", sys)
    assert isinstance(Page().input.view, widgets.FileUpload)
    monkeypatch.delitem(sys.modules, "google.colab")
    monkeypatch.setattr(dashboard_input, "anywidget", None)
    view = Page().input.view
    assert isinstance(view, widgets.FileUpload) and view.multiple and ".zip" in view.accept


def test_the_fallback_hands_over_all_files_and_says_what_it_left_out(plain):
    plain.input.on_upload(held(("b.png", b"1"), ("h.png", bytes(MAX_BYTES + 1)), ("a.zip", b"2")))
    assert plain.choices == [[("b.png", 1, b"1"), ("a.zip", 1, b"2")]]
    assert len(plain.said) == 1 and "h.png is too large" in plain.said[0]


def test_the_fallback_reads_what_ipywidgets_7_holds(plain):
    plain.input.on_upload({"a.png": {"metadata": {"size": 1}, "content": b"1"}})
    assert plain.choices == [[("a.png", 1, b"1")]]


def choose(view, count=1):
    """What a browser sends of one file, in ipywidgets 7 (Colab) and 8."""
    file = {"name": "a.png", "type": "image/png", "size": 1, "last_modified": 0}
    if widgets.__version__.startswith("7."):
        view.set_state({"metadata": [file], "data": [memoryview(b"1")], "_counter": count})
    else:
        view.set_state({"value": [file | {"content": memoryview(b"1")}]})


def test_the_fallback_takes_the_same_file_twice_through_the_widget(plain):
    for count in (1, 2):
        choose(plain.input.view, count)
        assert plain.choices == [[("a.png", 1, b"1")]] * count
        assert len(plain.input.view.value) == 0


def test_the_fallback_is_ready_again_after_a_failure(plain):
    def fail(files):
        raise RuntimeError("layer 7")

    plain.input.on_files = fail
    choose(plain.input.view)
    assert "Something went wrong while reading your files" in plain.said[0]
    assert len(plain.input.view.value) == 0
