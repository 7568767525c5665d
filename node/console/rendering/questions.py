"""What a page may ask of the process that decodes files (`rendering_process.py`)."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of the process; each costs an answer, and never the node."""

    time_s: float = 20.0
    """of one answer"""
    memory_bytes: int = 1 << 30
    idle_s: float = 60.0
    """an unused process gives its memory back after this long"""


@dataclass(frozen=True, slots=True)
class HeaderQuestion:
    """The elements of a file, without pixels."""

    path: Path
    is_anonymous: bool
    """whether every value that may say who the patient is is left out"""


@dataclass(frozen=True, slots=True)
class SeriesQuestion:
    """The slices of the files of a series, and where the slices lie."""

    paths: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class ValuesQuestion:
    """The values of a frame."""

    path: Path
    frame: int
    longest_side: int


@dataclass(frozen=True, slots=True)
class ThumbnailQuestion:
    """A small picture of a frame."""

    path: Path
    frame: int
    longest_side: int


@dataclass(frozen=True, slots=True)
class RegionsQuestion:
    """The regions that a report of the node draws."""

    path: Path


@dataclass(frozen=True, slots=True)
class TreeQuestion:
    """The content of a structured report as a tree."""

    path: Path


@dataclass(frozen=True, slots=True)
class PictureQuestion:
    """The pixels of a capture as they were sent."""

    path: Path


@dataclass(frozen=True, slots=True)
class PrintQuestion:
    """The report.pdf of a result.json and of its documents, each with its kind, in the order of sending."""

    summary: str
    documents: tuple[tuple[str, Path], ...]


@dataclass(frozen=True, slots=True)
class TextQuestion:
    """The report.txt of a result.json."""

    summary: str


DocumentQuestion = TreeQuestion | PictureQuestion | PrintQuestion | TextQuestion
Question = HeaderQuestion | SeriesQuestion | ValuesQuestion | ThumbnailQuestion | RegionsQuestion | DocumentQuestion
