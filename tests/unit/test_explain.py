"""Heat maps against closed forms, and the checks of heat maps against maps that are known to be
right, wrong or blind."""

import numpy as np
import pandas as pd
import pytest

from cifake_lib import explain, models
from cifake_lib.framework import keras


@pytest.fixture(scope="module")
def bright_square():
    """Grey images, a bright 8×8 square in each, and where it is."""
    rng = np.random.default_rng(0)
    images = rng.integers(90, 110, (6, 32, 32, 3), dtype=np.uint8)
    squares = np.zeros((6, 32, 32), bool)
    for index in range(6):
        top, left = rng.integers(0, 4, 2) * 8
        squares[index, top : top + 8, left : left + 8] = True
    images[squares] = 250
    return images, squares


@pytest.fixture(scope="module")
def finds_bright():
    """Calls an image FAKE if anything in it is bright: logit = a sum over what exceeds 200."""
    inputs = x = keras.Input((32, 32, 3))
    x = keras.layers.Rescaling(1 / 50, offset=-4)(x)
    x = keras.layers.Conv2D(2, 1, activation="relu", name="bright")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, keras.layers.Dense(1)(x))
    kernel = np.zeros((1, 1, 3, 2), np.float32)
    kernel[..., 0] = 1
    model.set_weights([kernel, np.zeros(2), np.float32([[20], [-5]]), np.float32([-1])])
    return model


@pytest.fixture(scope="module")
def small_cnn():
    keras.utils.set_random_seed(3)
    model = models.build_model("baseline_cnn", augmentation=[], filters=[4, 6])
    # Random statistics, so that batch normalisation is not the identity.
    rng = np.random.default_rng(0)
    model.set_weights(
        [value + rng.normal(0, 0.1, value.shape) ** 2 for value in model.get_weights()]
    )
    return model


def noise_images(count=4):
    return np.random.default_rng(1).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def test_grad_cam_is_cam_where_pooling_leads_straight_to_the_logit(small_cnn):
    """Zhou et al. 2016: the map is the sum of the channels, weighted by the last layer."""
    images = noise_images()
    name = explain.last_feature_map(small_cnn)
    features = keras.Model(small_cnn.input, small_cnn.get_layer(name).output)
    activations = features.predict(images, verbose=0)
    weights = small_cnn.get_layer("logit").get_weights()[0].ravel()
    sign = np.where(small_cnn.predict(images, verbose=0) >= 0, 1, -1)[:, :, None]
    expected = np.maximum(sign * (activations @ weights), 0)
    expected = keras.ops.image.resize(expected[..., None], (32, 32), interpolation="bilinear")
    expected = np.array(expected)[..., 0]
    expected /= np.maximum(expected.max(axis=(1, 2), keepdims=True), 1e-12)
    heat = explain.grad_cam(small_cnn, images)
    assert heat.shape == (4, 32, 32) and heat.dtype == np.float32
    np.testing.assert_allclose(heat, expected, atol=1e-4)


def test_grad_cam_plus_plus_is_its_formula_written_out(small_cnn):
    import tensorflow as tf

    image = noise_images(1)
    layer = small_cnn.get_layer(explain.last_feature_map(small_cnn))
    split = keras.Model(small_cnn.input, [layer.output, small_cnn.output])
    with tf.GradientTape() as tape:
        activation, logit = split(image)
        score = tf.abs(logit)
    gradient = tape.gradient(score, activation).numpy()[0].astype(float)
    activation = activation.numpy()[0].astype(float)
    heat = np.zeros(activation.shape[:2])
    for channel in range(activation.shape[-1]):
        a, g = activation[..., channel], gradient[..., channel]
        weight = 0.0
        for i in range(a.shape[0]):
            for j in range(a.shape[1]):
                below = 2 * g[i, j] ** 2 + a.sum() * g[i, j] ** 3
                weight += (g[i, j] ** 2 / below if below else 0) * max(g[i, j], 0)
        heat += weight * a
    heat = np.maximum(heat, 0)
    found = explain.grad_cam(small_cnn, image, method="grad_cam_plus_plus")[0]
    expected = keras.ops.image.resize(heat[None, ..., None], (32, 32), interpolation="bilinear")
    expected = np.array(expected)[0, ..., 0]
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.9999


