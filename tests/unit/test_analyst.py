"""What is said of an image beyond the scores, and on the page what a visitor can do with it."""

import base64
import csv
import io
import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from cifake_lib import dashboard_exports, runs
from cifake_lib.analyst import Analyst, Picture
from cifake_lib.dashboard import Dashboard
from cifake_lib.dashboard_threshold import PREVALENCES
from cifake_lib.detector import ModelVerdict, Verdict
from cifake_lib.scope import Scope


class Brightness:
    """A network that sees the mean brightness and its spread."""

    def look(self, images):
        flat = images.reshape(len(images), -1).astype(np.float64)
        return np.column_stack([flat.mean(axis=1), flat.std(axis=1)]), None


class Redness:
    """A detector for which red pictures are FAKE: the redder, the surer."""

    input_size = 32
    crop = "centre"
    missing = {}

    def __init__(self, run_id="one"):
        facts = {
            "run_id": run_id,
            "temperature": 1.0,
            "model": {"input_size": 32, "arguments": {"image_size": 32}},
            "data": {"name": "sample", "counts": {"train": {"REAL": 5, "FAKE": 5}}},
            "files": {"model.weights.h5": "0" * 64},
        }
        self.runs = {"resnet50": runs.Run("resnet50", None, facts)}
        self.models = {"resnet50": Brightness()}

    def predict(self, images):
        reds = [float(np.asarray(image)[..., 0].mean()) / 255 for image in images]
        return [Verdict(red, {"resnet50": ModelVerdict(red)}) for red in reds]


def photographs(count, seed=0):
    noise = np.random.default_rng(seed).normal(128, 30, (count, 32, 32, 3))
    return noise.clip(0, 255).astype(np.uint8)


def write_run(folder, stage, files, **manifest):
    folder = folder / stage
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    hashes = {path.name: runs.file_hash(path) for path in folder.iterdir()}
    common = {"run_id": stage, "started_utc": "", "finished_utc": "2026-01-02", "notes": []}
    common["data"] = {"name": "sample", "counts": {"test": {"REAL": 250, "FAKE": 250}}}
    runs.write_json(folder / "manifest.json", {**common, "files": hashes, **manifest})
    return runs.find_run(stage, released=True)


@pytest.fixture
def evaluation(monkeypatch, tmp_path):
    monkeypatch.setenv("CIFAKE_RELEASED", str(tmp_path))
    thresholds = {"balanced": 0.5, "fpr_1": 0.9}
    rate = {"true_positive_rate_interval": [0.8, 0.9], "true_positive_rate": 0.85}
    alarms = {"balanced": 0.1, "fpr_1": 0.01}
    points = {name: rate | {"false_positive_rate": alarms[name]} for name in thresholds}
    metrics = {
        "confusion": [[225, 25], [37, 213]],
        "operating_points": points,
        "abstention": {"certain_from": 0.7, "coverage": 0.9, "accuracy": 0.99},
    }
    score = np.linspace(0.001, 0.999, 500)
    rows = [f"{int(p > 0.5)},{p:.6f}" for p in score]
    files = {
        "metrics.json": json.dumps({"count": 500, "models": {"ensemble": metrics}}),
        "predictions.csv": "\n".join(["label,ensemble_p_fake", *rows, ""]),
    }
    ensemble = {"thresholds": thresholds, "temperature": 1.0}
    upstream = {"resnet50": "one"}
    return write_run(tmp_path, "evaluation", files, ensemble=ensemble, upstream=upstream)


@pytest.fixture
def robustness(evaluation, tmp_path):
    fitted = Scope.fit(
        Brightness(), (photographs(300), np.arange(300) % 2), photographs(200, seed=1)
    )
    columns = "kind,images,outside,accuracy_inside,accuracy_outside"
    rows = ["known,100,0.05,0.98,0.96", "blur,100,0.8,0.9,0.6", "stranger: text,100,1,nan,nan"]
    (tmp_path / "robustness").mkdir()
    fitted.save(tmp_path / "scope.npz")
    (tmp_path / "robustness").rmdir()
    run = write_run(
        tmp_path,
        "robustness",
        {"scope.csv": "\n".join([columns, *rows, ""])},
        upstream={"resnet50": "one"},
    )
    (tmp_path / "scope.npz").rename(run.folder / "scope.npz")
    run.manifest["files"]["scope.npz"] = runs.file_hash(run.folder / "scope.npz")
    runs.write_json(run.folder / "manifest.json", run.manifest)
    return runs.find_run("robustness", released=True)


def judged(analyst, image, **options):
    (analysis,) = analyst.examine([Picture(image, b"file", "a.png")], **options)
    return analysis


def ask(analyst, red, **options):
    pixels = photographs(1, seed=7)[0]
    pixels[..., 0] = red
    return judged(analyst, Image.fromarray(pixels), **options)


