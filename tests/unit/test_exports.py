"""What is taken along: tables that run nothing, records that say all, sheets that need nothing."""

import csv
import hashlib
import io
import json
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from PIL import Image

from cifake_lib import evidence, exports, runs
from cifake_lib.decisions import Abstention, OperatingPoint, decide
from cifake_lib.detector import ModelVerdict, Verdict
from cifake_lib.evidence import Picture, evidence_sheet
from cifake_lib.exports import Examined, Provenance

POINT = OperatingPoint("fpr_1", 0.9, 0.8, (0.75, 0.85), 0.01, (0.005, 0.02))
DOT = "data:image/png;base64,iVBORw0KGgo="
NASTY = "<img src=x onerror=alert(1)>\"'&.png"
KEYS = ("baseline_cnn", "tuned_cnn")


def jpeg():
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30)).save(buffer, "JPEG")
    return buffer.getvalue()


def judged(p_fake=0.97, name="cat.jpg", abstention=None, meaning=""):
    return Examined.judged(
        jpeg(),
        name=name,
        size=(40, 30),
        verdict=Verdict(p_fake, {"baseline_cnn": ModelVerdict(0.2), "tuned_cnn": ModelVerdict(1)}),
        decision=decide(p_fake, POINT, abstention=abstention),
        meaning=meaning,
    )


def refused(name="notes.txt"):
    return Examined.refused(b"hello", name=name, error=f"{name} is not an image.")


def model_run(key):
    manifest = {
        "run_id": f"{key}-1",
        "model": {"display_name": key.upper(), "input_size": 32},
        "data": {"name": "sample", "counts": {"train": {"REAL": 1800, "FAKE": 1700}}},
        "temperature": 1.25,
        "files": {runs.WEIGHTS: hashlib.sha256(key.encode()).hexdigest()},
    }
    return runs.Run(key, None, manifest)


def evaluation_run(upstream=None, **ensemble):
    ensemble = {
        "temperature": 0.8,
        "thresholds": {"balanced": 0.5, "fpr_1": 0.9},
        **ensemble,
    }
    upstream = upstream or {key: f"{key}-1" for key in KEYS}
    manifest = {"run_id": "compared", "ensemble": ensemble, "upstream": upstream}
    return runs.Run("evaluation", None, manifest)


MODELS = {key: model_run(key) for key in KEYS}


@pytest.fixture
def provenance():
    return Provenance.from_runs(MODELS, evaluation_run(weights={KEYS[0]: 0.3, KEYS[1]: 0.7}))


def rows_of(table):
    return list(csv.DictReader(io.StringIO(table.decode("utf-8-sig"), newline="")))


# --- records ---------------------------------------------------------------------------------


def test_a_record_says_what_the_file_was_and_what_was_said():
    record = judged(meaning="Of 100 …")
    assert record.sha256 == hashlib.sha256(jpeg()).hexdigest()
    assert (record.size_bytes, record.width, record.height) == (len(jpeg()), 40, 30)
    assert record.format == "JPEG"
    assert (record.verdict, record.p_fake) == ("FAKE", 0.97)
    assert record.models == {"baseline_cnn": 0.2, "tuned_cnn": 1}
    assert (record.threshold_name, record.threshold, record.certain_from) == ("fpr_1", 0.9, None)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", record.examined_utc)


def test_a_refused_file_keeps_its_hash_and_its_reason():
    record = refused()
    assert record.sha256 == hashlib.sha256(b"hello").hexdigest()
    assert (record.verdict, record.p_fake, record.format) == ("", None, "")
    assert record.error == "notes.txt is not an image."
    assert Examined.refused(memoryview(jpeg()[:60]), name="cut.jpg", error="cut").size_bytes == 60


# --- CSV -------------------------------------------------------------------------------------


