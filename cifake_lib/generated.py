"""Images of other origin, made here: small generators, and pictures that no detector here knows.

Two scripted generators stand in for those that a reader may not have at hand. They are not
Stable Diffusion and prove nothing about it; they show how a detector does on fakes of another make.

    principal_components  draws from a normal distribution around the mean photograph, along the
                          directions in which photographs differ most (Turk & Pentland 1991)
    autoencoder           shrinks a photograph to a quarter of its side, 16 numbers a place, and
                          back with a network trained here on other photographs: what the decoder of
                          a latent diffusion model does (Rombach et al. 2022), without the diffusion
"""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw
from sklearn.decomposition import PCA

from cifake_lib.corruptions import corrupt_batch
from cifake_lib.crops import images_together
from cifake_lib.framework import keras

COMPONENTS = 300  # directions that the first generator draws along
_VALUES = 2**25  # of the photographs that it learns from: fewer of them if they are large
_PATCH = 64  # side in pixels of what the autoencoder is trained on, at most
_WORDS = (
    *("verdict", "real", "image", "pixel", "model", "noise"),
    *("light", "camera", "source", "sample", "proof", "detail"),
)


def principal_components(photographs: np.ndarray, count: int, *, seed: int = 0) -> np.ndarray:
    """Draw images from a normal distribution fitted to photographs.

    Args:
        photographs: uint8 `(N, S, S, 3)`, at least 2; of large ones the first few hundred are used.
        count: Images to draw.
        seed: Of the drawing.

    Returns:
        uint8 `(count, S, S, 3)`: blurred scenes without objects, with the photographs' spectrum.
    """
    few = photographs[: max(2, _VALUES // photographs[0].size)]
    flat = few.reshape(len(few), -1).astype(np.float32)
    pca = PCA(min(COMPONENTS, len(flat) - 1), svd_solver="randomized", random_state=seed).fit(flat)
    rng = np.random.default_rng(seed)
    drawn = rng.normal(size=(count, pca.n_components_)) * np.sqrt(pca.explained_variance_)
    return _to_uint8(pca.inverse_transform(drawn)).reshape(count, *photographs.shape[1:])


def train_autoencoder(photographs: np.ndarray, *, epochs: int = 12, seed: int = 0) -> keras.Model:
    """Train the network of the generator `autoencoder`.

    Args:
        photographs: uint8 `(N, S, S, 3)`; of large ones it sees a random part.
        epochs: Passes over them.
        seed: Of weights and order.

    Returns:
        Model from and to float32 images `(N, P, P, 3)` in 0–1, through a quarter of the side and 16
        channels; P is S, a multiple of 4, or 64, whichever is least.
    """
    keras.utils.set_random_seed(seed)
    side = photographs.shape[1]
    patch = min(_PATCH, side // 4 * 4)
    if patch < side:
        corners = np.random.default_rng(seed).integers(0, side - patch + 1, (len(photographs), 2))
        photographs = np.stack(
            [
                image[top : top + patch, left : left + patch]
                for image, (top, left) in zip(photographs, corners.tolist(), strict=True)
            ]
        )
    model = _autoencoder(patch)
    model.compile(keras.optimizers.Adam(2e-3), loss="mse")
    scaled = photographs.astype(np.float32) / 255
    model.fit(scaled, scaled, batch_size=64, epochs=epochs, verbose=0)
    return model


def reconstruct(autoencoder: keras.Model, photographs: np.ndarray) -> np.ndarray:
    """Return photographs as `train_autoencoder`'s network draws them, uint8 of the same shape."""
    side = photographs.shape[1]
    edge = -side % 4
    if autoencoder.input_shape[1] != side + edge:
        trained = autoencoder.get_weights()
        autoencoder = _autoencoder(side + edge)  # Convolutions draw pictures of any size.
        autoencoder.set_weights(trained)
    padded = np.pad(photographs, ((0, 0), (0, edge), (0, edge), (0, 0)), mode="edge")
    scaled = padded.astype(np.float32) / 255
    drawn = autoencoder.predict(scaled, batch_size=4 * images_together(side), verbose=0)
    return _to_uint8(255 * drawn)[:, :side, :side]


def _autoencoder(size: int) -> keras.Model:
    layers = keras.layers
    # float32 whatever the policy: rounding would be a trace that no real decoder leaves.
    common = {"padding": "same", "dtype": "float32"}
    return keras.Sequential(
        [
            keras.Input((size, size, 3)),
            layers.Conv2D(32, 4, strides=2, activation="relu", **common),
            layers.Conv2D(64, 4, strides=2, activation="relu", **common),
            layers.Conv2D(16, 1, **common),
            layers.Conv2DTranspose(64, 4, strides=2, activation="relu", **common),
            layers.Conv2DTranspose(32, 4, strides=2, activation="relu", **common),
            layers.Conv2D(3, 3, activation="sigmoid", **common),
        ],
        name="autoencoder",
    )


def strangers(photographs: np.ndarray, *, count: int = 100, seed: int = 0) -> dict[str, np.ndarray]:
    """Make images unlike photographs, to see whether a check notices them.

    Args:
        photographs: uint8 `(N, S, S, 3)`, at least `count`; the blurred and the enlarged images are
            made of the first.
        count: Images of each kind.
        seed: Of all that is random.

    Returns:
        Kind → uint8 `(count, S, S, 3)`: `blurred` (Gaussian, σ 2 px), `enlarged` (the middle third,
        at full size), `texture` (sums of gratings), `line_art` (black strokes on white), `text` (a
        page with lines of words, shrunk) and `noise` (every pixel drawn by itself).
    """
    rng = np.random.default_rng(seed)
    size, some = photographs.shape[1], photographs[:count]
    third = slice(size // 3, size - size // 3)
    drawn: dict[str, Callable[[], Image.Image]] = {
        "line_art": lambda: _line_art(rng),
        "text": lambda: _text(rng),
    }
    return {
        "blurred": corrupt_batch(some, "blur", severity=5, seed=seed),
        "enlarged": np.stack(
            [_fitted(Image.fromarray(image[third, third]), size) for image in some]
        ),
        "texture": np.stack([_texture(rng, size) for _ in range(count)]),
        **{
            kind: np.stack([_fitted(draw(), size) for _ in range(count)])
            for kind, draw in drawn.items()
        },
        "noise": rng.integers(0, 256, (count, size, size, 3), dtype=np.uint8),
    }


def _to_uint8(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _fitted(image: Image.Image, size: int) -> np.ndarray:
    return np.asarray(image.convert("RGB").resize((size, size), Image.Resampling.BICUBIC))


def _texture(rng: np.random.Generator, size: int) -> np.ndarray:
    y, x = np.mgrid[:size, :size]
    gratings = [
        rng.normal(size=3)
        * np.sin(rng.uniform(0.2, 1.6) * (x * np.cos(a) + y * np.sin(a)))[..., None]
        for a in rng.uniform(0, np.pi, 4)
    ]
    return _to_uint8(rng.uniform(80, 175, 3) + 35 * sum(gratings))


def _line_art(rng: np.random.Generator) -> Image.Image:
    page = Image.new("RGB", (256, 256), "white")
    draw = ImageDraw.Draw(page)
    for _ in range(rng.integers(4, 9)):
        points = [tuple(point) for point in rng.integers(10, 246, (rng.integers(2, 6), 2)).tolist()]
        draw.line(points, fill="black", width=int(rng.integers(4, 10)), joint="curve")
    left, top = rng.integers(10, 120, 2).tolist()
    width, height = rng.integers(40, 120, 2).tolist()
    draw.ellipse((left, top, left + width, top + height), outline="black", width=6)
    return page


def _text(rng: np.random.Generator) -> Image.Image:
    dark = rng.random() < 0.3
    page = Image.new("RGB", (256, 256), "#1e1e1e" if dark else "white")
    draw = ImageDraw.Draw(page)
    for top in range(8, 248, 22):
        line = " ".join(rng.choice(_WORDS, 6).tolist())
        draw.text((8, top), line, fill="#dddddd" if dark else "black", font_size=18)
    return page
