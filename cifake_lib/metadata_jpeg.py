"""What the header of a JPEG file tells about its encoder."""

from __future__ import annotations

import numpy as np

_LUMINANCE = """
16 11 10 16 24 40 51 61 12 12 14 19 26 58 60 55 14 13 16 24 40 57 69 56 14 17 22 29 51 87 80 62
18 22 37 56 68 109 103 77 24 35 55 64 81 104 113 92 49 64 78 87 103 121 120 101
72 92 95 98 112 100 103 99"""
_CHROMINANCE = """
17 18 24 47 99 99 99 99 18 21 26 66 99 99 99 99 24 26 56 99 99 99 99 99 47 66 99 99 99 99 99 99
99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99"""

# Files list a table along the diagonals of the 8×8 block, turning at each end.
_ZIGZAG = sorted(
    range(64), key=lambda i: (i // 8 + i % 8, i // 8 if (i // 8 + i % 8) % 2 else i % 8)
)
_SUBSAMPLINGS = {
    (1, 1): "4:4:4 (colour in full resolution)",
    (2, 1): "4:2:2 (colour at half the width)",
    (2, 2): "4:2:0 (colour at half the width and height)",
    (1, 2): "4:4:0 (colour at half the height)",
    (4, 1): "4:1:1 (colour at a quarter of the width)",
    (4, 2): "4:1:0 (colour at a quarter of the width, half the height)",
}
_FRAMES = {0: "baseline", 1: "sequential", 2: "progressive", 3: "lossless"}


def _scaled_tables() -> np.ndarray:
    base = np.array([_LUMINANCE.split(), _CHROMINANCE.split()], dtype=np.int64)[:, _ZIGZAG]
    quality = np.arange(1, 101)
    scale = np.where(quality < 50, 5000 // quality, 200 - 2 * quality)
    return np.clip((base * scale[:, np.newaxis, np.newaxis] + 50) // 100, 1, 255)


_TABLES = _scaled_tables()


def estimate_quality(tables: list[np.ndarray]) -> tuple[int, bool]:
    """Find the quality setting whose quantisation tables come closest.

    Source: the example tables of ITU-T T.81, annex K.1, scaled as `jpeg_set_quality` of the
    Independent JPEG Group's library does it.

    Args:
        tables: Luminance, and chrominance if there is one: 64 steps each, in the order of the file.

    Returns:
        The setting, 1–100, and whether the tables are exactly those of that setting.
    """
    given = np.clip(np.asarray(tables[:2], dtype=np.int64), 1, 255)
    distances = np.abs(_TABLES[:, : len(given)] - given).sum(axis=(1, 2))
    best = int(distances.argmin())
    return best + 1, bool(distances[best] == 0)


def quantisation_tables(body: bytes) -> dict[int, np.ndarray]:
    """Read a DQT segment.

    Source: ITU-T T.81, section B.2.4.1.

    Args:
        body: The segment without marker and length.

    Returns:
        64 steps by number of the table, in the order of the file; a cut-off table is left out.
    """
    tables, position = {}, 0
    while position < len(body):
        kind = ">u2" if body[position] >> 4 else "u1"
        size = 64 * np.dtype(kind).itemsize
        steps = body[position + 1 : position + 1 + size]
        if len(steps) == size:
            tables[body[position] & 15] = np.frombuffer(steps, dtype=kind)
        position += 1 + size
    return tables


def encoder_facts(marker: int, frame: bytes, tables: dict[int, np.ndarray]) -> dict[str, str]:
    """Describe an encoder by the frame header and the quantisation tables.

    Source: ITU-T T.81, section B.2.2.

    Args:
        marker: Second byte of the start-of-frame marker, 0xC0–0xCF.
        frame: Body of that segment: bits, height, width, and three bytes per component.
        tables: As `quantisation_tables` returns them.

    Returns:
        Values by name: quality, colour resolution, kind of frame.
    """
    components = [frame[6 + 3 * i : 9 + 3 * i] for i in range(frame[5])]
    numbers = dict.fromkeys(part[2] for part in components)
    used = [tables[number] for number in numbers if number in tables]
    facts = {}
    if used and marker & 3 != 3:
        quality, exact = estimate_quality(used)
        facts["Quality"] = (
            f"{quality} of 100 (standard quantisation tables)"
            if exact
            else f"about {quality} of 100 (the encoder has its own quantisation tables)"
        )
    if len(components) >= 3:
        facts["Colour resolution"] = _subsampling([part[1] for part in components])
    arithmetic = ", arithmetic coding" if marker >= 0xC8 else ""
    facts["Kind of JPEG"] = _FRAMES[marker & 3] + arithmetic
    return facts


def _subsampling(factors: list[int]) -> str:
    """Name the scheme by the sampling factors, a byte per component: across, then down."""
    pairs = [(factor >> 4, factor & 15) for factor in factors]
    first, *colours = pairs[:3]
    across, down = (first[axis] / colours[0][axis] if colours[0][axis] else 0 for axis in range(2))
    if colours[0] == colours[1] and (across, down) in _SUBSAMPLINGS:
        return _SUBSAMPLINGS[across, down]
    return "unusual: " + ", ".join(f"{pair[0]}×{pair[1]}" for pair in pairs)