def test_the_table_opens_as_utf_8_with_one_row_each():
    table = exports.to_csv([judged(0.123456789, "größe, „zwei“.jpg"), refused()])
    assert table.startswith(b"\xef\xbb\xbf") and table.count(b"\r\n") == 3
    first, second = rows_of(table)
    assert first["name"] == "größe, „zwei“.jpg"
    assert (first["verdict"], first["ensemble_p_fake"]) == ("REAL", "0.123457")
    assert (first["baseline_cnn_p_fake"], first["tuned_cnn_p_fake"]) == ("0.200000", "1.000000")
    assert second["verdict"] == second["ensemble_p_fake"] == second["width"] == ""
    assert second["error"] == "notes.txt is not an image."


@pytest.mark.parametrize(
    "start", ["=", "+", "-", "@", "\t", "\r", "\n", "\0", "＝", "＋", "－", "＠", "  =", "\u00a0@"]
)
def test_a_name_cannot_become_a_formula(start):
    name = f'{start}HYPERLINK("http://example.org";"x").png'
    (row,) = rows_of(exports.to_csv([refused(name)]))
    assert row["name"] == f"'{name}"
    assert row["error"] == f"'{name} is not an image."


def test_quotes_separators_and_line_breaks_stay_in_their_cell():
    names = ['a "quoted", name;.png', "two\nlines.png", "return\rhere.png", "plain=1+1.png", ""]
    table = exports.to_csv([judged(name=name) for name in names])
    assert [row["name"] for row in rows_of(table)] == names


def test_a_name_that_is_no_text_does_not_stop_the_table():
    assert rows_of(exports.to_csv([judged(name="half \ud83d.png")]))[0]["name"] == "half ?.png"


def test_no_records_make_a_table_with_headings_only():
    assert exports.to_csv([]).decode("utf-8-sig").startswith("name,verdict,ensemble_p_fake")
    assert rows_of(exports.to_csv([])) == []


# --- provenance and JSON ---------------------------------------------------------------------


def test_provenance_names_runs_weights_and_temperatures(provenance):
    model = provenance.models["tuned_cnn"]
    assert (model.run_id, model.temperature, model.weight) == ("tuned_cnn-1", 1.25, 0.7)
    assert model.weights_sha256 == hashlib.sha256(b"tuned_cnn").hexdigest()
    assert (model.data, model.train_images) == ("sample", 3500)
    assert (provenance.evaluation, provenance.ensemble_temperature) == ("compared", 0.8)
    assert provenance.thresholds == {"balanced": 0.5, "fpr_1": 0.9}
    assert {"python", "numpy", "pillow"} <= set(provenance.versions)
    assert any("32 × 32" in limit for limit in provenance.limits)


def test_models_without_weights_count_alike():
    known = Provenance.from_runs(MODELS, evaluation_run())
    assert [model.weight for model in known.models.values()] == [0.5, 0.5]
    assert known.evaluation == "compared"


@pytest.mark.parametrize(
    "evaluation", [None, evaluation_run({"baseline_cnn": "another", "tuned_cnn": "x"})]
)
def test_an_evaluation_of_other_models_is_not_used(evaluation):
    known = Provenance.from_runs(MODELS, evaluation)
    assert (known.evaluation, known.ensemble_temperature) == ("", 1)
    assert known.thresholds == {"balanced": 0.5}
    assert [model.weight for model in known.models.values()] == [0.5, 0.5]
    assert "no evaluation has measured" in evidence_sheet(judged(), provenance=known)


def test_a_model_of_photographs_brings_its_calibration_and_limits_of_its_own(provenance):
    run = model_run("photo_resnet50")
    run.manifest["thresholds"] = {"balanced": 0.5, "fpr_5": 0.8}
    photographs = Provenance.from_runs({"photo_resnet50": run})
    assert photographs.evaluation == "photo_resnet50-1"
    assert photographs.thresholds == {"balanced": 0.5, "fpr_5": 0.8}
    assert any("newer than all of them may pass" in limit for limit in photographs.limits)
    assert not any("CIFAR-10" in limit for limit in photographs.limits)
    both = replace(provenance, photographs=photographs)
    written = json.loads(exports.to_json([judged()], provenance=both))["provenance"]
    assert written["photographs"]["thresholds"]["fpr_5"] == 0.8
    assert written["thresholds"]["fpr_1"] == 0.9
    # Whoever reads the file learns the limits of both kinds, each once.
    assert set(both.limits) == {*provenance.limits, *photographs.limits}
    assert len(both.limits) == len(set(both.limits))


