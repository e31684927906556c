"""Every file a visitor may upload gives the right pixels or one clear sentence."""

import importlib.util
import io
import struct
import sys
import zipfile
import zlib

import fuzz_images
import numpy as np
import pytest
from PIL import Image, ImageCms, ImageFile, PngImagePlugin

from cifake_lib import images, paths
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

# What a program that honours profiles shows as green is stored as red, and the other way round.
SWAPPED = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
SWAPPED = SWAPPED.replace(b"rXYZ", b"tXYZ").replace(b"gXYZ", b"rXYZ").replace(b"tXYZ", b"gXYZ")

# Of lossy formats, how far the middle of a flat area may be from what was saved, in levels.
LOSSY = {"JPEG": 3, "MPO": 3, "WEBP": 4, "AVIF": 3, "HEIC": 3}
READS_HEIC = pytest.mark.skipif(
    importlib.util.find_spec("pillow_heif") is None, reason="without pillow-heif, as on Colab"
)


def heif():
    """The package that reads and writes HEIC, which Colab does not have."""
    return pytest.importorskip("pillow_heif")


def encode(image: Image.Image, file_format: str, **options) -> bytes:
    buffer = io.BytesIO()
    if file_format == "HEIC":
        exif = options.pop("exif", Image.Exif()).tobytes()
        heif().from_pillow(image).save(buffer, exif=exif, **options)
    else:
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


def tiff(width, height, *, tags: dict[int, int], data: bytes) -> bytes:
    """A TIFF of one uncompressed strip, written from the specification, not by Pillow."""
    tags = {256: width, 257: height, 259: 1, 273: 0, 278: height, 279: len(data)} | tags
    offset = 8 + 2 + 12 * len(tags) + 4
    tags[273] = offset
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, tags[tag]) for tag in sorted(tags))
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + data


def bmp(width, height, *, bits, data: bytes, compression=0, palette: bytes = b"") -> bytes:
    """A BMP written from the specification, not by Pillow."""
    start = 14 + 40 + len(palette)
    return (
        b"BM"
        + struct.pack("<IHHI", start + len(data), 0, 0, start)
        + struct.pack("<IiiHHI", 40, width, height, 1, bits, compression)
        + struct.pack("<IiiII", len(data), 0, 0, len(palette) // 4, 0)
        + palette
        + data
    )


def jpeg(samples: tuple[int, ...], *, adobe_transform: int | None = None) -> bytes:
    """A JPEG of one flat block, written from the specification, not by Pillow."""

    def segment(marker, body):
        return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body

    # One Huffman code of 4 bits for each size of a difference; of the other coefficients, only
    # the code 0 for "all zero" is needed.
    differences = bytes([0, 0, 0, 12, *[0] * 12, *range(12)])
    zeros = bytes([1, *[0] * 15, 0])
    bits = ""
    for sample in samples:
        level = sample - 128  # times 8 in the transform, divided by 8 in the table
        size = abs(level).bit_length()
        bits += f"{size:04b}"
        bits += f"{level if level > 0 else level + 2**size - 1:0{size}b}" if size else ""
        bits += "0"
    bits += "1" * (-len(bits) % 8)
    scan = bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)).replace(
        b"\xff", b"\xff\0"
    )
    count = len(samples)
    parts = b"".join(bytes([i + 1, 0x11, 0]) for i in range(count))
    adobe = b"" if adobe_transform is None else b"Adobe\0\x64\0\0\0\0" + bytes([adobe_transform])
    return (
        b"\xff\xd8"
        + (segment(0xEE, adobe) if adobe else b"")
        + segment(0xDB, b"\0" + b"\x08" * 64)
        + segment(0xC0, struct.pack(">BHHB", 8, 8, 8, count) + parts)
        + segment(0xC4, b"\0" + differences)
        + segment(0xC4, b"\x10" + zeros)
        + segment(0xDA, bytes([count, *(v for i in range(count) for v in (i + 1, 0)), 0, 63, 0]))
        + scan
        + b"\xff\xd9"
    )


@pytest.mark.parametrize("file_format", ["PNG", "BMP", "TIFF", "PPM", "WEBP", "GIF"])
def test_lossless_formats_keep_every_pixel(file_format):
    options = {"lossless": True} if file_format == "WEBP" else {}
    decoded = decode_image(encode(Image.fromarray(QUADRANTS), file_format, **options))
    np.testing.assert_array_equal(np.asarray(decoded), QUADRANTS)