def test_images_together_get_what_they_get_alone(evaluation):
    analyst = Analyst(Redness(), evaluation)
    pictures = [Picture(Image.new("RGB", (9, 9), (red, 0, 0)), b"", str(red)) for red in (9, 250)]
    together = analyst.examine(pictures)
    assert [analysis.record.name for analysis in together] == ["9", "250"]
    assert [a.record.verdict for a in together] == ["REAL", "FAKE"]
    assert together[1].record.p_fake == judged(analyst, pictures[1].image).record.p_fake
    assert analyst.examine([]) == []


def test_a_verdict_says_what_its_score_came_to_on_test_images(evaluation):
    analysis = ask(Analyst(Redness(), evaluation), 250)
    assert analysis.record.verdict == "FAKE" and analysis.outside is None
    assert "Of 100 test images with a score like this" in analysis.record.meaning


def test_a_score_in_the_band_is_uncertain(evaluation):
    record = ask(Analyst(Redness(), evaluation), 140).record
    assert record.verdict == "UNCERTAIN" and "not sure enough" in record.reason


def test_a_strict_threshold_is_applied_afterwards(evaluation):
    analyst = Analyst(Redness(), evaluation)
    analysis = ask(analyst, 200)
    assert analysis.record.verdict == "FAKE"
    strict = analyst.at_threshold(analysis, "fpr_1")
    assert strict.record.verdict == "UNCERTAIN" and strict.record.threshold == 0.9
    assert analyst.at_threshold(strict, "balanced").record == analysis.record


def test_what_was_measured_with_other_models_is_not_used(evaluation, robustness):
    analyst = Analyst(Redness("another"), evaluation, robustness)
    analysis = ask(analyst, 250)
    assert analyst.points is None and analysis.outside is None
    assert analysis.record.meaning == "" and analysis.record.verdict == "FAKE"


def test_an_image_like_those_of_training_gets_a_verdict(evaluation, robustness):
    analyst = Analyst(Redness(), evaluation, robustness)
    known = Image.fromarray(photographs(1, seed=5)[0])
    assert judged(analyst, known).outside is False


@pytest.mark.parametrize(
    "image",
    [Image.new("RGB", (32, 32), "red"), Image.new("RGB", (900, 600), "red")],
    ids=["flat", "large"],
)
def test_an_image_of_another_kind_gets_a_reason_and_no_stamp(evaluation, robustness, image):
    analysis = judged(Analyst(Redness(), evaluation, robustness), image)
    assert analysis.outside and analysis.record.verdict == "UNCERTAIN"
    assert "outside what these models know" in analysis.record.reason
    # Blurred test images, 80 of them refused; those of no known class do not count.
    assert "they were right 60 % of the time" in analysis.record.reason
    assert analysis.record.meaning == ""


def test_a_photograph_is_no_stranger_to_models_that_were_trained_on_photographs(
    evaluation, robustness, monkeypatch
):
    fitted = Scope.load(robustness.folder / "scope.npz")
    trained = replace(fitted, largest=2000)
    photograph = Image.new("RGB", (3000, 2000), "red")
    monkeypatch.setattr(Scope, "load", lambda path: trained)
    flat = judged(Analyst(Redness(), evaluation, robustness), photograph)
    # It is flat, which is strange at any size; but nobody says that they fail on photographs.
    assert flat.outside and "ordinary size" not in flat.record.reason
    monkeypatch.setattr(Scope, "outside", lambda scope, model, images: np.zeros(len(images), bool))
    assert judged(Analyst(Redness(), evaluation, robustness), photograph).outside is False
    larger = Image.new("RGB", (4001, 2000), "red")
    assert judged(Analyst(Redness(), evaluation, robustness), larger).outside


def test_a_model_of_photographs_has_a_check_of_its_own_for_any_size(
    robustness, tmp_path, monkeypatch
):
    run = write_run(tmp_path, "photo_resnet50", {})
    shutil.copy(robustness.folder / "scope.npz", run.folder / "scope.npz")
    run.manifest["files"]["scope.npz"] = runs.file_hash(run.folder / "scope.npz")
    run.manifest["model"] = {"input_size": 32, "photo_views": True}
    detector = Redness()
    detector.runs, detector.models = {"photo_resnet50": run}, {"photo_resnet50": Brightness()}
    own = Analyst(detector)
    flat = judged(own, Image.new("RGB", (3000, 2000), "red"))
    assert flat.outside and flat.record.reason == "This image is outside what these models know."
    monkeypatch.setattr(Scope, "outside", lambda scope, model, images: np.zeros(len(images), bool))
    assert judged(own, Image.new("RGB", (4001, 2000), "red")).outside is False


def test_a_changed_file_of_the_evaluation_leaves_the_plain_verdict(evaluation, robustness):
    (evaluation.folder / "metrics.json").write_text("{}")
    (robustness.folder / "scope.npz").write_bytes(b"")
    analysis = ask(Analyst(Redness(), evaluation, robustness), 250)
    assert analysis.record.verdict == "FAKE" and analysis.outside is None


