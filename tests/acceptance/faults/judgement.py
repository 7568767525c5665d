"""What became of everything that was promised: one row of the table for one fault."""

import json
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import sqlalchemy as sa
from acceptance.faults.installation import Installation
from acceptance.faults.sender import SentStudy

from ainode.node.domain import UID, DeliveryState, JobState
from ainode.node.errors import DatabaseUnavailable
from ainode.node.keeping import schema
from ainode.node.keeping.records import Job

SETTLED_S: Final = 300.0
"""after a fault is over, everything has reached its end within this time"""
_OPEN: Final = frozenset({JobState.WAITING, JobState.READING})


@dataclass(frozen=True)
class Row:
    """A fault, how often it was made, and what it cost."""

    fault: str
    times: int = 0
    acked: int = 0
    """instances whose C-STORE was answered with Success"""
    lost: int = 0
    """acked instances that the node does not have, byte for byte, or did not answer"""
    documents: int = 0
    """how many documents the archive must have"""
    missing: int = 0
    """of these the archive does not have"""
    duplicate: int = 0
    """documents of one kind beyond one for each content of a study, and jobs beyond one"""
    stuck: int = 0
    """studies that have not reached an end"""
    died: int = 0
    """how often the node ended by itself, though nothing was done to its processes"""
    recovery_s: float = 0.0
    """the longest time from the end of the fault until everything had reached its end"""
    note: str = ""

    @property
    def cost(self) -> int:
        """Return how much went wrong."""
        return self.lost + self.missing + self.duplicate + self.stuck + self.died

    def __add__(self, other: "Row") -> "Row":
        """Return the row of both."""
        counts = ("times", "acked", "lost", "documents", "missing", "duplicate", "stuck", "died")
        sums = {name: getattr(self, name) + getattr(other, name) for name in counts}
        note = self.note or other.note
        return Row(self.fault, **sums, recovery_s=max(self.recovery_s, other.recovery_s), note=note)


@dataclass(frozen=True)
class Fate:
    """What the node and the archive have of a study."""

    jobs: tuple[Job, ...]
    documents: Mapping[str, str] = field(default_factory=dict)
    """SOP Instance UID -> kind and content of what the ledger composed"""
    newest: frozenset[str] = frozenset()
    """documents of the job that stands"""
    archived: frozenset[str] = frozenset()

    @property
    def duplicates(self) -> int:
        """Return how many documents of the archive, and jobs, are there twice."""
        unknown = self.archived - self.documents.keys()
        kinds = Counter(self.documents[uid] for uid in self.archived - unknown)
        contents = Counter((job.route, json.dumps(dict(job.content), sort_keys=True)) for job in self.jobs)
        return len(unknown) + sum(count - 1 for counter in (kinds, contents) for count in counter.values())


def judged(
    installation: Installation,
    row: Row,
    studies: Sequence[SentStudy],
    *,
    refused: Sequence[SentStudy] = (),
    over_at: float | None = None,
    within_s: float = SETTLED_S,
) -> Row:
    """Wait until all studies have reached their end, and return the row with what they cost.

    The handler answers `studies`, and fails with `refused`. The fault was over at the time `over_at`, else is now.
    """
    over_at = time.monotonic() if over_at is None else over_at
    every = [*studies, *refused]
    installation.wait(lambda: not open_studies(installation, every), within_s=within_s)
    recovery_s = time.monotonic() - over_at
    still_open = open_studies(installation, every)
    fates = [_fate(installation, study) for study in studies]
    expected = installation.documents_of_a_study
    return row + Row(
        row.fault,
        acked=sum(len(installation.modality.acked.get(study.uid, {})) for study in every),
        lost=sum(_lost(installation, study) for study in every),
        documents=expected * len(studies),
        missing=sum(max(0, expected - len(fate.newest & fate.archived)) for fate in fates),
        duplicate=sum(fate.duplicates for fate in (*fates, *(_fate(installation, study) for study in refused))),
        stuck=len(still_open),
        died=installation.deaths(),
        recovery_s=recovery_s,
    )


def open_studies(installation: Installation, studies: Sequence[SentStudy]) -> list[str]:
    """Return the studies that were not read as they were acked, or whose documents are on their way."""
    try:
        jobs, under_way = _live_jobs(installation), _under_way(installation)
    except DatabaseUnavailable:
        return [study.uid for study in studies]
    acked = installation.modality.acked
    return [
        study.uid
        for study in studies
        if not (
            len(jobs[study.uid]) == 1
            and jobs[study.uid][0].state not in _OPEN
            and dict(jobs[study.uid][0].content) == acked.get(study.uid)
            and len(study.instances) == len(acked[study.uid])
            and study.uid not in under_way
        )
    ]


def _live_jobs(installation: Installation) -> dict[str, list[Job]]:
    """Return the jobs that no other job superseded, by study."""
    jobs: dict[str, list[Job]] = defaultdict(list)
    for job in installation.node.ledger.jobs():
        if job.state is not JobState.SUPERSEDED:
            jobs[job.study_instance_uid].append(job)
    return jobs


def _under_way(installation: Installation) -> frozenset[str]:
    """Return the studies with a document that has not reached its end."""
    deliveries, documents, jobs = schema.deliveries, schema.documents, schema.jobs
    is_open = deliveries.c.state.not_in([DeliveryState.CONFIRMED, DeliveryState.FAILED])
    query = (
        sa.select(documents.c.study_instance_uid)
        .join(deliveries, deliveries.c.sop_instance_uid == documents.c.sop_instance_uid)
        .join(jobs, jobs.c.id == documents.c.job)
        .where(is_open, jobs.c.state != JobState.SUPERSEDED)
        .distinct()
    )
    with installation.node.engine.connect() as connection:
        return frozenset(connection.execute(query).scalars())


def _fate(installation: Installation, study: SentStudy) -> Fate:
    ledger = installation.node.ledger
    jobs = ledger.jobs(study=UID(study.uid))
    documents = {
        str(document.ref.sop_instance_uid): f"{document.kind} {sorted(job.content.items())}"
        for job in jobs
        for document in ledger.documents(job.id)
    }
    newest = [job for job in jobs if job.state is not JobState.SUPERSEDED]
    return Fate(
        jobs,
        documents,
        frozenset(str(document.ref.sop_instance_uid) for job in newest for document in ledger.documents(job.id)),
        frozenset(installation.archive.instances_of(study.uid)),
    )


def _lost(installation: Installation, study: SentStudy) -> int:
    """Return how many acked instances are not on disk byte for byte, or are not in the job that stands."""
    node, acked = installation.node, installation.modality.acked.get(study.uid, {})
    stored = {str(entry.ref.sop_instance_uid): entry for entry in node.catalog.instances(UID(study.uid))}
    whole = {
        uid
        for uid, entry in stored.items()
        if uid in acked and entry.path.exists() and entry.path.read_bytes().endswith(study.instances[uid])
    }
    jobs = node.ledger.jobs(study=UID(study.uid))
    read = {uid for job in jobs if job.state is not JobState.SUPERSEDED for uid in job.content}
    return len(acked.keys() - (whole & read))