@pytest.mark.parametrize("file_format", LOSSY)
def test_lossy_formats_are_close_to_what_was_saved(file_format):
    decoded = np.asarray(decode_image(encode(Image.fromarray(QUADRANTS), file_format, quality=95)))
    assert decoded.shape == QUADRANTS.shape
    for rows in (slice(2, 14), slice(18, 30)):
        for columns in (slice(2, 22), slice(26, 46)):
            difference = decoded[rows, columns].astype(int) - QUADRANTS[rows, columns]
            assert np.abs(difference).max() <= LOSSY[file_format]


@pytest.mark.parametrize("size", [(32, 32), (31, 17), (200, 90)])
@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("progressive", [False, True])
def test_plain_jpegs_are_what_libjpeg_decodes(size, mode, progressive):
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    data = encode(Image.fromarray(noise).convert(mode), "JPEG", progressive=progressive)
    expected = Image.open(io.BytesIO(data)).convert("RGB")
    np.testing.assert_array_equal(np.asarray(decode_image(data)), np.asarray(expected))


def test_cifake_is_what_libjpeg_decodes():
    with zipfile.ZipFile(paths.project_root() / "data" / "sample.zip") as sample:
        names = [name for name in sample.namelist() if name.endswith((".jpg", ".png"))]
        assert len(names) > 1000
        for name in names[::10]:
            data = sample.read(name)
            with Image.open(io.BytesIO(data)) as image:
                assert image.info.get("icc_profile") is None
                expected = np.asarray(image.convert("RGB"))
            np.testing.assert_array_equal(np.asarray(decode_image(data)), expected)


def test_heic_is_what_libheif_decodes():
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    data = encode(Image.fromarray(noise), "HEIC")
    expected = np.asarray(heif().read_heif(data))
    np.testing.assert_array_equal(np.asarray(decode_image(data)), expected)


def test_heic_with_alpha_and_with_ten_bits():
    clear = Image.new("RGBA", (64, 64), (255, 0, 0, 0))
    assert np.asarray(decode_image(encode(clear, "HEIC", quality=95))).min() >= 252
    ramp = np.linspace(0, 65535, 64 * 64 * 3).reshape(64, 64, 3).astype(np.uint16)
    deep = heif().from_bytes("RGB;16", (64, 64), ramp.tobytes())
    buffer = io.BytesIO()
    deep.save(buffer, quality=-1, chroma=444)
    assert heif().open_heif(buffer, convert_hdr_to_8bit=False).info["bit_depth"] == 10
    decoded = np.asarray(decode_image(buffer.getvalue())).astype(int)
    assert np.abs(decoded - ramp / 257).max() <= 3


def test_bmp_by_the_specification():
    # Rows from the bottom up, blue first, each padded to four bytes.
    rows = bytes([255, 0, 0, 0, 0, 0, 0, 0]) + bytes([0, 0, 255, 0, 255, 0, 0, 0])
    assert pixels(bmp(2, 2, bits=24, data=rows)) == [RED, GREEN, BLUE, BLACK]
    palette = bytes([0, 0, 255, 0, 0, 255, 0, 0])
    runs = bytes([3, 1, 0, 0, 1, 0, 2, 1, 0, 1])
    assert pixels(bmp(3, 2, bits=8, compression=1, palette=palette, data=runs)) == [
        *(RED, GREEN, GREEN),
        *(GREEN, GREEN, GREEN),
    ]


def test_gif_by_the_specification():
    # Clear code, 0, 1, 1, end code, of three bits each, the lowest bits first.
    codes = sum(code << 3 * i for i, code in enumerate([4, 0, 1, 1, 5])).to_bytes(2, "little")
    data = b"GIF89a\3\0\1\0\x80\0\0" + bytes([*RED, *BLUE])
    data += b",\0\0\0\0\3\0\1\0\0" + b"\2\2" + codes + b"\0;"
    assert pixels(data) == [RED, BLUE, BLUE]


