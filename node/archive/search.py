"""The search of an archive: the studies of a patient, the series of a study, the files of a series.

`retrieve.py` implements the protocol `Archive` by DIMSE, `dicomweb.py` by QIDO-RS and WADO-RS. The identity of a
patient never appears in a `repr`, a log line or an error.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Protocol

from ainode.node.domain import UID, Patient
from ainode.node.errors import ArchiveUnreachable

MAX_STUDIES = 50_000
"""No patient has more studies: an archive that lists more ignores the query."""
MAX_SERIES = 2_000
# PS3.5 6.2: an Integer String is a number of 32 bits.
_MAX_DIGITS = 10


@dataclass(frozen=True, slots=True)
class StudyEntry:
    """One study in the answer of an archive; an attribute that the archive did not send is ''."""

    study_instance_uid: UID
    patient: Patient
    study_date: str = ""
    study_time: str = ""
    modalities: tuple[str, ...] = ()
    description: str = ""


@dataclass(frozen=True, slots=True)
class SeriesEntry:
    """One series in the answer of an archive; an attribute that the archive did not send is ''."""

    study_instance_uid: UID
    series_instance_uid: UID
    modality: str = ""
    body_part: str = ""
    description: str = ""
    instance_count: int | None = None
    """Number of Series Related Instances, None if the archive did not send the number"""


@dataclass(frozen=True, slots=True)
class StudyQuery:
    """A query for the studies of a patient between two dates, both included.

    An archive may ignore the dates and the modality: the caller checks every study of the answer.
    """

    patient: Patient
    first_date: date
    last_date: date
    modality: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Deadline:
    """A time on the monotonic clock at which a search or a fetch ends."""

    monotonic_s: float = float("inf")

    @classmethod
    def within(cls, seconds: float) -> "Deadline":
        """Return the deadline `seconds` from now."""
        return cls(time.monotonic() + seconds)

    def remaining_s(self, longest_s: float) -> float:
        """Return the seconds until the deadline, at most `longest_s`.

        Raises: ArchiveUnreachable if the deadline has passed.
        """
        remaining_s = self.monotonic_s - time.monotonic()
        if remaining_s <= 0:
            raise ArchiveUnreachable("the archive did not answer within the time limit")
        return min(remaining_s, longest_s)

    def check(self) -> None:
        """Refuse to go on after the deadline.

        Raises: ArchiveUnreachable if the deadline has passed.
        """
        self.remaining_s(0)


class Archive(Protocol):
    """An archive that answers searches.

    Every method raises ArchiveUnreachable, ArchiveRefused, and OSError if the disk of the node fails.
    """

    def studies(self, query: StudyQuery, deadline: Deadline) -> Iterator[StudyEntry]:
        """Yield the studies in the order of the archive, without all of them in memory."""
        ...

    def series(self, study_instance_uid: UID, deadline: Deadline) -> tuple[SeriesEntry, ...]:
        """Return the series of a study."""
        ...

    def fetch(self, series: SeriesEntry, folder: Path, deadline: Deadline) -> None:
        """Write the instances of a series into `folder`; the archive may send fewer than it listed."""
        ...


def study_entry(text: Callable[[str], str], modalities: tuple[str, ...]) -> StudyEntry:
    """Return the study of one answer; `text` returns an attribute of the answer by its keyword, '' if absent."""
    return StudyEntry(
        UID(text("StudyInstanceUID")),
        Patient(*map(text, ("PatientID", "IssuerOfPatientID", "PatientBirthDate"))),
        text("StudyDate"),
        text("StudyTime"),
        modalities,
        text("StudyDescription"),
    )


def series_entry(study_instance_uid: UID, text: Callable[[str], str]) -> SeriesEntry:
    """Return the series of one answer; `text` as in `study_entry`."""
    count = text("NumberOfSeriesRelatedInstances")
    return SeriesEntry(
        study_instance_uid,
        UID(text("SeriesInstanceUID")),
        modality=text("Modality"),
        body_part=text("BodyPartExamined"),
        description=text("SeriesDescription"),
        instance_count=int(count) if count.isascii() and count.isdecimal() and len(count) <= _MAX_DIGITS else None,
    )
