"""What an operator does to rows of the worklist: read again, deliver again, cancel, prioritize."""

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from ainode.node.audit.messages import RESTRICTED_FUNCTION, alert
from ainode.node.console.entry.access import Visit
from ainode.node.console.parts import Parts
from ainode.node.console.states import state_words
from ainode.node.domain import UID, DeliveryState, JobState
from ainode.node.errors import ConfigError
from ainode.node.jobs.retries import deliver, retry, route_again
from ainode.node.keeping.job_events import Instruction
from ainode.node.keeping.records import Job
from ainode.node.keeping.worklist import Kind

log = logging.getLogger(__name__)
REASONS: Final = (
    "sent by mistake",
    "wrong patient or study",
    "not needed any more",
    "another reason",
)
"""why a reading is cancelled: a choice, for a text that is typed may name a patient"""
FIRST: Final = 1
"""the priority of what is read next"""
_UNFINISHED: Final = frozenset({JobState.WAITING, JobState.READING})
_UNSENT: Final = {
    JobState.WAITING: "its documents leave when it is read",
    JobState.READING: "its documents leave when it is read",
    JobState.FAILED: "it made no documents; Read again reads the study once more",
    JobState.CANCELLED: "it made no documents; Read again reads the study after all",
    JobState.SUPERSEDED: "choose the later reading of the study",
}
"""why a reading of a state has nothing to deliver"""
CHECKED: Final = (
    "study is checked now; its page says whether it is read again, or that nothing changed since it was read"
)
_UID_END: Final = 10
"""digits of a Study Instance UID that a row shows on a phone"""
_SHOWN: Final = 5


@dataclass(frozen=True, slots=True)
class Chosen:
    """A row that a person chose."""

    kind: Kind
    key: str

    @classmethod
    def of(cls, text: str) -> "Chosen":
        """Return the row of a checkbox's value.

        Raises: ValueError for a text that names no row.
        """
        kind, _, key = text.partition(":")
        return cls(Kind(kind), key)


def sentence(effect: str) -> str:
    """Return what an action did as a sentence."""
    return f"{effect[0].upper()}{effect[1:]}."


class Refusal(Exception):
    """Why nothing is done to a row, for the person who asked."""


class Actions:
    """Does what an operator asks for; each row is one transaction, and one record of the audit trail."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self.by_name: Mapping[str, Callable[[Chosen, Visit, str], str]] = {
            "read-again": self._read_again,
            "deliver-again": self._deliver_again,
            "cancel": self._cancel,
            "prioritize": self._prioritize,
        }

    def apply(self, name: str, rows: Sequence[Chosen], visit: Visit, reason: str) -> str:
        """Do an action to rows; return what was done and what was not, in sentences."""
        action = self.by_name[name]
        effects: Counter[str] = Counter()
        refusals: list[str] = []
        for row in rows:
            try:
                effect = action(row, visit, reason)
            except (Refusal, LookupError, ConfigError) as error:
                refusals.append(self._told(error, row))
                continue
            effects[effect] += 1
            self._record(visit, row, effect)
        sentences = [sentence(f"{effect}, {count} rows" if count > 1 else effect) for effect, count in effects.items()]
        if refusals:
            more = f" and {len(refusals) - _SHOWN} more" if len(refusals) > _SHOWN else ""
            sentences.append(f"Nothing done to {len(refusals)}: {'; '.join(refusals[:_SHOWN])}{more}.")
        return "\n".join(sentences)

    def _told(self, error: Exception, row: Chosen) -> str:
        """Return why nothing is done, in words that name the row and not its job, which no row shows."""
        with suppress(LookupError):
            return str(error).replace(f"job {row.key}", _named(self._parts.ledger.job(row.key)))
        return str(error)

    def _record(self, visit: Visit, row: Chosen, effect: str) -> None:
        uri = f"urn:ainode:job:{row.key}" if row.kind is Kind.JOB else f"urn:oid:{row.key}"
        self._parts.web.record(visit.signed(alert(RESTRICTED_FUNCTION, uri, effect)))
        about = {"job" if row.kind is Kind.JOB else "study_instance_uid": row.key}
        log.info("%s, asked for by %s", effect, visit.person, extra={"action": "operator", **about})

    def _job(self, row: Chosen) -> Job:
        if row.kind is not Kind.JOB:
            raise Refusal(f"study {row.key} has no reading yet")
        return self._parts.ledger.job(row.key)

    def _read_again(self, row: Chosen, visit: Visit, _reason: str) -> str:
        """Revive a reading that failed or was cancelled; have any other study, and a rejected one, routed now."""
        if row.kind is not Kind.JOB:
            return self._route_again(UID(row.key))
        job = self._job(row)
        if job.state in _UNFINISHED:
            raise Refusal(f"{_named(job)} is “{state_words(job.state)}”: it will be read without that")
        if job.state is JobState.SUPERSEDED:
            raise Refusal(f"{_named(job)} is “{state_words(job.state)}”: {_UNSENT[job.state]}")
        if job.state in {JobState.FAILED, JobState.CANCELLED} and not job.withdrawn_at:
            retry(self._parts.settings, self._parts.ledger, job.id, _instruction(visit))
            return "reading waits again"
        return self._route_again(job.study_instance_uid)

    def _route_again(self, study: UID) -> str:
        parts = self._parts
        parts.web.on_announced(route_again(parts.catalog, parts.announcements, study, datetime.now(UTC)))
        return CHECKED

    def _deliver_again(self, row: Chosen, visit: Visit, _reason: str) -> str:
        """Send again what failed or was withheld; of the rest, ask the archives what they still have."""
        job, settings, ledger = self._job(row), self._parts.settings, self._parts.ledger
        has_failed = any(delivery.state is DeliveryState.FAILED for delivery in ledger.deliveries(job.id))
        if job.state not in {JobState.FAILED, JobState.CANCELLED} and (has_failed or job.withheld):
            retry(settings, ledger, job.id, _instruction(visit))
            return "documents wait to be sent"
        if job.state in _UNSENT:
            raise Refusal(f"{_named(job)} is “{state_words(job.state)}”: {_UNSENT[job.state]}")
        deliver(settings, ledger, job.id, _instruction(visit))
        return "destinations are asked what they have, and get what they miss"

    def _cancel(self, row: Chosen, visit: Visit, reason: str) -> str:
        job = self._job(row)
        words = f"cancelled by {visit.person}: {reason}"
        if not self._parts.ledger.move(job.id, JobState.CANCELLED, reason=words, at=datetime.now(UTC)):
            raise Refusal(_too_late(self._parts.ledger.job(job.id)))
        return f"reading cancelled: {reason}"

    def _prioritize(self, row: Chosen, _visit: Visit, _reason: str) -> str:
        job = self._job(row)
        if not self._parts.ledger.prioritize(job.id, FIRST):
            raise Refusal(_too_late(self._parts.ledger.job(job.id)))
        return "reading is next in its queue"


def _instruction(visit: Visit) -> Instruction:
    return Instruction(datetime.now(UTC), visit.person)


def _named(job: Job) -> str:
    """Return a reading as its row names it: by its route and the end of the UID."""
    uid = job.study_instance_uid
    return f"route {job.route} of study {uid if len(uid) <= _UID_END else f'…{uid[-_UID_END:]}'}"


def _too_late(job: Job) -> str:
    if job.state is JobState.READING:
        return f"{_named(job)} is being read, which nobody can stop; its documents leave when it is read"
    return f"{_named(job)} does not wait any more: its state is “{state_words(job.state)}”"
