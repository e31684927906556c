"""The search: resumable, repeatable, loud about failures, with hyperparameters that can be used."""

import gc
import json
import random
import shutil
from pathlib import Path

import keras_tuner
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cifake_lib import data, hypermodel, models, spaces, training, trials, tuning
from cifake_lib.framework import keras

SHAPE = ("blocks", "convolutions_per_block", "width", "pooling", "dropout")


@pytest.fixture(scope="module", autouse=True)
def fast_collection():
    """keras-tuner collects garbage before each trial: spare it all that pytest has imported."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Sixty noisy images; FAKE ones have dark stripes."""
    folder = tmp_path_factory.mktemp("images")
    generator = np.random.default_rng(0)
    for number in range(60):
        name = ("REAL", "FAKE")[number % 2]
        pixels = generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        pixels[:: 2 if name == "FAKE" else 9] //= 2
        target = folder / name / f"{number}.png"
        target.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(target)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CIFAKE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield data.load_dataset(folder)


@pytest.fixture
def small(monkeypatch):
    """The space of the real networks, with networks of a few weights."""

    def smallest(builder, *, image_size, augmentation, **shape):
        return models.build_baseline_cnn(
            image_size=image_size, augmentation=(), filters=(2,), dropout=0.1
        )

    monkeypatch.setattr(models, "build_model", smallest)


@pytest.fixture
def fits(small, monkeypatch):
    """Every training of a trial; none takes place, its outcome follows from its hyperparameters."""
    seen = []

    def fit(self, hp, model, *arguments, callbacks=(), **options):
        seen.append(dict(hp.values))
        values = sorted((name, str(value)) for name, value in hp.values.items())
        loss = random.Random(str(values)).uniform(0.1, 0.7)
        history = keras.callbacks.History()
        history.history = {"val_log_loss": [loss], "val_accuracy": [1 - loss]}
        for callback in callbacks:  # A promoted trial starts from the weights of its predecessor.
            callback.set_model(model)
            callback.on_epoch_end(0, {"val_log_loss": loss})
        return history

    monkeypatch.setattr(hypermodel.HyperModel, "fit", fit)
    return seen


def settings(tuner="random", **changes):
    options = {"trials": 3, "epochs": 1, "batch_size": 32, "image_size": 32} | changes
    return tuning.Settings(tuner, **options)


@pytest.fixture(scope="module")
def example(dataset, tmp_path_factory):
    """A finished random search of two trials with the real networks."""
    folder = tmp_path_factory.mktemp("example")
    return tuning.search(dataset, settings(trials=2), directory=folder)


def test_the_best_trial_can_be_built_and_trained(example):
    best = example.trials.iloc[0]
    assert set(example.best.shape) == set(SHAPE)
    assert {name: best[name] for name in SHAPE} == example.best.shape
    models.build_model("tuned_cnn", image_size=32, **example.best.shape)
    assert example.best.phase.optimizer == best["optimizer"]
    training.compile_model(
        models.build_baseline_cnn(image_size=8, filters=(4,)), example.best.phase, steps=3
    )


def test_the_trials_table_is_sorted_and_complete(example):
    table = example.trials
    assert len(table) == 2 and (table["status"] == "completed").all()
    assert table["val_log_loss"].is_monotonic_increasing
    assert table["val_accuracy"].between(0, 1).all()
    assert (table["epochs"] == 1).all()
    assert {*SHAPE, "optimizer", "label_smoothing"} <= set(example.hyperparameters)
    assert set(example.hyperparameters) <= set(table)
    assert "message" not in table
    assert trials.importance(table, example.hyperparameters).between(0, 1).all()


