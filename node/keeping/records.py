"""What the ledger holds: jobs, documents and deliveries, and how they are read from rows."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from ainode.node.domain import SELF_TEST_PEER, UID, DeliveryState, DocumentKind, InstanceRef, JobState, Location
from ainode.node.keeping.announcements import locations_of
from ainode.node.keeping.database import aware, reference
from ainode.node.routes import RouteMode

REPLACED: Final = "replaced"
"""in place of a proof: the message is not sent any more, for a later one has its place"""
# PS3.4 table B.2-1: the statuses of a C-STORE that begin with B are warnings.
_WARNING: Final = 0xB000
_WARNINGS: Final = {
    0xB000: "it changed what the document says of itself (coercion of data elements)",
    0xB006: "it left out a part of the document (elements discarded)",
    0xB007: "it finds that the content does not fit the kind of document (data set does not match SOP class)",
}


@dataclass(frozen=True, slots=True)
class Job:
    """One reading of one study by one route."""

    id: str
    study_instance_uid: UID
    route: str
    handler: str
    content: Mapping[UID, str]
    """SOP Instance UID -> sha256: exactly what is read"""
    created_at: datetime
    """the time that documents carry: first reception of the study; of a job that corrects, when it was opened"""
    queued_at: datetime
    destinations: tuple[str, ...]
    priority: int = 100
    predecessors: tuple[InstanceRef, ...] = ()
    locations: tuple[Location, ...] = ()
    """what somebody wants looked at"""
    state: JobState = JobState.WAITING
    attempts: int = 0
    reason: str = ""
    result: str = ""
    seconds: float = 0.0
    overheads: Mapping[str, float] = field(default_factory=dict)
    """seconds of parts: `query` and `retrieve` before the reading; `compose`, and what its handler timed, within it"""
    withheld: str = ""
    """why the documents of a live route stay in the node; empty where they leave"""
    refusal: str = ""
    """why nobody may read the study, such as images of two patients; empty where the handler decides"""
    reading_at: datetime | None = None
    """when the last attempt to read began"""
    finished_at: datetime | None = None
    """when the job had an answer, or failed"""
    successor: str = ""
    """the job of another route that took its place, as after `ainode route live`"""
    withdrawn_at: datetime | None = None
    """when the node withdrew the result, as no route answers for it any more; `reason` says why"""
    mode: RouteMode | None = None
    """of the route when the destinations were chosen, whatever it is now; None in a ledger that kept no mode then"""

    @property
    def is_self_test(self) -> bool:
        """Return whether the node made up the study to test itself: then nothing of the job leaves the node."""
        return SELF_TEST_PEER in self.destinations

    @property
    def is_live(self) -> bool:
        """Return whether its documents may leave; where nobody kept the mode, its destinations tell."""
        return self.mode is RouteMode.LIVE or (self.mode is None and bool(self.destinations or self.withheld))

    @property
    def mark(self) -> str:
        """Return `shadow` or `not sent` of a job that nobody gets the documents of; '' of another."""
        return mark_of(self.mode, self.destinations, self.withheld)

    @property
    def explanation(self) -> str:
        """Return why the job has no answer, or why the answer stays in the node."""
        return "; ".join(filter(None, (self.reason, self.withheld)))


def mark_of(mode: RouteMode | None, destinations: Sequence[str], withheld: str) -> str:
    """Return the word that marks an answer of a mode; '' of a live route, and where the documents leave or may leave.

    It is `not sent` where nobody kept whether the route was a shadow, or had no destinations.
    """
    is_shadow_in_self_test = mode is RouteMode.SHADOW and SELF_TEST_PEER in destinations
    if mode is RouteMode.LIVE or (not is_shadow_in_self_test and (destinations or withheld)):
        return ""
    return "shadow" if mode else "not sent"


@dataclass(frozen=True, slots=True)
class PastJob:
    """What stays of a job whose documents were removed; its fields are columns of `history`."""

    id: str
    study_instance_uid: UID
    route: str
    handler: str
    state: JobState
    queued_at: datetime
    reason: str
    result: str
    """result.json, with the scores"""
    seconds: float
    removed_at: datetime


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a reading ended; its fields are columns of `jobs`."""

    state: JobState
    result: str
    """result.json"""
    reason: str
    seconds: float
    overheads: Mapping[str, float] = field(default_factory=dict)
    finished_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class KeptDocument:
    """One encoded document on disk."""

    job: str
    ref: InstanceRef
    kind: DocumentKind
    path: Path
    sha256: str
    destination: str = ""
    """the only destination that gets the document; '' of a document for every archive"""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One document on its way to one destination."""

    document: KeptDocument
    destination: str
    state: DeliveryState
    archive_status: int | None
    error: str
    proof: str
    transaction_uid: str
    """of the request of commitment that no report has answered; '' if there is none"""
    sent_at: datetime | None
    confirmed_at: datetime | None
    archive_comment: str = ""
    """the archive's own words about the document; may quote a Patient ID, so never in a log. Of a message that a later
    one replaced: the node's words"""
    proof_comment: str = ""
    """the archive's own words when it was asked for a proof"""
    transactions: tuple[str, ...] = ()
    """Transaction UIDs of all requests of commitment"""
    tried_at: datetime | None = None
    """before the first byte left"""
    settled: bool = False
    """whether the archive is asked for a proof no more"""
    checked_at: datetime | None = None
    """the last time that the archive was asked again and still had the document"""

    @property
    def is_replaced(self) -> bool:
        """Return whether the node does not send a message any more, for a later one has its place."""
        # An untried one without a proof is of a ledger that had no word for it.
        is_old = self.document.kind.is_message and not (self.proof or self.tried_at)
        return self.state is DeliveryState.CONFIRMED and (self.proof == REPLACED or is_old)

    @property
    def is_taken_with_warning(self) -> bool:
        """Return whether the archive keeps the document and warned that it changed something."""
        return self.archive_status is not None and self.archive_status & 0xF000 == _WARNING

    @property
    def whom(self) -> str:
        """Return what the destination is, in words."""
        return "the listener" if self.document.kind.is_message else "the archive"

    @property
    def explanation(self) -> str:
        """Return what the archive did and said, and why the document has not arrived, in words for a person."""
        words = dict.fromkeys(filter(None, (self.archive_comment, self.proof_comment)))
        warning = f"the archive took it with a warning: {self.warning}" if self.warning else ""
        quotation = " / ".join(words)
        if words and not self.is_replaced:
            quotation = f'{self.whom} says: "{quotation}"'
        return "; ".join(filter(None, (self.error, warning, quotation)))

    @property
    def warning(self) -> str:
        """Return what the archive changed by its warning, with the status of DICOM; '' without a warning."""
        if not self.is_taken_with_warning:
            return ""
        status = self.archive_status or 0
        return f"{_WARNINGS.get(status, 'see its conformance statement')} (0x{status:04X})"


