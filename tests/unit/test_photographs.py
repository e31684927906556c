"""A detector of photographs is judged on sources that it has never seen, and calibrated there."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.special import expit

from cifake_lib import (
    cards,
    cross_validation,
    data,
    photograph_examples,
    photographs,
    plots_photographs,
    runs,
    unseen_sources,
)
from cifake_lib.data import Dataset
from cifake_lib.decisions import OperatingPoints
from cifake_lib.detector import Detector, ModelVerdict
from cifake_lib.fine_tuning import FineTuning
from cifake_lib.framework import keras
from cifake_lib.images import fit_image
from cifake_lib.releases import release
from cifake_lib.scope import Scope
from cifake_lib.views import photo_views

SOURCES = ("camera", "phone", "scans", "painter", "faces", "scenes")
PARTS = [["camera", "painter"], ["phone", "faces"], ["scans", "scenes"]]
TUNING = FineTuning(
    *("baseline_cnn", {"image_size": 32, "augmentation": [], "filters": [4, 4]}, "none"),
    epochs=2,
    batch_size=16,
    learning_rate=1e-2,
    delivered=True,
)


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    """Photographs of three sources and generated images of three others, which are brighter."""
    numbers = np.arange(72)
    table = pd.DataFrame(
        {
            "path": [f"{number:02}.png" for number in numbers],
            "label": numbers % 6 // 3,
            "content_hash": [f"{number:064x}" for number in numbers],
            "source": [SOURCES[number % 6] for number in numbers],
            "group": "",
            "split": "train",
            "crosses_split": False,
        }
    )
    brighter = 120 * table["label"].to_numpy()[:, None, None, None]
    images = np.random.default_rng(0).integers(0, 100, (72, 64, 64, 3)) + brighter
    folder = tmp_path_factory.mktemp("photographs")
    return Dataset("own", folder, table, table[:0], ""), images.astype(np.uint8)


@pytest.fixture(scope="module")
def asked(collection, tmp_path_factory):
    folder = tmp_path_factory.mktemp("folds")
    options = {"folder": folder, "side": 56, "changed_images": 5}
    return photographs.cross_train(TUNING, *collection, PARTS, **options), folder, options


def drawn(count=400, seed=0):
    """Logits of two photographic sources, of which one looks generated, and of one generator."""
    rng = np.random.default_rng(seed)
    label = np.repeat([0, 0, 1], count)
    source = np.repeat(["plain", "odd", "generator"], count)
    logit = rng.normal(np.repeat([-3.0, -0.5, 2.0], count), 1.5)
    fold = np.tile([0, 1], 3 * count // 2)
    return pd.DataFrame({"label": label, "source": source, "fold": fold, "logit": logit})


# Training with sources left out


def test_every_image_is_asked_about_by_a_network_that_does_not_know_its_source(collection, asked):
    left_out, folder, options = asked
    assert sorted(left_out["path"]) == sorted(collection[0].table["path"])
    for number, part in enumerate(PARTS):
        assert set(left_out.loc[left_out["fold"] == number, "source"]) == set(part)
    assert sorted(path.name for path in folder.iterdir()) == [f"fold-{n}.csv" for n in range(3)]
    again = photographs.cross_train(TUNING, *collection, PARTS, **options)
    pd.testing.assert_frame_equal(again, left_out)


def test_some_images_are_asked_about_again_after_each_change(asked):
    left_out = asked[0]
    for change in photographs.CHANGES:
        counts = left_out.groupby("fold")[f"logit_{change}"].count()
        assert counts.tolist() == [5, 5, 5]
    both = left_out.dropna()
    assert (both["logit"] != both["logit_jpeg_60"]).all()


def test_what_was_interrupted_goes_on_with_the_next_training(
    collection, asked, tmp_path, monkeypatch
):
    left_out, folder, options = asked
    for number in (0, 2):
        (tmp_path / f"fold-{number}.csv").write_bytes((folder / f"fold-{number}.csv").read_bytes())
    trained, train = [], FineTuning.train
    monkeypatch.setattr(
        FineTuning,
        "train",
        lambda self, left, *a, **k: trained.append(left) or train(self, left, *a, **k),
    )
    options = options | {"folder": tmp_path}
    again = photographs.cross_train(TUNING, *collection, PARTS, **options)
    assert [set(left.table.loc[left.rows("test"), "source"]) for left in trained] == [set(PARTS[1])]
    assert again["path"].tolist() == left_out["path"].tolist()


def test_a_network_is_asked_as_the_dashboard_asks_it(collection):
    _, images = collection
    inputs = keras.Input((56, 56, 3))
    mean = keras.layers.GlobalAveragePooling2D()(keras.ops.cast(inputs, "float32"))
    model = keras.Model(inputs, keras.ops.max(mean, axis=-1, keepdims=True))
    rows = np.array([3, 70, 5, 6, 7, 8, 9, 10, 11, 12])
    logits = photographs.predict_logits(model, images, rows)
    for row, logit in zip(rows[:2], logits[:2], strict=True):
        views = photo_views(Image.fromarray(images[row]), 56).astype(float)
        assert logit == pytest.approx(views.mean(axis=(1, 2)).max(axis=1).mean(), rel=1e-3)


def test_a_regression_knows_no_image_of_a_source_that_it_is_asked_about(collection):
    dataset, images = collection
    source = dataset.table["source"].map(SOURCES.index).to_numpy()
    telling = np.column_stack([images.mean(axis=(1, 2, 3)), np.eye(6)[source]])
    p_fake = photographs.cross_probe(telling, dataset, PARTS)
    assert ((p_fake >= 0.5) == dataset.table["label"]).all()
    # What only names the source says nothing of one that was left out.
    blind = photographs.cross_probe(np.eye(6)[source], dataset, PARTS)
    assert pd.Series(blind).groupby(dataset.table["source"]).nunique().eq(1).all()
    np.testing.assert_allclose(blind, 0.5, atol=0.05)


def test_nearly_all_is_trained_on_in_the_end(collection):
    dataset = photographs.whole(collection[0])
    assert dataset.table["split"].value_counts().to_dict() == {"train": 63, "validation": 9}


# Scores and calibration


def test_methods_are_ranked_fold_by_fold():
    table = drawn().assign(turned=lambda t: -t["logit"])
    scores = unseen_sources.fold_scores(table, {"model": "logit", "its opposite": "turned"})
    model, opposite = (part for _, part in scores.groupby("method", sort=False))
    assert model["fold"].tolist() == [0, 1] and model["images"].tolist() == [600, 600]
    np.testing.assert_allclose(model["roc_auc"], 1 - opposite["roc_auc"])
    first = table[table["fold"] == 0]
    threshold = first.loc[first["label"] == 0, "logit"].quantile(0.95)
    hits = (first.loc[first["label"] == 1, "logit"] > threshold).mean()
    assert model["tpr_5"].iloc[0] == pytest.approx(hits, abs=0.02)
    assert (model["tpr_1"] < model["tpr_5"]).all()


def test_no_source_of_photographs_has_more_than_the_promised_false_alarms():
    table = drawn()
    fitted = unseen_sources.calibrate(table)
    p_fake = expit(table["logit"] / fitted["temperature"])
    for percent in (5, 1):
        called = p_fake >= fitted["thresholds"][f"fpr_{percent}"]
        alarms = called[table["label"] == 0].groupby(table["source"]).mean()
        assert alarms.max() <= percent / 100
        assert alarms["odd"] > alarms["plain"]
    assert fitted["thresholds"]["balanced"] == fitted["thresholds"]["fpr_5"] > 0.5
    certain = np.maximum(p_fake, 1 - p_fake) >= fitted["certain_from"]
    right = (p_fake >= 0.5) == table["label"]
    assert right[certain].mean() >= unseen_sources.CERTAIN > right.mean()


def test_each_fold_is_judged_by_what_was_fitted_on_the_others():
    table = drawn()
    odd = table.assign(logit=table["logit"].where(table["fold"] == 0, table["logit"] + 4))
    judged = unseen_sources.cross_calibrate(odd)
    other = unseen_sources.calibrate(odd[odd["fold"] == 1])
    first = judged[judged["fold"] == 0]
    np.testing.assert_allclose(first["p_fake"], expit(first["logit"] / other["temperature"]))
    assert (first["called_fpr_5"] == (first["p_fake"] >= other["thresholds"]["fpr_5"])).all()
    sources = unseen_sources.source_scores(judged).set_index("source")
    assert sources["images"].to_dict() == {"plain": 400, "odd": 400, "generator": 400}
    plain = judged[judged["source"] == "plain"]
    assert sources.loc["plain", "called_fake"] == plain["called_fpr_5"].mean()
    assert sources.loc["plain", "low"] <= sources.loc["plain", "called_fake"]
    sure = plain[plain["certain"]]
    assert sources.loc["plain", "right"] == (sure["p_fake"] < 0.5).mean()


def test_a_fold_in_which_a_method_scored_one_class_alone_is_left_out():
    table = drawn()
    table["few"] = table["logit"].where((table["fold"] == 0) | (table["label"] == 1))
    assert unseen_sources.fold_scores(table, {"few": "few"})["fold"].tolist() == [0]


def test_promises_sum_up_what_verdicts_were_worth():
    judged = unseen_sources.cross_calibrate(drawn())
    rates = unseen_sources.promises(judged)
    assert rates["coverage"] == judged["certain"].mean() < 1
    assert rates["right"] > 0.85
    real, points = judged["label"] == 0, rates["operating_points"]
    alarms = points["fpr_5"]["false_positive_rate"]
    assert alarms == judged.loc[real, "called_fpr_5"].mean() < 0.07
    assert points["fpr_1"]["true_positive_rate"] == judged.loc[~real, "called_fpr_1"].mean()
    # Two sources of photographs that differ: nobody knows which one the next is like.
    by_source = judged[real].groupby("source")["called_fpr_5"].mean()
    assert points["fpr_5"]["false_positive_rate_interval"] == pytest.approx(sorted(by_source))
    assert points["fpr_5"]["true_positive_rate_interval"][0] == pytest.approx(
        points["fpr_5"]["true_positive_rate"]
    )


def test_without_a_certain_answer_none_is_right():
    judged = unseen_sources.cross_calibrate(drawn()).assign(certain=False)
    rates = unseen_sources.promises(judged)
    assert (rates["coverage"], rates["right"]) == (0, None)


def test_the_models_of_cifake_see_photographs_shrunk_and_in_patches(collection):
    class Red:
        sees_photographs = False

        def predict(self, pictures, **_):
            small = [fit_image(Image.fromarray(np.asarray(each)), 32) for each in pictures]
            return [ModelVerdict(float(each[..., 0].mean() / 255)) for each in small]

    _, images = collection
    shrunk, voted = photographs.ask_detector(Red(), images, patched=[5, 9])
    np.testing.assert_allclose(shrunk, images[..., 0].mean(axis=(1, 2)) / 255, atol=0.01)
    assert np.flatnonzero(~np.isnan(voted)).tolist() == [5, 9]
    np.testing.assert_allclose(voted[[5, 9]], shrunk[[5, 9]], atol=0.02)


def test_the_finished_run_holds_the_model_and_what_left_out_sources_say(
    collection, asked, tmp_path, monkeypatch
):
    monkeypatch.setenv("CIFAKE_RUNS", str(tmp_path))
    dataset, images = photographs.whole(collection[0]), collection[1]
    model, _ = TUNING.build()
    left_out = asked[0]
    scores = unseen_sources.fold_scores(left_out, {"photo_resnet50": "logit"})
    history = pd.DataFrame({"seconds": [2.0], "images_per_second": [8.0], "peak_memory_mb": [9.0]})
    made = {"crop_size": 32, "learning_rate": 0.01, "regression_passes": 1, "frozen": ["conv1"]}
    parameters = made | {"data_dir": "data/mine", "initial_weights": "none"}
    active = runs.start_run("photo_resnet50", run_id="made", parameters=parameters, seed=0)
    changes = {"unchanged": "logit", "jpeg_60": "logit_jpeg_60"}
    active.write_csv("changes.csv", unseen_sources.fold_scores(left_out.dropna(), changes))
    run = photographs.finish(
        active,
        TUNING.at_side(model, 56),
        dataset,
        images,
        history,
        left_out,
        scores,
        tuning=TUNING,
        method="photo_resnet50",
    )
    assert run.photo_views and run.input_contract == (56, "centre")
    assert run.read_json("metrics.json")["roc_auc"] == pytest.approx(scores["roc_auc"].mean())
    assert run.manifest["thresholds"] == unseen_sources.calibrate(left_out)["thresholds"]
    assert set(run.read_csv("sources.csv")["source"]) == set(SOURCES)
    assert run.read_csv("origins.csv")["images"].tolist() == [12] * 6
    assert Scope.load(run.checked("scope.npz")).threshold > 0
    points = OperatingPoints.from_photographs(run)
    assert points.points["fpr_5"].threshold == run.manifest["thresholds"]["fpr_5"]
    assert "sources that were left out" in points.points["fpr_1"].sentence
    assert "sources that were left out" in points.abstention.sentence
    detector = Detector({"photo": runs.load_model(run)}, {"photo": run}, {})
    (verdict,) = detector.predict([images[3]])
    logit = photographs.predict_logits(TUNING.at_side(model, 56), images, np.array([3]))
    assert verdict.p_fake == pytest.approx(expit(logit[0] / run.manifest["temperature"]), abs=2e-3)
    monkeypatch.setenv("CIFAKE_RELEASED", str(tmp_path / "released"))
    release(run)
    card = cards.model_card("photo_resnet50")
    assert f"| {scores['roc_auc'].mean():.3f} " in card and "| JPEG 60 " in card
    assert all(card.count(f"| `{source}` ") == 2 for source in SOURCES)
    assert "36 REAL and 36 FAKE pictures of 6 sources" in card
    assert f"{run.manifest['metrics']['coverage']:.1%}".replace("%", " %") in card
    assert "Never trained: conv1." in card and "lie in `data/mine`" in card


def test_the_example_has_sources_of_both_classes_and_can_be_dealt_out(tmp_path, monkeypatch):
    monkeypatch.setenv("CIFAKE_CACHE", str(tmp_path / "cache"))
    folder = photograph_examples.write_example(tmp_path / "example", count=6)
    dataset = data.load_dataset(folder)
    assert dataset.table.groupby("label")["source"].nunique().tolist() == [3, 3]
    assert len(dataset.table) == 36
    parts = cross_validation.deal_sources(dataset, 3)
    assert sorted(source for part in parts for source in part) == sorted(
        dataset.table["source"].unique()
    )
    assert len(list(cross_validation.leave_out(dataset, parts))) == 3
    assert photograph_examples.write_example(folder, count=9) == folder
    assert len(list(folder.rglob("*.jpg"))) == 36


def test_one_source_cannot_be_left_out(collection):
    dataset = collection[0]
    alone = dataclasses.replace(dataset, table=dataset.table.assign(source="all"))
    with pytest.raises(data.DatasetError, match="at least two sources"):
        cross_validation.deal_sources(alone, 3)


# Figures


def test_figures_show_every_method_source_and_change():
    table = drawn().assign(turned=lambda t: -t["logit"])
    scores = unseen_sources.fold_scores(table, {"photo_resnet50": "logit", "spectrum": "turned"})
    axes = plots_photographs.fold_points(scores)
    shown = [label.get_text() for label in axes.get_yticklabels()]
    assert shown == ["Spectrum", "ResNet-50 for photographs"]
    best = scores.groupby("method")["roc_auc"].mean().max()
    assert f"{best:.3f}" in [text.get_text() for text in axes.texts]
    by_source = unseen_sources.source_scores(unseen_sources.cross_calibrate(table))
    left, right = plots_photographs.source_bars(by_source).axes
    names = [label.get_text() for label in left.get_yticklabels()]
    assert sorted(names) == ["odd (400)", "plain (400)"]
    (bar,) = right.patches
    found = by_source.set_index("source").loc["generator", "called_fake"]
    assert bar.get_width() == pytest.approx(100 * found)
    changes = plots_photographs.change_points(scores)
    assert len(changes.lines) == 2 + 1


def test_scores_are_joined_by_path(collection):
    dataset, _ = collection
    left_out = dataset.table[["path"]].iloc[::-1].reset_index(drop=True)
    joined = photographs.with_columns(left_out, dataset, colour=np.arange(72))
    assert joined["colour"].tolist() == list(range(71, -1, -1))
