"""Images of other origin, and the scope check on many kinds of image, on worked examples."""

import numpy as np
import pandas as pd
import pytest

from cifake_lib import data, generalisation
from cifake_lib.data import KNOWN_ORIGIN
from cifake_lib.pixels import Pictures


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("FAKE/glide/7.png", "glide"),
        ("train/REAL/imagenet/dogs/7.png", "imagenet"),
        ("fake/7.png", "mine"),
        ("mine/fake/adm/7.png", "adm"),
        ("7.png", "mine"),
    ],
)
def test_origin_is_the_folder_below_the_class(path, expected):
    assert generalisation.origin(path, default="mine") == expected


def test_facts_follow_the_rows_of_the_data_set():
    table = pd.DataFrame(
        {
            "path": ["REAL/a.png", "FAKE/glide/b.png", "FAKE/glide/c.png"],
            "label": [0, 1, 1],
            "source": ["", "", "SDXL"],  # What index.csv says counts.
        }
    )
    facts = generalisation.facts(data.Dataset("mine", None, table, table[:0], ""))
    assert facts.to_dict("list") == {"origin": ["mine", "glide", "SDXL"], "label": [0, 1, 1]}


def test_generators_are_scored_against_known_photographs():
    scored = pd.DataFrame(
        {
            "origin": [KNOWN_ORIGIN] * 4 + ["glide"] * 2 + ["imagenet"],
            "label": [0, 0, 1, 1, 1, 1, 0],
            "m_p_fake": [0.1, 0.4, 0.8, 0.9, 0.05, 0.6, 0.85],
        }
    )
    table = generalisation.by_origin(scored, ["m"]).set_index(["origin", "class"])
    assert table["images"].tolist() == [2, 2, 2, 1]
    assert (
        table.loc[(KNOWN_ORIGIN, "REAL"), "roc_auc"]
        == table.loc[(KNOWN_ORIGIN, "FAKE"), "roc_auc"]
        == 1
    )
    # Of the four pairs of a glide image and a known photograph two are in order.
    glide = table.loc[("glide", "FAKE")]
    assert (glide["roc_auc"], glide["called_fake"]) == (0.5, 0.5)
    assert glide["mean_p_fake"] == pytest.approx(0.325)
    # The foreign photograph lies below one of the two known FAKE.
    assert table.loc[("imagenet", "REAL"), "roc_auc"] == 0.5
    assert table.loc[("imagenet", "REAL"), "called_fake"] == 1


def test_parts_are_scored_in_order():
    def score(images):
        return {"m": images.mean(axis=(1, 2, 3)) / 255}

    parts = [
        (
            np.full((2, 4, 4, 3), 255, np.uint8),
            pd.DataFrame({"origin": KNOWN_ORIGIN, "label": [0, 1]}),
        ),
        (np.zeros((1, 4, 4, 3), np.uint8), pd.DataFrame({"origin": "other", "label": [1]})),
    ]
    scored = generalisation.score_origins(score, *parts)
    assert scored["m_p_fake"].tolist() == [1, 1, 0]
    assert scored["origin"].tolist() == [KNOWN_ORIGIN, KNOWN_ORIGIN, "other"]
    assert scored.index.tolist() == [0, 1, 2]


def pictures(images):
    """Images that a single model looks at as they are."""
    kind = (images.shape[1], "centre")
    return Pictures({kind: images}, {"m": kind}, np.arange(len(images)))


def photographs(count, seed=0):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, 4, 4, 3)).astype(np.uint8)
    return coarse.repeat(8, axis=1).repeat(8, axis=2)


def test_generators_made_here_draw_as_many_as_asked():
    images, facts = generalisation.made_here(
        photographs(40), photographs(10, seed=1), count=8, epochs=1
    )
    assert images.shape == (16, 32, 32, 3)
    assert facts["origin"].tolist() == ["principal_components"] * 8 + ["autoencoder"] * 8
    assert (facts["label"] == 1).all()


class Dark:
    """A scope check that refuses dark images."""

    def outside(self, model, images):
        return images.mean(axis=(1, 2, 3)) < 100


def test_verdicts_are_compared_inside_and_outside():
    images = np.array([0, 0, 200, 200], np.uint8)[:, None, None, None] * np.ones(
        (2, 2, 3), np.uint8
    )
    images = pictures(images)
    kinds = {
        "known": (images, np.array([0, 1, 0, 1]), np.array([0.1, 0.1, 0.2, 0.9])),
        "bright": (images[2:], None, None),
    }
    table = generalisation.scope_table(Dark(), None, kinds, key="m").set_index("kind")
    known = table.loc["known"]
    assert (known["images"], known["outside"]) == (4, 0.5)
    assert known["outside_low"] < 0.5 < known["outside_high"]
    assert (known["accuracy_inside"], known["accuracy_outside"]) == (1, 0.5)
    assert table.loc["bright", "outside"] == 0
    assert table.loc["bright", ["accuracy_inside", "accuracy_outside"]].isna().all()


def test_the_check_is_tried_on_known_corrupted_and_strange_images():
    def score(images):
        return {"ensemble": np.full(len(images), 0.7)}

    images, labels = photographs(12), np.arange(12) % 2
    kinds = generalisation.scope_kinds(score, pictures(images), labels, key="m", count=5)
    assert len(kinds) == 1 + 8 + 6
    assert len(kinds["known"][0]) == 12
    corrupted, truth, p_fake = kinds["blur"]
    assert (corrupted.of("m") != images[:5]).any()
    assert truth.tolist() == [0, 1, 0, 1, 0]
    assert p_fake.tolist() == [0.7] * 5
    assert kinds["stranger: noise"][1:] == (None, None)
    assert len(kinds["stranger: text"][0]) == 5


def test_images_to_explain_are_right_ones_and_the_surest_mistakes():
    y_true = np.array([0, 0, 0, 0, 1, 1, 1])
    p_fake = np.array([0.1, 0.6, 0.9, 0.2, 0.3, 0.9, 0.01])
    assert generalisation.right_and_wrong(y_true, p_fake, each=1).tolist() == [0, 5, 2, 6]
    assert generalisation.right_and_wrong(y_true, p_fake, each=5).tolist() == [0, 3, 5, 2, 1, 6, 4]


def test_summary_is_of_the_ensemble():
    severity = pd.DataFrame(
        {
            "model": ["ensemble", "ensemble", "ensemble", "m"],
            "corruption": ["clean", "blur", "jpeg", "blur"],
            "accuracy": [0.9, 0.4, 0.6, 0.1],
        }
    )
    deliveries = pd.DataFrame({"model": ["ensemble", "ensemble", "m"], "flipped": [0, 0.3, 0.9]})
    scoped = pd.DataFrame({"kind": ["known", "blur"], "outside": [0.06, 1]})
    assert generalisation.summary(severity, deliveries, scoped) == {
        "corrupted_accuracy": pytest.approx(0.5),
        "reversed_conditions": 1,
        "flipped": 0.3,
        "known_outside": 0.06,
    }