@pytest.mark.parametrize(
    ("tags", "data", "expected"),
    [
        ({258: 8, 262: 2, 277: 3}, bytes([*RED, *GREEN]), [RED, GREEN]),
        ({258: 8, 262: 1, 277: 1}, bytes([0, 200]), [BLACK, (200, 200, 200)]),
        ({258: 8, 262: 0, 277: 1}, bytes([0, 200]), [WHITE, (55, 55, 55)]),
        ({258: 16, 262: 1, 277: 1}, struct.pack("<2H", 0x8000, 0xFFFF), [(128,) * 3, WHITE]),
        # Cyan, magenta, yellow and black ink: none of the first, and full black.
        ({258: 8, 262: 5, 277: 4}, bytes([0, 255, 255, 0, 0, 0, 0, 255]), [RED, BLACK]),
    ],
    ids=["colour", "grey", "white is zero", "16 bit", "inks"],
)
def test_tiff_by_the_specification(tags, data, expected):
    assert pixels(tiff(2, 1, tags=tags, data=data)) == expected


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_compressed_tiff_keeps_every_pixel(compression):
    data = encode(Image.fromarray(QUADRANTS), "TIFF", compression=compression)
    np.testing.assert_array_equal(np.asarray(decode_image(data)), QUADRANTS)


def test_ppm_by_the_specification():
    assert pixels(b"P6 2 1 255\n" + bytes([*RED, *BLUE])) == [RED, BLUE]
    assert pixels(b"P3 # a comment\n2 1 15\n15 0 0  0 0 15\n") == [RED, BLUE]
    assert pixels(b"P5 2 1 255\n\0\xff") == [BLACK, WHITE]
    assert pixels(b"P4 2 1\n\x80") == [BLACK, WHITE]


@pytest.mark.parametrize(
    ("samples", "adobe_transform", "expected"),
    [
        ((200,), None, (200, 200, 200)),
        ((76, 85, 255), None, (254, 0, 0)),  # brightness and colour differences of red
        ((255, 0, 0), 0, RED),  # stored as red, green and blue
        ((255, 0, 0, 255), 0, RED),  # inks as Adobe stores them: 255 is none
        ((255, 255, 255, 55), 0, (55, 55, 55)),
        # Brightness and colour differences of the three inks, and black as above.
        ((0, 128, 128, 255), 2, WHITE),
        ((179, 171, 1, 255), 2, RED),
    ],
)
def test_jpeg_by_the_specification(samples, adobe_transform, expected):
    decoded = pixels(jpeg(samples, adobe_transform=adobe_transform))
    assert len(decoded) == 64
    assert np.abs(np.array(decoded) - expected).max() <= 1


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


@pytest.mark.parametrize("file_format", ["GIF", "WEBP", "TIFF", "PNG", "AVIF", "MPO"])
def test_only_the_first_frame_is_decoded(file_format):
    frames = [Image.new("RGB", (16, 16), colour) for colour in (RED, GREEN, BLUE)]
    data = encode(frames[0], file_format, save_all=True, append_images=frames[1:], quality=95)
    with Image.open(io.BytesIO(data)) as image:
        assert image.n_frames == 3
    assert np.abs(np.array(pixels(data)) - RED).max() <= LOSSY.get(file_format, 0)


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIC"])
def test_embedded_profile_is_honoured(file_format):
    options = {"lossless": True} if file_format == "WEBP" else {"quality": 95}
    data = encode(Image.new("RGB", (64, 64), RED), file_format, icc_profile=SWAPPED, **options)
    decoded = decode_image(data)
    assert np.abs(np.asarray(decoded).astype(int) - GREEN).max() <= 6
    # Whoever saves or shows the image must not apply the profile again.
    assert np.abs(np.array(pixels(encode(decoded, "PNG"))) - GREEN).max() <= 6


def test_profile_under_transparency():
    image = Image.new("RGBA", (2, 1), (255, 0, 0, 102))
    image.putpixel((1, 0), (255, 0, 0, 0))
    shown, clear = pixels(encode(image, "PNG", icc_profile=SWAPPED))
    assert np.abs(np.array(shown) - (153, 255, 153)).max() <= 2 and clear == WHITE


@pytest.mark.parametrize("profile", [b"no profile", SWAPPED[:150], SWAPPED[:132] + bytes(500)])
def test_broken_profile_does_not_refuse_the_picture(profile):
    data = encode(Image.fromarray(QUADRANTS), "PNG", icc_profile=profile)
    np.testing.assert_array_equal(np.asarray(decode_image(data)), QUADRANTS)


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


