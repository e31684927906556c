"""The networks: their contract, their size, their augmentation and their initial weights."""

import itertools

import keras_tuner
import numpy as np
import pytest

from cifake_lib import models, spaces
from cifake_lib.framework import keras
from cifake_lib.models import InitialWeightsError, augmentation_layers, build_model

SMALL = {
    "baseline_cnn": {},
    "tuned_cnn": {"width": 16, "blocks": 2},
    "resnet50": {"stages": 4, "input_size": 32, "stem": "3x3"},
    "two_conv_cnn": {},
    "three_conv_cnn": {},
    "backbone": {"backbone": "mobilenetv2"},
}


def pictures(count=4, size=32, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def run(model, images):
    """Predict without compiling a graph, which for ResNet-50 takes longer than the rest."""
    return keras.ops.convert_to_numpy(model(images, training=False))


def augmented(names, images, *, training=True):
    x = images.astype("float32")
    for layer in augmentation_layers(names):
        x = layer(x, training=training)
    return keras.ops.convert_to_numpy(x)


@pytest.fixture
def mixed_precision():
    policy = keras.mixed_precision.dtype_policy()
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    yield
    keras.mixed_precision.set_global_policy(policy)


# Contract


@pytest.mark.parametrize("name", list(models.BUILDERS))
def test_one_float32_logit_per_image(name):
    model = build_model(name, **SMALL[name])
    assert model.name == SMALL[name].get("backbone", name)
    assert model.input_shape == (None, 32, 32, 3)
    logits = run(model, pictures())
    assert logits.shape == (4, 1)
    assert logits.dtype == np.float32
    assert np.isfinite(logits).all()
    # A logit, not a probability: nothing squashes it.
    assert model.layers[-1].activation is keras.activations.linear


@pytest.mark.parametrize("name", ["baseline_cnn", "tuned_cnn"])
def test_bytes_and_floats_are_the_same_input(name):
    model, images = build_model(name, **SMALL[name]), pictures()
    np.testing.assert_array_equal(run(model, images), run(model, images.astype("float32")))


@pytest.mark.parametrize("name", ["baseline_cnn", "tuned_cnn", "two_conv_cnn", "three_conv_cnn"])
def test_other_image_sizes(name):
    assert build_model(name, image_size=48, **SMALL[name]).input_shape == (None, 48, 48, 3)


@pytest.mark.parametrize("name", ["baseline_cnn", "tuned_cnn"])
def test_half_precision_keeps_images_and_logit_in_float32(name, mixed_precision):
    model = build_model(name, **SMALL[name])
    assert model.output.dtype == "float32"
    # Half precision has no 253 distinct values between 128 and 255.
    images = np.arange(192, dtype="float32")[None, None, :, None] + np.zeros(
        (1, 4, 1, 3), "float32"
    )
    assert set(augmented(("horizontal_flip", "shift"), images).ravel()) <= set(images.ravel())


def test_unknown_names_say_what_is_known():
    with pytest.raises(ValueError, match=r"baseline_cnn.*tuned_cnn.*resnet50.*received 'vgg'"):
        build_model("vgg")
    with pytest.raises(ValueError, match=r"horizontal_flip.*received \['cutout'\]"):
        build_model("baseline_cnn", augmentation=("horizontal_flip", "cutout"))
    with pytest.raises(ValueError, match="global_average.*received 'max'"):
        build_model("tuned_cnn", pooling="max")
    with pytest.raises(ValueError, match="'3x3', received '5x5'"):
        build_model("resnet50", stem="5x5")
    with pytest.raises(ValueError, match="4 or 5, received 3"):
        build_model("resnet50", stages=3)


# Size


def test_baseline_stays_small():
    assert build_model("baseline_cnn").count_params() < 400_000


def test_every_extreme_of_the_tuned_space_stays_under_a_million():
    space = keras_tuner.HyperParameters()
    default = build_model("tuned_cnn", **spaces.tuned_cnn_shape(space))
    assert default.count_params() < 1_000_000
    extremes = {}
    for dimension in space.space:
        if isinstance(dimension, keras_tuner.engine.hyperparameters.Choice):
            extremes[dimension.name] = [dimension.values[0], dimension.values[-1]]
        else:
            extremes[dimension.name] = [dimension.min_value, dimension.max_value]
    assert {"blocks", "convolutions_per_block", "width", "pooling", "dropout"} <= set(extremes)
    del extremes["dropout"]  # Has no parameters.
    sizes = []
    for values in itertools.product(*extremes.values()):
        point = space.copy()
        point.values.update(zip(extremes, values, strict=True))
        model = build_model("tuned_cnn", **spaces.tuned_cnn_shape(point))
        sizes.append(model.count_params())
        assert sizes[-1] < 1_000_000, point.values
    assert len(set(sizes)) == len(sizes)  # Every dimension has an effect.


def test_the_networks_of_the_recipes_are_those_that_are_described():
    kinds = (keras.layers.Conv2D, keras.layers.Dense)
    two, three = (
        [layer for layer in build_model(name).layers if isinstance(layer, kinds)]
        for name in ("two_conv_cnn", "three_conv_cnn")
    )
    assert [getattr(x, "filters", 0) or x.units for x in two] == [32, 32, 64, 1]
    assert [getattr(x, "filters", 0) or x.units for x in three] == [16, 32, 16, 32, 1]
    assert {x.kernel_size for x in three if hasattr(x, "filters")} == {(4, 4)}
    assert build_model("two_conv_cnn", filters=8, dense_units=16).count_params() < 20_000


def test_the_values_of_a_search_rebuild_the_same_network():
    space = keras_tuner.HyperParameters()
    space.Fixed("width", 16)
    searched = build_model("tuned_cnn", **spaces.tuned_cnn_shape(space))
    rebuilt = build_model("tuned_cnn", **space.values)
    assert [w.shape for w in rebuilt.weights] == [w.shape for w in searched.weights]
    assert rebuilt.count_params() < build_model("tuned_cnn").count_params()


# Augmentation


@pytest.mark.parametrize("name", list(models.AUGMENTATIONS))
def test_augmentation_acts_in_training_only(name):
    images = pictures(8)
    np.testing.assert_array_equal(augmented([name], images, training=False), images)
    changed = augmented([name], images)
    assert not np.array_equal(changed, images)
    assert changed.shape == images.shape
    assert changed.dtype == np.float32
    assert changed.min() >= -1e-3
    assert changed.max() <= 255.001


def test_a_model_is_augmented_in_training_only():
    model, images = build_model("baseline_cnn", dropout=0.0), pictures()
    model.trainable = False  # Batch normalisation, too, then differs in training.
    calm, again = (run(model, images) for _ in range(2))
    np.testing.assert_array_equal(calm, again)
    assert not np.allclose(keras.ops.convert_to_numpy(model(images, training=True)), calm)
    plain = build_model("baseline_cnn", dropout=0.0, augmentation=())
    plain.trainable = False
    plain.set_weights(model.get_weights()[-len(plain.weights) :])
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(plain(images, training=True)), calm, atol=1e-5
    )


