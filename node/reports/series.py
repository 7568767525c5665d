"""Number and description of the series that the node makes: each series has a number of its own in its study."""

from collections.abc import Iterator
from itertools import count

from ainode.node.domain import Algorithm, DocumentContext, DocumentKind
from ainode.node.identity import digest

# The first digits of a Series Number say the kind, the other digits name the reading.
_FIRST_NUMBERS = {
    DocumentKind.STRUCTURED_REPORT: 900_000_000,
    DocumentKind.SECONDARY_CAPTURE: 910_000_000,
    DocumentKind.PRESENTATION_STATE: 920_000_000,
    DocumentKind.SEGMENTATION_FRACTIONAL: 930_000_000,
    DocumentKind.SEGMENTATION_LABELMAP: 940_000_000,
    DocumentKind.ASSESSMENT: 950_000_000,
    DocumentKind.PDF: 960_000_000,
}
_NUMBERS_PER_KIND = 10_000_000
# Larger than the number of series of one kind that a reading makes.
_STEP = 10_007
# An LO has 64 characters (PS3.5 6.2); dciodvfy counts the bytes of the encoded text.
_MAX_BYTES = 64
_MAX_VERSION_BYTES = 32
_CUT = "..."
# Of the Series Description of a program's object; the rest is its own.
_MOST_BEFORE_OWN = 40


def series_number(kind: DocumentKind, reading: str, context: DocumentContext, index: int = 0) -> int:
    """Return the Series Number of the series of a kind with the index; `reading` is the digest of the reading.

    Readings by several routes, models or nodes know nothing of each other, so the number is drawn from the digest. A
    number of the source is passed over.
    """
    return next(number for number in _candidates(kind, reading, index) if number not in context.source_series_numbers)


def is_number_of_node(series_number: int) -> bool:
    """Return whether a Series Number is one that a node gives to a series of its own."""
    return series_number - series_number % _NUMBERS_PER_KIND in _FIRST_NUMBERS.values()


def _candidates(kind: DocumentKind, reading: str, index: int) -> Iterator[int]:
    drawn = int(digest(["series number", reading])[:16], 16)
    for attempt in count():
        yield _FIRST_NUMBERS[kind] + (drawn + index + attempt * _STEP) % _NUMBERS_PER_KIND


def series_description(title: str, algorithm: Algorithm) -> str:
    """Return the Series Description: the title is shortened, so that version and warning stay."""
    return _joined(f"AI {_plain(title)}".rstrip(), f" {_version(algorithm)} (RUO)")


def program_series_description(text: str, title: str, algorithm: Algorithm) -> str:
    """Return the Series Description of what a site's program made, by its own `text`.

    It begins as that of the node's report, and says that a program made the series, whatever is shortened.
    """
    own = _plain(text).removesuffix("(RUO)").rstrip()
    beginning = _joined(f"AI {_plain(title)}".rstrip(), f" {_version(algorithm)}", most=_MOST_BEFORE_OWN)
    return _joined(f"{beginning}, program: {own}" if own else f"{beginning}, program", " (RUO)")


def model_version(algorithm: Algorithm) -> str:
    """Return name and version of the algorithm as a value of Software Versions; a long name is shortened."""
    return _joined(_plain(algorithm.name), f" {_version(algorithm)}")


def _version(algorithm: Algorithm) -> str:
    return _plain(algorithm.version).encode()[:_MAX_VERSION_BYTES].decode(errors="ignore")


def _joined(text: str, ending: str, most: int = _MAX_BYTES) -> str:
    """Return both texts in at most so many bytes; the first text is cut where both are too long."""
    room = most - len(ending.encode())
    if len(text.encode()) > room:
        text = text.encode()[: room - len(_CUT)].decode(errors="ignore").rstrip() + _CUT
    return text + ending


def _plain(text: str) -> str:
    """Return the text without backslash and control characters, which an LO must not have."""
    characters = (character if character.isprintable() and character != "\\" else " " for character in text)
    return " ".join("".join(characters).split())