@pytest.mark.parametrize("method", ["grad_cam", "grad_cam_plus_plus", "occlusion"])
def test_maps_point_at_the_evidence(finds_bright, bright_square, method):
    images, squares = bright_square
    heat = (
        explain.occlusion(finds_bright, images)
        if method == "occlusion"
        else explain.grad_cam(finds_bright, images, method=method)
    )
    for each, square in zip(heat, squares, strict=True):
        assert each.max() == 1
        assert each[square].mean() > 3 * each[~square].mean()


def test_a_map_that_is_right_deletes_faster_and_inserts_earlier(finds_bright, bright_square):
    images, squares = bright_square
    right = explain.deletion_insertion(finds_bright, images, squares.astype(np.float32))
    wrong = explain.deletion_insertion(finds_bright, images, 1 - squares.astype(np.float32))
    assert right["share"].iloc[[0, -1]].tolist() == [0, 1]
    # Both curves end where the other begins: the whole image, the blurred image.
    assert right["deletion"].iloc[0] == pytest.approx(right["insertion"].iloc[-1])
    assert right["deletion"].iloc[-1] == pytest.approx(right["insertion"].iloc[0])
    right, wrong = explain.curve_areas(right), explain.curve_areas(wrong)
    assert right["deletion"] < wrong["deletion"] - 0.2
    assert right["insertion"] > wrong["insertion"] + 0.2


def test_area_under_a_known_curve():
    curves = pd.DataFrame({"share": [0, 0.5, 1], "deletion": [1, 0, 0], "insertion": [0, 1, 1]})
    assert explain.curve_areas(curves) == {"deletion": 0.25, "insertion": 0.75}


def test_map_of_the_picture_alone_fails_the_randomisation_check(small_cnn):
    def brightness(model, images):
        return images.mean(axis=-1)

    check = explain.randomisation_check(small_cnn, noise_images(), brightness)
    assert check == {"rank_correlation": pytest.approx(1), "flat": 0}


def test_map_of_what_was_learned_changes_with_the_weights(small_cnn):
    before = small_cnn.get_weights()
    check = explain.randomisation_check(small_cnn, noise_images(), explain.grad_cam)
    assert check["rank_correlation"] < 0.8
    for value, kept in zip(small_cnn.get_weights(), before, strict=True):
        np.testing.assert_array_equal(value, kept)


def test_maps_without_contrast_are_counted_and_not_correlated(small_cnn):
    def flat(model, images):
        return np.zeros(images.shape[:3])

    check = explain.randomisation_check(small_cnn, noise_images(), flat)
    assert check["flat"] == 1 and np.isnan(check["rank_correlation"])


def test_model_that_averages_over_mirror_images_is_looked_into(small_cnn):
    images = noise_images(2)
    wrapped = models.view_averaged(small_cnn)
    np.testing.assert_allclose(
        explain.grad_cam(wrapped, images), explain.grad_cam(small_cnn, images), atol=1e-6
    )


def test_unknown_method_is_refused(small_cnn):
    with pytest.raises(ValueError, match="method out of .*received 'saliency'"):
        explain.grad_cam(small_cnn, noise_images(1), method="saliency")


def test_every_explanation_of_every_model_is_put_to_both_tests(small_cnn):
    images = noise_images(4)
    curves, table = explain.compare_maps(
        {"a": small_cnn, "b": small_cnn}, {"a": images, "b": images}
    )
    methods = ["grad_cam", "grad_cam_plus_plus", "occlusion", "random"]
    assert list(curves) == [(key, method) for key in ("a", "b") for method in methods]
    row = table.set_index(["model", "method"]).loc[("b", "grad_cam")]
    areas = explain.curve_areas(curves["b", "grad_cam"])
    assert row[["deletion", "insertion"]].to_dict() == pytest.approx(areas)
    check = explain.randomisation_check(small_cnn, images, explain.grad_cam)
    assert row["rank_correlation"] == pytest.approx(check["rank_correlation"])
    assert table.set_index("method").loc["random", "rank_correlation"].isna().all()
