"""Judge files from a script, with the verdicts of the dashboard.

    python -m cifake_lib.detect holiday.jpg photos/ archive.zip --csv verdicts.csv

or in Python:

    from cifake_lib.detect import examine
    for record in examine(["holiday.jpg", "photos/"]):
        print(record.name, record.verdict, record.p_fake)
"""

from __future__ import annotations

import argparse
import sys
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from PIL import Image
from tqdm.auto import tqdm

from cifake_lib import unpacking
from cifake_lib.analyst import Picture
from cifake_lib.decisions import TITLES
from cifake_lib.detect_report import Report
from cifake_lib.detector import ModelsMissing
from cifake_lib.exports import Examined, to_csv, to_json
from cifake_lib.images import MAX_BYTES, ImageError, decode_image
from cifake_lib.routing import Router
from cifake_lib.runs import MODEL_SETS

ALL_READ, SOME_UNREADABLE, REFUSED, NO_MODEL = range(4)  # exit codes
_LARGEST_ZIP = 2 * 2**30  # bytes; a zip is read as a whole
_LIMITS = {"entries": 100_000, "total_bytes": 50 * 2**30}
_TOGETHER, _PIXELS_TOGETHER = 64, 16_000_000  # pictures in a call, and their pixels

_EPILOG = """
A folder is gone through with all folders in it, in the order of names; of its files those are taken
that are images or zips. A zip gives its images. What cannot be read stays as a row that says why.

exit codes:
  0  everything was read
  1  some files could not be read: see their rows
  2  the arguments are wrong, or there is no such file
  3  there is no trained model
"""


def examine(
    paths: Sequence[str | Path],
    *,
    router: Router | None = None,
    threshold: str = "balanced",
    seen: Callable[[Examined, Image.Image | None], None] | None = None,
) -> Iterator[Examined]:
    """Judge files, the images in folders, and those in zips.

    Args:
        paths: Files and folders.
        router: Who judges; the released models if None.
        threshold: Operating point, a key of `decisions.TITLES`.
        seen: Told each record together with its upright RGB image, None where there is none.

    Yields:
        One record a file, in the order of `paths`, within a folder and a zip in that of names; of a
        file that cannot be read too, with the reason in `error`.

    Raises:
        FileNotFoundError: There is no such file or folder; nothing has been judged then.
        ModelsMissing: There is no trained model.
    """
    files = list_files(paths)
    router = router or Router.load()
    batch: list[Picture | Examined] = []
    with tqdm(desc="Judging", total=len(files), unit="file", delay=1) as progress:
        for path in files:
            for found in _pictures(path):
                batch.append(found)
                pictures = [each for each in batch if isinstance(each, Picture)]
                pixels = sum(each.image.width * each.image.height for each in pictures)
                if len(batch) == _TOGETHER or pixels > _PIXELS_TOGETHER:
                    yield from _judged(batch, router, threshold, seen)
                    batch = []
            progress.update()
        yield from _judged(batch, router, threshold, seen)


def list_files(paths: Sequence[str | Path]) -> list[Path]:
    """List files, and in place of a folder its images and zips in the order of their names.

    Raises:
        FileNotFoundError: There is no such file or folder.
    """
    files = []
    for path in map(Path, paths):
        if not path.exists():
            raise FileNotFoundError(f"Expected a file or a folder, found none at {path}.")
        if not path.is_dir():
            files.append(path)
            continue
        beneath = (each for each in path.rglob("*") if each.is_file())
        files += sorted(each for each in beneath if _is_wanted(each.relative_to(path)))
    return files


def _is_wanted(path: Path) -> bool:
    hidden = any(part.startswith((".", "__MACOSX")) for part in path.parts)
    return not hidden and (path.suffix.lower() == ".zip" or unpacking.is_called_image(path.name))


