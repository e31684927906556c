"""Measure what scoring an archive costs on a cluster of two nodes, killed and started again.

Makes an archive of small files from the embedded sample, starts two Ray nodes on this machine that
share its cores, runs `python -m cifake_lib.bulk`, kills it after a third, and starts it again.
Counts the rows, follows the memory of each kind of process, and plans ten million images from what
was measured.
"""

import argparse
import contextlib
import io
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import psutil
import pyarrow.dataset
import pyarrow.parquet
from PIL import Image
from ray.cluster_utils import Cluster
from reporting import in_fresh_process, machine, machine_line, say, table, timed, write

from cifake_lib import device, paths
from cifake_lib.stores import Store, write_listing

IMAGES = 50_000
KILLED_AFTER = 1 / 3  # of the images
PLANNED = 10_000_000
CORES = (2, 16, 64, 256, 1024)
PRICE = 0.04  # dollars for an hour of one core: an assumption, to be replaced by one's own
OUTPUT = Path(__file__).with_suffix(".json")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure; write JSON and Markdown; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--keep-every", type=int, default=500, help="images in a file of verdicts")
    parser.add_argument("--folder", type=Path, help="for the archive and the verdicts")
    parser.add_argument("--price", type=float, default=PRICE, help="dollars for a core's hour")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args(argv)
    facts = machine() | in_fresh_process(frame)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        measured = measure(Path(folder), options.images, options.keep_every)
    report = {
        "machine": facts,
        "settings": {"price_per_core_hour": options.price, "keep_every": options.keep_every},
        "measured": measured,
        "plan": plan(measured, options.price),
    }
    write(options.output, report, as_markdown(report))
    return 0 if measured["rows"] == measured["distinct"] == options.images else 1


