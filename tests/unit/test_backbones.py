"""Networks of keras.applications as models of the suite: names, preprocessing, heads, weights."""

import keras.applications.imagenet_utils as imagenet
import numpy as np
import pytest

from cifake_lib import backbones, engine, explain, models, runs, training
from cifake_lib.framework import keras
from cifake_lib.initial_weights import InitialWeightsError
from cifake_lib.layers import BatchNormalization, MomentPooling

# Three families: normalised by us, by their module, and by themselves.
CASES = {"efficientnetb0": 32, "mobilenetv2": 64, "convnexttiny": 32}


def pictures(count, size, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def run(model, images):
    """Predict without compiling a graph, which takes longer than the rest."""
    return keras.ops.convert_to_numpy(model(images, training=False))


def settled(model, key=""):
    """Give normalisation statistics of its own features: with fresh ones a deep network is flat."""
    norms = [x for x in model.layers if isinstance(x, keras.layers.BatchNormalization)]
    kept = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    model(prepared(key, pictures(12, model.input_shape[1], seed=9)), training=True)
    for norm, momentum in zip(norms, kept, strict=True):
        norm.momentum = momentum
    return model


@pytest.fixture(scope="module", params=CASES)
def case(request, tmp_path_factory):
    """A network as Keras makes it, its weights in a file, and ours with weights of its own."""
    size = CASES[request.param]
    build = getattr(keras.applications, backbones.BACKBONES[request.param])
    keras.utils.set_random_seed(0)
    stock = build(include_top=False, weights=None, input_shape=(size, size, 3))
    settled(stock, request.param)
    file = tmp_path_factory.mktemp("stock") / "stock.weights.h5"
    stock.save_weights(file)
    ours = models.build_model(request.param, image_size=size, input_size=size, augmentation=())
    return request.param, size, stock, str(file), ours


def prepared(key, images):
    """What the documentation of `keras.applications` has its users feed to a network."""
    images = images.astype("float32")
    if key == "mobilenetv2":
        return keras.applications.mobilenet_v2.preprocess_input(images)
    if key == "efficientnetb0":
        # Its own first layer divides by 255; the rest comes with ImageNet's weights alone.
        return 255 * imagenet.preprocess_input(images, mode="torch")
    return images


def test_preprocessing_and_features_equal_those_of_keras(case):
    key, size, stock, file, ours = case
    copied = models.load_initial_weights(ours, file)
    inner = {layer.name for layer in ours.layers if layer.weights}
    assert set(copied) == inner - {"logit"}
    images = pictures(3, size)
    maps = keras.Model(ours.input, ours.get_layer(explain.last_feature_map(ours)).output)
    found, expected = run(maps, images), run(stock, prepared(key, images))
    # Against another preprocessing, which these features must tell from it.
    other = run(stock, prepared(key, 255 - images))
    assert np.linalg.norm(found - expected) < 0.02 * np.linalg.norm(found - other)


def test_one_step_of_training_is_kept_by_the_stored_weights(case, tmp_path):
    key, size, _, _, ours = case
    images, labels = pictures(4, size), np.arange(4, dtype="float32")[:, None] % 2
    phase = training.Phase("x", epochs=1, learning_rate=0.01, optimizer="sgd")
    training.compile_model(ours, phase, steps=2)
    ours.run_eagerly = True  # One step is not worth a graph.
    before = [weight.numpy() for weight in ours.trainable_weights]
    first = ours.train_on_batch(images, labels, return_dict=True)["loss"]
    assert np.isfinite(first)
    moved = [
        np.abs(weight.numpy() - old).max()
        for weight, old in zip(ours.trainable_weights, before, strict=True)
    ]
    # Some start so near to nothing that a single step is below their precision.
    assert moved[0] > 0 and moved[-1] > 0 and np.mean(np.array(moved) > 0) > 0.8
    keras.Model(ours.inputs, ours.outputs).save_weights(tmp_path / "model.weights.h5")
    sizes = {"image_size": size, "input_size": size}
    builder, arguments = models.choose(key, **sizes, augmentation=())
    again = runs.rebuild(builder, arguments, tmp_path / "model.weights.h5")
    np.testing.assert_allclose(run(again, images), run(ours, images), rtol=1e-5, atol=1e-6)


def test_normalisation_is_the_fast_one_with_statistics_that_settle_soon(case):
    _, _, _, _, ours = case
    norms = [x for x in ours.layers if isinstance(x, keras.layers.BatchNormalization)]
    assert all(type(norm) is BatchNormalization and norm.momentum == 0.9 for norm in norms)


@pytest.mark.parametrize(
    "written", ["EfficientNetB0", "efficientnet_b0", "efficientnet-b0", "EFFICIENTNETB0"]
)
def test_names_are_found_in_any_spelling(written):
    expected = ("backbone", {"backbone": "efficientnetb0", "image_size": 64})
    # What the builder does not take is left out.
    assert models.choose(written, image_size=64, stem="3x3") == expected


@pytest.mark.parametrize(
    ("written", "nearest"),
    [("efficentnetb0", "efficientnetb0"), ("resnet_51", "resnet50"), ("TwoConv", "two_conv_cnn")],
)
def test_an_unknown_name_is_answered_with_the_nearest(written, nearest):
    with pytest.raises(ValueError, match=f"received '{written}'; did you mean '{nearest}'"):
        models.build_model(written)


def test_every_network_of_keras_has_a_name_to_read():
    names = {backbones.backbone_name(key) for key in backbones.BACKBONES}
    assert len(names) == len(backbones.BACKBONES) >= 38
    assert {"EfficientNet-B0", "EfficientNetV2-S", "MobileNetV2", "MobileNetV3-Large"} <= names
    assert {"ConvNeXt-Tiny", "DenseNet-121", "ResNet-50", "ResNet-50V2", "VGG-16"} <= names


@pytest.mark.parametrize(
    ("builder", "arguments", "tuned", "name"),
    [
        ("baseline_cnn", {}, False, "Baseline CNN"),
        ("tuned_cnn", {}, True, "Tuned CNN"),
        ("two_conv_cnn", {}, True, "Two-convolution CNN, tuned"),
        ("resnet50", {"stages": 4}, False, "ResNet-50, stages 1–4"),
        ("resnet50", {"stages": 5, "head": "dense"}, False, "ResNet-50, dense head"),
        ("backbone", {"backbone": "convnexttiny"}, False, "ConvNeXt-Tiny"),
    ],
)
def test_what_people_read_for_a_network(builder, arguments, tuned, name):
    assert models.model_name(builder, arguments, tuned=tuned) == name


def test_images_below_the_least_of_a_network_are_enlarged_inside():
    model = models.build_model("Xception", image_size=32)
    assert model.input_shape == (None, 32, 32, 3)
    (enlarging,) = [x for x in model.layers if isinstance(x, keras.layers.Resizing)]
    assert enlarging.output.shape[1:3] == (71, 71)


@pytest.mark.parametrize("name", ["resnet50", "mobilenetv2"])
def test_large_images_are_never_shrunk_inside(name):
    model = models.build_model(name, image_size=96, input_size=64)
    assert not [x for x in model.layers if isinstance(x, keras.layers.Resizing)]
    assert model.get_layer(explain.last_feature_map(model)).output.shape[1:3] == (3, 3)


def test_a_dense_head_is_the_one_of_the_recipe():
    model = models.build_model("resnet50", input_size=32, stages=4, head="dense")
    tail = model.layers[[type(x).__name__ for x in model.layers].index("Flatten") :]
    assert [type(layer).__name__ for layer in tail] == [
        *("Flatten", "Dense", "BatchNormalization", "Dropout", "Dense", "Dense")
    ]
    assert [layer.units for layer in tail if isinstance(layer, keras.layers.Dense)] == [256, 128, 1]
    with pytest.raises(ValueError, match="'moments', 'dense'.*received 'max'"):
        models.build_model("mobilenetv2", head="max")


def test_moments_are_means_and_deviations_of_the_channels():
    maps = np.random.default_rng(0).normal(3, 2, (2, 5, 7, 4)).astype(np.float32)
    pooled = np.asarray(MomentPooling()(maps))
    np.testing.assert_allclose(pooled[:, :4], maps.mean(axis=(1, 2)), rtol=1e-5)
    np.testing.assert_allclose(pooled[:, 4:], maps.std(axis=(1, 2)), rtol=1e-4)
    assert np.isfinite(np.asarray(MomentPooling()(0 * maps))).all()
    model = models.build_model("resnet50", stages=4, head="moments")
    assert model.get_layer("logit").kernel.shape == (2048, 1)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("two_conv_cnn", {}),
        ("three_conv_cnn", {}),
        ("vgg16", {"head": "dense", "image_size": 32}),
        ("resnet50", {"head": "moments", "stages": 4, "image_size": 48}),
    ],
)
def test_the_light_engine_answers_with_other_heads_too(name, options, tmp_path):
    pytest.importorskip("ai_edge_litert")
    keras.utils.set_random_seed(3)
    model = settled(models.build_model(name, augmentation=(), **options))
    engine.export(model, tmp_path / engine.FILE, kernels="float32")
    files = {engine.FILE: runs.file_hash(tmp_path / engine.FILE)}
    manifest = {"run_id": "x", "files": files, "model": {"view_averaged": True}}
    network = engine.Network(runs.Run("baseline_cnn", tmp_path, manifest))
    images = pictures(5, model.input_shape[1])
    expected = run(model, images)
    assert np.ptp(expected) > 1e-3
    np.testing.assert_allclose(network.logits(images), expected, atol=1e-3)
    np.testing.assert_allclose(
        network.predict_on_batch(images), run(models.view_averaged(model), images), atol=1e-3
    )
    # Against the gradient itself: a cell's share of the logit is its value times its slope.
    split = keras.Model(
        model.input, [model.get_layer(explain.last_feature_map(model)).output, model.output]
    )
    activations, gradients = explain._class_gradients(split, images)
    sign = np.where(expected[:, 0] >= 0, 1, -1)[:, None, None]
    _, heat = network.look(images)
    np.testing.assert_allclose(heat, sign * (activations * gradients).sum(axis=-1), atol=1e-3)


