"""The dashboard without a browser: handlers are called as the widgets call them."""

import hashlib
import importlib.util
import io
import json
import logging
import re
import shutil
import subprocess
import sys
import threading
import zipfile

import ipywidgets as widgets
import numpy as np
import pytest
from PIL import Image

from cifake_lib import dashboard_sections, dashboard_visit, detector, runs
from cifake_lib.dashboard import Dashboard
from cifake_lib.dashboard_cards import percent
from cifake_lib.dashboard_handlers import log_to_server, send_again
from cifake_lib.detector import ModelVerdict, Verdict
from cifake_lib.images import MAX_BYTES
from cifake_lib.paths import project_root

KEYS = ("baseline_cnn", "tuned_cnn", "resnet50")
SPLIT = {"REAL": 1800, "FAKE": 1700}


class Redness:
    """A detector for which red pictures are FAKE."""

    input_size, sees_photographs = 32, False
    crop = "centre"

    def __init__(self, missing=None, runs=None):
        self.missing, self.runs, self.models = missing or {}, runs or {}, {}

    def predict(self, images):
        verdicts = []
        for image in images:
            red = float(np.asarray(image)[..., 0].mean()) / 255
            models = {key: ModelVerdict(red) for key in KEYS if key not in self.missing}
            verdicts.append(Verdict(red, models))
        return verdicts


def picture(colour=(255, 0, 0), size=(32, 32), file_format="PNG"):
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, file_format)
    return buffer.getvalue()


def give(dashboard, *files):
    """Give files, name and content, as the input does, and wait for the answer."""
    dashboard.analyse.on_files([(name, len(content), content) for name, content in files])
    dashboard.wait()


