"""The folder of the fetched studies: a series is there whole and of the right patient, or not at all.

`tmp/` holds series during a fetch, `series/` whole series, `jobs/` a record per job. File names are digests, so that no
attribute reaches a path; the name of an instance is the digest of its content, so that an altered file shows.
"""

import dataclasses
import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ainode.node.archive.search import SeriesEntry
from ainode.node.disk import part_folder, place_durably, refuse_full, write_durably
from ainode.node.domain import UID, File, Instance, Patient
from ainode.node.encoding import headers
from ainode.node.encoding.file_content import FileContent
from ainode.node.errors import CannotUnderstand
from ainode.node.keeping.spool import content_sha256
from ainode.node.priors.rules import StudyIdentity, patient_difference

log = logging.getLogger(__name__)
_IDENTITY_KEYWORDS = frozenset(
    {"StudyInstanceUID", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "StudyDate", "StudyTime"}
)


@dataclass(frozen=True, slots=True)
class PriorRecord:
    """The earlier studies that one job is read with, and the notes about the search for the report of the job."""

    files: tuple[File, ...] = ()
    notes: tuple[str, ...] = ()
    query_s: float = 0.0
    retrieve_s: float = 0.0


def study_identity(path: Path) -> StudyIdentity:
    """Return the identity of the study that a DICOM file belongs to; an absent attribute is ''.

    Raises: CannotUnderstand, OSError.
    """
    with path.open("rb", buffering=0) as file:
        _, attributes = headers.header(FileContent(file.fileno()), _IDENTITY_KEYWORDS)
    texts = {keyword: str(attributes.get(keyword, "")).strip() for keyword in _IDENTITY_KEYWORDS}
    patient = Patient(texts["PatientID"], texts["IssuerOfPatientID"], texts["PatientBirthDate"])
    return StudyIdentity(UID(texts["StudyInstanceUID"]), patient, texts["StudyDate"], texts["StudyTime"])