def test_json_holds_everything(provenance):
    written = json.loads(exports.to_json([judged(), refused(NASTY)], provenance=provenance))
    assert (written["schema"], written["positive_class"]) == (exports.SCHEMA, "FAKE")
    assert "not proof" in written["not_proof"] and written["limits"] == provenance.limits
    assert written["provenance"]["models"]["baseline_cnn"]["weight"] == 0.3
    first, second = written["images"]
    assert first["models"] == {"baseline_cnn": 0.2, "tuned_cnn": 1}
    assert (first["sha256"], first["threshold"]) == (judged().sha256, 0.9)
    assert second["name"] == NASTY and second["p_fake"] is None
    json.loads(exports.to_json([judged(name="half \ud83d.png")], provenance=provenance))


def test_released_runs_can_be_exported():
    models = {key: runs.find_run(key, released=True) for key in runs.MODEL_STAGES}
    known = Provenance.from_runs(models, runs.find_run("evaluation", released=True))
    assert sum(model.weight for model in known.models.values()) == pytest.approx(1)
    assert all(len(model.weights_sha256) == 64 for model in known.models.values())


# --- the sheet -------------------------------------------------------------------------------


class Page(HTMLParser):
    """Tags, attributes and text of a page; fails on a tag that closes what is not open."""

    VOID = ("meta", "img", "br")

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.words = [], [], []
        self.feed(html)
        assert self.open == []
        self.text = re.sub(r"\s+", " ", " ".join(self.words)).replace("\u00a0", " ")

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "title"):
            self.words.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.mark.parametrize(
    ("p_fake", "abstention", "word", "says", "probability"),
    [
        (0.97, None, "FAKE", "work of an image generator", "97 %"),
        (0.03, None, "REAL", "for a photograph", "3 %"),
        (0.6, Abstention(0.9, 0.8, 0.99), "UNCERTAIN", "cannot tell", "60 %"),
        (0.99999, None, "FAKE", "generator", "over 99 % (calibrated score over 0.9999)"),
        (0.00001, None, "REAL", "photograph", "under 1 % (calibrated score under 0.0001)"),
    ],
)
def test_the_verdict_is_told_by_word_shape_and_colour(
    provenance, p_fake, abstention, word, says, probability
):
    html = evidence_sheet(judged(p_fake, abstention=abstention), provenance=provenance)
    page = Page(html)
    assert f'class="hero {word}"' in html and evidence.ICONS[word] in html
    assert says in page.text
    assert f"Probability of FAKE, all models together: {probability}" in page.text
    assert len(set(evidence.ICONS.values())) == len(evidence.ICONS)


def test_the_sheet_holds_what_a_reader_needs(provenance):
    record = judged(meaning="Of 100 test images with a score like this, 96 are FAKE.")
    text = Page(evidence_sheet(record, provenance=provenance)).text
    for expected in (
        *(record.name, record.sha256, "40 × 30 pixels, JPEG", f"{len(jpeg())} bytes"),
        *("BASELINE_CNN REAL 20 %", "TUNED_CNN FAKE over 99 %", "All together FAKE 97 %"),
        *("tuned_cnn-1", provenance.models["tuned_cnn"].weights_sha256, "temperature 1.25"),
        *("weight 0.700", "evaluation compared", "1 % false alarms 0.9", "numpy"),
        *(record.meaning, "threshold of 0.9 (1 % false alarms)", "hint, not proof"),
        *(record.examined_utc[:10], "UTC", *provenance.limits),
    ):
        assert expected in text


