"""The images of one visit: what was examined, what could not be, and how much of it is kept."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from cifake_lib import unpacking
from cifake_lib.analyst import Picture
from cifake_lib.dashboard_cards import Result, make_result
from cifake_lib.exports import Examined
from cifake_lib.images import ImageError, decode_image
from cifake_lib.routing import Router

MAX_IMAGES = 1000  # at once; half a minute of work
KEPT_BYTES = 16 * 2**20  # of files, for looking closer at the latest
_TOGETHER = 16  # images that the models are asked about in one call
_PIXELS_TOGETHER = 8_000_000

File = tuple[str, int, bytes]


class Visit:
    """What a visitor has shown to the models.

    Attributes:
        results: Examined images, newest first.
        refused: Files that could not be examined, as records for the exports.
    """

    def __init__(self):
        self.results: list[Result] = []
        self.refused: list[Examined] = []

    def number_of(self, result: Result) -> int:
        """Return an image's place in the order of arrival, from 1."""
        places = (place for place, known in enumerate(self.results) if known is result)
        return len(self.results) - next(places)

    def examine_files(
        self,
        files: Sequence[File],
        router: Router,
        *,
        threshold: str,
        stop: threading.Event,
        say: Callable[[str], None],
    ) -> Iterator[tuple[int, int]]:
        """Examine files, and the files in zips.

        Args:
            files: Name, size in bytes and content of each.
            router: Who judges.
            threshold: Key of the operating point.
            stop: Set to end early.
            say: Told in a sentence what is left out.

        Yields:
            After every few files, how many are done, and of how many.
        """
        limits = unpacking.Limits(entries=MAX_IMAGES)
        count = sum(unpacking.count(content, limits=limits) for _, _, content in files)
        if count > MAX_IMAGES:
            say(f"{count:,} files are too many: the first {MAX_IMAGES:,} are taken.")
            count = MAX_IMAGES
        yield 0, count
        batch: list[Picture] = []
        members = (
            member
            for name, _, content in files
            for member in unpacking.members(name, content, limits=limits)
        )
        done = 0
        for member in members:
            if done == MAX_IMAGES or stop.is_set():
                break
            done += 1
            try:
                if member.content is None:
                    raise ImageError(member.error)
                image = decode_image(member.content, name=member.name)
                batch.append(Picture(image, member.content, member.name))
            except ImageError as refusal:
                content = member.content or b""
                error = str(refusal)
                self.refused.append(Examined.refused(content, name=member.name, error=error))
                say(error)
            pixels = sum(picture.image.width * picture.image.height for picture in batch)
            if len(batch) == _TOGETHER or pixels > _PIXELS_TOGETHER:
                self.examine(batch, router, threshold=threshold)
                batch = []
                yield done, count
        if stop.is_set():
            say(f"Stopped after {done:,} of {count:,} files.")
        self.examine(batch, router, threshold=threshold)
        yield count, count

    def examine(
        self, pictures: Sequence[Picture], router: Router, *, threshold: str, truth: str = ""
    ) -> None:
        """Judge images and keep them as the newest results; the oldest files are forgotten."""
        analyses = router.examine(pictures, threshold=threshold)
        for picture, analysis in zip(pictures, analyses, strict=True):
            asked = analysis.by.detector
            contract = {"input_size": asked.input_size, "crop": asked.crop}
            self.results.insert(0, make_result(picture, analysis, **contract, truth=truth))
        kept = 0
        for place, result in enumerate(self.results):
            kept += len(result.content)
            if kept > KEPT_BYTES and place > 0 and result.content:
                self.results[place] = result.forgotten()

    def decide_anew(self, router: Router, *, threshold: str) -> None:
        """Judge every image at another operating point."""
        self.results = [
            replace(result, analysis=router.at_threshold(result.analysis, threshold))
            for result in self.results
        ]

    def doubt(self, result: Result, reason: str) -> Result:
        """Take back the verdict of an image and return what stands in its place."""
        doubted = replace(result, analysis=result.analysis.doubted(reason))
        self.results[len(self.results) - self.number_of(result)] = doubted
        return doubted

    def clear(self) -> None:
        """Forget every image."""
        self.results, self.refused = [], []
