"""What the page says about itself: measured sentences, and cards without anything dangerous."""

import base64
import json
import re
from dataclasses import replace
from html import unescape

import pytest

from cifake_lib.dashboard_about import About, plain_words
from cifake_lib.dashboard_models import Records, limits_notice, training_notice
from cifake_lib.runs import Run, file_hash

KEYS = ("baseline_cnn", "tuned_cnn", "resnet50")
OWN = {key: f"own-{key}" for key in KEYS}
PNG = b"\x89PNG\r\n\x1a\n and so on"
CARD = """# Model card: <Tuned>

<!-- Made from run files; edits are lost. -->

## What it is

A network & more: see the [data card](../data/DATA_CARD.md), [MIT licence](../../../LICENSE),
[data/README.md](../../../data/README.md), [arXiv](https://arxiv.org/abs/1?a=1&b=2) and
[a trap](javascript:alert(1)).

![Its curves](figures/curves.png)
![Elsewhere](https://example.org/spy.png)
![Outside](../../../secret.png)
![Unlisted](figures/unlisted.png)

| measure  | value |
| -------- | ----- |
| Accuracy | 97.5% |

<script>alert("block")</script>

Inline <img src=x onerror=alert(1)> markup, `<b>code</b>`.

```
python -m cifake_lib.pipeline --only "<x>"
```
"""


def write_run(folder, stage, files=None, **manifest):
    folder = folder / stage
    folder.mkdir(parents=True)
    for name, content in (files or {}).items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    manifest = {
        "run_id": OWN.get(stage, stage),
        "data": {"name": "cifake-train", "split_hash": "5911"},
        "model": {"input_size": 32},
        "files": {name: file_hash(folder / name) for name in files or {}},
        **manifest,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return Run(stage, folder, manifest)


@pytest.fixture
def released(tmp_path, monkeypatch):
    monkeypatch.setenv("CIFAKE_RELEASED", str(tmp_path))
    return tmp_path


@pytest.fixture
def records(released):
    models = {key: write_run(released, key) for key in KEYS}
    ensemble = {
        "accuracy": 0.875,
        "confusion": [[890, 110], [140, 860]],
        "intervals": {"accuracy": [0.86, 0.89]},
    }
    metrics = json.dumps({"models": {"ensemble": ensemble}}).encode()
    evaluation = write_run(released, "evaluation", {"metrics.json": metrics}, upstream=OWN)
    origins = (
        "origin,class,model,images,called_fake\n"
        "known,FAKE,ensemble,1000,0.9\n"
        "autoencoder,FAKE,ensemble,300,0.02\n"
        "components,FAKE,ensemble,100,0.06\n"
        "autoencoder,FAKE,resnet50,300,0.8\n"
        "photographs,REAL,ensemble,300,0.7\n"
    )
    robustness = write_run(
        released,
        "robustness",
        {"origins.csv": origins.encode()},
        upstream=OWN,
        metrics={"corrupted_accuracy": 0.8125, "flipped": 0.0625},
    )
    return Records(models, evaluation, robustness)


def shown(records):
    about = About()
    about.open(records)
    return about.view.value


def text(html):
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]*>", "", html)))


def test_it_begins_with_five_sentences_with_measured_numbers(records):
    about = About()
    assert about.view.value == ""
    about.open(records)
    first, _, rest = about.view.value.partition("</ol>")
    assert "What a verdict is and is not" in first and "<details" not in first
    sentences = [text(item) for item in re.findall(r"<li>(.*?)</li>", first, re.S)]
    assert sentences == plain_words(records) and len(sentences) == 5
    assert "32 × 32 pixels" in sentences[0]
    assert "Of 2,000 test images" in sentences[1]
    assert "right on 87.5 % (95 % interval 86.0–89.0 %)" in sentences[1]
    assert "110 of 1,000 photographs were called FAKE" in sentences[1]
    assert "140 of 1,000 generated pictures passed as REAL" in sentences[1]
    assert "81.2 % on average" in sentences[2] and "up to 6.2 %" in sentences[2]
    # 6 of 300 and 6 of 100: unseen generators only, all models together, generated ones only.
    assert "of 400 pictures by generators" in sentences[3] and "called 3.0 % FAKE" in sentences[3]
    assert "hint and never proof" in sentences[4]


def test_where_photographs_have_a_model_two_sentences_say_for_whom_it_is(records, released):
    measured = {"count": 500, "roc_auc": 0.91, "coverage": 0.7, "right": 0.94}
    run = write_run(
        released,
        "photo_resnet50",
        {
            "metrics.json": json.dumps(measured).encode(),
            "sources.csv": b"source,label\na,0\nb,1\nc,1\n",
            "folds.csv": b"method,roc_auc\ncifake_models_shrunk,0.5\ncifake_models_shrunk,0.6\n",
        },
        data={"name": "photographs", "counts": {"train": {"REAL": 300, "FAKE": 150}}},
    )
    known = replace(records, photographs=run)
    *_, strange, whose, worth, last = plain_words(known)
    assert "a generated picture, shrunk to what they know, they ranked 55 % right" in strange
    assert "nobody has measured" in plain_words(records)[3] and "nobody" not in strange
    assert "hint and never proof" in last
    assert "at least 128 pixels" in whose and "450 pictures of 3 sources" in whose
    assert "up to 64 pixels go to the models of CIFAKE" in whose
    assert "Of 500 pictures of sources that were left out" in worth
    assert "70 % got a verdict, of which 94 % were right" in worth and "91 % of pairs" in worth
    assert "newer than all that it learnt from may pass" in worth
    assert "photographs to one that looks at" in limits_notice(known)
    alone = training_notice(Records({}, None, photographs=run))
    assert "learnt from 450 images (photographs)" in alone
    (run.folder / "metrics.json").write_text("{}")
    assert "damaged" in plain_words(known)[-2]