@pytest.mark.parametrize("file_format", ["JPEG", "WEBP", "TIFF", "AVIF", "HEIC"])
def test_exif_orientation_is_applied_once_in_every_format(file_format):
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encode(Image.fromarray(QUADRANTS), file_format, quality=95, exif=exif)
    decoded = np.asarray(decode_image(data)).astype(int)
    assert decoded.shape == (48, 32, 3)
    for (row, column), colour in {(10, 8): BLUE, (10, 24): RED, (38, 24): GREEN}.items():
        assert np.abs(decoded[row, column] - colour).max() <= 4


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_broken_exif_does_not_refuse_the_picture():
    data = encode(Image.fromarray(QUADRANTS), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01")
    assert decode_image(data).size == (48, 32)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "x is empty: expected an image, received 0 bytes"),
        (b"Dear reader, this is a letter.", "x is not an image that can be read"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "x is not an image"),
        (b"<?xml version='1.0'?>\n<svg xmlns='http://www.w3.org/2000/svg'/>", "x is an SVG"),
        pytest.param(b"\0\0\0\x18ftypheic\0\0\0\0", "x is damaged or incomplete", marks=READS_HEIC),
        (b"\0\0\0\x18ftypisom\0\0\0\0", "x is a video: please choose a JPEG"),
        (b"%PDF-1.7\n", "x is a PDF document: please choose a JPEG"),
        (b"PK\x03\x04\x14\0", "x is a zip archive or an office document"),
        (b"\xff\x0a\xfa\x1f", "x is a JPEG XL picture"),
        (encode(Image.new("RGB", (4, 4)), "PCX"), "x is not an image that can be read"),
        (encode(Image.new("RGB", (4, 4)), "TGA"), "x is not an image that can be read"),
        (b"\x89PNG\r\n\x1a\n", "x is not an image"),
        (png(60000, 60000, depth=8, colour_type=2, rows=b""), "x has too many pixels"),
        (png(11000, 10000, depth=8, colour_type=2, rows=b""), "at most 100 million"),
        (png(11000, 10000, depth=8, colour_type=2, rows=b""), "received 11,000 × 10,000"),
        (png(100000, 1, depth=8, colour_type=2, rows=b""), "received 100,000 × 1"),
        (png(1, 30001, depth=8, colour_type=2, rows=b""), "at most 30,000 pixels a side"),
    ],
)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_refusals_are_one_sentence(data, sentence):
    with pytest.raises(ImageError) as refusal:
        decode_image(data, name="x")
    assert sentence in str(refusal.value)
    assert str(refusal.value).endswith(".") and "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "file_format", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "AVIF", "HEIC"]
)
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
    def state():
        return (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, set(Image.OPEN))

    before = state()
    for file_format in ("PNG", "HEIC"):
        decode_image(encode(Image.fromarray(QUADRANTS), file_format))
    assert state() == before


def test_heic_without_its_package_says_what_to_do(monkeypatch):
    data = encode(Image.fromarray(QUADRANTS), "HEIC")
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(ImageError, match=r"x is an HEIC picture.*export it as JPEG.*pillow-heif"):
        decode_image(data, name="x")


PAGE = b"<html><script>alert(1)</script></html>"


def archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("run.py", "raise SystemExit")
    return buffer.getvalue()


@pytest.mark.parametrize("file_format", ["PNG", "GIF", "BMP", "WEBP", "TIFF"])
@pytest.mark.parametrize("tail", [PAGE, archive(), b"\0" * 9999], ids=["page", "zip", "zeros"])
def test_image_that_is_something_else_too_is_decoded_as_the_image(file_format, tail):
    options = {"lossless": True} if file_format == "WEBP" else {}
    data = encode(Image.fromarray(QUADRANTS), file_format, **options) + tail
    assert tail != archive() or zipfile.is_zipfile(io.BytesIO(data))
    np.testing.assert_array_equal(np.asarray(decode_image(data)), QUADRANTS)


def test_jpeg_with_something_behind_it():
    data = encode(Image.fromarray(QUADRANTS), "JPEG")
    assert pixels(data + PAGE + archive()) == pixels(data)


def test_page_within_a_png():
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", PAGE.decode())
    decoded = decode_image(encode(Image.fromarray(QUADRANTS), "PNG", pnginfo=text))
    np.testing.assert_array_equal(np.asarray(decoded), QUADRANTS)
    assert PAGE not in encode(decoded, "PNG")


def test_name_is_used_as_it_is():
    with pytest.raises(ImageError, match=r"^<b>x</b>\.png is empty: .*\.$"):
        decode_image(b"", name="<b>x</b>.png")


