"""What a person asks for again: a failed reading, failed deliveries, withheld documents, results that are gone.

A study that changed in nothing is routed again if a person asks for that, as after a route was added.
"""

from datetime import datetime
from typing import Final

from ainode.node.domain import UID, JobState
from ainode.node.jobs.withholding import released, sending_commands, silence_reason
from ainode.node.keeping.announcements import Announcement, Announcements
from ainode.node.keeping.catalog import Catalog
from ainode.node.keeping.job_events import Instruction
from ainode.node.keeping.ledger import Ledger
from ainode.node.keeping.records import Job
from ainode.node.settings import Settings

_DELIVERABLE: Final = (JobState.REPORTED, JobState.OUT_OF_SCOPE)
"""the states of a job that counts and that has its documents"""
_REMEDIES: Final = {
    JobState.WAITING: "its documents leave when it is read",
    JobState.READING: "its documents leave when it is read",
    JobState.FAILED: "it made no documents; `ainode retry` reads the study again",
    JobState.CANCELLED: "it made no documents; `ainode retry` reads the study after all",
    JobState.SUPERSEDED: "a later job of the study counts; `ainode jobs` lists it",
}


def retry(settings: Settings, ledger: Ledger, job: str, instruction: Instruction) -> tuple[str, ...]:
    """Set failed or withheld work of a job to waiting; return the destinations, an empty text for the reading.

    The dispatcher of the node takes up what waits, now if the node runs, else at its start.

    Raises: LookupError if there is no such job, if it is superseded, or if nothing of it failed.
    """
    row = ledger.job(job)
    if row.state is JobState.SUPERSEDED:
        raise LookupError(f"job {job} is superseded: {_REMEDIES[row.state]}")
    _refuse_withdrawn(row)
    revived = released(settings, ledger, row)
    revived = revived or ledger.revive(job, instruction, unconfirmed=settings.unconfirmed)
    if not revived:
        raise LookupError(f"job {job}: nothing of it failed; {_without_failure(settings, ledger, row)}")
    return revived


def _refuse_withdrawn(job: Job) -> None:
    if job.withdrawn_at:
        is_told = job.state in _DELIVERABLE
        fate = f"its result does not hold any more ({job.reason}) and is sent nowhere"
        raise LookupError(
            f"job {job.id}: {fate if is_told else f'it is not read ({job.reason})'}; `ainode read-again "
            f"{job.study_instance_uid}` has the study held against the routes of now"
        )


def _without_failure(settings: Settings, ledger: Ledger, job: Job) -> str:
    """Return what becomes of a job of which nothing failed, and the command that helps, if there is one."""
    if job.state not in _DELIVERABLE:
        return f"it is {job.state}: {_REMEDIES[job.state]}"
    destinations = {delivery.destination for delivery in ledger.deliveries(job.id)}
    if not destinations:
        return _stay(settings, job)
    if destinations <= set(settings.listeners):
        return f"`ainode deliver {job.id} NAME` sends its message again to {', '.join(sorted(destinations))}"
    return f"`ainode deliver {job.id}` sends what the archive does not have any more"


def _stay(settings: Settings, job: Job) -> str:
    """Return that and why nothing of a finished job leaves the node."""
    why = job.explanation or silence_reason(job, settings)
    commands = " and ".join(f"`{command}`" for command in sending_commands(job, settings))
    return "; ".join(filter(None, ("nothing of it leaves the node", why, commands and f"sent by {commands}")))


def route_again(catalog: Catalog, announcements: Announcements, study: UID, now: datetime) -> Announcement:
    """Have a study held against the routes as they are now; return the request, which is committed.

    A node that runs finds the request within a minute, or at once if it is told; another finds it at its start.

    Raises: LookupError if the node has no image of the study.
    """
    if not catalog.content(study):
        raise LookupError(f"study {study}: the node has no image of it; send the study again")
    announcement = Announcement(study, announced_at=now, due_at=now, read_now=True)
    announcements.announce(announcement)
    return announcement


def deliver(
    settings: Settings, ledger: Ledger, job_id: str, instruction: Instruction, destination: str = ""
) -> tuple[str, ...]:
    """Let the destinations of a job, or one, be asked which documents they still have; return the destinations.

    The node asks, and sends what is missing, byte for byte: now if the node runs, else at its start. A listener cannot
    be asked: it gets its message again where it is named, and else keeps what it acknowledged.

    Raises: LookupError if there is no such job, or nothing of the job was meant for the destination; ConfigError if
    node.toml has no such peer.
    """
    job = ledger.job(job_id)
    if job.state not in _DELIVERABLE:
        raise LookupError(f"job {job_id} is {job.state}: {_REMEDIES[job.state]}")
    _refuse_withdrawn(job)
    destinations = tuple(dict.fromkeys(delivery.destination for delivery in ledger.deliveries(job_id)))
    if not destinations:
        raise LookupError(f"job {job_id}: {_stay(settings, job)}")
    if destination and destination not in destinations:
        raise LookupError(
            f"job {job_id}: nothing of it is meant for {destination!r} but for {', '.join(destinations)}; "
            f"`ainode send {settings.data / 'documents' / job_id} {destination}` sends its documents"
        )
    destinations = (
        (destination,) if destination else tuple(name for name in destinations if name not in settings.listeners)
    )
    if not destinations:
        raise LookupError(
            f"job {job_id}: its destinations are listeners, which cannot be asked; `ainode retry {job_id}` sends what "
            f"failed, `ainode deliver {job_id} NAME` sends the message again"
        )
    for name in destinations:
        settings.peer(name)
    _recheck(settings, ledger, job_id, destination, instruction)
    return destinations


def deliver_study(settings: Settings, ledger: Ledger, study: UID) -> None:
    """Let the destinations be asked whether they still have the results of a study; the node sends what is missing."""
    for job in (job for job in ledger.jobs(study=study, states=_DELIVERABLE) if not job.withdrawn_at):
        _recheck(settings, ledger, job.id)


def _recheck(
    settings: Settings, ledger: Ledger, job: str, destination: str = "", instruction: Instruction | None = None
) -> None:
    ledger.outbox.recheck(
        job, destination, instruction=instruction, unconfirmed=settings.unconfirmed, unasked=settings.listeners
    )