class Shelf:
    """Keeps the fetched series and the record of each job; several jobs may fetch one series at the same time."""

    def __init__(self, root: Path, min_free_bytes: int) -> None:
        """Create no folder yet: most nodes fetch no priors."""
        self._root, self._min_free_bytes = root, min_free_bytes

    def record(self, job: str) -> PriorRecord | None:
        """Return the record of a job as it was written, None if the job has no record."""
        try:
            record = json.loads(self._record_path(job).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except ValueError:
            return PriorRecord(notes=("Earlier studies: not used, since the node's record of them is damaged.",))
        files = tuple(File(self._root / path, sha256) for path, sha256 in record.pop("files"))
        return PriorRecord(files, tuple(record.pop("notes")), **record)

    def usable(self, record: PriorRecord) -> PriorRecord:
        """Return a record less the studies with a file that is gone or altered, which a note tells.

        A study goes as a whole: a model could take the rest of a series for the series.
        Raises: OSError if a file cannot be read.
        """
        lost_studies = {self._study_folder(file.path) for file in record.files if not _is_unaltered(file)}
        if not lost_studies:
            return record
        files = tuple(file for file in record.files if self._study_folder(file.path) not in lost_studies)
        loss = "Earlier studies: the node no longer keeps them all as they were fetched."
        return dataclasses.replace(record, files=files, notes=(*record.notes, loss))

    def write_record(self, job: str, record: PriorRecord) -> None:
        """Write the record of a job durably.

        Raises: OSError.
        """
        fields = dataclasses.asdict(record)
        fields["files"] = [(str(file.path.relative_to(self._root)), file.sha256) for file in record.files]
        write_durably(self._record_path(job), json.dumps(fields).encode())

    def series_files(
        self,
        series: SeriesEntry,
        current: StudyIdentity,
        fetch: Callable[[Path], None],
        *,
        allow_missing_birth_date: bool,
    ) -> tuple[File, ...]:
        """Return the files of a series; `fetch` writes the files into a folder first if the shelf lacks the series.

        Raises: CannotUnderstand if the series is not whole or not of the patient of `current`; OutOfResources if the
        disk is full; OSError, and the errors of `fetch`.
        """
        # The instance count is part of the name: a series that has grown since is fetched again.
        name = _digest(f"{series.series_instance_uid} {series.instance_count}")
        folder = self._root / "series" / _digest(series.study_instance_uid) / name

        def refuse_other_patients(instances: Iterable[Instance]) -> None:
            for instance in instances:
                _refuse_other_patient(instance, current, allow_missing_birth_date=allow_missing_birth_date)

        instances = _whole_series(folder, series)
        if not instances:
            self._fetch(folder, fetch, lambda fetched: refuse_other_patients(_refuse_incomplete(fetched, series)))
            instances = _refuse_incomplete(folder, series)
        # The series stays if the patient is another: another job may have the series on record.
        refuse_other_patients(instances)
        folder.parent.touch()
        return tuple(File(instance.path, instance.sha256) for instance in instances)

    def _fetch(self, folder: Path, fetch: Callable[[Path], None], refuse_unusable: Callable[[Path], None]) -> None:
        """Fetch a series into a temporary folder, then rename the temporary folder to `folder`.

        Raises: CannotUnderstand if the series is unusable; OutOfResources, OSError, and the errors of `fetch`.
        """
        with part_folder(self._root / "tmp") as part:
            refuse_full(part, self._min_free_bytes)
            fetch(part)
            for path in tuple(part.iterdir()):
                path.rename(part / f"{content_sha256(path)}.dcm")
            refuse_unusable(part)
            try:
                place_durably(part, folder)
            except OSError:
                if not folder.is_dir():  # a folder that exists by now was fetched by another job
                    raise

    def sweep(self, before: datetime, unfinished_jobs: Iterable[str]) -> None:
        """Remove the series and records that were last used before a time, less those of unfinished jobs."""
        kept_paths = set()
        for job in unfinished_jobs:
            if record := self.record(job):
                kept_paths |= {self._record_path(job), *(self._study_folder(file.path) for file in record.files)}
        for folder in ("tmp", "series", "jobs"):
            for path in set((self._root / folder).glob("*")) - kept_paths:
                with suppress(FileNotFoundError):
                    if datetime.fromtimestamp(path.stat().st_mtime, before.tzinfo) < before:
                        shutil.rmtree(path) if path.is_dir() else path.unlink()

    def _study_folder(self, path: Path) -> Path:
        """Return the folder of the study of a file on the shelf."""
        return self._root.joinpath(*path.relative_to(self._root).parts[:2])

    def _record_path(self, job: str) -> Path:
        return self._root / "jobs" / f"{_digest(job)}.json"


def _whole_series(folder: Path, series: SeriesEntry) -> tuple[Instance, ...]:
    """Return the instances of a series on the shelf, () without the series; a damaged series is removed.

    Raises: OSError.
    """
    if not folder.is_dir():
        return ()
    try:
        return _refuse_incomplete(folder, series)
    except CannotUnderstand as error:
        log.warning("priors: a series on the shelf is damaged, and fetched again: %s", error)
        shutil.rmtree(folder)
        return ()


def _refuse_incomplete(folder: Path, series: SeriesEntry) -> tuple[Instance, ...]:
    """Return the instances of a folder; refuse altered ones, another series, and fewer than the archive listed.

    Raises: CannotUnderstand, OSError.
    """
    instances = tuple(headers.instance(path, sha256=content_sha256(path)) for path in sorted(folder.iterdir()))
    if any(instance.path.stem != instance.sha256 for instance in instances):
        raise CannotUnderstand("an instance is not as the archive sent it")
    sop_instance_uids = {instance.ref.sop_instance_uid for instance in instances}
    series_uids = {(instance.ref.study_instance_uid, instance.ref.series_instance_uid) for instance in instances}
    if series_uids - {(series.study_instance_uid, series.series_instance_uid)}:
        raise CannotUnderstand("the archive sent instances of another series")
    count = len(sop_instance_uids)
    if not count or count < (series.instance_count or 0):
        raise CannotUnderstand(f"the archive sent {count} of {series.instance_count or 'its'} instances")
    return instances


def _is_unaltered(file: File) -> bool:
    """Return whether a file is there with the bytes that were fetched."""
    try:
        return content_sha256(file.path) == file.sha256
    except (FileNotFoundError, CannotUnderstand):
        return False


def _refuse_other_patient(instance: Instance, current: StudyIdentity, *, allow_missing_birth_date: bool) -> None:
    """Refuse an instance whose patient is not surely the patient of `current`.

    Raises: CannotUnderstand.
    """
    patient = study_identity(instance.path).patient
    difference = patient_difference(patient, current.patient, allow_missing_birth_date=allow_missing_birth_date)
    if difference:
        raise CannotUnderstand(f"its files have {difference}")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
