"""Damage image files of every format and check that `decode_image` never does worse than refuse.

    python tests/fuzz_images.py --count 2000 --seed 0

Each damaged file must give either an RGB image within the limits or an `ImageError` of one
sentence, within seconds and without memory that stays. It needs no deep-learning framework.
"""

from __future__ import annotations

import argparse
import faulthandler
import gc
import io
import struct
import sys
import time
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import psutil
from PIL import Image, ImageCms

from cifake_lib.images import MAX_PIXELS, MAX_SIDE, ImageError, decode_image

# A picture of 100 million pixels takes 5 seconds and more on a busy machine.
MAX_FILE_SECONDS = 20
MAX_GROWTH = 50 * 2**20
# The first files make the decoders allocate what they keep.
_WARM_UP = 50


@dataclass
class Outcome:
    """What became of the damaged files of one format."""

    decoded: int = 0
    refused: int = 0
    seconds: list[float] = field(default_factory=list)


@dataclass
class Report:
    """What became of all damaged files."""

    outcomes: dict[str, Outcome]
    failures: list[str]
    growth: int
    """Resident memory at the end less that after the first files, in bytes."""

    def __str__(self) -> str:
        lines = [f"{'format':<16} files decoded refused slowest"]
        total = Outcome()
        for name, outcome in self.outcomes.items():
            lines.append(_row(name, outcome))
            total.decoded += outcome.decoded
            total.refused += outcome.refused
            total.seconds += outcome.seconds
        lines += [_row("all", total), f"memory growth {self.growth / 2**20:+.1f} MB"]
        return "\n".join([*lines, *self.failures])


def _row(name: str, outcome: Outcome) -> str:
    return (
        f"{name:<16} {len(outcome.seconds):5} {outcome.decoded:7} {outcome.refused:7} "
        f"{1000 * max(outcome.seconds, default=0):4.0f} ms"
    )


def fixtures() -> dict[str, bytes]:
    """Return one small valid file for each format and way of coding, by name."""
    noise = np.random.default_rng(0).integers(0, 256, (40, 56, 4), dtype=np.uint8)
    noise[:20] = 200  # Flat parts make runs, which decoders treat apart.
    rgba = Image.fromarray(noise)
    rgb, grey, cmyk = rgba.convert("RGB"), rgba.convert("L"), rgba.convert("CMYK")
    deep = Image.fromarray(noise.astype(np.uint16)[..., 0] * 257)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "description"
    frames = {"save_all": True, "append_images": [rgb.rotate(90)], "duration": 50}
    row = bytes([56, 7, 0, 0])
    files = {
        "jpeg": _encode(rgb, "JPEG", exif=exif, icc_profile=profile),
        "jpeg progressive": _encode(rgb, "JPEG", progressive=True),
        "jpeg cmyk": _encode(cmyk, "JPEG"),
        "mpo": _encode(rgb, "MPO", save_all=True, append_images=[rgb]),
        "png": _encode(rgba, "PNG", exif=exif, icc_profile=profile),
        "png palette": _encode(rgb.quantize(16), "PNG", transparency=3),
        "png 16 bit": _encode(deep, "PNG"),
        "webp": _encode(rgb, "WEBP", exif=exif, icc_profile=profile),
        "webp lossless": _encode(rgba, "WEBP", lossless=True),
        "webp animated": _encode(rgb, "WEBP", **frames),
        "bmp": _encode(rgb, "BMP"),
        "bmp rle": b"BM"
        + struct.pack("<IHHI", 0, 0, 0, 14 + 40 + 1024)
        + struct.pack("<IiiHHIIiiII", 40, 56, 40, 1, 8, 1, 0, 0, 0, 256, 0)
        + np.arange(1024, dtype=np.uint8).tobytes()
        + row * 40
        + b"\0\1",
        "gif": _encode(rgb.quantize(32), "GIF", transparency=3, comment=b"comment"),
        "gif animated": _encode(rgb, "GIF", **frames),
        "tiff": _encode(rgba, "TIFF", exif=exif, icc_profile=profile),
        "tiff lzw": _encode(rgb, "TIFF", compression="tiff_lzw"),
        "tiff jpeg": _encode(rgb, "TIFF", compression="jpeg"),
        "tiff pages": _encode(deep, "TIFF", save_all=True, append_images=[rgb]),
        "ppm": _encode(rgb, "PPM"),
        "ppm text": b"P2 # comment\n8 5 9\n" + b"1 2 3 4 5 6 7 8\n" * 5,
        "avif": _encode(rgba, "AVIF", exif=exif, icc_profile=profile, speed=10),
        "grey": _encode(grey, "PNG"),
    }
    try:
        import pillow_heif
    except ImportError:
        return files
    buffer = io.BytesIO()
    pillow_heif.from_pillow(rgb).save(buffer, exif=exif.tobytes(), icc_profile=profile)
    return files | {"heic": buffer.getvalue()}


