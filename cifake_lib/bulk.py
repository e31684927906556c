"""Judge an archive of any size on one machine or many, with Ray Data; needs the extra `bulk`.

    python -m cifake_lib.bulk photos/ --out verdicts/
    python -m cifake_lib.bulk s3://bucket/photos --out s3://bucket/verdicts --address auto

Folders are named as fsspec names them: a path, `s3://bucket/folder` (with the package s3fs),
`zip://::archive.zip`. The verdicts are those of the dashboard and of `cifake_lib.detect`.

In the folder of --out:

    verdicts/   Parquet files with a row for each image: path, SHA-256, scores, verdict, error
    listing/    which images there are, found anew at each start
    progress/   paths that are done; the same command once more goes on where it stopped
    run.json    models, operating point and versions, which must stay the same

Every image gets one row, however often the work was interrupted and whatever machine was lost.
One that cannot be read has the reason in `error`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import pyarrow
import pyarrow.dataset
import ray

from cifake_lib.analyst import Picture
from cifake_lib.decisions import TITLES
from cifake_lib.detect import ALL_READ, NO_MODEL, REFUSED, SOME_UNREADABLE
from cifake_lib.detector import ModelsMissing
from cifake_lib.exports import Examined
from cifake_lib.images import MAX_BYTES, ImageError, decode_image
from cifake_lib.routing import Router
from cifake_lib.runs import MODEL_SETS
from cifake_lib.stores import Store, write_listing

if TYPE_CHECKING:
    import numpy as np

_READ_TOGETHER, _BYTES_TOGETHER = 64, 64 * 2**20  # images in memory at once, and their files
_READERS = 16  # threads that wait for a remote store
_STARTS = 3  # of Ray on this machine, which fails where the machine is busy
_BESIDE = 2  # cores of the cluster that Ray counts for what lists and filters; both are seldom busy


class OtherModels(Exception):
    """The folder holds verdicts of other models or of another operating point."""


class ClusterNotReady(Exception):
    """Ray did not start, or counts fewer cores than the steps need that run at the same time."""


class Judge:
    """Judges batches in a process of its own; loads the models once.

    Args:
        archive: Where the images lie.
        runs: See `Detector.load`.
        threshold: Key of the operating point.
    """

    def __init__(self, archive: Store, runs: str, threshold: str):
        self._archive, self._threshold = archive, threshold
        self._router = Router.load(runs=runs)
        self._schema = schema(self._router)
        self._readers = ThreadPoolExecutor(_READERS)

    def __call__(self, batch: dict[str, np.ndarray]) -> pyarrow.Table:
        """Turn columns `path` and `bytes` into a table of verdicts."""
        rows = []
        listed = list(zip(batch["path"].tolist(), batch["bytes"].tolist(), strict=True))
        for together in _bounded(listed):
            found = list(self._readers.map(self._read, *zip(*together, strict=True)))
            pictures = [each for each in found if isinstance(each, Picture)]
            judged = iter(self._router.examine(pictures, threshold=self._threshold))
            for each in found:
                record = next(judged).record if isinstance(each, Picture) else each
                rows.append(_row(record))
        return pyarrow.Table.from_pylist(rows, schema=self._schema)

    def _read(self, path: str, size: int) -> Picture | Examined:
        content = b""
        try:
            if size > MAX_BYTES:
                limit = MAX_BYTES / 2**20
                raise ImageError(f"{path} is too large: expected at most {limit:.0f} MB.")
            content = self._archive.read(path)
            return Picture(decode_image(content, name=path), content, path)
        except (OSError, ImageError) as error:
            return Examined.refused(content, name=path, error=str(error) or repr(error))


def schema(router: Router) -> pyarrow.Schema:
    """Return the columns of the verdicts: those of `Examined`, and `p_fake_<model>` for each."""
    text, number = pyarrow.string(), pyarrow.float64()
    columns = {"path": text, "sha256": text, "size_bytes": pyarrow.int64(), "examined_utc": text}
    columns |= {"format": text, "width": pyarrow.int32(), "height": pyarrow.int32()}
    columns |= {"verdict": text, "p_fake": number}
    keys = [
        key for kind in (router.small, router.photographs) if kind for key in kind.detector.models
    ]
    columns |= {f"p_fake_{key}": number for key in keys}
    columns |= {"threshold_name": text, "threshold": number, "reason": text, "error": text}
    return pyarrow.schema(columns.items())


def score(
    source: str,
    target: str,
    *,
    runs: str = "released",
    threshold: str = "balanced",
    address: str | None = None,
    keep_every: int = 1_000,
) -> Counter[str]:
    """Judge all images beneath a folder that have no verdict yet.

    Args:
        source: Folder of images, as fsspec names it.
        target: Folder for the verdicts, likewise; all machines must reach both.
        runs: Whose verdicts, see `Detector.load`.
        threshold: Operating point, a key of `decisions.TITLES`.
        address: Of a Ray cluster, "auto" for the one this machine belongs to; None for one on this
            machine alone.
        keep_every: Images whose verdicts are written together, into one file. What an interrupted
            start had judged since is judged anew.

    Returns:
        How many images have which verdict, those of earlier starts included; "unreadable" is one.

    Raises:
        FileNotFoundError: There is no such folder.
        ModelsMissing: There is no trained model.
        OtherModels: See the class.
        ClusterNotReady: See the class.
    """
    archive, out = Store(str(source)), Store(str(target))
    _keep_settings(out, Router.load(runs=runs), threshold)
    if not write_listing(archive, out):
        return Counter()
    _join(address)
    _run(archive, out, runs, threshold, keep_every)
    verdicts = pyarrow.dataset.dataset(out.path("verdicts"), filesystem=out.arrow)
    counts = (
        verdicts.to_table(columns=["verdict"]).group_by("verdict").aggregate([([], "count_all")])
    )
    return Counter({row["verdict"] or "unreadable": row["count_all"] for row in counts.to_pylist()})


def _join(address: str | None) -> None:
    if ray.is_initialized():
        return
    if address:
        ray.init(address=address, logging_level="WARNING")
        return
    for attempt in range(1, _STARTS + 1):
        try:
            ray.init(
                address="local",
                num_cpus=os.cpu_count() + _BESIDE,
                include_dashboard=False,
                logging_level="WARNING",
            )
            return
        except Exception as error:  # Ray's own kind, where its helpers took over 15 s to start.
            if attempt == _STARTS:
                raise ClusterNotReady(
                    f"Ray did not start in {_STARTS} tries; a busy machine is the usual reason. "
                    f"Try again when it is not. ({error})"
                ) from error
            ray.shutdown()


def _run(archive: Store, out: Store, runs: str, threshold: str, keep_every: int) -> None:
    judges = int(ray.cluster_resources()["CPU"]) - _BESIDE
    if judges < 2:  # or all of them wait for each other
        raise ClusterNotReady(
            f"Expected a cluster of at least {_BESIDE + 2} cores, found {judges + _BESIDE}. "
            "`ray start --num-cpus=N` may say more than a machine has."
        )
    context = ray.data.DataContext.get_current()
    context.checkpoint_config = ray.data.checkpoint.CheckpointConfig(
        "path",
        out.path("progress"),
        delete_checkpoint_on_success=False,  # or the next start would judge everything once more
        override_filesystem=out.arrow,
    )
    listing = ray.data.read_parquet(out.path("listing"), filesystem=out.arrow, concurrency=1)
    listing = listing.repartition(target_num_rows_per_block=keep_every)
    judged = listing.map_batches(
        Judge,
        fn_constructor_args=(archive, runs, threshold),
        batch_size=_READ_TOGETHER,
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=judges),
        num_cpus=1,
    )
    judged.write_parquet(
        out.path("verdicts"),
        filesystem=out.arrow,
        concurrency=2,  # each takes a moment, and a process of its own
        ray_remote_args={"num_cpus": 0.1},
    )


def _keep_settings(out: Store, router: Router, threshold: str) -> None:
    """Write what the verdicts are made with, or compare with what is written there.

    Raises:
        OtherModels: They differ.
    """
    settings: dict[str, Any] = {"threshold": threshold, "provenance": asdict(router.provenance)}
    settings["limits"] = router.provenance.limits
    path, files = out.path("run.json"), out.arrow.handler.fs
    files.makedirs(out.path(), exist_ok=True)
    if files.exists(path):
        kept = json.loads(files.cat_file(path))
        settings = json.loads(json.dumps(settings))
        if kept != settings:
            differ = ", ".join(key for key in settings if kept.get(key) != settings[key])
            raise OtherModels(
                f"{out.url} holds verdicts made with other settings ({differ}; see run.json there)."
                " Verdicts of both would be mixed: choose another folder."
            )
    else:
        files.pipe_file(path, json.dumps(settings, indent=2).encode())


def _bounded(listed: Sequence[tuple[str, int]]) -> Iterator[list[tuple[str, int]]]:
    """Cut into parts whose files take a bounded amount of memory together."""
    part, size = [], 0
    for path, count in listed:
        if part and size + count > _BYTES_TOGETHER:
            yield part
            part, size = [], 0
        part.append((path, count))
        size += count
    if part:
        yield part


def _row(record: Examined) -> dict[str, Any]:
    row = asdict(record)
    row |= {f"p_fake_{key}": value for key, value in record.models.items()}
    return row | {"path": record.name}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code, see `cifake_lib.detect`."""
    parser = argparse.ArgumentParser(
        prog="python -m cifake_lib.bulk",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("source", metavar="FOLDER", help="images in it and in all folders beneath")
    add("--out", required=True, metavar="FOLDER", help="where the verdicts go")
    add("--address", help="of a Ray cluster, auto for this machine's; default: this machine alone")
    add("--threshold", default="balanced", choices=list(TITLES), help="operating point")
    add("--models", default="released", choices=list(MODEL_SETS), help="whose verdicts")
    add("--keep-every", type=int, default=1_000, metavar="N", help="images in a file of verdicts")
    options = parser.parse_args(arguments)
    try:
        counts = score(
            options.source,
            options.out,
            runs=options.models,
            threshold=options.threshold,
            address=options.address,
            keep_every=options.keep_every,
        )
    except (FileNotFoundError, OtherModels, ClusterNotReady, ImportError) as error:
        print(error, file=sys.stderr)
        return REFUSED
    except ModelsMissing as error:
        print(error, file=sys.stderr)
        return NO_MODEL
    words = ("REAL", "FAKE", "UNCERTAIN", "unreadable")
    told = ", ".join(f"{counts[word]:,} {word}" for word in words)
    print(f"{counts.total():,} images: {told}")
    return SOME_UNREADABLE if counts["unreadable"] else ALL_READ


if __name__ == "__main__":
    sys.exit(main())