@pytest.mark.parametrize(("name", "axis"), [("horizontal_flip", 2), ("vertical_flip", 1)])
def test_flips_are_exact(name, axis):
    images = pictures(32)
    mirrored = np.flip(images, axis)
    seen = set()
    for out, image, mirror in zip(augmented([name], images), images, mirrored, strict=True):
        seen.add((np.array_equal(out, image), np.array_equal(out, mirror)))
    assert seen == {(True, False), (False, True)}


def test_shifts_move_whole_pixels_by_at_most_four():
    image = np.arange(32 * 32, dtype="float32").reshape(1, 32, 32, 1) / 4.1
    image = np.repeat(image, 3, axis=3)
    shifts = set()
    for out in augmented(["shift"], np.repeat(image, 64, axis=0)):
        assert set(out.ravel()) <= set(image.ravel())
        # Where the middle pixel came from.
        row, column = divmod(int(np.flatnonzero(image[0, ..., 0] == out[16, 16, 0])[0]), 32)
        shifts.add((row - 16, column - 16))
        expected = image[0, 5 + row - 16 : 27 + row - 16, 5 + column - 16 : 27 + column - 16]
        np.testing.assert_array_equal(out[5:27, 5:27], expected)
    assert len(shifts) > 15
    assert max(abs(value) for shift in shifts for value in shift) <= 4