@pytest.mark.parametrize("kind", ["text", "profile"])
def test_text_that_unpacks_to_megabytes_is_refused_in_words(kind):
    if kind == "text":
        text = PngImagePlugin.PngInfo()
        text.add_text("Comment", "a" * 2 * 2**20, zip=True)
        data = encode(Image.fromarray(QUADRANTS), "PNG", pnginfo=text)
    else:
        data = encode(Image.fromarray(QUADRANTS), "PNG", icc_profile=bytes(2 * 2**20))
    with pytest.raises(ImageError, match="more than 1 MB: please save it again without metadata"):
        decode_image(data)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_progressive_jpeg_of_very_many_scans_is_refused():
    data = encode(Image.new("L", (64, 64), 100), "JPEG", progressive=True)
    scan = data[data.rindex(b"\xff\xda") : -2]
    many = data[:-2] + scan * 1000
    assert set(pixels(many + data[-2:])) == {(100, 100, 100)}
    size = many.index(b"\xff\xc2") + 5
    huge = many[:size] + struct.pack(">HH", 10000, 10000) + many[size + 4 :]
    with pytest.raises(ImageError, match="takes too long to decode"):
        decode_image(huge + data[-2:])


def test_decoding_that_does_not_end_is_given_up(monkeypatch):
    monkeypatch.setattr(images, "MAX_SECONDS", 0.1)
    lines_without_pixels = bmp(
        9000, 9000, bits=8, compression=1, palette=bytes(1024), data=bytes(10 * 2**20)
    )
    with pytest.raises(ImageError, match=r"takes too long.*within 0\.1 seconds"):
        decode_image(lines_without_pixels)


def test_huge_tile_in_a_small_tiff_is_refused():
    # A whole tile is decoded for the few pixels of the picture: 17 MB here, a gigabyte from 1 MB.
    side = 4112
    tile = zlib.compress(bytes(side**2))
    tags = {258: 8, 259: 8, 262: 1, 277: 1, 322: side, 323: side, 324: 0, 325: len(tile)}
    tags[324] = len(tiff(16, 16, tags=tags, data=b""))
    with pytest.raises(ImageError, match="damaged"):
        decode_image(tiff(16, 16, tags=tags, data=tile))


def test_preview_of_a_raw_file_is_not_taken_for_the_picture():
    data = tiff(2, 1, tags={254: 1, 258: 8, 262: 2, 277: 3}, data=bytes(6))
    with pytest.raises(ImageError, match="small preview.*please export the picture as JPEG"):
        decode_image(data)


@pytest.mark.filterwarnings("ignore")
def test_damaged_files_of_every_format_are_decoded_or_refused():
    report = fuzz_images.fuzz(count=161, seed=0)
    assert not report.failures, "\n".join(report.failures)
    known = {"jpeg", "png", "webp", "gif", "bmp", "tiff", "ppm", "avif"}
    if importlib.util.find_spec("pillow_heif"):
        known.add("heic")
    assert known <= set(report.outcomes)
    assert sum(outcome.decoded for outcome in report.outcomes.values()) > 20
    assert sum(outcome.refused for outcome in report.outcomes.values()) > 20


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


def thirds(width=90, height=30):
    """A picture of a red, a green and a blue square side by side."""
    pixels = np.zeros((height, width, 3), np.uint8)
    for place in range(3):
        pixels[:, place * width // 3 : (place + 1) * width // 3, place] = 255
    return Image.fromarray(pixels)


@pytest.mark.parametrize("upright", [False, True])
def test_crops_keep_the_middle_or_squash_the_whole(upright):
    image = thirds().transpose(Image.Transpose.ROTATE_90) if upright else thirds()
    middle, whole, part = (fit_image(image, 36, crop) for crop in ("centre", "squash", "random"))
    assert {array.shape for array in (middle, whole, part)} == {(36, 36, 3)}
    # Away from the borders between the squares, which resizing mixes.
    inside = middle[3:-3, 3:-3]
    assert (inside[..., 1] > 250).all() and (inside[..., [0, 2]] < 5).all()
    assert whole.mean(axis=(0, 1)) == pytest.approx([85, 85, 85], abs=3)
    assert (part[..., 1] == 255).all()


def test_the_random_crop_is_served_from_the_middle_of_eight_sevenths():
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    np.testing.assert_array_equal(fit_image(image, 224, "random"), noise[16:-16, 16:-16])


def test_an_unknown_crop_is_refused():
    with pytest.raises(ValueError, match="'centre', 'squash', 'random'.*received 'center'"):
        fit_image(thirds(), 32, "center")
