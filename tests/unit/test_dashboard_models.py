"""The Models tab, on small fabricated runs: what a visitor reads, compares and takes along."""

import base64
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from multiprocessing import connection
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from cifake_lib import breakdown, dashboard_figures, evaluation, runs
from cifake_lib.calibration import probability
from cifake_lib.dashboard_disclosure import Disclosure
from cifake_lib.dashboard_drawing import Drawing
from cifake_lib.dashboard_model_sets import SECTIONS, ModelsTab
from cifake_lib.dashboard_models import other_evaluations, read_records, records_of

KEYS = ("baseline_cnn", "resnet50")
ALL = (*KEYS, "ensemble")
TITLES = {name: section.title for name, section in SECTIONS.items()}


def write_run(folder, stage, run_id, tables=(), day="2026-01-02", **manifest):
    """A complete run in `folder/stage/run_id`, or in `folder/stage` if that is the released set."""
    path = folder / stage if folder.name == "released" else folder / stage / run_id
    path.mkdir(parents=True)
    for name, content in dict(tables).items():
        if isinstance(content, pd.DataFrame):
            content.to_csv(path / name, index=False, na_rep="nan")
        else:
            (path / name).write_text(json.dumps(content))
    counts = {"train": {"REAL": 100, "FAKE": 100}, "test": {"REAL": 30, "FAKE": 30}}
    manifest = {
        "stage": stage,
        "run_id": run_id,
        "started_utc": f"{day}T03:04:05Z",
        "finished_utc": f"{day}T04:05:06Z",
        "data": {"name": "sample", "split_hash": "abc", "counts": counts},
        "parameters": {"corruption_share": 0.3, "unseen_corruption": "blur"},
        "model": {"input_size": 32},
        "notes": [],
        "upstream": {},
        "files": {name: runs.file_hash(path / name) for name in dict(tables)},
        **manifest,
    }
    (path / "manifest.json").write_text(json.dumps(manifest))
    return path