def job_of(row: Any) -> Job:  # noqa: ANN401
    """Return the job of a row."""
    return Job(
        id=row.id,
        study_instance_uid=UID(row.study_instance_uid),
        route=row.route,
        handler=row.handler,
        content=json.loads(row.content),
        created_at=aware(row.created_at),
        queued_at=aware(row.queued_at),
        destinations=tuple(json.loads(row.destinations)),
        priority=row.priority,
        predecessors=tuple(InstanceRef(*map(UID, uids)) for uids in json.loads(row.predecessors)),
        locations=locations_of(row.locations),
        state=JobState(row.state),
        attempts=row.attempts,
        reason=row.reason,
        result=row.result,
        seconds=row.seconds,
        overheads=json.loads(row.overheads),
        withheld=row.withheld,
        refusal=row.refusal,
        reading_at=aware(row.reading_at) if row.reading_at else None,
        finished_at=aware(row.finished_at) if row.finished_at else None,
        successor=row.successor,
        withdrawn_at=aware(row.withdrawn_at) if row.withdrawn_at else None,
        mode=RouteMode(row.mode) if row.mode else None,
    )


def past_job_of(row: Any) -> PastJob:  # noqa: ANN401
    """Return the past job of a row."""
    times = {name: aware(getattr(row, name)) for name in ("queued_at", "removed_at")}
    uid, state = UID(row.study_instance_uid), JobState(row.state)
    return PastJob(**{**row._mapping, **times, "study_instance_uid": uid, "state": state})  # noqa: SLF001 - public


def document_of(row: Any) -> KeptDocument:  # noqa: ANN401
    """Return the document of a row of `document_columns`."""
    return KeptDocument(
        row.job, reference(row), DocumentKind(row.kind), Path(row.path), row.sha256, row.document_destination
    )


def delivery_of(row: Any) -> Delivery:  # noqa: ANN401
    """Return the delivery of a row, joined with its document."""
    return Delivery(
        document=document_of(row),
        destination=row.destination,
        state=DeliveryState(row.state),
        archive_status=row.archive_status,
        error=row.error,
        proof=row.proof,
        transaction_uid=row.transaction_uid,
        sent_at=aware(row.sent_at) if row.sent_at else None,
        confirmed_at=aware(row.confirmed_at) if row.confirmed_at else None,
        archive_comment=row.archive_comment,
        proof_comment=row.proof_comment,
        transactions=tuple(row.transactions.split()),
        tried_at=aware(row.tried_at) if row.tried_at else None,
        settled=row.settled,
        checked_at=aware(row.checked_at) if row.checked_at else None,
    )
