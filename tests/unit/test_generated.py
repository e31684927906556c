"""Images made here: they are what their names say, and the same again."""

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import laplace

from cifake_lib import generated


def photographs(count, seed=0):
    """Smooth colour gradients with an edge, all different."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, 4, 4, 3)).astype(np.float32)
    fine = coarse.repeat(8, axis=1).repeat(8, axis=2)
    return np.clip(fine + rng.normal(0, 4, fine.shape), 0, 255).astype(np.uint8)


def detail(images):
    return np.mean([np.abs(laplace(image.mean(axis=-1))).mean() for image in images.astype(float)])


@pytest.mark.parametrize("kind", ["principal_components", "strangers"])
def test_the_same_seed_draws_the_same(kind):
    source = photographs(40)

    def make(seed):
        if kind == "strangers":
            return np.concatenate(list(generated.strangers(source, count=5, seed=seed).values()))
        return generated.principal_components(source, 5, seed=seed)

    assert make(3).dtype == np.uint8
    np.testing.assert_array_equal(make(3), make(3))
    assert (make(3) != make(4)).any()


def test_drawn_images_vary_as_photographs_do():
    source = photographs(400)
    drawn = generated.principal_components(source, 400)
    assert drawn.shape == source.shape
    np.testing.assert_allclose(drawn.mean(axis=0), source.mean(axis=0), atol=35)
    assert drawn.std(axis=0).mean() == pytest.approx(source.std(axis=0).mean(), rel=0.2)
    # They are new pictures: none is as near to a photograph as the photographs' own noise.
    apart = np.abs(drawn[:20, None].astype(float) - source[None]).mean(axis=(2, 3, 4))
    assert apart.min() > 15


def test_the_autoencoder_redraws_photographs_it_has_not_seen():
    model = generated.train_autoencoder(photographs(300), epochs=8)
    new = photographs(50, seed=1)
    redrawn = generated.reconstruct(model, new)
    assert redrawn.shape == new.shape
    assert redrawn.dtype == np.uint8
    error = np.abs(redrawn.astype(float) - new)
    shuffled = np.abs(redrawn[::-1].astype(float) - new)
    assert 0 < error.mean() < 0.4 * shuffled.mean()


@pytest.mark.parametrize("size", [30, 100])
def test_generators_learn_from_photographs_of_any_size(size):
    source = np.stack(
        [np.array(Image.fromarray(image).resize((size, size))) for image in photographs(8)]
    )
    model = generated.train_autoencoder(source, epochs=1)
    assert model.input_shape[1] == min(64, size // 4 * 4)
    redrawn = generated.reconstruct(model, source[:2])
    assert redrawn.shape == (2, size, size, 3)
    # The same network at another size: far from the edges a part is drawn as in the whole.
    alone = generated.reconstruct(model, source[:2, :28, :28])
    np.testing.assert_allclose(alone[:, :12, :12].astype(int), redrawn[:, :12, :12], atol=1)
    assert generated.principal_components(source, 3).shape == (3, size, size, 3)


def test_of_large_photographs_some_are_enough(monkeypatch):
    monkeypatch.setattr(generated, "_VALUES", 10 * 32 * 32 * 3)
    some = generated.principal_components(photographs(40), 3)
    np.testing.assert_array_equal(some, generated.principal_components(photographs(40)[:10], 3))


def test_strangers_are_what_they_are_called():
    source = photographs(20)
    made = generated.strangers(source, count=20)
    assert list(made) == ["blurred", "enlarged", "texture", "line_art", "text", "noise"]
    assert {images.shape for images in made.values()} == {(20, 32, 32, 3)}
    assert detail(made["blurred"]) < 0.6 * detail(source)
    assert detail(made["noise"]) > 3 * detail(source)
    # The middle third is one or four of the source's squares: fewer colours, softer edges.
    middle = source[:, 10:22, 10:22].mean(axis=(1, 2))
    np.testing.assert_allclose(made["enlarged"].mean(axis=(1, 2)), middle, atol=6)
    paper = made["line_art"].mean(axis=-1)
    assert np.median(paper) > 240
    assert (paper.min(axis=(1, 2)) < 100).all()
    grey = np.ptp(made["text"].astype(int), axis=-1)
    assert grey.max() <= 2
    # Every texture is a picture of its own, and repeats.
    assert len({image.tobytes() for image in made["texture"]}) == 20
