"""What listeners were told of a study before: kept where a reading says the same, corrected or withdrawn if not.

A listener that a route has no more, as that of a route that became a shadow, learns no new answer: what it was told is
withdrawn.

They were told by the urgent part of the same job, before a kill had the study read again, or by an older job, which a
late image superseded. Each message that corrects another has a UID made of the other's, so the chain of a job is known
from its rows alone, and a kill between two steps changes nothing: the next reading finds the same chain.
"""

import hashlib
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, TypeAlias

from ainode.node.disk import sha256_of
from ainode.node.domain import NO_UID, DeliveryState, Document, DocumentKind, InstanceRef, JobState, Reading
from ainode.node.identity import correction_uid
from ainode.node.keeping.ledger import Ledger
from ainode.node.keeping.records import Delivery, Job, KeptDocument
from ainode.node.keeping.succession import line_of
from ainode.node.reports.corrections import corrected, withdrawn

log = logging.getLogger(__name__)
NO_RESULT: Final = "the study was read again, and no result is reported"
NO_ADDRESSEE: Final = "the study was read again, and what is read by this route now is not reported here any more"
NO_ROUTE: Final = "the study has later images, and the node has no route any more that reads it for this result"
REJECTED: Final = "images that it rests on are not to be used, a rejection note says: "
Listener: TypeAlias = tuple[str, DocumentKind]
"""name of the peer, and the language of its messages"""


@dataclass(frozen=True, slots=True)
class _Telling:
    """The messages about a study to one listener, each but the first in the place of the one before."""

    chain: tuple[Delivery, ...]

    @property
    def last(self) -> Delivery:
        """Return the message that holds."""
        return self.chain[-1]

    @property
    def tried(self) -> tuple[Delivery, ...]:
        """Return the messages that the listener may have taken."""
        return tuple(delivery for delivery in self.chain if delivery.tried_at)


