"""Colours of embedded profiles arrive as a calculation by hand says they must."""

import struct

import numpy as np
import pytest
from PIL import Image, ImageCms

from cifake_lib import colour
from cifake_lib.colour import to_srgb

# Red, green and blue of sRGB and of Adobe RGB (1998) in XYZ under D50, by column.
SRGB = np.array(
    [[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]]
)
ADOBE = np.array(
    [[0.60974, 0.20528, 0.14919], [0.31111, 0.62567, 0.06322], [0.01947, 0.06087, 0.74457]]
)
ADOBE_GAMMA = 563 / 256
D50 = np.array([0.9642, 1.0, 0.8249])


def fixed(*numbers) -> bytes:
    """Numbers as ICC writes them: 16 bits before the point, 16 behind."""
    return struct.pack(f">{len(numbers)}i", *(round(65536 * float(n)) for n in numbers))


def xyz(numbers) -> bytes:
    return b"XYZ \0\0\0\0" + fixed(*numbers)


def gamma(exponent: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(256 * exponent)) + b"\0\0"


def curve(values: np.ndarray) -> bytes:
    levels = np.round(65535 * values).astype(">u2")
    return b"curv\0\0\0\0" + struct.pack(">I", len(levels)) + levels.tobytes()


def icc(space: bytes, tags: dict[bytes, bytes], *, connection=b"XYZ ", version=0x02400000) -> bytes:
    """A profile written from the ICC specification."""
    offset, table, body = 128 + 4 + 12 * len(tags), b"", b""
    for signature, data in tags.items():
        table += signature + struct.pack(">II", offset + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    kind = b"prtr" if space == b"CMYK" else b"mntr"
    header = struct.pack(">4xI", version) + kind + space + connection + bytes(12) + b"acsp"
    header = (header + bytes(28) + fixed(*D50)).ljust(124, b"\0")
    rest = header + struct.pack(">I", len(tags)) + table + body
    return struct.pack(">I", len(rest) + 4) + rest


def rgb_profile(primaries: np.ndarray, tone: bytes, tags: dict | None = None, **options) -> bytes:
    columns = {name + b"XYZ": xyz(primaries[:, i]) for i, name in enumerate((b"r", b"g", b"b"))}
    tones = {name + b"TRC": tone for name in (b"r", b"g", b"b")}
    return icc(b"RGB ", {b"wtpt": xyz(D50)} | columns | tones | (tags or {}), **options)


def encoded(linear: np.ndarray) -> np.ndarray:
    """Light to 8-bit sRGB levels, by its standard."""
    linear = np.clip(linear, 0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def decoded(levels: np.ndarray) -> np.ndarray:
    values = levels / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def from_lab(lab) -> np.ndarray:
    """CIE Lab under D50 to 8-bit sRGB levels."""
    lightness, a, b = lab
    f = np.array([a / 500, 0, -b / 200]) + (lightness + 16) / 116
    light = D50 * np.where(f > 6 / 29, f**3, (f - 4 / 29) * 108 / 841)
    return encoded(np.linalg.solve(SRGB, light))


ADOBE_RGB = rgb_profile(ADOBE, gamma(ADOBE_GAMMA))
SRGB_BY_TABLE = rgb_profile(SRGB, curve(decoded(np.linspace(0, 255, 1024))))
SRGB_OF_PILLOW = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
NOISE = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def test_adobe_rgb_becomes_srgb():
    converted = to_srgb(Image.fromarray(NOISE), ADOBE_RGB)
    assert converted.mode == "RGB"
    light = (NOISE / 255) ** ADOBE_GAMMA @ ADOBE.T
    expected = encoded(np.linalg.solve(SRGB, light.reshape(-1, 3).T).T).reshape(NOISE.shape)
    assert np.abs(np.asarray(converted) - expected).max() <= 2
    # Green of Adobe RGB is beyond sRGB; a muted green becomes visibly stronger.
    green = to_srgb(Image.new("RGB", (1, 1), (100, 180, 100)), ADOBE_RGB).getpixel((0, 0))
    assert green[0] < 75 and green[1] in range(178, 184)


def test_grey_profile():
    levels = np.arange(256, dtype=np.uint8).reshape(1, -1)
    profile = icc(b"GRAY", {b"wtpt": xyz(D50), b"kTRC": gamma(1.8)})
    converted = np.asarray(to_srgb(Image.fromarray(levels), profile))
    expected = encoded((levels / 255) ** (round(256 * 1.8) / 256))
    assert converted.shape == (1, 256, 3)
    assert np.abs(converted - expected[..., None]).max() <= 2


def test_printing_inks():
    # Lab of each mixture of inks, as bytes; those not tested are black.
    colours = {
        (0, 0, 0, 0): (255, 128, 128),
        (1, 0, 0, 0): (153, 108, 98),
        (0, 0, 0, 1): (51, 128, 128),
    }
    table = bytes(
        value for ink in np.ndindex(2, 2, 2, 2) for value in colours.get(ink, (0, 128, 128))
    )
    lut = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + fixed(1, 0, 0, 0, 1, 0, 0, 0, 1)
    lut += bytes(range(256)) * 4 + table + bytes(range(256)) * 3
    profile = icc(b"CMYK", {b"wtpt": xyz(D50), b"A2B0": lut}, connection=b"Lab ")
    inks = Image.new("CMYK", (4, 1))
    for x, ink in enumerate([(0, 0, 0, 0), (255, 0, 0, 0), (0, 0, 0, 255), (0, 0, 0, 128)]):
        inks.putpixel((x, 0), ink)
    converted = np.asarray(to_srgb(inks, profile))[0]
    half = 100 - 80 * 128 / 255
    for shown, lab in zip(
        converted, [(100, 0, 0), (60, -20, -30), (20, 0, 0), (half, 0, 0)], strict=True
    ):
        assert np.abs(shown - from_lab(lab)).max() <= 3
    # The conversion without a profile knows no such cyan.
    assert np.abs(converted[1] - np.asarray(inks.convert("RGB"))[0, 1]).max() > 50


@pytest.mark.parametrize("profile", [SRGB_OF_PILLOW, SRGB_BY_TABLE])
def test_srgb_changes_nothing(profile):
    for image in (Image.fromarray(NOISE), Image.fromarray(NOISE[..., 0])):
        assert to_srgb(image, profile) is image


def test_no_profile_changes_nothing():
    image = Image.fromarray(NOISE)
    assert to_srgb(image, None) is image and to_srgb(image, b"") is image


def test_grey_picture_with_a_profile_of_colours():
    grey = Image.fromarray(NOISE[..., 0])
    converted = np.asarray(to_srgb(grey, ADOBE_RGB))
    expected = encoded((NOISE[..., 0] / 255) ** ADOBE_GAMMA)
    assert np.abs(converted - expected[..., None]).max() <= 2


def processing_steps() -> bytes:
    """A profile with a chain of processing steps, of which a small file may hold a million."""
    step = b"matf\0\0\0\0" + struct.pack(">HH12f", 3, 3, *np.eye(3).ravel(), 0, 0, 0)
    chain = b"mpet\0\0\0\0" + struct.pack(">HHIII", 3, 3, 1, 24, len(step)) + step
    return rgb_profile(SRGB, gamma(2.2), {b"D2B0": chain}, version=0x04400000)


@pytest.mark.parametrize(
    "profile",
    [
        b"no profile",
        ADOBE_RGB[:200],
        ADOBE_RGB[:128] + bytes(400),
        ADOBE_RGB.replace(b"RGB ", b"HSV ", 1),
        icc(b"GRAY", {b"wtpt": xyz(D50), b"kTRC": gamma(1.8)}),
        processing_steps(),
        ADOBE_RGB + bytes(colour.MAX_PROFILE_BYTES),
    ],
    ids=["letters", "cut", "zeros", "space", "of a grey picture", "processing steps", "huge"],
)
def test_profiles_that_cannot_be_used_are_ignored(profile):
    image = Image.fromarray(NOISE)
    assert to_srgb(image, profile) is image