def write_set(folder, run_id, *, seed=0, day="2026-01-02", **manifest):
    """Two models, an evaluation and a robustness run, with the numbers of random scores."""
    rng = np.random.default_rng(seed)
    y_true = np.arange(60) % 2
    logits = {key: 2 * y_true - 1 + rng.normal(0, 1.5, 60) for key in ALL}
    temperatures = dict.fromkeys(ALL, 0.7)
    scores = {key: probability(values, 0.7) for key, values in logits.items()}
    metrics = evaluation.evaluate_models(y_true, logits, temperatures, resamples=20)
    for key in ALL:
        metrics[key] |= {"training_seconds": 95.0, "parameters": 123456, "weights_bytes": 2_000_000}
    kinds = np.array(["cat", "ship"])[np.arange(60) // 2 % 2]
    calls = {key: values >= 0.5 for key, values in scores.items()}
    columns = {f"{key}_logit": logits[key] for key in ALL}
    columns |= {f"{key}_p_fake": scores[key] for key in ALL}
    conditions = pd.DataFrame(
        {"model": key, "corruption": name, "severity": severity, "level": level, "accuracy": 0.8}
        for name, severity, level in (("clean", 0, np.nan), ("jpeg", 3, 50), ("blur", 1, 0.5))
        for key in ALL
    )
    deliveries = pd.DataFrame(
        {"model": key, "delivery": way, "flipped": 0.1}
        for way in ("none", "messenger")
        for key in ALL
    )
    upstream = dict.fromkeys(KEYS, run_id)
    tables = {
        "metrics.json": {"count": 60, "models": metrics},
        "curves.json": {k: evaluation.curve_points(y_true, v) for k, v in scores.items()},
        "calibration.csv": evaluation.calibration_table(y_true, logits, temperatures).reset_index(),
        "predictions.csv": pd.DataFrame({"label": y_true, **columns}),
        "object_classes.csv": breakdown.by_object_class(kinds, y_true, calls),
        "robustness.csv": conditions,
    }
    for key in KEYS:
        history = {"loss": [0.6, 0.5], "val_loss": [0.7, 0.6], "learning_rate": [1e-3, 1e-4]}
        history |= {"accuracy": [0.6, 0.7], "val_accuracy": [0.5, 0.6]}
        write_run(folder, key, run_id, {"history.csv": pd.DataFrame(history)}, day, **manifest)
    write_run(folder, "evaluation", run_id, tables, day, upstream=upstream, **manifest)
    changed = {"deliveries.csv": deliveries, "severity.csv": conditions}
    facts = {"corrupted_images": 40}
    write_run(folder, "robustness", run_id, changed, day, upstream=upstream, parameters=facts)


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Where released runs and those of this machine lie; nothing is there."""
    released, trained = tmp_path / "released", tmp_path / "runs"
    monkeypatch.setenv("CIFAKE_RELEASED", str(released))
    monkeypatch.setenv("CIFAKE_RUNS", str(trained))
    return released, trained


@pytest.fixture
def released(folders):
    write_set(folders[0], "out")
    return folders[0]


@pytest.fixture
def trained(released, folders):
    """A set that was trained on this machine, beside the released one."""
    write_set(folders[1], "mine", seed=1, day="2026-02-03")
    return folders[1]


@pytest.fixture
def drawn(monkeypatch):
    """Draw nothing; note what was asked for."""
    asked = []

    def section_html(self, name, records):
        asked.append((name, records.evaluation.run_id))
        return f"<i>{name} of {records.evaluation.run_id}</i>"

    monkeypatch.setattr(Drawing, "section_html", section_html)
    return asked


class AtOnce:
    """A pool that does not wait for a thread."""

    def submit(self, function, *arguments):
        function(*arguments)


def open_tab(which="released"):
    said = []
    tab = ModelsTab(
        said.append, disclosure=lambda title, compute: Disclosure(title, compute, AtOnce()).view
    )
    tab.open(read_records(which))
    assert said == []
    return tab


def section(tab, name):
    (found,) = (w for w in tab._sections.children if w.title == TITLES[name])
    return found


def opened(tab, name):
    section(tab, name).is_open = True
    return section(tab, name).html


def text(html):
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", html))


def rows(html):
    """Model and set of every row, in order."""
    return re.findall(r'<tr data-model="(\w+)" data-set="([^"]*)"', html)


def metrics_of(folder):
    return json.loads((folder / "metrics.json").read_text())["models"]


# --- the comparison ---------------------------------------------------------------------------


def test_the_table_shows_the_numbers_and_intervals_of_the_run_file(released, drawn):
    page = open_tab()._top.value
    assert rows(page) == [(key, "Released") for key in ALL]
    for key, values in metrics_of(released / "evaluation").items():
        row = re.search(rf'<tr data-model="{key}".*?</tr>', page, re.S)[0]
        for metric in ("accuracy", "roc_auc", "precision_real", "recall_fake", "f1_fake"):
            low, high = values["intervals"][metric]
            cell = re.search(rf'data-metric="{metric}">(.*?)</td>', row)[1]
            assert text(cell) == f"{values[metric]:.3f} {low:.3f}–{high:.3f} "
        assert "2 min" in row and "123,456" in row
    assert "60 images of sample" in text(page) and "Released" not in text(page)


def test_a_table_is_linked_to_its_run_and_the_file_can_be_saved(released, drawn):
    page = open_tab()._top.value
    assert "From run out (Evaluation): metrics.json" in text(page).replace("  ", " ")
    link = re.search(r'download="([^"]+)" href="data:application/json[^,]*,([^"]+)"', page)
    assert link[1] == "evaluation-out-metrics.json"
    content = (released / "evaluation" / "metrics.json").read_bytes()
    assert base64.b64decode(link[2]) == content


def test_a_changed_file_gives_a_sentence_and_the_rest_stays(trained, drawn):
    path = trained / "evaluation" / "mine" / "calibration.csv"
    path.write_text(path.read_text().replace("0.7", "0.9"))
    tab = open_tab()
    tab.on_choice(1)
    page = opened(tab, "origin")
    assert "out" in page and "mine" in page
    metrics = trained / "evaluation" / "mine" / "metrics.json"
    metrics.write_text("{}")
    tab.on_choice(1)
    shown = text(tab._top.value)
    assert "metrics.json is damaged or was changed" in shown
    assert rows(tab._top.value) == [(key, "Released") for key in ALL]


def test_without_an_evaluation_the_models_are_still_shown(released, drawn):
    shutil.rmtree(released / "evaluation")
    tab = open_tab()
    assert "not been compared on the test split yet" in tab._top.value
    assert "not been compared" in opened(tab, "ranking") and drawn == []
    assert "Baseline CNN out sample, 200 training images" in text(opened(tab, "origin"))


def test_an_own_model_shows_what_its_run_measured_and_no_section_that_stays_empty(folders, drawn):
    y_true = np.arange(40) % 2
    logits = np.linspace(-2, 2, 40)
    measured = evaluation.evaluate_models(y_true, {"own": logits}, {"own": 1.0}, resamples=20)
    write_run(
        folders[1],
        "own_model",
        "mine",
        {"metrics.json": measured["own"], "history.csv": pd.DataFrame({"epoch": [1]})},
        model={"input_size": 128, "parameters": 4321, "display_name": "ResNet-50, stages 1–4"},
        training={"seconds": 95.0},
    )
    tab = open_tab("own")
    page = tab._top.value
    assert rows(page) == [("own_model", "mine (2026-01-02)")]
    low, high = measured["own"]["intervals"]["accuracy"]
    assert f"{measured['own']['accuracy']:.3f} {low:.3f}–{high:.3f}" in text(page)
    assert "40 images of sample" in text(page) and "2 min" in page and "4,321" in page
    assert "make pipeline</code> does it" not in page
    assert [each.title for each in tab._sections.children] == [TITLES["training"], TITLES["origin"]]


def test_without_any_model_a_card_says_how_to_get_one(folders):
    tab = open_tab()
    assert "There is no trained model yet" in tab._top.value
    assert tab._sections.children == () and tab._choice.layout.display == "none"
    write_set(folders[0], "out")
    tab.open(read_records("released"))
    assert rows(tab._top.value) and len(tab._sections.children) == len(SECTIONS)


# --- sections ---------------------------------------------------------------------------------


def test_nothing_is_drawn_until_a_section_is_opened_and_then_once(released, drawn):
    tab = open_tab()
    assert [w.title for w in tab._sections.children] == list(TITLES.values())
    assert drawn == [] and not any(w.is_open or w.html for w in tab._sections.children)
    assert "ranking of out" in opened(tab, "ranking")
    section(tab, "ranking").is_open = False
    section(tab, "ranking").is_open = True
    assert drawn == [("ranking", "out")]
    tab.open(tab._records)
    assert section(tab, "ranking").is_open and drawn == [("ranking", "out")]


FILES = {
    "ranking": ["curves.json"],
    "confusion": ["metrics.json"],
    "calibration": ["calibration.csv", "predictions.csv"],
    "object_classes": ["object_classes.csv"],
    "training": ["history.csv", "history.csv"],
    "cost": ["metrics.json"],
    "changed": ["robustness.csv", "deliveries.csv", "severity.csv"],
}
FIGURES = {"confusion": 4, "ranking": 2, "calibration": 2, "changed": 3}


@pytest.mark.parametrize("name", FILES)
def test_a_section_is_drawn_with_words_for_the_blind_and_links_to_its_files(released, name):
    html = dashboard_figures.section_html(name, read_records("released"))
    images = re.findall(r'<img src="data:image/svg\+xml;base64,([^"]+)" alt="([^"]+)">', html)
    assert len(images) == FIGURES.get(name, 1) == len(re.findall("<img", html))
    for svg, alt in images:
        ElementTree.fromstring(base64.b64decode(svg))
        assert len(alt) > 20
    saved = re.findall(r'download="\w+-out-([\w.]+)" href="data:[^,]+,([^"]+)"', html)
    assert [file for file, _ in saved] == FILES[name]
    for file, content in saved:
        assert base64.b64decode(content) in [path.read_bytes() for path in released.rglob(file)]


def test_figures_say_their_numbers_in_words(released):
    records = read_records("released")
    metrics = metrics_of(released / "evaluation")
    (_, wrong), _ = metrics["resnet50"]["confusion"]
    confusion = dashboard_figures.section_html("confusion", records)
    assert re.search(rf'alt="Confusion matrix of ResNet-50: [^"]*called FAKE {wrong};', confusion)
    ranking = dashboard_figures.section_html("ranking", records)
    assert f"ResNet-50 {metrics['resnet50']['roc_auc']:.4f}" in ranking
    calibrated = text(dashboard_figures.section_html("calibration", records))
    table = pd.read_csv(released / "evaluation" / "calibration.csv", index_col="model")
    after = f"{table.loc['resnet50', 'ece_after']:.4f}"
    assert re.search(rf"ResNet-50 0\.7000 [\d.]+ {after}", calibrated)
    cost = text(dashboard_figures.section_html("cost", records))
    f1 = f"{metrics['resnet50']['f1']:.4f}"
    assert f"ResNet-50 {f1} 2 min – 123,456 2.0 MB – –" in cost
    changed = text(dashboard_figures.section_html("changed", records))
    assert "Measured on 60 test images, flips and curves on 40. A star" in changed


def test_a_large_file_is_named_and_not_put_into_the_page(released, monkeypatch):
    monkeypatch.setattr("cifake_lib.dashboard_model_tables.LARGEST", 2000)
    html = dashboard_figures.section_html("calibration", read_records("released"))
    assert re.search(r"predictions.csv \(0.0 MB, in the run's folder\)", html)
    assert 'download="evaluation-out-predictions.csv"' not in html
    assert 'download="evaluation-out-calibration.csv"' in html


def test_without_a_robustness_run_the_conditions_and_their_curves_remain(released):
    shutil.rmtree(released / "robustness")
    html = dashboard_figures.section_html("changed", read_records("released"))
    assert html.count("<img") == 2 and "How often being sent" not in html


def test_images_without_an_object_class_get_a_sentence(released):
    folder = released / "evaluation"
    table = pd.read_csv(folder / "object_classes.csv").head(0)
    table.to_csv(folder / "object_classes.csv", index=False)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["object_classes.csv"] = runs.file_hash(folder / "object_classes.csv")
    (folder / "manifest.json").write_text(json.dumps(manifest))
    html = dashboard_figures.section_html("object_classes", read_records("released"))
    assert "do not say what they show" in html and "<img" not in html


# --- another set of runs ------------------------------------------------------------------------


def test_what_was_trained_here_is_shown_beside_the_released_models(trained, drawn):
    tab = open_tab()
    assert [label for label, _ in tab._choice.options] == [
        "Released only",
        "Released and mine (2026-02-03)",
    ]
    tab._choice.value = 1
    page = tab._top.value
    assert rows(page) == [
        (key, title) for key in ALL for title in ("Released", "mine (2026-02-03)")
    ]
    own = metrics_of(trained / "evaluation" / "mine")["resnet50"]["accuracy"]
    row = re.search(r'<tr data-model="resnet50" data-set="mine.*?</tr>', page, re.S)[0]
    assert f'data-metric="accuracy">{own:.3f}' in row and "ResNet-50 mine (2026-02-03)" in text(row)
    assert "From run mine" in text(page) and "From run out" in text(page)
    shown = opened(tab, "confusion")
    assert re.findall(r"<h2>(.*?)</h2>", shown) == ["Released", "mine (2026-02-03)"]
    assert re.search("confusion of out.*confusion of mine", shown)
    tab._choice.value = 0
    assert "mine" not in tab._top.value and list(tab.sets) == ["Released"]


def test_the_page_says_whether_both_saw_the_same_images(trained, drawn):
    tab = open_tab()
    tab.on_choice(1)
    assert "(the same images)" in tab._top.value
    manifest = trained / "evaluation" / "mine" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"abc"', '"other"'))
    tab = open_tab()
    tab.on_choice(1)
    assert "(other images, so mind the intervals)" in tab._top.value


def test_open_sections_stay_open_and_show_the_new_choice(trained, drawn):
    tab = open_tab()
    opened(tab, "cost")
    old = section(tab, "cost")
    tab.on_choice(1)
    assert section(tab, "cost").is_open and not section(tab, "ranking").is_open
    assert "cost of mine" in section(tab, "cost").html
    assert old.comm is None  # Nothing of it is left in the page's memory.


def test_a_section_that_cannot_be_drawn_for_one_set_is_drawn_for_the_other(
    trained, monkeypatch, caplog
):
    def section_html(self, name, records):
        if records.evaluation.run_id == "mine":
            raise KeyError("column of tomorrow")
        return "<i>drawn</i>"

    monkeypatch.setattr(Drawing, "section_html", section_html)
    tab = open_tab()
    tab.on_choice(1)
    shown = opened(tab, "cost")
    assert "<i>drawn</i>" in shown and "could not be made of the files" in shown
    assert "column of tomorrow" in caplog.text and "column of tomorrow" not in shown


def test_newest_first_and_damaged_ones_left_out_with_a_line_in_the_log(trained, drawn, caplog):
    write_set(trained, "newer", seed=2, day="2026-03-04")
    for name, content in (("cut", "{"), ("list", "[]"), ("empty", "{}")):
        (trained / "evaluation" / name).mkdir()
        (trained / "evaluation" / name / "manifest.json").write_text(content)
    broken = trained / "evaluation" / "changed"
    shutil.copytree(trained / "evaluation" / "mine", broken)
    (broken / "metrics.json").write_text("{}")
    with caplog.at_level(logging.WARNING):
        found = other_evaluations(read_records("released"))
    assert [run.run_id for run in found] == ["newer", "mine"]
    for name in ("cut", "list", "empty", "changed"):
        assert f"evaluation/{name} is left out" in caplog.text


def test_the_run_that_was_released_is_not_offered_beside_itself(released, folders, drawn):
    shutil.copytree(released / "evaluation", folders[1] / "evaluation" / "out")
    tab = open_tab()
    assert tab._choice.layout.display == "none"
    assert "make pipeline" in tab._hint.value


def test_a_set_is_made_of_the_very_runs_that_its_evaluation_measured(trained):
    write_set(trained, "newer", seed=2, day="2026-03-04")
    shutil.rmtree(trained / "resnet50" / "mine")
    (trained / "baseline_cnn" / "newer" / "manifest.json").write_text("{")
    (mine,) = (r for r in other_evaluations(read_records("released")) if r.run_id == "mine")
    records = records_of(mine)
    assert {key: run.run_id for key, run in records.models.items()} == {"baseline_cnn": "mine"}
    assert records.robustness.run_id == "mine"


def test_a_set_may_contain_released_models(trained):
    folder = trained / "evaluation" / "mine"
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["upstream"]["resnet50"] = "out"
    (folder / "manifest.json").write_text(json.dumps(manifest))
    records = records_of(other_evaluations(read_records("released"))[0])
    assert records.models["resnet50"].folder.parent.name == "released"
    assert records.robustness is None


def test_where_models_come_from_names_runs_that_are_gone_or_were_replaced(released, drawn):
    shutil.rmtree(released / "resnet50")
    manifest = released / "baseline_cnn" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"out"', '"newer"'))
    shown = text(opened(open_tab(), "origin"))
    assert "ResNet-50: the folder of its run out is gone." in shown
    assert "Baseline CNN: the figures here belong to run out, not this one." in shown
    assert "Robustness out sample, 40 changed test images" in shown


def test_what_manifests_say_cannot_inject_markup(folders, monkeypatch):
    in_this_process = staticmethod(dashboard_figures.section_html)
    monkeypatch.setattr(Drawing, "section_html", in_this_process)
    evil = '<img src=x onerror="alert(1)">'
    write_set(folders[0], "out", notes=[evil])
    data = {"name": evil, "counts": {"train": {"REAL": 1}, "test": {"REAL": 1}}}
    write_set(folders[1], "mine", data=data)
    for path in folders[1].rglob("manifest.json"):
        content = json.loads(path.read_text())
        content["run_id"] = evil
        content["upstream"] = dict.fromkeys(content["upstream"], evil)
        path.write_text(json.dumps(content))
    tab = open_tab()
    tab.on_choice(1)
    opened(tab, "confusion")
    page = tab._top.value + opened(tab, "origin") + section(tab, "confusion").html
    assert page.count("<img") == page.count('<img src="data:')
    assert page.count("&lt;img src=x onerror=") > 8


# --- the process that draws ---------------------------------------------------------------------


def test_the_kernel_imports_no_drawing_library(released):
    script = """
import sys
from cifake_lib.dashboard_model_sets import ModelsTab
from cifake_lib.dashboard_models import read_records

if __name__ == "__main__":
    tab = ModelsTab(print)
    records = read_records("released")
    tab.open(records)
    assert tab._drawing.section_html("cost", records).count("<img") == 1
    heavy = ("matplotlib", "seaborn", "sklearn", "scipy", "tensorflow", "keras")
    print([name for name in heavy if name in sys.modules])
"""
    path = released.parent / "visit.py"
    path.write_text(script)
    done = subprocess.run([sys.executable, path], capture_output=True, text=True, timeout=120)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_the_drawing_process_is_kept_while_used_and_ends_when_idle(released, monkeypatch):
    monkeypatch.setattr("cifake_lib.dashboard_drawing.IDLE", 1)
    drawing, records = Drawing(), read_records("released")
    drawing.section_html("training", records)
    (process,) = drawing._pool._processes.values()
    drawing.section_html("cost", records)
    assert list(drawing._pool._processes) == [process.pid]
    # Not `join`: the pool's own thread waits for the process too, and one of both learns nothing.
    assert connection.wait([process.sentinel], timeout=20)
    (released / "evaluation" / "metrics.json").write_text("{}")
    with pytest.raises(runs.RunDamaged, match="metrics.json is damaged"):
        drawing.section_html("cost", records)
    drawing.stop()


def test_a_killed_drawing_process_is_replaced(released):
    drawing, records = Drawing(), read_records("released")
    drawing.section_html("training", records)
    (pid,) = drawing._pool._processes
    os.kill(pid, signal.SIGTERM)
    time.sleep(0.5)
    with pytest.raises(Exception, match="terminated abruptly"):
        drawing.section_html("training", records)
    assert "<img" in drawing.section_html("training", records)
    drawing.stop()