def test_trials_keep_the_precision_of_the_device(fits, dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(training.device, "choose_precision", lambda: "mixed_bfloat16")
    policies = []
    real = hypermodel.models.build_model

    def build(*arguments, **options):
        policies.append(keras.mixed_precision.dtype_policy().name)
        return real(*arguments, **options)

    monkeypatch.setattr(hypermodel.models, "build_model", build)
    tuning.search(dataset, settings(trials=1), directory=tmp_path)
    assert set(policies) == {"mixed_bfloat16"}
    assert keras.mixed_precision.dtype_policy().name == "mixed_bfloat16"


@pytest.mark.parametrize("tuner", tuning.TUNERS)
def test_every_tuner_finds_a_best_trial(fits, dataset, tmp_path, tuner):
    found = tuning.search(dataset, settings(tuner, epochs=3), directory=tmp_path)
    table = found.trials
    assert (table["status"] == "completed").all()
    assert table["val_log_loss"].iloc[0] == table["val_log_loss"].min()
    assert found.folder.parent == tmp_path
    if tuner == "hyperband":  # Some trials run for a third of the epochs, the best of them for all.
        assert set(table["epochs"]) == {1, 3}
    else:
        assert len(table) == 3 and set(table["epochs"]) == {3}


def test_hyperband_trains_promising_trials_on(small, dataset, tmp_path, monkeypatch):
    trained = []
    real = keras.Model.fit

    def fit(model, *arguments, **options):
        trained.append(
            (options["initial_epoch"], options["epochs"], int(model.optimizer.iterations))
        )
        return real(model, *arguments, **options)

    monkeypatch.setattr(keras.Model, "fit", fit)
    found = tuning.search(dataset, settings("hyperband", epochs=3), directory=tmp_path)
    assert len(trained) == len(found.trials)
    steps = -(-int(dataset.rows("train").sum()) // 32)
    promoted = [iterations for first, last, iterations in trained if (first, last) == (1, 3)]
    assert promoted and set(promoted) == {steps}  # The schedule goes on where it was.
    assert {iterations for first, _, iterations in trained if first == 0} == {0}


def test_a_finished_search_is_found_again_without_training(fits, dataset, tmp_path):
    first = tuning.search(dataset, settings(), directory=tmp_path)
    assert len(fits) == 3
    again = tuning.search(dataset, settings(), directory=tmp_path)
    assert len(fits) == 3
    pd.testing.assert_frame_equal(again.trials, first.trials)
    assert (again.best.shape, again.best.phase) == (first.best.shape, first.best.phase)


def test_the_same_seed_gives_the_same_search(small, dataset, tmp_path):
    first = tuning.search(dataset, settings(trials=2), directory=tmp_path / "one")
    keras.utils.set_random_seed(99)
    second = tuning.search(dataset, settings(trials=2), directory=tmp_path / "two")
    pd.testing.assert_frame_equal(first.trials, second.trials)


def test_what_follows_a_search_does_not_depend_on_its_having_run(fits, dataset, tmp_path):
    weights = []
    for _ in range(2):  # The second time, nothing is searched.
        tuning.search(dataset, settings(trials=1), directory=tmp_path)
        weights.append(keras.layers.Dense(3))
        weights[-1].build((4, 4))
    np.testing.assert_array_equal(*[layer.get_weights()[0] for layer in weights])


class Killed(BaseException):
    """The process ends here: nothing that comes after it is run."""


@pytest.mark.parametrize("tuner", tuning.TUNERS)
def test_a_search_killed_twice_ends_as_if_it_never_was(fits, dataset, tmp_path, monkeypatch, tuner):
    wanted = settings(tuner, epochs=3)
    whole = tuning.search(dataset, wanted, directory=tmp_path / "whole")
    trained = len(fits)

    real = hypermodel.HyperModel.fit
    left = [1, 2]  # In the midst of the first trial, then, that one finished, of the second.

    def killed(*arguments, **options):
        left[0] -= 1
        if left[0] == 0:
            raise Killed
        return real(*arguments, **options)

    monkeypatch.setattr(hypermodel.HyperModel, "fit", killed)
    while left:
        with pytest.raises(Killed):
            tuning.search(dataset, wanted, directory=tmp_path / "killed")
        del left[0]
    monkeypatch.setattr(hypermodel.HyperModel, "fit", real)
    del fits[:]
    found = tuning.search(dataset, wanted, directory=tmp_path / "killed")
    assert len(fits) == trained - 1  # All but the first; the second, which was cut off, again.
    pd.testing.assert_frame_equal(found.trials, whole.trials)


def test_a_trial_cut_off_between_two_writes_is_made_again(fits, dataset, tmp_path):
    whole = tuning.search(dataset, settings(), directory=tmp_path)
    oracle = whole.folder / "oracle.json"
    state = json.loads(oracle.read_text())
    # As it was when the third trial had a file of its own, but the search did not know of it.
    for order in ("start_order", "end_order"):
        state[order].remove("2")
    state["seed_state"] -= len(json.loads((whole.folder / "trial_2/trial.json").read_text()))
    oracle.write_text(json.dumps(state))
    del fits[:]
    found = tuning.search(dataset, settings(), directory=tmp_path)
    assert len(fits) == 1
    assert sorted(found.trials["trial"]) == ["0", "1", "2"]


def test_a_search_begun_by_a_chief_is_found_by_the_notebook(fits, dataset, tmp_path):
    first = tuning.search(dataset, settings(), directory=tmp_path)
    # keras-tuner's own mark carries the role of the process.
    (first.folder / "tuner0.json").rename(first.folder / "chief.json")
    tuning.search(dataset, settings(), directory=tmp_path)
    assert len(fits) == 3


def test_damaged_files_of_a_search_are_named(fits, dataset, tmp_path):
    found = tuning.search(dataset, settings(trials=1), directory=tmp_path)
    oracle = found.folder / "oracle.json"
    oracle.write_text(oracle.read_text()[:100])
    with pytest.raises(tuning.TrialsFailed, match=f"{found.folder.name}.*damaged.*delete it"):
        tuning.search(dataset, settings(trials=1), directory=tmp_path)


def folder_of(dataset, wanted, directory):
    """Where a search would go, without running it."""
    model = hypermodel.HyperModel(wanted, 1)
    return Path(tuning._make_tuner(model, dataset, wanted, directory).project_dir).name


def test_another_space_data_or_setting_is_another_search(fits, dataset, tmp_path, monkeypatch):
    import dataclasses

    folders = [folder_of(dataset, settings(**change), tmp_path) for change in ({}, {})]
    assert folders[0] == folders[1]
    for change in ({"seed": 1}, {"epochs": 2}, {"augmentation": ("colour",)}, {"batch_size": 16}):
        folders.append(folder_of(dataset, settings(**change), tmp_path))
    folders.append(folder_of(dataset, settings("bayesian"), tmp_path))
    other = dataclasses.replace(dataset, split_hash="0" * 64)
    folders.append(folder_of(other, settings(), tmp_path))

    real = keras_tuner.HyperParameters.Float

    def wider(hp, name, low, high, **options):
        return real(hp, name, low, 10 * high if name == "sgd_learning_rate" else high, **options)

    monkeypatch.setattr(keras_tuner.HyperParameters, "Float", wider)
    folders.append(folder_of(dataset, settings(), tmp_path))
    assert len(set(folders)) == len(folders) - 1


@pytest.fixture
def broken(fits, monkeypatch):
    """`broken(numbers)`: the trials of these numbers cannot be trained."""
    real = hypermodel.HyperModel.fit
    started = []

    def break_trials(numbers):
        def fit(*arguments, **options):
            started.append(1)
            if len(started) - 1 in numbers:
                raise MemoryError("3 GB were not to be had")
            return real(*arguments, **options)

        monkeypatch.setattr(hypermodel.HyperModel, "fit", fit)

    return break_trials


def test_a_failed_trial_fails_the_search_in_words(broken, dataset, tmp_path):
    broken({1})
    with pytest.raises(tuning.TrialsFailed) as caught:
        tuning.search(dataset, settings(), directory=tmp_path)
    message = str(caught.value)
    assert "1 of 3 did not (1)" in message
    assert "MemoryError: 3 GB were not to be had" in message
    assert "tuned_cnn-random-" in message


def test_some_failed_trials_may_be_allowed_and_are_logged(broken, dataset, tmp_path, caplog):
    broken({0, 2})
    found = tuning.search(dataset, settings(), directory=tmp_path, max_failed_trials=2)
    assert list(found.trials["status"]) == ["completed", "failed", "failed"]
    assert found.best.shape["width"] == found.trials["width"].iloc[0]
    assert "Trial 0 failed" in caplog.text and "MemoryError" in caplog.text


@pytest.mark.parametrize("count", [2, 5])
def test_without_a_completed_trial_there_is_no_result(broken, dataset, tmp_path, count):
    broken(range(99))  # keras-tuner itself gives up after three in a row, and not before.
    with pytest.raises(tuning.TrialsFailed) as caught:
        tuning.search(dataset, settings(trials=count), directory=tmp_path, max_failed_trials=9)
    assert f"{min(count, 3)} of {min(count, 3)} did not" in str(caught.value)
    assert "MemoryError" in str(caught.value)


def test_a_loss_that_is_not_a_number_is_a_failed_trial(fits, dataset, tmp_path, monkeypatch):
    real = hypermodel.HyperModel.fit

    def fit(*arguments, **options):
        history = real(*arguments, **options)
        history.history["val_log_loss"] = [float("nan")]
        return history

    monkeypatch.setattr(hypermodel.HyperModel, "fit", fit)
    with pytest.raises(tuning.TrialsFailed, match="not a number"):
        tuning.search(dataset, settings(trials=1), directory=tmp_path)


def test_the_best_hyperparameters_never_come_from_a_failed_trial(fits, dataset, tmp_path):
    found = tuning.search(dataset, settings(), directory=tmp_path)
    best = found.trials["trial"].iloc[0]
    file = found.folder / f"trial_{best}" / "trial.json"
    trial = json.loads(file.read_text())
    file.write_text(json.dumps(trial | {"status": "FAILED"}))  # With the best log loss of all.
    again = tuning.search(dataset, settings(), directory=tmp_path, max_failed_trials=1)
    runner_up = found.trials.iloc[1]
    assert again.best.shape == {name: runner_up[name] for name in SHAPE}
    assert again.best.phase.optimizer == runner_up["optimizer"]


def test_the_best_trials_are_tried_again_for_longer(example, dataset, monkeypatch):
    promoted = tuning.promote(example, dataset, settings(), trials=2, epochs=2)
    assert set(promoted["trial"]) == set(example.candidates)
    assert promoted["val_log_loss"].is_monotonic_increasing
    assert (promoted["epochs"] == 2).all()
    for row in promoted.itertuples():
        shape = example.candidates[row.trial].shape
        model = models.build_model("tuned_cnn", image_size=32, augmentation=(), **shape)
        assert row.parameters == model.count_params()
    # What is finished is found again; one trial less is the best of the search alone.
    monkeypatch.setattr(training, "train", None)
    again = tuning.promote(example, dataset, settings(), trials=2, epochs=2)
    pd.testing.assert_frame_equal(again, promoted)
    alone = tuning.promote(example, dataset, settings(), trials=1, epochs=2)
    assert list(alone["trial"]) == [next(iter(example.candidates))]
    assert list(example.folder.glob("promoted-*/*/")) == [], "checkpoints are left"


def test_a_promotion_cut_short_goes_on(example, dataset, monkeypatch):
    trained = []
    whole = training.train

    def killed(model, *arguments, **options):
        trained.append(options["checkpoints"].name)
        if len(trained) == 2:
            raise KeyboardInterrupt
        return whole(model, *arguments, **options)

    monkeypatch.setattr(training, "train", killed)
    with pytest.raises(KeyboardInterrupt):
        tuning.promote(example, dataset, settings(), trials=2, epochs=1)
    tuning.promote(example, dataset, settings(), trials=2, epochs=1)
    first, second = example.candidates
    assert trained == [first, second, second]


def test_trials_and_promoted_trials_train_with_the_batch_size_that_they_drew(
    small, dataset, tmp_path, monkeypatch
):
    trained = []
    real = keras.Model.fit

    def fit(model, feed, **options):
        trained.append((feed.batch_size, len(feed[0][0])))
        result = real(model, feed, **options)
        assert int(model.optimizer.iterations) == -(-train_images // feed.batch_size)
        # The schedule ends with the trial's last step.
        assert float(model.optimizer.learning_rate) == pytest.approx(0, abs=1e-9)
        return result

    monkeypatch.setattr(keras.Model, "fit", fit)
    train_images = int(dataset.rows("train").sum())
    wanted = settings("random", trials=4, search_space="EfficientNet_B0")
    found = tuning.search(dataset, wanted, directory=tmp_path)
    assert set(found.hyperparameters) == {"batch_size", "dropout", "learning_rate"}
    drawn_sizes = found.trials.set_index("trial")["batch_size"].astype(int)
    assert drawn_sizes.nunique() > 1
    assert trained == [(size, min(size, train_images)) for size in drawn_sizes.sort_index()]
    for trial, candidate in found.candidates.items():
        assert candidate.batch_size == drawn_sizes[trial]
        assert (candidate.builder, candidate.shape["backbone"]) == ("backbone", "efficientnetb0")
        assert candidate.phase.optimizer == "adam"
    del trained[:]
    tuning.promote(found, dataset, wanted, trials=2, epochs=1)
    assert [size for size, _ in trained] == [drawn_sizes[trial] for trial in found.candidates][:2]


def test_the_space_of_the_two_convolutions_has_what_the_recipe_tunes():
    hp = keras_tuner.HyperParameters()
    for hp.values["optimizer"] in training.OPTIMIZERS:
        candidate = spaces.draw(hp, "two_conv_cnn", epochs=3, batch_size=48)
        models.build_model(candidate.builder, **candidate.shape)
        assert (candidate.batch_size, candidate.phase.epochs) == (48, 3)
    assert {parameter.name for parameter in hp.space} == {
        *("filters", "dense_units", "dropout", "optimizer", "learning_rate", "sgd_learning_rate")
    }


def test_a_network_that_cannot_be_searched_is_refused(dataset, tmp_path):
    for space, sentence in [("three_conv_cnn", "search_space out of"), ("mobilnetv2", "did you")]:
        with pytest.raises(ValueError, match=sentence):
            tuning.search(dataset, settings(search_space=space), directory=tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_unknown_tuner_is_refused(dataset, tmp_path):
    with pytest.raises(ValueError, match=r"hyperband.*received 'grid'"):
        tuning.search(dataset, settings("grid"), directory=tmp_path)
    assert not list(tmp_path.iterdir())


def drawn(seed):
    """Random values of the whole space, as a tuner draws them."""
    space = keras_tuner.HyperParameters()
    for space.values["optimizer"] in training.OPTIMIZERS:
        spaces.phase_space(space, epochs=2)
    hp = keras_tuner.HyperParameters()
    for number, parameter in enumerate(space.space):
        hp.merge([parameter])
        if hp.is_active(parameter):
            hp.values[parameter.name] = parameter.random_sample(1000 * seed + number)
    return hp


def test_every_training_drawn_from_the_space_is_valid():
    seen = set()
    model = models.build_baseline_cnn(image_size=8, filters=(4,))
    for seed in range(50):
        hp = drawn(seed)
        phase = spaces.phase_space(hp, epochs=2)
        training.compile_model(model, phase, steps=4)
        low, high = (1e-2, 3e-1) if phase.optimizer == "sgd" else (3e-4, 1e-2)
        assert low <= phase.learning_rate <= high
        assert 0 <= phase.weight_decay <= 0.1
        assert (phase.weight_decay == 0) == (phase.optimizer == "adam")
        assert 0 <= phase.label_smoothing <= 0.1
        # No hyperparameter is recorded that the training did not use.
        assert ("sgd_learning_rate" in hp.values) == (phase.optimizer == "sgd")
        assert ("learning_rate" in hp.values) == (phase.optimizer != "sgd")
        assert ("weight_decay" in hp.values) == (phase.optimizer != "adam")
        seen.add(phase.optimizer)
    assert seen == set(training.OPTIMIZERS)


def test_the_command_explains_itself(capsys):
    with pytest.raises(SystemExit) as ended:
        tuning.main(["--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    # The steps, in order and each on a line of its own, as they are typed.
    steps = [line.split() for line in text.splitlines() if line.startswith("    python -m ")]
    assert [step[step.index("--role") + 1] for step in steps] == ["chief", "worker"]
    for option in ("--address", "--worker-id", "--directory", "--data-dir", "--trials", "--epochs"):
        described = text.rsplit(f"\n  {option}", 1)[1].split("\n  --")[0]
        assert len(described.split()) > 3, option
    assert "password" in text
    assert max(len(line) for line in text.splitlines()) <= 100


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--role", "worker"], "expected --worker-id"),
        (["--role", "chief", "--address", "localhost"], "expected --address HOST:PORT"),
        (["--tuner", "grid"], "invalid choice"),
    ],
)
def test_the_command_refuses_what_cannot_work(capsys, arguments, told):
    with pytest.raises(SystemExit) as ended:
        tuning.main(arguments)
    assert ended.value.code == 2
    assert told in capsys.readouterr().err


def test_the_command_ends_with_the_failure_in_words(broken, dataset, tmp_path, monkeypatch):
    broken(range(99))
    shutil.copytree(dataset.folder, tmp_path / "images")
    command = ["--data-dir", str(tmp_path / "images"), "--directory", str(tmp_path / "searches")]
    with pytest.raises(SystemExit) as ended:
        tuning.main([*command, "--tuner", "random", "--trials", "1", "--image-size", "32"])
    assert "MemoryError" in str(ended.value.code)