def _encode(image: Image.Image, file_format: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def _flip_bits(data: bytearray, rng: np.random.Generator, _other: bytes) -> bytearray:
    for position in rng.integers(0, len(data), rng.integers(1, 9)):
        data[position] ^= 1 << rng.integers(0, 8)
    return data


def _truncate(data: bytearray, rng: np.random.Generator, _other: bytes) -> bytearray:
    return data[: rng.integers(0, len(data))]


def _edit_header(data: bytearray, rng: np.random.Generator, _other: bytes) -> bytearray:
    for position in rng.integers(0, min(64, len(data)), rng.integers(1, 5)):
        data[position] = rng.integers(0, 256)
    return data


def _edit_length(data: bytearray, rng: np.random.Generator, _other: bytes) -> bytearray:
    """Write an extreme number where a length, size or offset may stand."""
    number = rng.choice([0, 1, 0x7F, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0xFFFFFFFF])
    field_bytes = int(rng.choice([2, 4]))
    order = rng.choice(["little", "big"])
    written = (int(number) % 256**field_bytes).to_bytes(field_bytes, order)
    # Most lengths stand near the beginning.
    end = len(data) if rng.random() < 0.5 else min(200, len(data))
    position = rng.integers(0, max(1, end - field_bytes))
    data[position : position + field_bytes] = written
    return data


def _splice(data: bytearray, rng: np.random.Generator, other: bytes) -> bytearray:
    start, end = sorted(rng.integers(0, len(other), 2))
    position = rng.integers(0, len(data))
    replaced = rng.integers(0, end - start + 1)
    data[position : position + replaced] = other[start:end]
    return data


def _repeat(data: bytearray, rng: np.random.Generator, _other: bytes) -> bytearray:
    start, end = sorted(rng.integers(0, len(data), 2))
    data[start:start] = data[start:end] * int(rng.integers(1, 20))
    return data


MUTATIONS: tuple[Callable[[bytearray, np.random.Generator, bytes], bytearray], ...] = (
    _flip_bits,
    _truncate,
    _edit_header,
    _edit_length,
    _splice,
    _repeat,
)


def mutate(
    files: dict[str, bytes], *, name: str, rng: np.random.Generator
) -> tuple[bytes, list[str]]:
    """Return a damaged copy of one of the files, and the names of the mutations."""
    data, done = bytearray(files[name]), []
    others = list(files.values())
    for _ in range(rng.integers(1, 4)):
        mutation = MUTATIONS[rng.integers(len(MUTATIONS))]
        if data:
            data = mutation(data, rng, others[rng.integers(len(others))])
            done.append(mutation.__name__.strip("_"))
    # PNG alone has checksums, which would keep most damage from what decodes it.
    if data.startswith(b"\x89PNG") and rng.random() < 0.7:
        _repair_checksums(data)
    return bytes(data), done


def _repair_checksums(data: bytearray) -> None:
    position = 8
    while position + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, position)
        end = position + 8 + length
        if end + 4 > len(data):
            break
        struct.pack_into(">I", data, end, zlib.crc32(data[position + 4 : end]))
        position = end + 4


def check(data: bytes) -> tuple[bool, str]:
    """Decode a file; return whether that gave an image, and what is wrong ("" if nothing is)."""
    try:
        image = decode_image(data, name="file")
    except ImageError as refusal:
        sentence = str(refusal)
        one = sentence.startswith("file ") and sentence.endswith(".") and sentence.count(". ") == 0
        return False, "" if one and "\n" not in sentence else f"no sentence: {sentence!r}"
    except BaseException as error:
        return False, f"raised {error!r}"
    width, height = image.size
    right = 0 < width * height <= MAX_PIXELS and max(width, height) <= MAX_SIDE
    if image.mode != "RGB" or not right or np.asarray(image).shape != (height, width, 3):
        return True, f"gave {image.mode} of {image.size}"
    return True, ""


def fuzz(*, count: int, seed: int) -> Report:
    """Decode `count` damaged files, the formats in turn; file `i` depends on seed and `i` alone."""
    files = fixtures()
    names = list(files)
    report = Report({name: Outcome() for name in names}, [], 0)
    process, resident = psutil.Process(), 0
    for index in range(count):
        if index == min(_WARM_UP, count - 1):
            gc.collect()
            resident = process.memory_info().rss
        name = names[index % len(names)]
        data, mutations = mutate(files, name=name, rng=np.random.default_rng((seed, index)))
        # Stuck in a decoder: end the process, and say where.
        faulthandler.dump_traceback_later(10 * MAX_FILE_SECONDS, exit=True)
        start = time.perf_counter()
        decoded, wrong = check(data)
        seconds = time.perf_counter() - start
        if seconds > MAX_FILE_SECONDS:
            wrong = wrong or f"took {seconds:.1f} s"
        outcome = report.outcomes[name]
        outcome.decoded += decoded
        outcome.refused += not decoded
        outcome.seconds.append(seconds)
        if wrong:
            report.failures.append(f"seed {seed}, file {index} ({name}, {mutations}): {wrong}")
    faulthandler.cancel_dump_traceback_later()
    gc.collect()
    report.growth = process.memory_info().rss - resident
    if report.growth > MAX_GROWTH:
        report.failures.append(f"memory grew by {report.growth / 2**20:.0f} MB")
    return report


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=2000, help="damaged files to decode")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    faulthandler.enable()
    warnings.simplefilter("ignore")  # Pillow warns of each damage it finds.
    report = fuzz(count=options.count, seed=options.seed)
    print(report)
    return bool(report.failures)


if __name__ == "__main__":
    sys.exit(main())
