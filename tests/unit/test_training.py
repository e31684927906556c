"""Training: repeatable, resumable after a kill at any point, and honest in its history."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cifake_lib import batches, device, models, training
from cifake_lib.framework import keras
from cifake_lib.layers import BatchNormalization

SIZE = 8
HEAD = training.Phase("head", epochs=2, learning_rate=5e-3, frozen=("first_convolution",))
ALL = training.Phase("all", epochs=2, learning_rate=2e-3, weight_decay=0.1, optimizer="sgd")
# What a continued training need not repeat: how long it took.
MEASURED = ["seconds", "images_per_second", "peak_memory_mb"]


def split(part, *, seed=0):
    """Batches of easy images: FAKE ones have dark stripes."""
    random = np.random.default_rng(1)
    labels = random.integers(0, 2, 120)
    images = random.integers(0, 256, (120, SIZE, SIZE, 3), dtype=np.uint8)
    images[labels == 1, ::2] //= 2
    rows = np.arange(90) if part == "train" else np.arange(90, 120)
    return batches.ImageBatches(
        images, labels, rows=rows, batch_size=32, shuffle=part == "train", seed=seed
    )


def small_cnn():
    """A network of every kind of layer that matters here, in a blink."""
    model = models.build_tuned_cnn(
        image_size=SIZE, blocks=1, convolutions_per_block=1, width=8, dropout=0.2
    )
    # Under fixed names, unlike the counted ones of one process.
    names = {keras.layers.Conv2D: "first_convolution", BatchNormalization: "norm"}
    return keras.models.clone_model(
        model,
        clone_function=lambda layer: layer.__class__.from_config(
            layer.get_config() | {"name": names.get(type(layer), layer.name)}
        ),
    )


def train(folder, *, phases=(HEAD, ALL), seed=0, validation=None):
    training.prepare(seed)
    model = small_cnn()
    folder.mkdir(exist_ok=True)
    history = training.train(
        model,
        phases,
        split("train", seed=seed),
        validation or split("validation"),
        checkpoints=folder,
        seed=seed,
    )
    return history, model


def same(one, other):
    history, model = one
    pd.testing.assert_frame_equal(
        history.drop(columns=MEASURED), other[0].drop(columns=MEASURED), check_exact=True
    )
    for weights, others in zip(model.get_weights(), other[1].get_weights(), strict=True):
        np.testing.assert_array_equal(weights, others)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    return tmp_path_factory.mktemp("uninterrupted")


@pytest.fixture(scope="module")
def uninterrupted(checkpoints):
    return train(checkpoints)


def test_the_history_has_a_row_an_epoch(uninterrupted):
    history, _ = uninterrupted
    assert list(history) == [
        *("phase", "epoch", "loss", "accuracy", "val_loss", "val_accuracy", "val_log_loss"),
        *("learning_rate", "seconds", "images_per_second", "peak_memory_mb"),
    ]
    assert list(history["phase"]) == ["head", "head", "all", "all"]
    assert list(history["epoch"]) == [1, 2, 3, 4]
    assert history[["accuracy", "val_accuracy"]].to_numpy().min() >= 0
    assert history[["accuracy", "val_accuracy"]].to_numpy().max() <= 1
    assert (history["loss"] > 0).all()
    # 90 images in no more than the whole epoch, of which validation is a part.
    assert (history["images_per_second"] >= 90 / history["seconds"] * 0.99).all()
    assert (history["peak_memory_mb"] > 100).all()
    assert history["peak_memory_mb"].is_monotonic_increasing
    assert (history["learning_rate"] >= 0).all() and (history["learning_rate"] < 5e-3).all()


def test_the_summary_sums_up(uninterrupted):
    history, _ = uninterrupted
    summary = training.training_summary(history)
    assert summary["epochs"] == 4
    assert summary["seconds"] == pytest.approx(history["seconds"].sum(), abs=0.06)
    rates = history["images_per_second"]
    assert rates.min() <= summary["images_per_second"] <= rates.max()
    assert summary["peak_memory_mb"] == history["peak_memory_mb"].max()
    json.dumps(summary)


def test_the_same_seed_gives_the_same_history_and_weights(uninterrupted, tmp_path):
    same(train(tmp_path / "again"), uninterrupted)


def test_another_seed_gives_another_training(uninterrupted, tmp_path):
    history, _ = train(tmp_path / "other", phases=[HEAD], seed=1)
    assert not np.allclose(history["loss"], uninterrupted[0]["loss"].head(2), rtol=1e-3)


class Killed(BaseException):
    """The process ends here: nothing that comes after it is run."""


@pytest.fixture
def kill_at(monkeypatch):
    """`kill_at(step, n)` ends the training when it comes to a step for the nth time."""
    waiting = {}

    def watch(step, owner, name, *, after=False):
        real = getattr(owner, name)

        def counted(*arguments, **options):
            waiting[step] = waiting.get(step, 0) - 1
            if after:
                real(*arguments, **options)
            if waiting[step] == 0:
                raise Killed
            return None if after else real(*arguments, **options)

        monkeypatch.setattr(owner, name, counted)

    watch("batch", training.LiveTable, "progress")
    watch("weights saved", training._Keeper, "_save", after=True)
    watch("state", training, "write_json")
    watch("deletion", Path, "unlink")

    def set_kill(step, times):
        waiting.clear()
        waiting[step] = times

    return set_kill


def test_a_training_killed_again_and_again_ends_as_if_it_never_was(
    uninterrupted, kill_at, tmp_path
):
    for step, times in [
        ("batch", 2),  # In the midst of the first epoch.
        ("weights saved", 1),  # The best weights are there, the checkpoint is not.
        ("batch", 5),  # In the midst of the second epoch.
        ("deletion", 1),  # Second epoch kept, the checkpoint of the first still there.
        ("state", 1),  # Nothing left to train in the first phase, which is not closed.
        ("deletion", 1),  # It is closed, its last checkpoint still there.
        ("batch", 5),  # In the midst of the last epoch.
        ("state", 1),  # Its weights are there, its row is not.
        ("deletion", 2),  # Everything is trained and closed.
    ]:
        kill_at(step, times)
        with pytest.raises(Killed):
            train(tmp_path)
    kill_at("nothing", 0)
    same(train(tmp_path), uninterrupted)
    left = {path.name for path in tmp_path.iterdir() if not path.name.startswith("epoch-")}
    assert left == {"state.json", "best.weights.h5"}


def test_a_kill_between_the_phases_loses_nothing(uninterrupted, tmp_path):
    first, _ = train(tmp_path / "between", phases=[HEAD])
    result = train(tmp_path / "between")
    same(result, uninterrupted)
    # The first phase was not trained again: even its times are the same.
    pd.testing.assert_frame_equal(result[0].head(2), first)


def test_a_kill_after_the_last_epoch_gives_the_best_weights_back(
    uninterrupted, checkpoints, tmp_path
):
    shutil.copytree(checkpoints, tmp_path / "done")
    again = train(tmp_path / "done")
    same(again, uninterrupted)
    pd.testing.assert_frame_equal(again[0], uninterrupted[0])


def weights_by_layer(model):
    return {layer.name: layer.get_weights() for layer in model.layers if layer.weights}


def test_frozen_layers_keep_weights_and_moving_statistics(tmp_path):
    frozen = ("first_convolution", "norm")
    phase = training.Phase("head", epochs=1, learning_rate=0.05, frozen=frozen)
    training.prepare(0)
    model = small_cnn()
    before = weights_by_layer(model)
    options = {"checkpoints": tmp_path, "seed": 0}
    training.train(model, [phase], split("train"), split("validation"), **options)
    after = weights_by_layer(model)
    for name in frozen:
        for old, new in zip(before[name], after[name], strict=True):
            np.testing.assert_array_equal(old, new)
    assert not np.allclose(before["logit"][0], after["logit"][0])

    everything = training.Phase("all", epochs=1, learning_rate=0.05)
    training.train(model, [phase, everything], split("train"), split("validation"), **options)
    thawed = weights_by_layer(model)
    assert not np.allclose(thawed["first_convolution"][0], before["first_convolution"][0])
    for old, new in zip(before["norm"], thawed["norm"], strict=True):  # Moving statistics too.
        assert not np.allclose(old, new)


def test_a_layer_that_does_not_exist_cannot_be_frozen(tmp_path):
    phase = training.Phase("head", epochs=1, learning_rate=0.01, frozen=("conv1_bn", "norm"))
    with pytest.raises(ValueError, match=r"layers of the model to freeze.*conv1_bn'\]"):
        train(tmp_path, phases=[phase])


def contrary():
    """Validation images with the labels swapped: the more is learnt, the worse it gets."""
    swapped = split("validation")
    swapped.labels = 1 - swapped.labels
    return swapped


def log_loss(model, images):
    training.compile_model(model, HEAD, steps=1)
    return model.evaluate(images, verbose=0, return_dict=True)["log_loss"]


def test_training_stops_early_with_the_best_weights(tmp_path):
    phase = training.Phase("training", epochs=12, learning_rate=0.02, patience=3)
    history, model = train(tmp_path, phases=[phase], validation=contrary())
    best = int(history["val_log_loss"].argmin())
    assert len(history) == best + 1 + 3 < 12
    assert log_loss(model, contrary()) == pytest.approx(history["val_log_loss"].min(), rel=1e-4)
    assert history["val_log_loss"].iloc[-1] > history["val_log_loss"].min() + 0.01


def test_an_early_stop_is_final_after_a_kill(tmp_path):
    phase = training.Phase("training", epochs=12, learning_rate=0.02, patience=1)
    before = train(tmp_path, phases=[phase], validation=contrary())
    state = json.loads((tmp_path / "state.json").read_text())
    # As it was before the phase was closed: all epochs done, the checkpoint still there.
    weights = f"epoch-{len(before[0])}.weights.h5"
    before[1].save_weights(tmp_path / weights)
    state |= {"phase": 0, "epoch": 12, "wait": 1, "weights": weights}
    (tmp_path / "state.json").write_text(json.dumps(state))
    after = train(tmp_path, phases=[phase], validation=contrary())
    pd.testing.assert_frame_equal(after[0], before[0])


def test_phases_with_and_without_label_smoothing_compare_fairly(tmp_path):
    plain = training.Phase("plain", epochs=1, learning_rate=0.01)
    smoothed = training.Phase("smoothed", epochs=1, learning_rate=0.01, label_smoothing=0.5)
    history, model = train(tmp_path, phases=[plain, smoothed])
    assert history["val_loss"][0] == pytest.approx(history["val_log_loss"][0], rel=1e-3)
    # By its loss the second epoch is worse; by what it learnt it is the better one.
    assert history["val_loss"][1] > history["val_loss"][0]
    assert history["val_log_loss"][1] < history["val_log_loss"][0]
    assert log_loss(model, split("validation")) == pytest.approx(
        history["val_log_loss"].min(), rel=0.02
    )


def test_each_restart_warms_up_to_six_tenths_of_the_peak():
    first = training.Phase("training", epochs=3, learning_rate=0.1, optimizer="sgd", patience=7)
    cycles = training.with_restarts(first, [5, 2])
    assert [(cycle.name, cycle.epochs) for cycle in cycles] == [
        ("training", 3),
        ("restart_1", 5),
        ("restart_2", 2),
    ]
    assert [cycle.learning_rate for cycle in cycles] == pytest.approx([0.1, 0.06, 0.06])
    assert {(cycle.optimizer, cycle.patience) for cycle in cycles} == {("sgd", 7)}


def test_a_phase_of_no_epochs_is_left_out(tmp_path):
    nothing = training.Phase("head", epochs=0, learning_rate=0.01)
    one = training.Phase("all", epochs=1, learning_rate=0.01)
    history, _ = train(tmp_path, phases=[nothing, one])
    assert list(history["phase"]) == ["all"]


def test_a_loss_that_explodes_is_reported_in_a_sentence(tmp_path):
    phase = training.Phase("training", epochs=3, learning_rate=1e30, optimizer="sgd", warmup=0)
    with pytest.raises(FloatingPointError, match=r"'training'.*lower the learning rate \(1e\+30\)"):
        train(tmp_path, phases=[phase])
    assert not (tmp_path / "state.json").exists()  # Nothing to continue from.


def learning_rates(steps, at, **options):
    model = small_cnn()
    phase = training.Phase("x", epochs=1, learning_rate=0.3, **options)
    training.compile_model(model, phase, steps=steps)
    rates = []
    for step in at:
        model.optimizer.iterations.assign(step)
        rates.append(float(keras.ops.convert_to_numpy(model.optimizer.learning_rate)))
    return rates


def test_the_learning_rate_warms_up_and_falls_as_a_cosine_to_zero():
    rates = learning_rates(20, [0, 1, 2, 11, 20], warmup=0.1)
    np.testing.assert_allclose(rates, [0.1, 0.2, 0.3, 0.15, 0.0], atol=1e-6)
    after_warmup = learning_rates(20, range(2, 21), warmup=0.1)
    assert (np.diff(after_warmup) < 0).all()


def test_a_phase_of_one_step_still_learns():
    np.testing.assert_allclose(learning_rates(1, [0, 1]), [0.15, 0.3], atol=1e-6)


def test_the_phase_names_the_optimizer():
    kinds = {}
    for name in training.OPTIMIZERS:
        model = small_cnn()
        phase = training.Phase("x", epochs=1, learning_rate=0.1, optimizer=name)
        training.compile_model(model, phase, steps=5)
        kinds[name] = type(model.optimizer).__name__
    assert kinds == {"adamw": "Adam", "adam": "Adam", "sgd": "SGD"}
    wrong = training.Phase("x", epochs=1, learning_rate=0.1, optimizer="adagrad")
    with pytest.raises(ValueError, match=r"adamw.*received 'adagrad'"):
        training.compile_model(small_cnn(), wrong, steps=5)


@pytest.mark.parametrize("optimizer", training.OPTIMIZERS)
def test_weight_decay_spares_biases_and_batch_norm(optimizer):
    model = small_cnn()
    phase = training.Phase(
        "x", epochs=1, learning_rate=0.2, optimizer=optimizer, weight_decay=0.5, warmup=0
    )
    training.compile_model(model, phase, steps=1)  # Its only step has half the rate.
    for variable in model.trainable_variables:
        variable.assign(np.ones(variable.shape))
    model.optimizer.build(model.trainable_variables)
    model.optimizer.apply([np.zeros(v.shape, "float32") for v in model.trainable_variables])
    values = {v.path: float(keras.ops.mean(v)) for v in model.trainable_variables}
    assert len(values) == 5
    for path, value in values.items():
        decayed = path.endswith("kernel")
        assert value == pytest.approx(1 - 0.1 * 0.5 if decayed else 1, abs=1e-5), path


def cpu_flags(monkeypatch, flags):
    monkeypatch.setattr(device, "HAS_GPU", False)
    monkeypatch.setattr(device.Path, "is_file", lambda path: flags is not None)
    monkeypatch.setattr(device.Path, "read_text", lambda path: f"flags : fpu sse2 {flags}\n")


@pytest.mark.parametrize(
    ("flags", "policy"),
    [
        ("amx_bf16 amx_tile", "mixed_bfloat16"),
        ("avx512_bf16", "mixed_bfloat16"),
        ("avx2 avx512f", "float32"),
        (None, "float32"),  # Windows and macOS have no such file.
    ],
)
def test_the_precision_suits_the_processor(monkeypatch, flags, policy):
    cpu_flags(monkeypatch, flags)
    assert device.choose_precision() == policy
    assert device.device_name() == "CPU"


@pytest.mark.parametrize(
    ("answer", "policy"),
    [("7.5", "mixed_float16"), ("8.0", "mixed_bfloat16"), ("9.0", "mixed_bfloat16")],
)
def test_the_precision_suits_the_gpu(monkeypatch, answer, policy):
    monkeypatch.setattr(device, "HAS_GPU", True)
    monkeypatch.setattr(device, "_nvidia_smi", lambda field: answer)
    assert device.choose_precision() == policy


def test_a_gpu_of_another_maker_gets_a_name_and_a_policy(monkeypatch):
    monkeypatch.setattr(device, "HAS_GPU", True)
    monkeypatch.setenv("PATH", "")
    assert device.choose_precision() == "mixed_float16"
    assert device.device_name() == "GPU"


def test_prepare_sets_the_policy_and_the_seed(monkeypatch):
    cpu_flags(monkeypatch, "amx_bf16")
    assert training.prepare(3) == "mixed_bfloat16"
    assert keras.mixed_precision.dtype_policy().name == "mixed_bfloat16"
    first = small_cnn()
    training.prepare(3)
    second = small_cnn()
    np.testing.assert_array_equal(first.get_weights()[0], second.get_weights()[0])
    # The score itself stays float32, whatever the policy.
    assert first.output.dtype == "float32"


MIRRORED = """
import sys, tensorflow as tf
sys.path.insert(0, sys.argv[1])
(cpu,) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from pathlib import Path
from cifake_lib import device
import test_training as t
if sys.argv[3] == "two":
    device.mirror(["CPU:0", "CPU:1"])
    assert tf.distribute.get_strategy().num_replicas_in_sync == 2
    try:
        device.mirror(["CPU:0", "GPU:7"])
        raise SystemExit("took a device that is not there")
    except ValueError as error:
        assert "GPU:7" in str(error) and "CPU:1" in str(error)