def _pictures(path: Path) -> Iterator[Picture | Examined]:
    """Read the images of one file; a record stands for each that cannot be read."""
    name = path.as_posix()
    try:
        size = path.stat().st_size
        if size > _LARGEST_ZIP or (size > MAX_BYTES and not zipfile.is_zipfile(path)):
            raise ImageError(
                f"{name} is too large: expected images of at most {MAX_BYTES / 2**20:.0f} MB and "
                f"zips of at most {_LARGEST_ZIP / 2**30:.0f} GB, received {size / 2**20:,.0f} MB."
            )
        content = path.read_bytes()
    except (OSError, ImageError) as error:
        yield Examined.refused(b"", name=name, error=str(error))
        return
    for member in unpacking.members(name, content, limits=unpacking.Limits(**_LIMITS)):
        inside = name if member.name == name else f"{name}/{member.name}"
        try:
            if member.content is None:
                raise ImageError(member.error)
            image = decode_image(member.content, name=inside)
            yield Picture(image, member.content, inside)
        except ImageError as error:
            yield Examined.refused(member.content or b"", name=inside, error=str(error))


def _judged(
    batch: Sequence[Picture | Examined], router: Router, threshold: str, seen: Callable | None
) -> Iterator[Examined]:
    pictures = [each for each in batch if isinstance(each, Picture)]
    analyses = iter(router.examine(pictures, threshold=threshold))
    for each in batch:
        image = each.image if isinstance(each, Picture) else None
        record = each if image is None else next(analyses).record
        if seen:
            seen(record, image)
        yield record


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m cifake_lib.detect",
        description="Say REAL, FAKE or UNCERTAIN of image files: a hint, never proof.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("paths", nargs="+", metavar="PATH", help="image, folder or zip")
    add("--csv", metavar="FILE", help="write a table; - for standard output")
    add("--json", metavar="FILE", help="write everything, with models and limits; - likewise")
    add("--html", metavar="FILE", help="write a page to read, with small pictures; - likewise")
    add("--threshold", default="balanced", choices=list(TITLES), help="operating point")
    add("--models", default="released", choices=list(MODEL_SETS), help="whose verdicts")
    options = parser.parse_args(arguments)
    report = Report() if options.html else None
    try:
        router = Router.load(runs=options.models)
        found = examine(
            options.paths,
            router=router,
            threshold=options.threshold,
            seen=report.add if report else None,
        )
        records = []
        for record in found:
            records.append(record)
            if not (options.csv or options.json or options.html):
                print(_line(record), flush=True)
    except FileNotFoundError as error:
        print(error, file=sys.stderr)
        return REFUSED
    except ModelsMissing as error:
        print(error, file=sys.stderr)
        return NO_MODEL
    try:
        if options.csv:
            _write(options.csv, to_csv(records))
        if options.json:
            _write(options.json, to_json(records, provenance=router.provenance))
        if report:
            _write(options.html, report.html(router.provenance).encode())
    except OSError as error:
        print(f"The result could not be written: {error}", file=sys.stderr)
        return REFUSED
    print(_summary(records), file=sys.stderr)
    return SOME_UNREADABLE if any(record.error for record in records) else ALL_READ


def _write(target: str, content: bytes) -> None:
    if target == "-":
        sys.stdout.buffer.write(content)
    else:
        Path(target).write_bytes(content)


def _line(record: Examined) -> str:
    if record.error:
        return f"unreadable            {record.error}"
    return f"{record.verdict:<9}  p_fake {record.p_fake:.3f}  {record.name}"


def _summary(records: Sequence[Examined]) -> str:
    counts = [
        f"{sum(record.verdict == word for record in records):,} {word}"
        for word in ("REAL", "FAKE", "UNCERTAIN")
    ]
    unreadable = sum(bool(record.error) for record in records)
    return f"{len(records):,} files: {', '.join(counts)}, {unreadable:,} unreadable"


if __name__ == "__main__":
    sys.exit(main())
