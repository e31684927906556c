"""Measure how fast the released models load and judge images, and hold it against the limits.

All in one fresh process: the framework is imported, then the models are loaded, then they judge.
The dashboard's light engine is faster to load and slower with many images.
"""

import argparse
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from reporting import in_fresh_process, machine, machine_line, say, table, timed, write

SEED = 0
CALLS = 30
MANY = 1000
# What the project promises on two CPU cores.
LIMITS = {"load_seconds": 4.0, "one_image_ms": 150.0, "many_images_seconds": 20.0}
NAMES = {
    "load_seconds": ("load all models, s", 2),
    "one_image_ms": (f"one 32×32 image through all models, ms (median of {CALLS})", 1),
    "many_images_seconds": (f"{MANY:,} images of 32×32 in one call, s", 2),
    "first_image_ms": ("the very first image, ms", 1),
    "peak_memory_mb": ("peak memory of the process, MB", 0),
}
OUTPUT = Path(__file__).with_suffix(".json")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure; write JSON and Markdown.

    Returns:
        Exit status: 1 with `--check` if a limit is missed, else 0.
    """
    options = _parse(argv)
    facts, measured = machine(), in_fresh_process(measure)
    report = judge(measured)
    facts |= {name: measured.pop(name) for name in ("backend", "device")}
    report = {"machine": facts, **report}
    write(options.output, report, as_markdown(report))
    missed = [NAMES[name][0] for name, passed in report["passed"].items() if not passed]
    for name in missed:
        say(f"Limit missed: {name}")
    return 1 if options.check and missed else 0


def measure() -> dict:
    """Load the released models and let them judge; runs in a fresh process.

    Returns:
        The values of `NAMES`, `models` (run id of each), `backend` and `device`.

    Raises:
        SystemExit: A released model is missing.
    """
    from cifake_lib import device, models  # noqa: F401
    from cifake_lib.detector import Detector
    from cifake_lib.framework import keras

    load, detector = timed(lambda: Detector.load(light=False))
    if detector.missing:
        raise SystemExit(f"Expected all released models, received {detector.missing}")
    say(f"loaded {len(detector.models)} models in {load:.2f} s")
    shape = (MANY, 32, 32, 3)
    images = np.random.default_rng(SEED).integers(0, 256, shape, dtype=np.uint8)
    first, _ = timed(lambda: detector.predict(images[:1]))
    calls = [timed(lambda: detector.predict(images[:1]))[0] for _ in range(CALLS)]
    say(f"one image: first {1000 * first:.0f} ms, then {1000 * statistics.median(calls):.1f} ms")
    many, _ = timed(lambda: detector.predict(images))
    say(f"{MANY} images: {many:.2f} s")
    return {
        "load_seconds": round(load, 3),
        "one_image_ms": round(1000 * statistics.median(calls), 2),
        "many_images_seconds": round(many, 3),
        "first_image_ms": round(1000 * first, 2),
        "peak_memory_mb": round(device.peak_memory_mb()),
        "models": {key: run.run_id for key, run in detector.runs.items()},
        "backend": keras.backend.backend(),
        "device": device.device_name(),
    }


def judge(measured: dict) -> dict:
    """Hold what was measured against `LIMITS`: `measured`, `limits` and `passed`, name by name."""
    passed = {name: measured[name] <= limit for name, limit in LIMITS.items()}
    return {"measured": measured, "limits": dict(LIMITS), "passed": passed}


def as_markdown(report: dict) -> str:
    """Return the report as Markdown: measured values with their limits, the machine."""
    rows = []
    for name, (text, decimals) in NAMES.items():
        limit = report["limits"].get(name)
        verdict = ["–", "–"]
        if limit is not None:
            verdict = [f"{limit:g}", "pass" if report["passed"][name] else "FAIL"]
        rows.append([text, f"{report['measured'][name]:,.{decimals}f}", *verdict])
    models = ", ".join(f"{key} `{run}`" for key, run in report["measured"]["models"].items())
    return "\n\n".join(
        [
            "# Inference speed",
            f"The released models ({models}) in a fresh process, after the import of the "
            "framework. Made by `inference_speed.py`.",
            table(["what", "measured", "limit", ""], rows),
            machine_line(report["machine"]),
        ]
    )


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="exit with 1 if a limit is missed")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="JSON; Markdown lies beside it")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