# Initial weights


@pytest.mark.parametrize("source", ["released", "photo_resnet50"])
def test_a_released_network_gives_its_layers_by_name(source, monkeypatch):
    donors, rebuild = [], runs.rebuild
    monkeypatch.setattr(runs, "rebuild", lambda *args: donors.append(rebuild(*args)) or donors[0])
    model = models.build_model("resnet50", image_size=48, augmentation=())
    fresh = model.get_layer("conv5_block1_1_conv").kernel.numpy()
    copied = models.load_initial_weights(model, source)
    assert len(copied) == 86
    (donor,) = donors
    for name in ("conv1_conv", "conv4_block6_3_conv", "conv3_block2_1_bn"):
        for ours, theirs in zip(
            model.get_layer(name).get_weights(), donor.get_layer(name).get_weights(), strict=True
        ):
            np.testing.assert_array_equal(ours, theirs)
    # It ends after the fourth stage; and the head is what learns the new task.
    np.testing.assert_array_equal(model.get_layer("conv5_block1_1_conv").kernel.numpy(), fresh)
    assert "logit" not in copied


@pytest.mark.parametrize(
    ("name", "source", "sentence"),
    [
        ("mobilenetv2", "released", "released ResNet-50 has no weights for MobileNetV2"),
        ("mobilenetv2", "absent.weights.h5", r"Expected a \.weights\.h5 file"),
    ],
)
def test_weights_that_do_not_fit_are_refused_in_a_sentence(name, source, sentence):
    with pytest.raises(InitialWeightsError, match=sentence):
        models.load_initial_weights(models.build_model(name), source)


def test_weights_for_no_layer_of_the_model_are_refused(monkeypatch):
    donor = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(1, 1, name="conv1_conv")])
    monkeypatch.setattr(keras.applications, "ResNet50", lambda **_: donor)
    with pytest.raises(InitialWeightsError, match="like baseline_cnn, received 'imagenet'"):
        models.load_initial_weights(models.build_model("baseline_cnn"))


def test_a_failed_download_names_the_network(monkeypatch):
    model = models.build_model("mobilenetv2")

    def fail(**arguments):
        raise Exception("URL fetch failure -- no route to host")

    monkeypatch.setattr(keras.applications, "MobileNetV2", fail)
    with pytest.raises(InitialWeightsError, match="MobileNetV2 could not be downloaded.*'none'"):
        models.load_initial_weights(model)


def test_the_file_of_another_network_is_refused(tmp_path):
    file = tmp_path / "small.weights.h5"
    models.build_model("two_conv_cnn").save_weights(file)
    with pytest.raises(InitialWeightsError, match="does not fit the whole MobileNetV2"):
        models.load_initial_weights(models.build_model("mobilenetv2"), str(file))
