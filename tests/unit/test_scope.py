"""The check whether an image is like those a model knows."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.spatial.distance import mahalanobis

from cifake_lib import models, scope
from cifake_lib.framework import keras
from cifake_lib.scope import Gaussian, Scope


def pictures(count, seed):
    """Smooth scenes with some grain: all of one kind."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    scenes = [
        np.asarray(Image.fromarray(each).resize((32, 32), Image.Resampling.BICUBIC))
        for each in coarse
    ]
    return np.clip(np.stack(scenes) + rng.normal(0, 8, (count, 32, 32, 3)), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return models.build_model("baseline_cnn", augmentation=[], filters=[4, 6])


@pytest.fixture(scope="module")
def fitted(model):
    labels = np.arange(600) % 2
    return Scope.fit(model, (pictures(600, 0), labels), pictures(400, 1))


def test_distance_is_that_of_mahalanobis_to_the_nearest_mean():
    rng = np.random.default_rng(0)
    means, spread = rng.normal(size=(2, 3)), rng.normal(size=(3, 3))
    precision = np.linalg.inv(spread @ spread.T)
    values = rng.normal(size=(20, 3))
    expected = [min(mahalanobis(each, mean, precision) for mean in means) for each in values]
    np.testing.assert_allclose(Gaussian(means, precision).distance(values), expected)


def test_gaussian_has_a_mean_for_each_class_and_the_covariance_within():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 5000)
    values = rng.normal(size=(10_000, 2)) * [1, 3] + labels[:, None] * [50, 0]
    fit = Gaussian.fit(values, labels)
    np.testing.assert_allclose(fit.means, [[0, 0], [50, 0]], atol=0.15)
    np.testing.assert_allclose(np.linalg.inv(fit.precision), [[1, 0], [0, 9]], atol=0.35)


def test_features_feed_the_last_layer(model):
    images = pictures(5, 2)
    weights, bias = model.get_layer("logit").get_weights()
    logits = model.predict(images, verbose=0)
    np.testing.assert_allclose(scope.features(model, images) @ weights + bias, logits, atol=1e-4)
    wrapped = scope.features(models.view_averaged(model), images)
    np.testing.assert_allclose(wrapped, scope.features(model, images), atol=1e-5)


def test_other_images_of_the_same_kind_are_outside_as_often_as_allowed(fitted, model):
    assert fitted.outside(model, pictures(400, 1)).mean() == pytest.approx(0.05, abs=0.005)
    assert 0.01 < fitted.outside(model, pictures(1000, 3)).mean() < 0.11


@pytest.mark.parametrize(
    "strange",
    [
        lambda images: gaussian_filter(images.astype(float), (0, 2, 2, 0)),
        lambda images: np.random.default_rng(0).integers(0, 256, images.shape),
        lambda images: np.where(np.indices(images.shape)[2] % 8 < 2, 0, 255),
        lambda images: np.full(images.shape, 128),
    ],
    ids=["blurred", "noise", "line art", "flat"],
)
def test_images_of_another_kind_are_outside(fitted, model, strange):
    images = strange(pictures(50, 4)).astype(np.uint8)
    assert fitted.outside(model, images).mean() > 0.9


def test_strangeness_grows_beyond_the_farthest_known_image(fitted, model):
    blurred = [
        gaussian_filter(pictures(20, 5).astype(float), (0, sigma, sigma, 0)).astype(np.uint8)
        for sigma in (1, 2, 4)
    ]
    mild, strong, stronger = (fitted.strangeness(model, images).mean() for images in blurred)
    assert 0 < mild < strong < stronger
    assert strong > 1


def test_stored_and_loaded_it_says_the_same(fitted, model, tmp_path):
    replace(fitted, largest=4000).save(tmp_path / "scope.npz")
    loaded = Scope.load(tmp_path / "scope.npz")
    assert loaded.largest == 4000
    images = pictures(100, 6)
    np.testing.assert_array_equal(loaded.outside(model, images), fitted.outside(model, images))
    np.testing.assert_allclose(
        loaded.strangeness(model, images), fitted.strangeness(model, images), atol=0.006
    )


def test_of_many_features_a_few_components_are_kept_and_stored(model, tmp_path):
    train, labels = pictures(600, 0), np.arange(600) % 2
    fitted = Scope.fit(model, (train, labels), pictures(400, 1), components=2)
    assert fitted.content.precision.shape == (2, 2)
    # Of two channels that say the same, the one component is their sum.
    values = np.random.default_rng(0).normal(size=(500, 1)) * [3, 3, 0.01]
    basis = Gaussian.fit(values, np.arange(500) % 2, components=1).basis
    np.testing.assert_allclose(np.abs(basis.ravel()), [0.5**0.5, 0.5**0.5, 0], atol=1e-2)
    fitted.save(tmp_path / "scope.npz")
    stored, images = Scope.load(tmp_path / "scope.npz"), pictures(50, 2)
    expected = fitted.strangeness(model, images)
    np.testing.assert_allclose(stored.strangeness(model, images), expected, atol=0.01)