@pytest.mark.parametrize("size", [32, 224])
def test_shifts_are_of_the_same_share_at_any_size(size):
    image = np.zeros((1, size, size, 3), "float32")
    image[:, size // 2, size // 2] = 255  # One white pixel; where it went says the shift.
    moved = [np.argwhere(out[..., 0])[0] for out in augmented(["shift"], np.repeat(image, 64, 0))]
    furthest = np.abs(np.array(moved) - size // 2).max()
    assert size / 16 < furthest <= size / 8


# ResNet-50 and its initial weights


@pytest.fixture(scope="module")
def stock():
    """The network of keras.applications with weights that depart from a fresh one's."""
    network = keras.applications.ResNet50(
        include_top=False, weights=None, input_shape=(64, 64, 3), pooling="avg"
    )
    rng = np.random.default_rng(0)
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            gamma, beta, mean, variance = layer.get_weights()
            noise = rng.uniform(0.8, 1.2, (4, len(gamma))).astype("float32")
            layer.set_weights([noise[0], noise[1] - 1, noise[2] - 1, noise[3]])
    return network


@pytest.fixture(scope="module")
def files(stock, tmp_path_factory):
    """Weight files: the whole network, its stages 1–4, and of another network."""
    folder = tmp_path_factory.mktemp("weights")
    whole = keras.Model(stock.input, stock.get_layer("conv5_block3_out").output)
    part = keras.Model(stock.input, stock.get_layer("conv4_block6_out").output)
    made = {"whole": whole, "stages 1-4": part, "misfit": build_model("baseline_cnn")}
    for name, network in made.items():
        network.save_weights(folder / f"{name}.weights.h5")
    return {name: str(folder / f"{name}.weights.h5") for name in made}


def pooled(model):
    layer = next(x for x in model.layers if isinstance(x, keras.layers.GlobalAveragePooling2D))
    return keras.Model(model.input, layer.output)


def close(ours, theirs):
    return np.abs(ours - theirs).max() / np.abs(theirs).max() < 1e-4


def kernel(model, name):
    return model.get_layer(name).get_weights()[0]


def test_features_and_preprocessing_equal_the_stock_network(stock, files):
    ours = build_model("resnet50", image_size=64, input_size=64)
    copied = models.load_initial_weights(ours, files["whole"])
    assert len(copied) == sum(bool(layer.weights) for layer in stock.layers)
    images = pictures(3, 64)
    prepared = keras.applications.resnet50.preprocess_input(images.astype("float32"))
    theirs = run(stock, prepared)
    assert close(run(pooled(ours), images), theirs)
    # Against a preprocessing that is left out.
    assert not close(run(stock, images.astype("float32")), theirs)


def test_small_images_are_enlarged_inside_the_model(stock, files):
    ours = build_model("resnet50", image_size=32, input_size=64)
    models.load_initial_weights(ours, files["whole"])
    images = pictures(2)
    enlarged = keras.ops.image.resize(images.astype("float32"), (64, 64), "bilinear")
    prepared = keras.applications.resnet50.preprocess_input(keras.ops.convert_to_numpy(enlarged))
    assert close(run(pooled(ours), images), run(stock, prepared))


def test_four_stages_take_their_weights_from_either_file(stock, files):
    expected = keras.Model(stock.input, stock.get_layer("conv4_block6_out").output)
    images = pictures(2, 64)
    prepared = keras.applications.resnet50.preprocess_input(images.astype("float32"))
    theirs = run(expected, prepared).mean(axis=(1, 2))
    for name in ("whole", "stages 1-4"):
        ours = build_model("resnet50", image_size=64, input_size=64, stages=4)
        copied = models.load_initial_weights(ours, files[name])
        assert len(copied) == 86
        assert close(run(pooled(ours), images), theirs)


def test_a_file_of_four_stages_leaves_the_fifth_random(stock, files):
    ours = build_model("resnet50")
    fresh = kernel(ours, "conv5_block1_1_conv")
    copied = models.load_initial_weights(ours, files["stages 1-4"])
    assert len(copied) == 86
    assert not any(name.startswith("conv5") for name in copied)
    np.testing.assert_array_equal(kernel(ours, "conv5_block1_1_conv"), fresh)
    np.testing.assert_array_equal(
        kernel(ours, "conv4_block6_3_conv"), kernel(stock, "conv4_block6_3_conv")
    )


def test_small_stem_keeps_the_centre_and_the_energy_of_each_filter(stock, files):
    ours = build_model("resnet50", image_size=32, input_size=32, stem="3x3", stages=4)
    copied = models.load_initial_weights(ours, files["stages 1-4"])
    assert "conv1_conv" in copied
    small, large = kernel(ours, "conv1_conv"), kernel(stock, "conv1_conv")
    assert small.shape == (3, 3, 3, 64)
    np.testing.assert_allclose(
        (small**2).sum(axis=(0, 1, 2)), (large**2).sum(axis=(0, 1, 2)), rtol=1e-4
    )
    ratio = small / large[2:5, 2:5]
    np.testing.assert_allclose(ratio, np.broadcast_to(ratio[:1, :1, :1], ratio.shape), rtol=1e-3)
    # Stride 1: a 32 px image reaches the end of stage 4 as a 4×4 map.
    assert ours.get_layer("conv1_conv").output.shape[1:] == (32, 32, 64)
    assert ours.get_layer("conv4_block6_out").output.shape[1:3] == (4, 4)


def test_none_changes_nothing():
    model = build_model("baseline_cnn")
    before = model.get_weights()
    assert models.load_initial_weights(model, "none") == []
    for ours, theirs in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_imagenet_is_the_default_and_a_failed_download_says_what_to_do(monkeypatch):
    asked = []

    def fail(**arguments):
        asked.append(arguments)
        raise Exception("URL fetch failure on https://example.org: None -- no route to host")

    model = build_model("baseline_cnn")
    monkeypatch.setattr(keras.applications, "ResNet50", fail)
    with pytest.raises(InitialWeightsError) as caught:
        models.load_initial_weights(model)
    assert asked == [{"include_top": False, "weights": "imagenet"}]
    message = str(caught.value)
    for part in ("could not be downloaded", "no route to host", ".weights.h5", "'none'"):
        assert part in message


def test_imagenet_weights_are_copied(monkeypatch, stock):
    ours = build_model("resnet50", stages=4, input_size=32)
    monkeypatch.setattr(keras.applications, "ResNet50", lambda **_: stock)
    assert len(models.load_initial_weights(ours, "imagenet")) == 86
    np.testing.assert_array_equal(kernel(ours, "conv1_conv"), kernel(stock, "conv1_conv"))


def test_files_that_cannot_be_used_are_named(files, tmp_path):
    model = build_model("baseline_cnn")
    damaged, other = tmp_path / "damaged.weights.h5", tmp_path / "weights.txt"
    damaged.write_bytes(b"no HDF5")
    other.write_bytes(b"text")
    absent = tmp_path / "absent.weights.h5"
    for path, reason in (
        (absent, r"Expected a \.weights\.h5 file"),
        (files["misfit"], "fits neither the whole ResNet-50 without top nor its stages 1–4"),
        (damaged, "fits neither"),
        (other, "fits neither"),
    ):
        with pytest.raises(InitialWeightsError, match=reason) as caught:
            models.load_initial_weights(model, str(path))
        assert str(path) in str(caught.value)


def test_view_averaging_is_the_mean_over_moved_and_mirrored_images():
    keras.utils.set_random_seed(0)
    model = models.build_model("tuned_cnn", width=16, blocks=2)
    averaged = models.view_averaged(model)
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    mirrored = images[:, :, ::-1]
    # Two rows up and down; NumPy's "symmetric" repeats the outermost rows.
    padded = [np.pad(x, ((0, 0), (2, 2), (0, 0), (0, 0)), "symmetric") for x in (images, mirrored)]
    views = [run(model, x[:, start : start + 32]) for x in padded for start in (0, 4)]
    found = run(averaged, images)
    np.testing.assert_allclose(found, np.mean(views, axis=0), atol=1e-5)
    np.testing.assert_allclose(run(averaged, mirrored), found, atol=1e-5)
    assert np.std(views, axis=0).min() > 1e-4
    assert averaged.input_shape == model.input_shape
    assert averaged.count_params() == model.count_params()