def test_damaged_tables_leave_the_verdict_without_its_figures(evaluation, robustness):
    (evaluation.folder / "predictions.csv").write_text("")
    (robustness.folder / "scope.csv").write_text("")
    analyst = Analyst(Redness(), evaluation, robustness)
    large = judged(analyst, Image.new("RGB", (900, 600), "red"))
    assert large.outside and large.record.reason == "This image is outside what these models know."
    known = judged(analyst, Image.fromarray(photographs(1, seed=5)[0]))
    assert known.outside is False and known.record.meaning == ""


# ----------------------------------------------------------------------------------------- page
def upload(name, colour):
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32), colour).save(buffer, "PNG")
    return name, buffer.getvalue()


def give(page, name, content):
    page.analyse.on_files([(name, len(content), content)])
    page.wait()


@pytest.fixture
def page(evaluation, tmp_path):
    learnt = {"name": "sample", "counts": {"train": {"REAL": 5, "FAKE": 5}}}
    write_run(tmp_path, "resnet50", {}, data=learnt, model={"input_size": 32})
    return Dashboard(detector=Redness())


def test_the_page_says_what_a_score_means_and_offers_everything_to_take_along(page):
    give(page, *upload("red.png", (250, 0, 0)))
    card = page.analyse._card.value
    assert "Of 100 test images with a score like this" in card
    assert 'download="red-evidence.html"' in card
    sheet = base64.b64decode(
        re.search(r"text/html;charset=utf-8;base64,([^\"]+)", card)[1]
    ).decode()
    assert "What the file says about itself" in sheet and "SHA-256" in sheet


def saved(page, name):
    """What a visitor gets who clicks on a link."""
    links = page.analyse._saves
    if dashboard_exports.anywidget is None:
        found = re.search(rf'download="{name}" href="data:[^,]+,([^"]+)"', links.view.value)
        return base64.b64decode(found[1]).decode("utf-8-sig")
    sent = []
    links.view.send = sent.append
    links.on_message(name)
    (answer,) = sent
    assert answer["name"] == name
    return answer["text"].removeprefix("\ufeff")


@pytest.fixture(params=["anywidget", "core widgets"])
def links(request, monkeypatch):
    if request.param == "core widgets":
        monkeypatch.setattr(dashboard_exports, "anywidget", None)
    elif dashboard_exports.anywidget is None:
        pytest.skip("no anywidget")


def test_every_file_of_the_visit_can_be_saved_as_it_came(links, page):
    assert page.analyse._saves.view.layout.display == "none"
    give(page, *upload("red.png", (250, 0, 0)))
    assert page.analyse._saves.view.layout.display is None
    give(page, "letter.txt", b"Dear reader")
    give(page, *upload("blue.png", (0, 0, 250)))
    names = ["red.png", "blue.png", "letter.txt"]
    rows = list(csv.DictReader(io.StringIO(saved(page, "verdicts.csv"))))
    assert [row["name"] for row in rows] == names
    assert [row["verdict"] for row in rows] == ["FAKE", "REAL", ""]
    document = json.loads(saved(page, "verdicts.json"))
    assert [image["name"] for image in document["images"]] == names
    page.analyse.on_clear()
    page.wait()
    assert page.analyse.visit.refused == []
    assert page.analyse._saves.view.layout.display == "none"


def test_a_file_that_cannot_be_made_gets_a_sentence(page):
    if dashboard_exports.anywidget is None:
        pytest.skip("no anywidget")
    page.analyse._saves.on_message("passwords.txt")
    assert "Something went wrong while making the file" in page.analyse.messages.sentences[0]


def test_another_threshold_decides_anew_on_every_image(page):
    give(page, *upload("red.png", (200, 0, 0)))
    give(page, *upload("blue.png", (0, 0, 250)))
    assert page.analyse._summary.value.count("1 REAL, 1 FAKE") == 1
    page.analyse._threshold._choice.value = "fpr_1"
    page.wait()
    assert "1 REAL, 0 FAKE, 1 UNCERTAIN" in page.analyse._summary.value
    page.analyse.on_open(page.analyse.visit.results[1])
    page.wait()
    assert 'data-label="UNCERTAIN"' in page.analyse._card.value
    assert "found 85.0 % of the FAKE" in page.analyse._threshold._said.value


def test_rare_fakes_change_what_a_score_is_worth(page):
    assert page.analyse._threshold._choice.value == "balanced"
    give(page, *upload("red.png", (204, 0, 0)))
    assert "Where" not in page.analyse._card.value
    page.analyse._threshold._prevalence.value = PREVALENCES.index(0.01)
    page.wait()
    # Odds of 4 to 1 in a world where one in a hundred is fake: 4 to 99.
    assert "Where 1 % of the images are fake, its probability is 4 %." in (page.analyse._card.value)
    assert "an image called FAKE is fake in 8 % of cases" in page.analyse._threshold._said.value


def test_without_measurements_there_is_nothing_to_choose(page):
    page = Dashboard(detector=Redness("another"))
    assert page.analyse._threshold.view.children == ()
    give(page, *upload("red.png", (250, 0, 0)))
    assert "FAKE" in page.analyse._card.value
