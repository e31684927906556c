"""Every file a visitor may upload gives the right pixels or one clear sentence."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFile

from cifake_lib import images
from cifake_lib.images import ImageError, decode_image, fit_image

RED, GREEN, BLUE, WHITE, BLACK = (
    (255, 0, 0),
    (0, 255, 0),
    (0, 0, 255),
    (255, 255, 255),
    (0, 0, 0),
)
QUADRANTS = np.zeros((32, 48, 3), dtype=np.uint8)
QUADRANTS[:16, :24], QUADRANTS[:16, 24:], QUADRANTS[16:, :24] = RED, GREEN, BLUE


def encode(image: Image.Image, file_format: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def png(width, height, *, depth, colour_type, rows: bytes, transparency: bytes = b"") -> bytes:
    """A PNG written from the specification, not by Pillow."""

    def chunk(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0))
        + (chunk(b"tRNS", transparency) if transparency else b"")
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def pixels(data: bytes) -> list[tuple[int, ...]]:
    image = decode_image(data)
    assert image.mode == "RGB"
    return [tuple(int(v) for v in pixel) for pixel in np.asarray(image).reshape(-1, 3)]


@pytest.mark.parametrize("file_format", ["PNG", "BMP", "TIFF", "PPM", "WEBP"])
def test_lossless_formats_keep_every_pixel(file_format):
    options = {"lossless": True} if file_format == "WEBP" else {}
    decoded = decode_image(encode(Image.fromarray(QUADRANTS), file_format, **options))
    np.testing.assert_array_equal(np.asarray(decoded), QUADRANTS)


def test_jpeg_is_close_to_what_was_saved():
    decoded = np.asarray(decode_image(encode(Image.fromarray(QUADRANTS), "JPEG", quality=95)))
    assert np.abs(decoded[:14, :22].astype(int) - RED).max() <= 3


def test_palette_with_a_transparent_entry():
    image = Image.new("P", (2, 1))
    image.putpalette([*GREEN, *BLUE])
    image.putpixel((1, 0), 1)
    assert pixels(encode(image, "PNG")) == [GREEN, BLUE]
    assert pixels(encode(image, "PNG", transparency=1)) == [GREEN, WHITE]
    assert pixels(encode(image, "GIF", transparency=0)) == [WHITE, BLUE]


def test_alpha_is_laid_on_white():
    image = Image.new("RGBA", (3, 1))
    for x, alpha in enumerate((255, 0, 102)):
        image.putpixel((x, 0), (255, 0, 0, alpha))
    # 102 / 255 = 40 % red on white
    assert pixels(encode(image, "PNG")) == [RED, WHITE, (255, 153, 153)]
    grey = Image.new("LA", (2, 1))
    grey.putpixel((0, 0), (0, 102))
    grey.putpixel((1, 0), (0, 255))
    assert pixels(encode(grey, "PNG")) == [(153, 153, 153), BLACK]


def test_one_bit_is_black_and_white():
    image = Image.new("1", (2, 1))
    image.putpixel((1, 0), 1)
    assert pixels(encode(image, "PNG")) == [BLACK, WHITE]


def test_sixteen_bit_grey_keeps_its_tones():
    rows = b"\0" + struct.pack(">4H", 0, 0x4000, 0x8000, 0xFFFF)
    expected = [(v, v, v) for v in (0, 0x40, 0x80, 0xFF)]
    assert pixels(png(4, 1, depth=16, colour_type=0, rows=rows)) == expected
    transparent = png(
        4, 1, depth=16, colour_type=0, rows=rows, transparency=struct.pack(">H", 0x4000)
    )
    assert pixels(transparent) == [expected[0], WHITE, *expected[2:]]
    tiff = Image.fromarray(np.array([[0, 0x4000, 0x8000, 0xFFFF]], dtype=np.uint16))
    assert pixels(encode(tiff, "TIFF")) == expected
    assert pixels(b"P5 4 1 65535\n" + rows[1:]) == expected


def test_sixteen_bit_colour_and_alpha():
    rows = b"\0" + struct.pack(">6H", 0xFFFF, 0x8000, 0, 0x1234, 0, 0xFFFF)
    assert pixels(png(2, 1, depth=16, colour_type=2, rows=rows)) == [(255, 128, 0), (0x12, 0, 255)]
    marked = png(
        2, 1, depth=16, colour_type=2, rows=rows, transparency=struct.pack(">3H", 0x1234, 0, 0xFFFF)
    )
    assert pixels(marked) == [(255, 128, 0), WHITE]
    rows = b"\0" + struct.pack(">4H", 0, 0, 0, 0xFFFF)
    assert pixels(png(2, 1, depth=16, colour_type=4, rows=rows)) == [WHITE, BLACK]


def test_cmyk_jpeg_is_not_inverted():
    image = Image.new("CMYK", (16, 16), (0, 255, 255, 0))  # no cyan, all magenta and yellow
    decoded = np.asarray(decode_image(encode(image, "JPEG", quality=100)))
    assert np.abs(decoded.astype(int) - RED).max() <= 3


def test_animated_gif_gives_its_first_frame():
    frames = [Image.new("RGB", (4, 4), colour) for colour in (RED, GREEN, BLUE)]
    data = encode(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=50)
    assert set(pixels(data)) == {RED}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation):
    # What a viewer must see, from the EXIF specification: which stored corner is shown top left.
    stored = np.asarray(Image.fromarray(QUADRANTS))
    shown = {
        1: stored,
        2: stored[:, ::-1],
        3: stored[::-1, ::-1],
        4: stored[::-1],
        5: stored.transpose(1, 0, 2),
        6: np.rot90(stored, -1),
        7: stored[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(stored),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    decoded = decode_image(encode(Image.fromarray(QUADRANTS), "PNG", exif=exif))
    np.testing.assert_array_equal(np.asarray(decoded), shown)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_broken_exif_does_not_refuse_the_picture():
    data = encode(Image.fromarray(QUADRANTS), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01")
    assert decode_image(data).size == (48, 32)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "x is empty."),
        (b"Dear reader, this is a letter.", "x is not an image that can be read"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "x is not an image"),
        (b"<?xml version='1.0'?>\n<svg xmlns='http://www.w3.org/2000/svg'/>", "x is an SVG"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "x is an HEIC picture"),
        (b"\x89PNG\r\n\x1a\n", "x is not an image"),
        (png(60000, 60000, depth=8, colour_type=2, rows=b""), "x has too many pixels"),
        (png(11000, 10000, depth=8, colour_type=2, rows=b""), "at most 100 million"),
    ],
)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_refusals_are_one_sentence(data, sentence):
    with pytest.raises(ImageError) as refusal:
        decode_image(data, name="x")
    assert sentence in str(refusal.value)
    assert str(refusal.value).endswith(".") and "\n" not in str(refusal.value)


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF"])
def test_truncated_files_are_refused(file_format):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = encode(Image.fromarray(noise), file_format)
    with pytest.raises(ImageError, match="photo is (damaged|not an image)"):
        decode_image(data[: len(data) // 2], name="photo")


def test_thirty_megabytes_are_the_limit(monkeypatch):
    assert images.MAX_BYTES == 30 * 2**20
    with pytest.raises(ImageError, match=r"expected at most 30 MB, received 30\.0 MB"):
        decode_image(bytes(images.MAX_BYTES + 1))


def test_floating_point_images_are_refused_in_words():
    data = encode(Image.fromarray(np.ones((2, 2), dtype=np.float32)), "TIFF")
    with pytest.raises(ImageError, match="32-bit numbers"):
        decode_image(data)


def test_global_state_of_pillow_stays_as_it_was():
    before = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)
    decode_image(encode(Image.fromarray(QUADRANTS), "PNG"))
    after = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)
    assert after == before


def test_fit_image_is_the_identity_at_its_own_size():
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    np.testing.assert_array_equal(fit_image(Image.fromarray(noise), 32), noise)


def test_fit_image_takes_the_central_square():
    wide = np.zeros((30, 90, 3), dtype=np.uint8)
    wide[:, :30], wide[:, 30:60], wide[:, 60:] = RED, GREEN, BLUE
    fitted = fit_image(Image.fromarray(wide), 10)
    assert fitted.shape == (10, 10, 3) and fitted.dtype == np.uint8
    # The outermost pixels may blend with what lies just outside the square.
    assert (fitted[:, 1:-1] == GREEN).all()


def test_fit_image_averages_when_shrinking():
    # A one-pixel checkerboard has no colour but grey; without antialiasing it turns into stripes.
    board = (np.indices((256, 256)).sum(axis=0) % 2 * 255).astype(np.uint8)
    fitted = fit_image(Image.fromarray(board), 32)
    assert fitted.min() >= 125 and fitted.max() <= 130


@pytest.mark.parametrize("size", [(1, 4000), (4000, 1), (1, 1), (31, 33)])
def test_fit_image_takes_extreme_shapes(size):
    fitted = fit_image(Image.new("RGB", size, RED), 32)
    assert fitted.shape == (32, 32, 3) and (fitted == RED).all()
