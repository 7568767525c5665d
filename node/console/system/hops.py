"""How far a synthetic study came: each hop of its way through the node, those that were not run included."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from ainode.node.console.parts import Parts
from ainode.node.domain import UID, DeliveryState, DocumentKind, JobState, counted
from ainode.node.jobs.withholding import silence_reason
from ainode.node.keeping.records import Delivery, Job

_UNENDED: Final = frozenset({JobState.WAITING, JobState.READING})
_FAILED: Final = frozenset({JobState.FAILED, JobState.CANCELLED})
_WORDS: Final = {JobState.OUT_OF_SCOPE: "declined", JobState.REPORTED: "done"}
_READ, _DOCUMENTS, _DELIVERED = "read by a model", "documents made", "documents confirmed by an archive"


@dataclass(frozen=True, slots=True)
class Hop:
    """One hop."""

    name: str
    state: str
    """done, declined, waiting, failed or not run"""
    detail: str

    @property
    def is_over(self) -> bool:
        """Return whether nothing more is to be expected of the hop."""
        return self.state != "waiting"


def hops_of(parts: Parts, study: UID, *, since: datetime | None = None, outcome: Hop | None = None) -> tuple[Hop, ...]:
    """Return the hops of a study, in the order of its way; of the test of a route those since then, and its outcome."""
    hops = tuple(_way(parts, study, since))
    if outcome is None:
        return hops
    if outcome.is_over:
        hops = tuple(hop if hop.is_over else replace(hop, state="not run") for hop in hops)
    return (*hops, outcome)


def _way(parts: Parts, study: UID, since: datetime | None) -> Iterator[Hop]:
    instances = [item for item in parts.catalog.instances(study) if since is None or item.received_at >= since]
    if not instances:
        yield Hop("indexed", "waiting", "the study is on its way, or the intake has not taken it yet")
        return
    on_disk = sum(item.path.exists() for item in instances)
    state = "done" if on_disk == len(instances) else "failed"
    yield Hop("on the disk and indexed", state, counted(on_disk, "instance"))
    jobs = [job for job in parts.ledger.jobs(study=study) if since is None or job.queued_at >= since]
    if not parts.catalog.is_routed(study) or (since and not jobs):
        yield Hop("complete", "waiting", "the node waits whether more images come ([completeness])")
        return
    yield Hop("complete and routed", "done", "every route was checked against the study")
    if not jobs:
        yield Hop(_READ, "not run", "no route takes this study, as is meant of a test that ends at the routes")
        yield from _not_run("no model read the study", _DOCUMENTS, _DELIVERED)
    for job in jobs:
        yield from _job_hops(parts, job)


def _not_run(reason: str, *names: str) -> Iterator[Hop]:
    return (Hop(name, "not run", reason) for name in names)


def _job_hops(parts: Parts, job: Job) -> Iterator[Hop]:
    names = f"documents of {job.route}", f"documents of {job.route} confirmed by an archive"
    if job.state in _UNENDED:
        yield Hop(f"read by {job.route}", "waiting", job.reason or job.state)
        return
    if job.state in _FAILED:
        yield Hop(f"read by {job.route}", "failed", job.reason or job.state)
        yield from _not_run("the study was not read", *names)
        return
    detail = job.reason or f"{job.state} after {job.seconds:.1f} s"
    yield Hop(f"read by {job.route}", _WORDS.get(job.state, str(job.state)), detail)
    documents = [item for item in parts.ledger.documents(job.id) if item.kind is not DocumentKind.ASSESSMENT]
    if not documents and job.state is JobState.OUT_OF_SCOPE:
        yield from _not_run("the model declined the study, and its route reports no such answer", *names)
        return
    yield Hop(names[0], "done" if documents else "failed", f"{len(documents)} made")
    deliveries = [item for item in parts.ledger.deliveries(job.id) if item.document.kind is not DocumentKind.ASSESSMENT]
    if not deliveries:
        silence = filter(None, ("the documents stay in the node", silence_reason(job, parts.settings)))
        yield from _not_run(job.withheld or ": ".join(silence), names[1])
    yield from _delivery_hops(job, deliveries)


def _delivery_hops(job: Job, deliveries: Sequence[Delivery]) -> Iterator[Hop]:
    for destination in dict.fromkeys(delivery.destination for delivery in deliveries if not delivery.is_replaced):
        own = [item for item in deliveries if item.destination == destination and not item.is_replaced]
        states = [delivery.state for delivery in own]
        confirmed = states.count(DeliveryState.CONFIRMED)
        name = f"documents of {job.route} confirmed by {destination}"
        if any(delivery.settled and delivery.state is DeliveryState.SENT for delivery in own):
            yield Hop(name, "not run", f'{len(own)} sent; confirm = "none" asks {destination} for no proof')
            continue
        is_waiting = any(entry not in {DeliveryState.CONFIRMED, DeliveryState.FAILED} for entry in states)
        state = "waiting" if is_waiting else "done" if confirmed == len(states) else "failed"
        reasons = (delivery.explanation for delivery in own if delivery.state is DeliveryState.FAILED)
        yield Hop(name, state, "; ".join(filter(None, (f"{confirmed} of {len(states)}", next(reasons, "")))))