history, _ = t.train(Path(sys.argv[2]))
history.to_csv(sys.argv[2] + ".csv")
"""


def test_two_devices_train_to_what_one_does(tmp_path):
    found = []
    for number in ("one", "two"):
        folder = tmp_path / number
        result = subprocess.run(
            [sys.executable, "-c", MIRRORED, str(Path(__file__).parent), str(folder), number],
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0, result.stderr
        found.append(pd.read_csv(f"{folder}.csv"))
    one, two = found
    assert two["phase"].tolist() == one["phase"].tolist()
    # The statistics of a batch are those of its halves, so equal they are not.
    np.testing.assert_allclose(two["val_log_loss"], one["val_log_loss"], rtol=0.1)
    assert two["val_log_loss"].iloc[-1] < two["val_log_loss"].iloc[0]


JAX = """
import sys, numpy as np, keras
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import cifake_lib.tuning
import test_training as t
assert keras.config.backend() == "jax"
folder = Path(sys.argv[2])
reference = t.train(folder / "reference", phases=[t.HEAD])
real, calls = t.training.LiveTable.progress, []
def progress(*arguments):
    calls.append(1)
    if len(calls) == 5:
        raise t.Killed
    return real(*arguments)
t.training.LiveTable.progress = progress
try:
    t.train(folder / "killed", phases=[t.HEAD])
    raise SystemExit("was not killed")
except t.Killed:
    pass
t.same(t.train(folder / "killed", phases=[t.HEAD]), reference)
"""


@pytest.mark.skipif(
    not importlib.util.find_spec("jax"),
    reason="jax is not installed; it is no dependency, only a second backend that works",
)
def test_the_same_code_trains_and_resumes_on_jax(tmp_path):
    result = subprocess.run(
        [sys.executable, "-c", JAX, str(Path(__file__).parent), str(tmp_path)],
        env=os.environ | {"KERAS_BACKEND": "jax"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
