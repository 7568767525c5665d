"""What an archive can be asked for beside delivery: a patient's studies, a study's series, a series as files.

`Archive` is the seam; `retrieve.py` speaks it in DIMSE, `dicomweb.py` in QIDO-RS and WADO-RS. Who somebody is never
shows in a `repr`, a log line or an error.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Protocol

from ainode.node.domain import UID
from ainode.node.errors import ArchiveUnreachable

MOST_STUDIES = 50_000
"""More answers than this are no patient's studies: the archive ignores what it was asked."""
MOST_SERIES = 2_000


@dataclass(frozen=True, slots=True)
class Patient:
    """Who somebody is, as far as a prior must be of the same person."""

    patient_id: str = field(repr=False)
    issuer: str = field(repr=False, default="")
    birth_date: str = field(repr=False, default="")
    """YYYYMMDD"""


@dataclass(frozen=True, slots=True)
class StudyEntry:
    """One study as an archive lists it; '' is what it did not say."""

    study_instance_uid: UID
    patient: Patient
    study_date: str = ""
    study_time: str = ""
    modalities: tuple[str, ...] = ()
    description: str = ""


@dataclass(frozen=True, slots=True)
class SeriesEntry:
    """One series as an archive lists it."""

    study_instance_uid: UID
    series_instance_uid: UID
    modality: str = ""
    body_part: str = ""
    description: str = ""
    instances: int | None = None
    """Number of Series Related Instances, None where the archive does not count them"""


@dataclass(frozen=True, slots=True)
class StudyQuery:
    """A patient's studies of a time; the archive may ignore all of it but the patient, so every answer is checked."""

    patient: Patient
    since: date
    until: date
    modality: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment of the monotonic clock after which nobody waits any more."""

    at: float = float("inf")

    @classmethod
    def within(cls, seconds: float) -> "Deadline":
        """Return the moment so many seconds from now."""
        return cls(time.monotonic() + seconds)

    def left(self, longest_s: float) -> float:
        """Return how long one answer may take, `longest_s` at most.

        Raises: ArchiveUnreachable once the moment has passed.
        """
        left = self.at - time.monotonic()
        if left <= 0:
            raise ArchiveUnreachable("the archive did not answer within the time limit")
        return min(left, longest_s)


class Archive(Protocol):
    """An archive that can be searched.

    Every method raises ArchiveUnreachable or ArchiveRefused, and OSError of our own disk.
    """

    def studies(self, query: StudyQuery, deadline: Deadline) -> Iterator[StudyEntry]:
        """Yield what it lists, in its order, never all at once in memory."""
        ...

    def series(self, study: UID, deadline: Deadline) -> tuple[SeriesEntry, ...]:
        """Return the series of a study."""
        ...

    def fetch(self, series: SeriesEntry, folder: Path, deadline: Deadline) -> None:
        """Write the instances of a series as files of `folder`; it may bring fewer than it listed."""
        ...


def study_entry(text: Callable[[str], str], modalities: tuple[str, ...]) -> StudyEntry:
    """Return the study of one answer; `text` gives its elements by keyword, '' for one that it has not."""
    return StudyEntry(
        UID(text("StudyInstanceUID")),
        Patient(*map(text, ("PatientID", "IssuerOfPatientID", "PatientBirthDate"))),
        text("StudyDate"),
        text("StudyTime"),
        modalities,
        text("StudyDescription"),
    )


def series_entry(study: UID, text: Callable[[str], str]) -> SeriesEntry:
    """Return the series of one answer, its elements as in `study_entry`."""
    count = text("NumberOfSeriesRelatedInstances")
    return SeriesEntry(
        study,
        UID(text("SeriesInstanceUID")),
        modality=text("Modality"),
        body_part=text("BodyPartExamined"),
        description=text("SeriesDescription"),
        instances=int(count) if count.isdecimal() else None,
    )
