"""The folder of fetched studies: a series is there whole and of the right patient, or not at all.

`tmp/` being fetched, `series/` whole, `jobs/` what each job was given. Names are digests, no value reaches a path.
"""

import dataclasses
import hashlib
import json
import mmap
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import mkdtemp

from ainode.node.archive.search import Patient, SeriesEntry
from ainode.node.disk import refuse_full, write_durably
from ainode.node.domain import UID, File, Instance
from ainode.node.encoding import headers
from ainode.node.errors import CannotUnderstand
from ainode.node.keeping.spool import content_sha256
from ainode.node.priors.rules import Current, difference

_IDENTITY = frozenset({"PatientID", "IssuerOfPatientID", "PatientBirthDate", "StudyDate", "StudyTime"})


@dataclass(frozen=True, slots=True)
class Gathered:
    """The priors of one job, and what its report has to say of them."""

    files: tuple[File, ...] = ()
    notes: tuple[str, ...] = ()
    query_s: float = 0.0
    retrieve_s: float = 0.0


def identity(path: Path) -> Current:
    """Return whose study a file is of; '' is what it does not say.

    Raises: CannotUnderstand, OSError.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        _, found = headers.header(content, _IDENTITY | {"StudyInstanceUID"})
    said = {keyword: str(found.get(keyword, "")).strip() for keyword in (*_IDENTITY, "StudyInstanceUID")}
    patient = Patient(said["PatientID"], said["IssuerOfPatientID"], said["PatientBirthDate"])
    return Current(UID(said["StudyInstanceUID"]), patient, said["StudyDate"], said["StudyTime"])


class Shelf:
    """Keeps series and records; several jobs may put the same series there at once."""

    def __init__(self, root: Path, min_free_bytes: int) -> None:
        """Make nothing yet: most nodes have no priors."""
        self._root, self._min_free_bytes = root, min_free_bytes

    def record(self, job: str) -> Gathered | None:
        """Return what a job was given, without files that were removed since; None if nothing was written down."""
        try:
            said = json.loads(self._record(job).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except ValueError:
            return Gathered(notes=("Earlier studies: not used, since the node's record of them is damaged.",))
        files = tuple(File(self._root / path, sha256) for path, sha256 in said.pop("files"))
        here = tuple(one for one in files if one.path.exists())
        gone = ("Earlier studies: the node no longer keeps them all.",) if len(here) < len(files) else ()
        return Gathered(here, (*said.pop("notes"), *gone), **said)

    def write(self, job: str, gathered: Gathered) -> None:
        """Write down what a job is given.

        Raises: OSError.
        """
        said = dataclasses.asdict(gathered)
        said["files"] = [(str(one.path.relative_to(self._root)), one.sha256) for one in gathered.files]
        write_durably(self._record(job), json.dumps(said).encode())

    def put(
        self, series: SeriesEntry, current: Current, fetch: Callable[[Path], None], *, allow_missing_birth_date: bool
    ) -> tuple[File, ...]:
        """Return the files of a series, fetched into a folder unless they are there already.

        Raises: CannotUnderstand if it is not whole or not the same patient's; OutOfResources if the disk is full;
        OSError, and what `fetch` raises.
        """
        # with the count: a series that has grown since is another one
        name = _digest(f"{series.series_instance_uid} {series.instances}")
        kept = self._root / "series" / _digest(series.study_instance_uid) / name
        if not kept.is_dir():
            self._fetch(kept, fetch)
        try:
            instances = _instances(kept)
            _refuse_unfit(instances, series)
            for one in instances:
                _refuse_other(one, current, allow_missing_birth_date=allow_missing_birth_date)
        except CannotUnderstand:
            shutil.rmtree(kept, ignore_errors=True)
            raise
        kept.parent.touch()
        return tuple(File(one.path, one.sha256) for one in instances)

    def _fetch(self, kept: Path, fetch: Callable[[Path], None]) -> None:
        tmp = self._root / "tmp"
        for folder in (tmp, kept.parent):
            folder.mkdir(parents=True, exist_ok=True)
        refuse_full(tmp, self._min_free_bytes)
        folder = Path(mkdtemp(dir=tmp))
        try:
            fetch(folder)
            folder.rename(kept)
        except OSError:
            if not kept.is_dir():  # else another job was faster
                raise
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def sweep(self, before: datetime) -> None:
        """Remove what nobody used since, and what a dead process left half fetched."""
        for folder in ("tmp", "series", "jobs"):
            for path in (self._root / folder).glob("*"):
                with suppress(FileNotFoundError):
                    if datetime.fromtimestamp(path.stat().st_mtime, before.tzinfo) < before:
                        shutil.rmtree(path) if path.is_dir() else path.unlink()

    def _record(self, job: str) -> Path:
        return self._root / "jobs" / f"{_digest(job)}.json"


def _instances(folder: Path) -> tuple[Instance, ...]:
    return tuple(headers.instance(path, sha256=content_sha256(path)) for path in sorted(folder.iterdir()))


def _refuse_unfit(instances: Sequence[Instance], series: SeriesEntry) -> None:
    """Refuse a series that is not what was asked for, or not all of it.

    Raises: CannotUnderstand.
    """
    uids = {one.ref.sop_instance_uid for one in instances}
    of = {(one.ref.study_instance_uid, one.ref.series_instance_uid) for one in instances}
    if of - {(series.study_instance_uid, series.series_instance_uid)}:
        raise CannotUnderstand("the archive sent instances of another series")
    if not uids or len(uids) < (series.instances or 0):
        raise CannotUnderstand(f"the archive sent {len(uids)} of {series.instances or 'its'} instances")


def _refuse_other(one: Instance, current: Current, *, allow_missing_birth_date: bool) -> None:
    found = identity(one.path).patient
    if other := difference(found, current.patient, allow_missing_birth_date=allow_missing_birth_date):
        raise CannotUnderstand(f"its files have {other}")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