def measure(folder: Path, images: int, keep_every: int) -> dict:
    """Score an archive on two nodes, with a kill in between.

    Args:
        folder: Empty.
        images: How many.
        keep_every: See `bulk.score`.

    Returns:
        What `as_markdown` shows, by name; times in seconds, memory in MB.
    """
    archive, out = folder / "archive", folder / "verdicts"
    seconds, _ = timed(lambda: make_archive(archive, images))
    say(f"{images:,} files made in {seconds:.0f} s")
    listing, _ = timed(lambda: write_listing(Store(str(archive)), Store(str(folder / "l"))))
    cores = os.cpu_count()
    each = max(2, cores // 2 + 1)  # Ray wants two cores for what lists and filters
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 - or they wait for whatever else runs
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": each})
    cluster.add_node(num_cpus=each)
    memory = Memory()
    memory.start()
    try:
        command = [sys.executable, "-m", "cifake_lib.bulk", str(archive), "--out", str(out)]
        command += ["--address", cluster.address, "--keep-every", str(keep_every)]
        first = Start(command, out)
        first.wait(images * KILLED_AFTER)
        first.kill()
        kept = rows(out / "progress")
        second = Start(command, out)
        second.wait(images)
        ended = second.process.wait()
        memory.stop()
    finally:
        memory.stop()
        cluster.shutdown()
    verdicts = pyarrow.dataset.dataset(out / "verdicts").to_table(columns=["path", "error"])
    size = sum(file.stat().st_size for file in (out / "verdicts").iterdir())
    return {
        "images": images,
        "bytes_per_image": round(sum(f.stat().st_size for f in archive.rglob("*.jpg")) / images),
        "nodes": 2,
        "cores": cores,
        "listing_seconds": round(listing, 2),
        "kept_at_kill": kept,
        "first": first.facts(),
        "second": second.facts(),
        "exit_code": ended,
        "rows": verdicts.num_rows,
        "distinct": len(set(verdicts["path"].to_pylist())),
        "unreadable": sum(map(bool, verdicts["error"].to_pylist())),
        "bytes_per_row": round(size / verdicts.num_rows, 1),
        "peak_memory_mb": memory.peaks,
    }


class Start:
    """A start of the command, watched through what it has kept.

    Args:
        command: What to run.
        out: Its folder of verdicts.
    """

    def __init__(self, command: list[str], out: Path):
        """Start it."""
        self._out, self._before = out, rows(out / "progress")
        self._seen: list[tuple[float, int]] = []
        self._begun = time.monotonic()
        self.process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )

    def wait(self, images: float) -> None:
        """Wait until so many images are kept, or the command has ended."""
        told = 0.0
        while self.process.poll() is None:
            kept, now = rows(self._out / "progress"), time.monotonic() - self._begun
            if kept > (self._seen[-1][1] if self._seen else self._before):
                self._seen.append((now, kept))
            if now > told + 30:
                told = now
                say(f"{now:.0f} s: {kept:,} images")
            if kept >= images:
                return
            time.sleep(0.5)

    def kill(self) -> None:
        """End it as a power cut would."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def facts(self) -> dict:
        """Seconds until the first verdicts were kept, and images a second from then on."""
        (began, at_first), (ended, at_last) = self._seen[0], self._seen[-1]
        rate = (at_last - at_first) / (ended - began) if ended > began else float("nan")
        return {
            "seconds_to_first": round(began, 1),
            "seconds": round(ended, 1),
            "images_per_second": round(rate, 2),
        }


def rows(folder: Path) -> int:
    """Return how many rows the finished Parquet files of a folder have."""
    count = 0
    for file in folder.glob("*.parquet"):
        with contextlib.suppress(OSError, pyarrow.ArrowInvalid):  # renamed, or being written
            if ".pending" not in file.name:
                count += pyarrow.parquet.read_metadata(file).num_rows
    return count


class Memory(threading.Thread):
    """Follows the largest process of each kind: resident memory without what is shared."""

    kinds = ("Judge", "CheckpointFilter", "cifake_lib.bulk", "raylet", "gcs_server")

    def __init__(self):
        """Look at nothing yet."""
        super().__init__(daemon=True)
        self.peaks: dict[str, int] = {}
        self._ended = threading.Event()

    def run(self) -> None:
        """Look every two seconds."""
        while not self._ended.wait(2):
            for process in psutil.process_iter(["cmdline"]):
                line = " ".join(process.info["cmdline"] or [])
                kind = next((kind for kind in self.kinds if kind in line), None)
                if kind is None:
                    continue
                with contextlib.suppress(psutil.Error):
                    used = round(process.memory_full_info().uss / 2**20)
                    self.peaks[kind] = max(used, self.peaks.get(kind, 0))

    def stop(self) -> None:
        """Look no more."""
        self._ended.set()


def make_archive(folder: Path, images: int) -> None:
    """Write small JPEG files in folders of a thousand, the sample's images moved by some pixels."""
    with zipfile.ZipFile(paths.data_dir() / "sample.zip") as sample:
        names = [name for name in sample.namelist() if name.endswith(".jpg")]
        pictures = [np.asarray(Image.open(io.BytesIO(sample.read(name)))) for name in names]
    for number in range(images):
        turn, which = divmod(number, len(pictures))
        moved = np.roll(pictures[which], (turn // 8, turn % 8), axis=(0, 1))
        file = folder / f"{number // 1000:04}" / f"{number:08}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(moved).save(file, quality=90)


def frame() -> dict:
    """Return backend and device, for the facts of the machine."""
    from cifake_lib.framework import keras

    return {"backend": keras.backend.backend(), "device": device.device_name()}


def plan(measured: dict, price: float) -> dict:
    """Plan ten million images from what was measured.

    Args:
        measured: See `measure`.
        price: Dollars for an hour of one core.
    """
    rate = measured["second"]["images_per_second"] / measured["cores"]
    hours = PLANNED / rate / 3600
    factor = PLANNED / measured["images"]
    return {
        "images": PLANNED,
        "images_per_second_and_core": round(rate, 2),
        "core_hours": round(hours),
        "dollars": round(hours * price),
        "hours_by_cores": {str(cores): round(hours / cores, 1) for cores in CORES},
        "listing_minutes": round(measured["listing_seconds"] * factor / 60, 1),
        "verdicts_gb": round(measured["bytes_per_row"] * PLANNED / 2**30, 1),
        "read_gb": round(measured["bytes_per_image"] * PLANNED / 2**30, 1),
    }


def as_markdown(report: dict) -> str:
    """Write the page: what was measured, and the plan."""
    measured, planned = report["measured"], report["plan"]
    first, second = measured["first"], measured["second"]
    starts = [
        ["first, killed", *_row(first), f"{measured['kept_at_kill']:,}"],
        ["second, to the end", *_row(second), f"{measured['rows']:,}"],
    ]
    memory = [[f"`{kind}`", f"{mb:,}"] for kind, mb in sorted(measured["peak_memory_mb"].items())]
    hours = [[cores, f"{value:,}"] for cores, value in planned["hours_by_cores"].items()]
    price = report["settings"]["price_per_core_hour"]
    judge = measured["peak_memory_mb"].get("Judge", 0)
    return "\n\n".join(
        [
            "# Scoring an archive",
            f"{measured['images']:,} files of {measured['bytes_per_image']:,} bytes on "
            f"{measured['nodes']} Ray nodes that share the {measured['cores']} cores of one "
            "machine; the command was killed after a third and started again. Made by `bulk.py`.",
            table(["start", "s to first verdicts", "s", "images/s", "images kept"], starts),
            f"In the end {measured['rows']:,} rows for {measured['distinct']:,} different files; "
            f"{measured['unreadable']:,} could not be read. Listing them took "
            f"{measured['listing_seconds']} s; a verdict takes {measured['bytes_per_row']} bytes.",
            table(["largest process of its kind", "MB, not shared"], memory),
            "A judge reads 64 files at a time, and at most 64 MB of them, so its memory does not "
            "grow with the archive. That of the filter does: it holds the paths that are done.",
            "## Ten million images",
            f"At {planned['images_per_second_and_core']} images a second and core, as above, "
            f"{planned['images']:,} take {planned['core_hours']:,} core hours: about "
            f"{planned['dollars']:,} dollars at {price} dollars for an hour of a core, which is an "
            "assumption (`--price`). Cores differ: measure yours first.",
            table(["cores", "hours"], hours),
            f"- **Memory.** {judge:,} MB for each core that judges, beside what Ray takes.\n"
            f"- **Listing.** {planned['listing_minutes']} minutes from a local disk; an object "
            "store answers with a page of names at a time.\n"
            f"- **Reading.** {planned['read_gb']} GB at the size of these files. Photographs are "
            "larger, take longer to decode, and go to a model of their own: score some of your "
            "archive before you plan for all of it.\n"
            f"- **Writing.** {planned['verdicts_gb']} GB of verdicts.\n"
            "- **Losses.** A machine that is lost costs what its judges had begun, at most "
            "`--keep-every` images each. If the command is lost, give it once more.",
            machine_line(report["machine"]),
        ]
    )


def _row(start: dict) -> list[str]:
    return [
        f"{start['seconds_to_first']:.0f}",
        f"{start['seconds']:,.0f}",
        f"{start['images_per_second']}",
    ]


if __name__ == "__main__":
    sys.exit(main())