def test_numbers_of_other_models_are_not_given_for_these(records):
    records.models["resnet50"].manifest["run_id"] = "newer"
    sentences = plain_words(records)
    assert "has not been measured: notebook 05" in sentences[1]
    assert "has not been measured: notebook 06" in sentences[2]
    assert not re.search(r"\d %", " ".join(sentences))


def test_nothing_measured_leaves_five_sentences(released):
    sentences = plain_words(Records({}, None))
    assert len(sentences) == 5 and not re.search(r"\d %", " ".join(sentences))


def test_a_changed_file_gives_a_sentence_in_place_of_its_number(records):
    path = records.evaluation.folder / "metrics.json"
    path.write_text(path.read_text().replace("0.875", "0.999"))
    page = text(shown(records))
    assert "metrics.json is damaged or was changed" in page and "99.9 %" not in page
    assert "81.2 % on average" in page


@pytest.fixture
def card(records):
    """The page with one card, and the card's own part of it."""
    files = {"figures/curves.png": PNG}
    folder = records.models["tuned_cnn"].folder
    (folder / "figures").mkdir()
    for name, content in (*files.items(), ("figures/unlisted.png", PNG)):
        (folder / name).write_bytes(content)
    records.models["tuned_cnn"].manifest["files"] = {
        name: file_hash(folder / name) for name in files
    }
    (folder / "MODEL_CARD.md").write_text(CARD, encoding="utf-8")
    (found,) = re.findall(r"<details.*?</details>", shown(records), re.S)
    return found


def test_a_card_is_closed_and_read_as_markdown(card):
    assert card.startswith('<details class="cf-about-card"><summary>Model card: &lt;Tuned&gt;')
    assert "<h4>What it is</h4>" in card and "<h1" not in card and "<h2" not in card
    assert "<th>measure</th>" in card and "<td>97.5%</td>" in card
    assert 'python -m cifake_lib.pipeline --only "<x>"' in text(card)


def test_markup_in_a_card_does_not_reach_the_page(card):
    assert "<script" not in card and "onerror" not in card and "<!--" not in card
    assert "Made from run files" not in card
    assert "<code>&lt;b&gt;code&lt;/b&gt;</code>" in card and "A network &amp; more" in card
    assert "javascript:" not in re.findall(r'href="([^"]*)"', card)[0]


def test_links_to_files_become_text_and_others_leave_safely(card):
    assert re.findall(r'<a href="([^"]*)" target="_blank" rel="noopener noreferrer">', card) == [
        "https://arxiv.org/abs/1?a=1&amp;b=2"
    ]
    assert card.count("<a ") == 1
    assert "see the data card, MIT licence (<code>LICENSE</code>)," in card
    assert "\n<code>data/README.md</code>, " in card
    assert "../" not in card


def test_only_images_of_the_manifest_are_shown_and_none_is_fetched(card):
    (image,) = re.findall(r"<img [^>]*>", card)
    source = base64.b64encode(PNG).decode()
    assert f'src="data:image/png;base64,{source}"' in image and 'alt="Its curves"' in image
    assert "example.org" not in card and "secret" not in card and "unlisted" not in card


def test_a_changed_figure_gives_a_sentence_in_place_of_its_card(records, card):
    (records.models["tuned_cnn"].folder / "figures/curves.png").write_bytes(b"another")
    page = text(shown(records))
    assert "curves.png is damaged or was changed" in page and "97.5%" not in page
    assert "hint and never proof" in page


def test_every_card_has_its_place_and_a_missing_one_is_named(records, released):
    (records.evaluation.folder / "ENSEMBLE_CARD.md").write_text("# Model card: ensemble\n")
    data = write_run(released, "data")
    (data.folder / "DATA_CARD.md").write_text("# Data card: full\n\nMany images.\n")
    page = shown(records)
    titles = re.findall(r"<summary>(.*?)</summary>", page)
    assert titles == ["Model card: ensemble", "Data card: full"]
    for name in ("Baseline CNN", "Tuned CNN", "ResNet-50"):
        assert f"{name}: there is no card of these" in page
    assert "Data: there is no card" not in page


def test_the_card_of_other_data_is_not_that_of_these_models(records, released):
    data = write_run(released, "data", data={"split_hash": "another"})
    (data.folder / "DATA_CARD.md").write_text("# Data card: full\n\nMany images.\n")
    page = shown(records)
    assert "Many images" not in page and "Data: there is no card of these" in page


def test_the_same_records_are_read_once_and_others_anew(records):
    about = About()
    about.open(records)
    (records.models["tuned_cnn"].folder / "MODEL_CARD.md").write_text("# Late\n")
    about.open(records)
    assert "Late" not in about.view.value
    about.open(Records(dict(records.models), records.evaluation, records.robustness))
    assert "<summary>Late</summary>" in about.view.value


def test_models_of_other_images_are_not_said_to_know_cifake(released):
    run = write_run(released, "own_model", data={"name": "holidays", "split_hash": "1"})
    (said, *_) = plain_words(Records({"own_model": run}, None))
    assert "at 32 × 32 pixels, those of holidays." in said and "CIFAR-10" not in said