def test_the_grey_band_is_where_the_answer_is_uncertain(provenance):
    def band(**facts):
        html = evidence_sheet(replace(judged(), **facts), provenance=provenance)
        left, width = re.search(r'"band" style="left:([\d.]+)%;width:([\d.]+)%', html).groups()
        return float(left), float(left) + float(width)

    assert band(threshold=0.5, certain_from=0.8) == pytest.approx((20, 80))
    assert band(threshold=0.95, certain_from=0.8) == pytest.approx((20, 95))
    assert band(threshold=0.1, certain_from=0.8) == pytest.approx((10, 80))
    assert band(threshold=0.5, certain_from=1.0000001) == pytest.approx((0, 100))
    text = Page(evidence_sheet(judged(), provenance=provenance)).text
    assert "grey band" not in text


def test_the_sheet_needs_nothing_and_runs_nothing(provenance):
    pictures = [Picture(DOT, "original", "the picture"), Picture(DOT, "seen", "small", sharp=True)]
    html = evidence_sheet(judged(), pictures=pictures, provenance=provenance)
    page = Page(html)
    assert {"charset": "utf-8"} in page.all("meta")
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert policy in [meta.get("content") for meta in page.all("meta")]
    assert not {"script", "link", "iframe", "object", "form", "a"} & {tag for tag, _ in page.tags}
    assert not re.search(r"https?://|@import|url\(", html)
    assert [image["src"] for image in page.all("img")] == [DOT, DOT]
    assert [image["alt"] for image in page.all("img")] == ["the picture", "small"]
    assert "size:A4" in html and 'lang="en"' in html


def test_text_from_files_cannot_become_markup(provenance):
    for record in (judged(name=NASTY, meaning=NASTY), refused(NASTY)):
        html = evidence_sheet(record, pictures=[Picture(DOT, NASTY, NASTY)], provenance=provenance)
        page = Page(html)
        assert all("onerror" not in attributes for _, attributes in page.tags)
        assert len(page.all("img")) == 1 and page.all("img")[0]["alt"] == NASTY
        assert NASTY in page.text


def test_a_name_cannot_hide_what_it_is(provenance):
    # Turned around, "cat\u202egpj.exe" would read "catexe.jpg".
    text = Page(evidence_sheet(judged(name="cat\u202egpj.exe\0\ud83d"), provenance=provenance)).text
    assert "cat\\u202egpj.exe\\u0000\\ud83d" in text
    evidence_sheet(judged(name="half \ud83d"), provenance=provenance).encode("utf-8")
    assert (
        "写真 é 🙂.jpg"
        in Page(evidence_sheet(judged(name="写真 é 🙂.jpg"), provenance=provenance)).text
    )


def test_pictures_from_elsewhere_are_refused():
    for source in ("https://example.org/x.png", "x.png", "data:text/html,<b>"):
        with pytest.raises(ValueError, match="expected a data URI of an image"):
            Picture(source, "", "")


def test_further_sections_stand_before_the_limits(provenance):
    html = evidence_sheet(
        judged(), sections={"Steady & sure?": "<p>In <b>7</b> of 9.</p>"}, provenance=provenance
    )
    assert "<p>In <b>7</b> of 9.</p>" in html and "<h2>Steady &amp; sure?</h2>" in html
    assert html.index("Steady") < html.index("<h2>What this cannot tell")


def test_a_refused_file_gets_a_sheet_without_a_verdict(provenance):
    html = evidence_sheet(refused(), provenance=provenance)
    text = Page(html).text
    assert "Not examined" in text and "notes.txt is not an image." in text
    assert "Probability of FAKE" not in text and "proof" not in text
    assert refused().sha256 in text


def test_a_model_without_provenance_is_called_by_its_key(provenance):
    record = replace(judged(), models={"other": 0.7})
    assert "other FAKE 70 %" in Page(evidence_sheet(record, provenance=provenance)).text


def test_importing_it_loads_no_framework_and_no_figures():
    heavy = "{'tensorflow', 'keras', 'jax', 'matplotlib', 'ipywidgets'}"
    code = f"import sys, cifake_lib.exports; print({heavy} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "set()", result.stderr
