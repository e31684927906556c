"""A detector of photographs is judged on sources that it has never seen, and calibrated there."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.special import expit

from cifake_lib import photographs
from cifake_lib.data import Dataset
from cifake_lib.fine_tuning import FineTuning
from cifake_lib.framework import keras
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
    scores = photographs.fold_scores(table, {"model": "logit", "its opposite": "turned"})
    model, opposite = (part for _, part in scores.groupby("method", sort=False))
    assert model["fold"].tolist() == [0, 1] and model["images"].tolist() == [600, 600]
    np.testing.assert_allclose(model["roc_auc"], 1 - opposite["roc_auc"])
    first = table[table["fold"] == 0]
    threshold = first.loc[first["label"] == 0, "logit"].quantile(0.95)
    hits = (first.loc[first["label"] == 1, "logit"] > threshold).mean()
    assert model["tpr_5"].iloc[0] == pytest.approx(hits, abs=0.02)
    assert (model["tpr_1"] < model["tpr_5"]).all()


def test_no_source_of_photographs_has_more_than_twice_the_promised_false_alarms():
    table = drawn()
    fitted = photographs.calibrate(table)
    p_fake = expit(table["logit"] / fitted["temperature"])
    for percent in (5, 1):
        called = p_fake >= fitted["thresholds"][f"fpr_{percent}"]
        alarms = called[table["label"] == 0].groupby(table["source"]).mean()
        assert alarms.max() <= 2 * percent / 100
        assert alarms["odd"] > alarms["plain"]
    certain = np.maximum(p_fake, 1 - p_fake) >= fitted["certain_from"]
    right = (p_fake >= 0.5) == table["label"]
    assert right[certain].mean() >= photographs.CERTAIN > right.mean()


def test_each_fold_is_judged_by_what_was_fitted_on_the_others():
    table = drawn()
    odd = table.assign(logit=table["logit"].where(table["fold"] == 0, table["logit"] + 4))
    judged = photographs.cross_calibrate(odd)
    other = photographs.calibrate(odd[odd["fold"] == 1])
    first = judged[judged["fold"] == 0]
    np.testing.assert_allclose(first["p_fake"], expit(first["logit"] / other["temperature"]))
    assert (first["called_fpr_5"] == (first["p_fake"] >= other["thresholds"]["fpr_5"])).all()
    sources = photographs.source_scores(judged).set_index("source")
    assert sources["images"].to_dict() == {"plain": 400, "odd": 400, "generator": 400}
    plain = judged[judged["source"] == "plain"]
    assert sources.loc["plain", "called_fake"] == plain["called_fpr_5"].mean()
    assert sources.loc["plain", "low"] <= sources.loc["plain", "called_fake"]
    sure = plain[plain["certain"]]
    assert sources.loc["plain", "right"] == (sure["p_fake"] < 0.5).mean()


def test_scores_are_joined_by_path(collection):
    dataset, _ = collection
    left_out = dataset.table[["path"]].iloc[::-1].reset_index(drop=True)
    joined = photographs.with_columns(left_out, dataset, colour=np.arange(72))
    assert joined["colour"].tolist() == list(range(71, -1, -1))
