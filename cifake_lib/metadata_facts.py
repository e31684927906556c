"""One thing that a file says about itself, and how its text is made fit to be read."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

FILE = "File"
ORIGIN = "Statement of origin (IPTC)"
CREDENTIALS = "Content credentials (C2PA)"
GENERATOR = "Generator"
CAMERA = "Camera and date (EXIF)"
SOFTWARE = "Software"
ENCODER = "Encoder"
TEXTS = "Other text in the file"
GROUPS = (FILE, ORIGIN, CREDENTIALS, GENERATOR, CAMERA, SOFTWARE, ENCODER, TEXTS)

UNREADABLE = "unreadable"
# A prompt or a workflow can be a book; this much of it tells what it is.
MAX_CHARACTERS = 2000

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fact:
    """One statement of a file about itself.

    Attributes:
        group: One of `GROUPS`.
        name: What it is about; may hold text from the file, so escape it for HTML.
        value: Text for a reader, at most about `MAX_CHARACTERS` long; escape it for HTML.
        suggests: "FAKE" or "REAL" where the file states in so many words how the picture was
            made, else "".
    """

    group: str
    name: str
    value: str
    suggests: str = ""


def readable(text: str, *, limit: int = MAX_CHARACTERS) -> str:
    """Make text from an untrusted file safe to show: bounded, and without invisible characters.

    Characters that print nothing are replaced, among them those that reverse the direction of the
    text around them and the lone surrogates that no encoding accepts.

    Args:
        text: Any text.
        limit: Characters to keep.

    Returns:
        The beginning of the text, and how long the whole is where something was cut off.
    """
    kept = "".join(_visible(character) for character in text[:limit].strip())
    return kept if len(text) <= limit else f"{kept} … ({len(text):,} characters in all)"


def guarded(group: str, name: str, facts: Callable[[], list[Fact]]) -> list[Fact]:
    """Collect facts from a block that may be damaged.

    Args:
        group: Group of the fact that stands in for the block.
        name: Name of that fact.
        facts: Reads the block; may raise anything.

    Returns:
        What `facts` returned, or the one fact that the block is unreadable.
    """
    try:
        return facts()
    except Exception as error:
        # Parsers raise nearly anything on damaged bytes: struct.error, IndexError, ValueError,
        # RecursionError, MemoryError, and the errors of XML, zlib and Pillow.
        logger.info("%s is unreadable: %r", name, error)
        return [Fact(group, name, UNREADABLE)]


def _visible(character: str) -> str:
    if character.isprintable() or character == "\n":
        return character
    return " " if character.isspace() else "�"