def write_run(folder, stage, files, **manifest):
    """A released run in the form that `cifake_lib.runs` reads."""
    folder = folder / stage
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    manifest = {
        "stage": stage,
        "run_id": f"20260102-030405-{stage}",
        "started_utc": "2026-01-02T03:04:05Z",
        "finished_utc": "2026-01-02T04:05:06Z",
        "data": {"name": "sample", "counts": {"train": SPLIT, "test": {"REAL": 250, "FAKE": 250}}},
        "model": {"input_size": 32},
        "notes": [],
        "files": {name: runs.file_hash(folder / name) for name in files},
        **manifest,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


def metrics_of(key, base):
    names = [
        f"{rate}_{side}" for rate in ("precision", "recall", "f1") for side in ("fake", "real")
    ]
    return {
        "accuracy": base,
        "roc_auc": base + 0.05,
        "f1": base,
        **{name: base + 0.001 * place for place, name in enumerate(names)},
        "confusion": [[40, 10], [5, 45]],
        "intervals": {"accuracy": [base - 0.02, base + 0.02]},
        "training_seconds": 95.0,
        "parameters": 123456,
        "run_id": f"20260102-030405-{key}",
    }


def write_released(folder):
    """Three models (manifests only), an evaluation and a robustness run."""
    for key in KEYS:
        write_run(folder, key, {}, notes=["trained <without> ImageNet weights"])
    keys = (*KEYS, "ensemble")
    metrics = {key: metrics_of(key, 0.71 + 0.04 * place) for place, key in enumerate(keys)}
    line = {"fpr": [0, 0.5, 1], "tpr": [0, 0.8, 1], "area": 0.65}
    examples = io.BytesIO()
    colours = np.array([[0, 0, 255], [0, 255, 0], [255, 0, 0]], dtype=np.uint8)
    images = np.broadcast_to(colours[:, None, None], (3, 32, 32, 3))
    np.savez(examples, images=images, labels=[0, 0, 1])
    write_run(
        folder,
        "evaluation",
        {
            "metrics.json": json.dumps({"count": 1000, "models": metrics}).encode(),
            "curves.json": json.dumps({key: {"roc": line} for key in keys}).encode(),
            "examples.npz": examples.getvalue(),
            "robustness.csv": table_of(
                keys, "corruption,severity,level,accuracy", ["clean,0,nan,0.9", "jpeg,3,50,0.8"]
            ),
        },
    )
    deliveries = table_of(keys, "delivery,flipped", ["none,0", "messenger,0.25"])
    write_run(folder, "robustness", {"deliveries.csv": deliveries})


def table_of(keys, columns, rows):
    """A CSV with these rows for each model."""
    lines = [f"{key},{row}" for row in rows for key in keys]
    return "\n".join([f"model,{columns}", *lines, ""]).encode()


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """Where released runs would lie; there are none, and nothing was trained either."""
    monkeypatch.setenv("CIFAKE_RELEASED", str(tmp_path / "released"))
    monkeypatch.setenv("CIFAKE_RUNS", str(tmp_path / "runs"))
    return tmp_path / "released"


@pytest.fixture
def released(empty):
    """Where the released runs lie."""
    write_released(empty)
    return empty


@pytest.fixture
def dashboard(released):
    return Dashboard(detector=Redness())


def shown_card(dashboard):
    return dashboard.analyse._card.value


def text(dashboard):
    """Everything the page shows in its HTML widgets, without tags and styles."""
    values, boxes = [], [dashboard.view]
    while boxes:
        widget = boxes.pop(0)
        boxes = [*getattr(widget, "children", ()), *boxes]
        if widget.layout.display != "none" and isinstance(getattr(widget, "value", None), str):
            values.append(widget.value)
    html = re.sub(r"<style>.*?</style>", "", " ".join(values), flags=re.S)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", html))


def test_an_upload_gives_the_verdict_of_every_model(dashboard):
    give(dashboard, ("red.png", picture()))
    (result,) = dashboard.analyse.visit.results
    assert result.verdict.label == "FAKE"
    shown = text(dashboard)
    assert "red.png" in shown and "FAKE over 99 % confidence" in shown
    for name in ("Baseline CNN", "Tuned CNN", "ResNet-50"):
        assert re.search(rf"{name} FAKE over 99 %", shown)
    assert "No picture yet" not in shown
    assert dashboard.analyse._working.layout.display == "none"


def test_newest_first_and_counted(dashboard):
    give(dashboard, ("red.png", picture()), ("blue.png", picture((0, 0, 255))))
    give(dashboard, ("dim.png", picture((60, 0, 0))))
    assert [result.name for result in dashboard.analyse.visit.results] == [
        "dim.png",
        "blue.png",
        "red.png",
    ]
    assert "3 images: 2 REAL, 1 FAKE" in text(dashboard)
    assert "dim.png" in shown_card(dashboard) and "#3" in shown_card(dashboard)


def test_an_image_of_the_visit_can_be_opened_again(dashboard):
    give(dashboard, ("red.png", picture()), ("<b>.png", picture((0, 0, 255))), ("no.png", b"?"))
    pytest.importorskip("itables")
    table = dashboard.analyse._history
    sent = []
    table._table.send = sent.append
    table._table.on_asked()
    rows = [[str(cell) for cell in row] for _, row in sent[0]["changed"]]
    assert [re.sub(r"<[^>]*>", "", row[2]) for row in rows] == [
        "red.png",
        "&lt;b&gt;.png",
        "no.png is not an image that can be read: please choose a JPEG, PNG, WebP, HEIC, AVIF, "
        "GIF, BMP or TIFF file.",
    ]
    assert "FAKE" in rows[0][3] and "REAL" in rows[1][3]
    table._table.selected_rows = [0]
    dashboard.wait()
    assert "red.png" in shown_card(dashboard) and "#1" in shown_card(dashboard)
    table._table.selected_rows = [2]  # Of a file that is no image there is nothing to open.
    dashboard.wait()
    assert "red.png" in shown_card(dashboard)


def test_without_the_table_widget_images_can_be_opened_again_all_the_same(dashboard, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "itables" else found(name)
    )
    give(dashboard, ("red.png", picture()), ("<b>.png", picture((0, 0, 255))), ("no.png", b"?"))
    choice, table = dashboard.analyse._history.view.children
    assert "&lt;b&gt;.png" in table.value and "no.png <small>is not an image" in table.value
    choice.value = 1
    dashboard.wait()
    assert "red.png" in shown_card(dashboard) and "#1" in shown_card(dashboard)


def test_one_image_needs_no_table(dashboard):
    give(dashboard, ("red.png", picture()))
    assert dashboard.analyse._history.view.children == ()


def test_a_large_picture_shows_what_the_models_see(dashboard):
    give(dashboard, ("small.png", picture()), ("large.jpg", picture(size=(900, 300))))
    large, small = dashboard.analyse.visit.results
    assert large.model_input.startswith("data:image/png;base64,") and not small.model_input
    assert "900 × 300 what the models see, 32 × 32" in text(dashboard)
    assert len(large.preview) < 20_000


def test_refused_files_give_a_sentence_each_and_the_others_go_on(dashboard):
    give(
        dashboard,
        ("letter.txt", b"Dear reader"),
        ("huge.png", bytes(MAX_BYTES + 1)),
        ("cut.jpg", picture(size=(200, 200), file_format="JPEG")[:500]),
        ("red.png", picture()),
    )
    assert [result.name for result in dashboard.analyse.visit.results] == ["red.png"]
    assert len(dashboard.analyse.messages.sentences) == 3
    shown = text(dashboard)
    assert "letter.txt is not an image" in shown and "huge.png is too large" in shown
    assert "cut.jpg is damaged" in shown
    give(dashboard, ("red.png", picture()))
    assert dashboard.analyse.messages.sentences == []


def test_too_many_files_are_cut_in_words(dashboard, monkeypatch):
    monkeypatch.setattr(dashboard_visit, "MAX_IMAGES", 3)
    give(dashboard, *[(f"{n}.png", picture()) for n in range(5)])
    assert len(dashboard.analyse.visit.results) == 3
    assert "5 files are too many: the first 3 are taken" in text(dashboard)


def test_a_zip_counts_as_its_images(dashboard):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("holiday/red.png", picture())
        archive.writestr("holiday/blue.png", picture((0, 0, 255)))
        archive.writestr("holiday/cut.png", picture()[:60])
    give(dashboard, ("holiday.zip", packed.getvalue()))
    visit = dashboard.analyse.visit
    assert [result.name for result in visit.results] == ["holiday/red.png", "holiday/blue.png"]
    assert [record.name for record in visit.refused] == ["holiday/cut.png"]
    assert "2 images: 1 REAL, 1 FAKE" in text(dashboard) and "cut.png is damaged" in text(dashboard)


def test_what_takes_long_can_be_stopped(dashboard, monkeypatch):
    predict = dashboard.detector.predict

    def stop_after_the_first(images):
        dashboard.analyse._cancelled.set()
        return predict(images)

    monkeypatch.setattr(dashboard.detector, "predict", stop_after_the_first)
    give(dashboard, *[(f"{n}.png", picture()) for n in range(40)])
    assert len(dashboard.analyse.visit.results) == 16
    assert "Stopped after 16 of 40 files." in text(dashboard)
    monkeypatch.undo()
    give(dashboard, ("red.png", picture()))
    assert len(dashboard.analyse.visit.results) == 17


def test_only_the_latest_files_are_kept(dashboard, monkeypatch):
    monkeypatch.setattr(dashboard_visit, "KEPT_BYTES", 100)
    give(dashboard, ("one.png", picture()), ("two.png", picture((0, 0, 255))))
    newest, oldest = dashboard.analyse.visit.results
    assert newest.content and not oldest.content and oldest.preview == oldest.thumbnail
    dashboard.analyse.on_open(oldest)
    dashboard.wait()
    sections = dashboard.analyse._evidence.sections
    sections["What the file says about itself"].view.is_open = True
    dashboard.wait()
    assert "Choose its file again" in sections["What the file says about itself"].html


def test_evidence_is_computed_when_it_is_opened_and_closed_with_another_image(dashboard):
    give(dashboard, ("red.png", picture()))
    section = dashboard.analyse._evidence.sections["What the file says about itself"]
    assert section.html == "" and not section.view.is_open
    section.view.is_open = True
    dashboard.wait()
    assert hashlib.sha256(picture()).hexdigest() in section.html
    give(dashboard, ("blue.png", picture((0, 0, 255))))
    assert section.html == "" and not section.view.is_open


def test_evidence_that_fails_costs_its_section_only(dashboard, monkeypatch, caplog):
    def explode(*args, **kwargs):
        raise RuntimeError("out of memory in layer 7")

    give(dashboard, ("red.png", picture()))
    monkeypatch.setattr(dashboard_sections, "metadata_of", explode)
    section = dashboard.analyse._evidence.sections["What the file says about itself"]
    section.view.is_open = True
    dashboard.wait()
    assert "Something went wrong here" in section.html and "layer 7" not in section.html
    assert "layer 7" in caplog.text


def test_a_verdict_that_does_not_hold_is_taken_back(dashboard):
    # Half red: a little brighter or darker, and it is called by the other name.
    give(dashboard, ("dim.png", picture((130, 0, 0))))
    assert "FAKE" in shown_card(dashboard)
    section = next(
        section
        for title, section in dashboard.analyse._evidence.sections.items()
        if "hold" in title
    )
    section.view.is_open = True
    dashboard.wait()
    assert 'data-label="UNCERTAIN"' in shown_card(dashboard)
    assert "FAKE turns REAL under" in text(dashboard)
    assert "1 UNCERTAIN" in text(dashboard)


def test_file_names_cannot_inject_markup(dashboard):
    name = "<img src=x onerror=alert(1)>\"'.png"
    give(dashboard, (name, picture()), (name, b"no image"))
    page = shown_card(dashboard) + dashboard.analyse.messages.view.value
    assert "<img src=x" not in page and "&lt;img src=x onerror" in page
    assert dashboard.analyse.visit.results[0].name == name


def test_a_failing_detector_leaves_a_working_page(dashboard, caplog, monkeypatch):
    def explode(images):
        raise RuntimeError("out of memory in layer 7")

    with monkeypatch.context() as patch, caplog.at_level(logging.ERROR):
        patch.setattr(dashboard.detector, "predict", explode)
        give(dashboard, ("red.png", picture()))
        assert "Something went wrong while examining your files" in text(dashboard)
        dashboard.analyse.on_example(0)
        dashboard.wait()
    assert "Something went wrong while examining the example" in text(dashboard)
    assert "layer 7" in caplog.text and "layer 7" not in text(dashboard)
    assert dashboard.analyse._working.layout.display == "none"
    give(dashboard, ("red.png", picture()))
    assert len(dashboard.analyse.visit.results) == 1 and dashboard.analyse.messages.sentences == []


def test_clear_forgets_everything(dashboard):
    give(dashboard, ("red.png", picture()), ("letter.txt", b"hello"))
    dashboard.analyse.on_clear()
    dashboard.wait()
    assert dashboard.analyse.visit.results == [] and shown_card(dashboard) == ""
    shown = text(dashboard)
    assert "No picture yet" in shown and "red.png" not in shown and "letter.txt" not in shown


def test_examples_tell_their_true_class(dashboard):
    examples = [b for b in buttons(dashboard.view) if "cf-example" in b._dom_classes]
    assert [button.tooltip for button in examples] == [
        "Example 1 (REAL)",
        "Example 2 (REAL)",
        "Example 3 (FAKE)",
    ]
    examples[2].click()
    dashboard.wait()
    (result,) = dashboard.analyse.visit.results
    assert result.truth == "FAKE" and result.verdict.label == "FAKE"
    assert "True class of this example: FAKE . The verdict is right." in text(dashboard)


def buttons(widget):
    found = [widget] if hasattr(widget, "click") else []
    return found + [b for child in getattr(widget, "children", ()) for b in buttons(child)]


def test_the_page_says_plainly_that_models_were_trained_on_the_sample(dashboard):
    shown = text(dashboard)
    assert "Trained on a small sample." in shown
    assert "These models learnt from 3,500 images (the sample that comes with the project)" in shown
    assert "A verdict is a hint, not proof" in shown


def test_models_trained_on_all_data_say_so(released):
    for key, size in zip(KEYS, (32, 32, 64), strict=True):
        path = released / key / "manifest.json"
        changed = {"data": {"name": "full", "counts": {"train": {"REAL": 47_500, "FAKE": 47_500}}}}
        changed["model"] = {"input_size": size}
        path.write_text(json.dumps(json.loads(path.read_text()) | changed))
    shown = text(Dashboard(detector=Redness()))
    assert "These models learnt from 95,000 images (full)." in shown and "sample" not in shown
    assert "The models look at 64 × 64 pixels" in shown


def test_each_source_of_data_is_named(released):
    path = released / "resnet50" / "manifest.json"
    path.write_text(path.read_text().replace('"sample"', '"<full>"'))
    shown = text(Dashboard(detector=Redness()))
    assert "Trained on a small sample. Baseline CNN and Tuned CNN learnt from 3,500" in shown
    assert "ResNet-50 learnt from 3,500 images (&lt;full&gt;)" in shown


def test_a_changed_run_file_gives_a_sentence_in_the_models_tab(dashboard, released):
    path = released / "evaluation" / "metrics.json"
    path.write_text(path.read_text().replace("0.71", "0.99"))
    dashboard.on_tab(1)
    dashboard.wait()
    assert "metrics.json is damaged or was changed" in text(dashboard)
    give(dashboard, ("red.png", picture()))
    assert len(dashboard.analyse.visit.results) == 1


def test_without_an_evaluation_the_page_still_works(released):
    (released / "evaluation" / "manifest.json").unlink()
    dashboard = Dashboard(detector=Redness())
    dashboard.on_tab(1)
    dashboard.wait()
    assert "not been compared on the test split yet" in text(dashboard)
    give(dashboard, ("red.png", picture()))
    assert len(dashboard.analyse.visit.results) == 1


def test_a_manifest_cut_short_leaves_the_rest_of_the_page(released):
    for stage in ("evaluation", "resnet50"):
        path = released / stage / "manifest.json"
        path.write_text(path.read_text()[:50])
    dashboard = Dashboard(detector=Redness())
    dashboard.on_tab(1)
    dashboard.wait()
    assert "Trained on a small sample." in text(dashboard)
    assert list(dashboard._records.models) == ["baseline_cnn", "tuned_cnn"]


def test_without_models_a_card_says_how_to_get_one(empty):
    dashboard = Dashboard()
    assert dashboard.wait() is False
    dashboard.on_tab(1)
    dashboard.wait()
    assert text(dashboard).count("There is no trained model yet") == 2
    assert "make pipeline" in text(dashboard) and "No picture yet" not in text(dashboard)
    assert dashboard.analyse._input.view.disabled and dashboard._again.layout.display is None
    give(dashboard, ("red.png", picture()))
    assert dashboard.analyse.visit.results == []


def test_without_an_own_model_the_card_says_how_to_get_that(empty, monkeypatch):
    monkeypatch.setenv("CIFAKE_MODELS", "own")
    dashboard = Dashboard()
    assert dashboard.wait() is False
    assert "There is no model of your own yet" in text(dashboard)
    assert "--profile own" in text(dashboard)


def test_damaged_models_are_not_taken_for_none(released):
    dashboard = Dashboard()  # Manifests without the weights that they name.
    assert dashboard.wait() is False
    shown = text(dashboard)
    assert "The models are damaged" in shown and str(released) in shown
    assert "no trained model" not in shown and "No picture yet" not in shown
    assert dashboard.analyse._input.view.disabled and dashboard._again.layout.display is None


def test_models_trained_meanwhile_are_found_by_checking_again(empty, monkeypatch):
    dashboard = Dashboard()
    dashboard._tabs.selected_index = 1
    dashboard.wait()
    for _ in range(2):  # The first time there is still nothing.
        dashboard.on_check_again()
        assert dashboard.wait() is False
        assert text(dashboard).count("There is no trained model yet") == 2
    write_released(empty)
    monkeypatch.setattr(detector.Detector, "load", lambda *, runs: Redness())
    dashboard.on_check_again()
    assert dashboard.wait() is True
    shown = text(dashboard)
    assert "There is no trained model yet" not in shown and "Trained on a small sample" in shown
    assert "Measured once on the test split" in shown
    assert dashboard._again.layout.display == "none" and not dashboard.analyse._input.view.disabled
    [button.click() for button in buttons(dashboard.view) if "(FAKE)" in str(button.tooltip)]
    dashboard.wait()
    give(dashboard, ("red.png", picture()))
    assert [result.name for result in dashboard.analyse.visit.results] == ["red.png", "Example 3"]


def test_models_that_cannot_be_loaded_can_be_tried_again(released, monkeypatch, caplog):
    def explode(*, runs):
        raise MemoryError("no room for layer 7")

    monkeypatch.setattr(detector.Detector, "load", explode)
    dashboard = Dashboard()
    dashboard.wait()
    assert "The models could not be loaded" in text(dashboard) and "layer 7" in caplog.text
    assert (
        all(b.disabled for b in buttons(dashboard.analyse._gallery))
        and dashboard.analyse._input.view.disabled
    )
    monkeypatch.setattr(detector.Detector, "load", lambda *, runs: Redness())
    dashboard.on_check_again()
    dashboard.wait()
    assert not any(button.disabled for button in buttons(dashboard.analyse._gallery))
    dashboard.analyse.on_example(0)
    dashboard.wait()
    assert len(dashboard.analyse.visit.results) == 1 and "could not be loaded" not in text(
        dashboard
    )


def test_released_models_come_before_those_trained_here(released, tmp_path, monkeypatch):
    asked = []

    def load(*, runs):
        asked.append(runs)
        return Redness()

    monkeypatch.setattr(detector.Detector, "load", load)
    for key in (*KEYS, "evaluation"):
        (tmp_path / "runs" / key).mkdir(parents=True)
    for key in KEYS:
        data = {"name": "mine", "counts": {"train": {"REAL": 30, "FAKE": 40}}}
        write_run(tmp_path / "runs" / key, "20270101", {}, run_id="20270101", data=data)
    released_first, latest = Dashboard(), Dashboard(runs="latest")
    assert "3,500 images" in text(released_first)
    assert "70 images (mine)" in text(latest)
    shutil.rmtree(released)
    fallback = Dashboard()
    for dashboard in (released_first, latest, fallback):
        dashboard.wait()
    assert "70 images (mine)" in text(fallback) and "3,500 images" not in text(fallback)
    assert asked == ["released", "latest", "latest"]


def test_a_missing_model_is_named_and_the_others_answer(released):
    dashboard = Dashboard(detector=Redness({"resnet50": "ResNet-50 has no <run>."}))
    give(dashboard, ("red.png", picture()))
    assert "ResNet-50 does not answer. ResNet-50 has no &lt;run&gt;." in text(dashboard)
    assert list(dashboard.analyse.visit.results[0].verdict.models) == ["baseline_cnn", "tuned_cnn"]


def test_an_upload_while_models_load_waits_for_them(released, monkeypatch):
    gate = threading.Event()

    def load(*, runs):
        gate.wait(10)
        return Redness()

    monkeypatch.setattr(detector.Detector, "load", load)
    dashboard = Dashboard()
    assert "Loading the models" in text(dashboard) and dashboard.detector is None
    threading.Timer(0.2, gate.set).start()
    give(dashboard, ("red.png", picture()))
    assert len(dashboard.analyse.visit.results) == 1 and "Loading the models" not in text(dashboard)


@pytest.mark.parametrize(
    ("probability", "words"),
    [(0.5, "50 %"), (0.934, "93 %"), (0.99, "99 %"), (0.9996, "over 99 %"), (1.0, "over 99 %")],
)
def test_confidence_is_never_certainty(probability, words):
    assert percent(probability) == words


def test_a_visit_imports_only_what_it_needs(tmp_path):
    """Of the released models; each of these libraries takes memory from every visitor."""
    pytest.importorskip("ai_edge_litert")
    script = """
import sys
from PIL import Image
from cifake_lib.dashboard import Dashboard

page = Dashboard()
assert page.wait()
for side in (32, 900):
    Image.new("RGB", (side, side), "red").save(f"{side}.png")
    content = open(f"{side}.png", "rb").read()
    page.analyse.on_files([(f"{side}.png", len(content), content)])
    page.wait()
for place in range(5):
    page.on_tab(place)
    page.wait()
assert "UNCERTAIN" in page.analyse._card.value and len(page.analyse.visit.results) == 2
heavy = ("matplotlib", "pandas", "sklearn", "scipy.optimize", "scipy.stats", "tensorflow", "keras")
print([name for name in heavy if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.stdout.strip() == "[]", done.stderr


def test_a_page_that_missed_a_change_hears_it_again(monkeypatch):
    sent = threading.Event()
    status = widgets.HTML("ready")
    monkeypatch.setattr(widgets.HTML, "send_state", lambda self, key: sent.set())
    send_again({status: "value"}, after=(0.01,))
    assert sent.wait(5)


def test_the_log_goes_where_the_kernels_own_goes(monkeypatch):
    from traitlets.config import Application

    kernel, terminal = Application(), io.StringIO()
    kernel.log = logging.getLogger("kernel")
    monkeypatch.setattr(kernel.log, "handlers", [logging.StreamHandler(terminal)])
    monkeypatch.setattr(logging.getLogger("cifake_lib"), "handlers", [])
    monkeypatch.setattr(Application, "_instance", kernel)
    log_to_server()
    logging.getLogger("cifake_lib.detector").warning("no model")
    assert terminal.getvalue() == "no model\n"


def test_every_way_of_serving_takes_files_up_to_the_limit():
    voila = json.loads((project_root() / "voila.json").read_text())
    limit = voila["Voila"]["tornado_settings"]["websocket_max_message_size"]
    assert limit > 500 * 2**20 > MAX_BYTES  # what the page promises
    setting = f"--ServerApp.tornado_settings={{'websocket_max_message_size': {limit}}}"
    assert setting in (project_root() / "Makefile").read_text()
    assert setting in (project_root() / "README.md").read_text()