class Corrections:
    """Holds what a reading says against what was told of the same study before."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def documents(self, job: Job, reading: Reading, at: datetime) -> tuple[Document, ...]:
        """Return the documents of a reading, each message in its place, and withdrawals of what is said no more.

        A message to a listener that the job does not address stays in the node, and stands behind the withdrawal that
        `endings` makes for this listener.

        Raises: OSError if a message that was told cannot be read.
        """
        tellings = self._tellings(job, self.superseded(job))
        documents = tuple(
            self._follow_up(job, document, tellings[_listener(document)], at)
            if _listener(document) in tellings
            else document
            for document in reading.documents
        )
        if reading.is_early:
            return documents
        answered = set(map(_listener, documents))
        silent = [
            telling
            for listener, telling in tellings.items()
            if listener not in answered and listener[0] in job.destinations
        ]
        return (*documents, *self._withdrawals(silent, NO_RESULT, at))

    def endings(self, job: Job, at: datetime) -> tuple[Document, ...]:
        """Return a withdrawal for each listener that was told before, and that the job does not address any more.

        Raises: OSError if a message that was told cannot be read.
        """
        tellings = self._tellings(job, self.superseded(job))
        unaddressed = [telling for (name, _), telling in tellings.items() if name not in job.destinations]
        return tuple(self._withdrawals(unaddressed, NO_ADDRESSEE, at))

    def last_words(self, job: Job, reason: str, at: datetime) -> tuple[Document, ...]:
        """Return a withdrawal for each listener that was told by a job that no job follows; none a second time.

        Raises: OSError if a message that was told cannot be read.
        """
        tellings = [telling for telling in self._tellings(job, self.superseded(job)).values() if telling.tried]
        lasts = [(telling, telling.last.document) for telling in tellings]
        valid = [telling for telling, last in lasts if withdrawn(last.kind, last.path.read_bytes(), reason)]
        return tuple(self._withdrawals(valid, reason, at))

    def _follow_up(self, job: Job, document: Document, telling: _Telling, at: datetime) -> Document:
        """Return a message as it follows those before; where the job does not address its listener, the withdrawal."""
        if document.destination in job.destinations:
            return self._placed(document, telling, at)
        withdrawal = next(self._withdrawals([telling], NO_ADDRESSEE, at), None)
        if withdrawal is None:
            return self._placed(document, telling, at)
        content = corrected(document.kind, document.content, withdrawal.content)
        return _behind(withdrawal.ref, replace(document, content=content))

    def withdrawals(self, job: Job, older_jobs: Sequence[Job], reason: str, at: datetime) -> tuple[Document, ...]:
        """Return a message for each listener that was told of a result by a job that has none, or by older jobs.

        Raises: OSError if a message that was told cannot be read.
        """
        return tuple(self._withdrawals(self._tellings(job, older_jobs).values(), reason, at))

    def superseded(self, job: Job) -> tuple[Job, ...]:
        """Return the older jobs in whose place a job is, oldest first."""
        older_jobs = self._ledger.jobs(study=job.study_instance_uid, states=(JobState.SUPERSEDED,))
        line = line_of(older_jobs, job.route, job.id)
        return tuple(older for older in older_jobs if older.id in line)

    def unreported(self, job: Job) -> tuple[Job, ...]:
        """Return the older jobs whose report was never made: what was told of the others holds until a reading."""
        return tuple(older for older in self.superseded(job) if not self._has_report(older))

    def _has_report(self, job: Job) -> bool:
        return any(document.kind is DocumentKind.STRUCTURED_REPORT for document in self._ledger.documents(job.id))

    def _withdrawals(self, tellings: Iterable[_Telling], reason: str, at: datetime) -> Iterator[Document]:
        for telling in tellings:
            predecessor = self._predecessor(telling, at)
            if predecessor is None:
                continue
            after = max(at - self._ledger.job(predecessor.job).created_at, timedelta())
            content = withdrawn(predecessor.kind, predecessor.path.read_bytes(), reason, after)
            if content:
                yield _following(telling, Document(predecessor.kind, predecessor.ref, content, predecessor.destination))

    def _placed(self, document: Document, telling: _Telling, at: datetime) -> Document:
        """Return a message as it follows those before: itself where it was kept, a correction where it differs."""
        last = telling.last.document
        is_held = telling.last.tried_at is not None or telling.last.state is DeliveryState.WAITING
        if is_held and last.sha256 in _digests(document, telling):
            return replace(document, ref=last.ref, content=last.path.read_bytes())
        predecessor = self._predecessor(telling, at)
        if predecessor is None:
            return _following(telling, document)
        content = corrected(document.kind, document.content, predecessor.path.read_bytes())
        return _following(telling, replace(document, content=content))

    def _predecessor(self, telling: _Telling, at: datetime) -> KeptDocument | None:
        """Return the last message that the listener may have taken; what has not been tried is not sent any more."""
        if not self._ledger.outbox.recall(telling.last, at):
            return telling.last.document
        return telling.tried[-1].document if telling.tried else None

    def _tellings(self, job: Job, older_jobs: Iterable[Job]) -> Mapping[Listener, _Telling]:
        """Return the messages of a job by listener, behind those of older jobs that may have left."""
        chains: dict[Listener, tuple[Delivery, ...]] = {}
        for older in older_jobs:
            for listener, chain in self._chains(older).items():
                tried = tuple(delivery for delivery in chain if delivery.tried_at and _is_whole(delivery.document))
                chains[listener] = (*chains.get(listener, ()), *tried)
        for listener, chain in self._chains(job).items():
            chains[listener] = (*chains.get(listener, ()), *chain)
        return {listener: _Telling(chain) for listener, chain in chains.items() if chain}

    def _chains(self, job: Job) -> Mapping[Listener, tuple[Delivery, ...]]:
        """Return the messages of one job by listener, without those about judgements."""
        of_listeners: dict[Listener, list[Delivery]] = {}
        for delivery in self._ledger.deliveries(job.id):
            if delivery.document.kind.is_message:
                of_listeners.setdefault(_listener(delivery.document), []).append(delivery)
        return {listener: _chain(deliveries) for listener, deliveries in of_listeners.items()}


def _listener(document: Document | KeptDocument) -> Listener:
    return document.destination, document.kind


def _is_whole(document: KeptDocument) -> bool:
    """Return whether a message of an older job is as it was sent; without it nobody can say what is corrected."""
    if document.path.exists() and sha256_of(document.path) == document.sha256:
        return True
    about = {"action": "correction_lost", "job": document.job, "peer": document.destination}
    log.error("an earlier message is gone from the disk or changed, so that nothing corrects it", extra=about)
    return False


def _digests(document: Document, telling: _Telling) -> Iterator[str]:
    """Yield the digests by which the last message says what a document says."""
    yield _sha256(document.content)
    for earlier in [delivery for delivery in telling.chain[:-1] if delivery.tried_at][-1:]:
        yield _sha256(corrected(document.kind, document.content, earlier.document.path.read_bytes()))


def _following(telling: _Telling, document: Document) -> Document:
    """Return a message under the UID that follows the last of its listener."""
    return _behind(telling.last.document.ref, document)


def _behind(earlier: InstanceRef, document: Document) -> Document:
    """Return a message under the UID that follows an earlier message."""
    uid = correction_uid(earlier.sop_instance_uid)
    return replace(document, ref=InstanceRef(earlier.study_instance_uid, NO_UID, NO_UID, uid))


def _chain(deliveries: Sequence[Delivery]) -> tuple[Delivery, ...]:
    """Return the messages of a job to one listener in the order in which they follow each other, from the first on."""
    by_uid = {delivery.document.ref.sop_instance_uid: delivery for delivery in deliveries}
    later = {correction_uid(uid) for uid in by_uid}
    chain = [by_uid[next(uid for uid in by_uid if uid not in later)]]
    while following := by_uid.get(correction_uid(chain[-1].document.ref.sop_instance_uid)):
        chain.append(following)
    return tuple(chain)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
