"""How far a synthetic study came: each hop of its way through the node."""

from collections.abc import Iterator
from dataclasses import dataclass

from ainode.node.console.parts import Parts
from ainode.node.domain import UID, DeliveryState, JobState
from ainode.node.keeping.records import Job

_UNENDED = frozenset({JobState.WAITING, JobState.READING})


@dataclass(frozen=True, slots=True)
class Hop:
    """One hop."""

    name: str
    state: str
    """done, waiting or failed"""
    detail: str

    @property
    def is_over(self) -> bool:
        """Return whether nothing more is to be expected of the hop."""
        return self.state != "waiting"


def hops_of(parts: Parts, study: UID) -> tuple[Hop, ...]:
    """Return the hops of a study, in the order of its way."""
    stored = parts.catalog.instances(study)
    if not stored:
        return (Hop("indexed", "waiting", "the receiver answered; the intake has not taken the study yet"),)
    on_disk = sum(entry.path.exists() for entry in stored)
    hops = [Hop("on the disk and indexed", "done" if on_disk == len(stored) else "failed", f"{on_disk} instances")]
    if not parts.catalog.is_routed(study):
        return (*hops, Hop("complete", "waiting", "the node waits whether more images come ([completeness])"))
    hops.append(Hop("complete and routed", "done", "every route was held against the study"))
    jobs = parts.ledger.jobs(study=study)
    if not jobs:
        return (*hops, Hop("read", "done", "no route takes the study, as is meant where it stops at the routes"))
    return (*hops, *(hop for job in jobs for hop in _job_hops(parts, job)))


def _job_hops(parts: Parts, job: Job) -> Iterator[Hop]:
    if job.state in _UNENDED:
        yield Hop(f"read by {job.route}", "waiting", job.state)
        return
    state = "failed" if job.state in {JobState.FAILED, JobState.CANCELLED} else "done"
    yield Hop(f"read by {job.route}", state, job.reason or f"{job.state} after {job.seconds:.1f} s")
    documents = parts.ledger.documents(job.id)
    deliveries = parts.ledger.deliveries(job.id)
    yield Hop(f"documents of {job.route}", "done", f"{len(documents)} made; {job.withheld or _addressed(job)}")
    for destination in dict.fromkeys(delivery.destination for delivery in deliveries):
        states = [delivery.state for delivery in deliveries if delivery.destination == destination]
        confirmed = states.count(DeliveryState.CONFIRMED)
        is_waiting = any(entry not in {DeliveryState.CONFIRMED, DeliveryState.FAILED} for entry in states)
        state = "waiting" if is_waiting else "done" if confirmed == len(states) else "failed"
        yield Hop(f"confirmed by {destination}", state, f"{confirmed} of {len(states)}")


def _addressed(job: Job) -> str:
    return f"they go to {', '.join(job.destinations)}" if job.destinations else "the route sends nothing"
