"""Who judges a picture follows from its size, and the verdict says whose it is."""

import json

import pytest
from PIL import Image

from cifake_lib import runs
from cifake_lib.analyst import Analyst, Picture
from cifake_lib.detector import ModelVerdict, Verdict
from cifake_lib.routing import BETWEEN, Router


class Sure:
    """A detector that says the same of every picture, and remembers how many it was asked about."""

    missing = {}

    def __init__(self, key, p_fake, run=None):
        self.key, self.p_fake, self.asked = key, p_fake, 0
        manifest = {"run_id": "one", "model": {"input_size": 32}, "files": {}}
        self.runs = {key: run or runs.Run(key, None, manifest)}
        self.models = {key: None}

    def predict(self, images):
        self.asked += len(images)
        return [Verdict(self.p_fake, {self.key: ModelVerdict(self.p_fake)}) for _ in images]


@pytest.fixture
def photo_run(tmp_path):
    rates = {
        "true_positive_rate": 0.6,
        "true_positive_rate_interval": [0.5, 0.7],
        "false_positive_rate": 0.04,
        "false_positive_rate_interval": [0.01, 0.09],
    }
    metrics = {
        "operating_points": {"balanced": rates, "fpr_5": rates},
        "coverage": 0.7,
        "right": 0.93,
    }
    files = {
        "metrics.json": json.dumps(metrics),
        "folds.csv": "method,fold,roc_auc\ncifake_models_shrunk,0,.5\ncifake_models_shrunk,1,.6\n"
        "spectrum,0,.9\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    manifest = {
        "run_id": "photographs",
        "model": {"input_size": 224, "photo_views": True},
        "thresholds": {"balanced": 0.5, "fpr_5": 0.9},
        "certain_from": 0.8,
        "files": {name: runs.file_hash(tmp_path / name) for name in files},
    }
    return runs.Run("photo_resnet50", tmp_path, manifest)


def router(photo_run, *, small=0.1, large=0.95):
    return Router(
        Analyst(Sure("resnet50", small)), Analyst(Sure("photo_resnet50", large, photo_run))
    )


def pictures(*sizes):
    return [Picture(Image.new("RGB", size), b"file", str(size)) for size in sizes]


def test_small_images_go_to_the_models_of_cifake_and_photographs_to_theirs(photo_run):
    asked = router(photo_run)
    small, photograph, other = asked.examine(pictures((32, 32), (640, 480), (64, 20)))
    assert small.by is other.by is asked.small and photograph.by is asked.photographs
    assert (small.record.verdict, photograph.record.verdict) == ("REAL", "FAKE")
    assert small.beside is None and other.beside is None
    # What the others say of a photograph is shown for what it is.
    assert photograph.beside.p_fake == 0.1
    assert asked.small.detector.asked == 3 and asked.photographs.detector.asked == 1


@pytest.mark.parametrize("size", [(65, 65), (100, 100), (127, 640), (128, 100)])
def test_between_the_sizes_both_are_asked_and_neither_is_believed(photo_run, size):
    asked = router(photo_run)
    (analysis,) = asked.examine(pictures(size))
    assert analysis.record.verdict == "UNCERTAIN" and analysis.record.reason == BETWEEN
    assert (analysis.verdict.p_fake, analysis.beside.p_fake) == (0.1, 0.95)
    again = asked.at_threshold(analysis, "fpr_5")
    assert again.record.verdict == "UNCERTAIN" and again.record.reason == BETWEEN


def test_the_operating_points_are_those_of_whoever_judges(photo_run):
    asked = router(photo_run, large=0.85)
    (photograph,) = asked.examine(pictures((300, 300)))
    assert photograph.record.verdict == "FAKE"
    strict = asked.at_threshold(photograph, "fpr_5")
    assert strict.record.verdict == "UNCERTAIN" and strict.record.threshold == 0.9
    unsure = router(photo_run, large=0.7).examine(pictures((300, 300)))[0]
    assert unsure.record.verdict == "UNCERTAIN" and "80.0 % confidence" in unsure.record.reason


def test_without_a_model_of_photographs_all_is_as_it_was():
    small = Analyst(Sure("resnet50", 0.9))
    analyses = Router(small).examine(pictures((32, 32), (900, 900), (100, 100)))
    assert [analysis.record.verdict for analysis in analyses] == ["FAKE"] * 3
    assert all(analysis.by is small and analysis.beside is None for analysis in analyses)


def test_no_pictures_no_analyses(photo_run):
    assert router(photo_run).examine([]) == []


def test_the_lesson_says_what_the_small_models_are_worth_on_photographs(photo_run):
    asked = router(photo_run)
    thumbnail, between, photograph = asked.examine(pictures((9, 9), (99, 99), (640, 480)))
    assert asked.lesson_on(photograph) == asked.lesson
    assert asked.lesson_on(thumbnail) == asked.lesson_on(between) == ""
    assert "they ranked 55 % right" in asked.lesson
    (photo_run.folder / "folds.csv").write_text("changed")
    assert router(photo_run).lesson == ""
