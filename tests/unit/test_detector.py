"""The detector asks every model in its own way and says which ones are missing."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from cifake_lib import runs
from cifake_lib.detector import Detector, ModelsDamaged, ModelsMissing, ModelVerdict
from cifake_lib.images import fit_image
from cifake_lib.views import photo_views


class Brightness:
    """A model whose logit is the mean of the red channel, in tens, minus an offset."""

    def __init__(self, offset=0.0):
        self.offset = offset
        self.batches = []

    def predict_on_batch(self, batch):
        self.batches.append(np.array(batch))
        return batch[..., 0].mean(axis=(1, 2), keepdims=True)[:, 0].astype("float32") / 10 - (
            self.offset
        )


def run(key, *, temperature=1.0, input_size=32, **model):
    model["input_size"] = input_size
    facts = {"temperature": temperature, "model": model, "files": {}}
    return runs.Run(key, None, facts)


def detector(models, **manifests):
    found = {key: run(key, **manifests.get(key, {})) for key in models}
    return Detector(models=models, runs=found, missing={})


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def plain(red):
    return np.full((32, 32, 3), (red, 0, 0), dtype=np.uint8)


def test_temperature_divides_the_logit_and_the_ensemble_averages_logits():
    judge = detector(
        {"baseline_cnn": Brightness(), "resnet50": Brightness(offset=4)},
        resnet50={"temperature": 2.0},
    )
    (verdict,) = judge.predict([plain(20)])
    assert verdict.models["baseline_cnn"].p_fake == pytest.approx(sigmoid(2.0))
    assert verdict.models["resnet50"].p_fake == pytest.approx(sigmoid(-1.0))
    assert verdict.p_fake == pytest.approx(sigmoid(0.5))
    assert verdict.label == "FAKE"
    assert verdict.models["resnet50"].label == "REAL"
    assert verdict.models["resnet50"].confidence == pytest.approx(sigmoid(1.0))


def test_the_ensemble_weighs_its_models_as_the_evaluation_fitted_them():
    models = {"baseline_cnn": Brightness(), "resnet50": Brightness(offset=4)}
    found = {key: run(key) for key in models}
    weights = {"resnet50": 0.75, "baseline_cnn": 0.25}
    judge = Detector(models, found, {}, weights, ensemble_temperature=2.0)
    (verdict,) = judge.predict([plain(20)])
    assert verdict.p_fake == pytest.approx(sigmoid((0.25 * 2 + 0.75 * -2) / 2))


def test_verdicts_come_in_the_order_of_the_images_across_batches():
    model = Brightness(offset=10)
    reds = np.random.default_rng(0).integers(0, 200, 300)
    verdicts = detector({"baseline_cnn": model}).predict([plain(red) for red in reds])
    assert [len(batch) for batch in model.batches] == [64, 64, 64, 64, 44]
    np.testing.assert_allclose([v.p_fake for v in verdicts], sigmoid(reds / 10 - 10.0), rtol=1e-5)


def test_every_model_sees_its_own_size_through_the_common_door():
    small, large = Brightness(), Brightness()
    judge = detector({"baseline_cnn": small, "resnet50": large}, resnet50={"input_size": 64})
    noise = np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    judge.predict([Image.fromarray(noise)])
    np.testing.assert_array_equal(small.batches[0][0], fit_image(Image.fromarray(noise), 32))
    np.testing.assert_array_equal(large.batches[0][0], fit_image(Image.fromarray(noise), 64))
    assert judge.input_size == 64


@pytest.mark.parametrize("crop", ["squash", "random"])
def test_a_picture_is_prepared_as_the_model_was_trained(crop):
    cropping, plainly = Brightness(), Brightness()
    judge = detector({"baseline_cnn": plainly, "resnet50": cropping}, resnet50={"crop": crop})
    noise = np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    judge.predict([Image.fromarray(noise)])
    expected = fit_image(Image.fromarray(noise), 32, crop)
    np.testing.assert_array_equal(cropping.batches[0][0], expected)
    np.testing.assert_array_equal(plainly.batches[0][0], fit_image(Image.fromarray(noise), 32))
    assert not np.array_equal(cropping.batches[0][0], plainly.batches[0][0])
    # What the page shows is what the model that looks closest sees.
    closer = detector({"a": Brightness(), "b": Brightness()}, a={"input_size": 64, "crop": crop})
    assert (closer.input_size, closer.crop) == (64, crop)


def test_of_photographs_the_logits_of_several_views_are_averaged():
    wide = np.zeros((64, 256, 3), dtype=np.uint8)
    wide[:, :128, 0] = 200  # red on the left half alone
    square = np.full((64, 64, 3), (60, 0, 0), dtype=np.uint8)
    model = Brightness(offset=3)
    judge = detector({"photo": model}, photo={"input_size": 56, "photo_views": True})
    first, second = judge.predict([wide, square])
    assert [len(batch) for batch in model.batches] == [7 + 5]
    expected = [view[..., 0].mean() / 10 - 3 for view in photo_views(Image.fromarray(wide), 56)]
    assert len(set(np.round(expected, 3))) > 2
    assert first.p_fake == pytest.approx(sigmoid(np.mean(expected)), rel=1e-4)
    assert second.p_fake == pytest.approx(sigmoid(3.0), rel=1e-4)


def test_large_images_are_judged_a_few_at_a_time():
    model = Brightness()
    detector({"baseline_cnn": model}, baseline_cnn={"input_size": 224}).predict([plain(20)] * 30)
    assert [len(batch) for batch in model.batches] == [11, 11, 8]


def test_no_images_no_verdicts():
    assert detector({"baseline_cnn": Brightness()}).predict([]) == []


def test_half_is_fake():
    assert ModelVerdict(0.5).label == "FAKE"
    assert ModelVerdict(0.25).label == "REAL" and ModelVerdict(0.25).confidence == 0.75


def test_models_that_cannot_be_loaded_are_named(monkeypatch):
    def load_model(found):
        if found.stage == "tuned_cnn":
            raise runs.RunDamaged("model.weights.h5 is damaged.")
        if found.stage == "resnet50":
            raise KeyError("builder")
        return Brightness()

    monkeypatch.setattr(runs, "find_run", lambda key, *, released: run(key))
    monkeypatch.setattr(runs, "load_model", load_model)
    judge = Detector.load()
    assert list(judge.models) == list(judge.runs) == ["baseline_cnn"]
    assert judge.missing["tuned_cnn"] == "model.weights.h5 is damaged."
    assert judge.missing["resnet50"].endswith("run that stage again.")
    assert judge.predict([plain(10)])[0].p_fake == pytest.approx(sigmoid(1.0))


def test_damage_of_all_models_is_not_taken_for_none(monkeypatch):
    def load_model(found):
        raise runs.RunDamaged(f"The weights of {found.stage} are damaged.")

    monkeypatch.setattr(runs, "find_run", lambda key, *, released: run(key))
    monkeypatch.setattr(runs, "load_model", load_model)
    with pytest.raises(ModelsDamaged, match="baseline_cnn are damaged.*resnet50 are damaged"):
        Detector.load()


def test_models_answer_though_the_manifest_of_the_evaluation_is_cut_short(monkeypatch, tmp_path):
    for key in ("baseline_cnn", "evaluation"):
        (tmp_path / key).mkdir()
    (tmp_path / "baseline_cnn" / "manifest.json").write_text(
        '{"run_id": "one", "files": {}, "model": {"input_size": 32}, "temperature": 1}'
    )
    (tmp_path / "evaluation" / "manifest.json").write_text('{"run_id": ')
    monkeypatch.setenv("CIFAKE_RELEASED", str(tmp_path))
    monkeypatch.setattr(runs, "load_model", lambda found: Brightness())
    judge = Detector.load()
    assert list(judge.models) == ["baseline_cnn"] and judge.ensemble_weights == {}


@pytest.mark.parametrize("which", ["released", "latest"])
def test_without_any_model_the_error_says_how_to_get_one(which, monkeypatch, tmp_path):
    monkeypatch.setenv("CIFAKE_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("CIFAKE_RELEASED", str(tmp_path / "released"))
    with pytest.raises(ModelsMissing, match="make pipeline"):
        Detector.load(runs=which)


def test_unknown_source_of_runs_is_refused():
    with pytest.raises(
        ValueError, match="expected runs out of .*'released'.*'own'.*, received 'x'"
    ):
        Detector.load(runs="x")


def test_the_page_can_start_without_a_deep_learning_framework():
    code = (
        "import sys, cifake_lib.dashboard, cifake_lib.detector;"
        "print(sorted({'keras', 'tensorflow', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.strip() == "[]"


def test_the_light_engine_is_taken_where_the_run_has_a_file_for_it(monkeypatch):
    with_file = run("baseline_cnn")
    with_file.manifest["files"]["model.tflite"] = "0" * 64
    found = {"baseline_cnn": with_file, "tuned_cnn": run("tuned_cnn")}

    def find_run(key, *, released):
        if key not in found:
            raise runs.RunNotFound(key)
        return found[key]

    monkeypatch.setattr(runs, "find_run", find_run)
    monkeypatch.setattr(runs, "load_model", lambda one: "keras")
    monkeypatch.setattr("cifake_lib.engine.Network", lambda one: "light")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: True)
    keys = ("baseline_cnn", "tuned_cnn")
    assert list(Detector.load(keys=keys).models.values()) == ["light", "keras"]
    assert list(Detector.load(keys=keys, light=False).models.values()) == ["keras", "keras"]
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert list(Detector.load(keys=keys).models.values()) == ["keras", "keras"]
