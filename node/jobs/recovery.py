"""What a start and a person take up again: jobs and deliveries that no workflow works at, and dead letters."""

from collections.abc import Callable
from dataclasses import dataclass

from dbos import DBOS, DBOSClient

from ainode.node.domain import DeliveryState, JobState
from ainode.node.jobs.courier import Courier
from ainode.node.jobs.queues import APPLICATION_VERSION, delivery_queue, read_queue, system_database_url
from ainode.node.jobs.withholding import released
from ainode.node.keeping.ledger import Ledger
from ainode.node.keeping.records import Job
from ainode.node.settings import Settings

_BROKEN = frozenset({"ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"})
_ENDED = "SUCCESS"


@dataclass(frozen=True, slots=True)
class Enqueue:
    """The ways to enqueue work."""

    search: Callable[[Job], None]
    """the search for priors where the route has priors, else the reading"""
    reading: Callable[[Job], None]
    delivery: Callable[[str, str, str], None]
    """job, destination, name of the workflow"""


def recover(ledger: Ledger, courier: Courier, enqueue: Enqueue) -> None:
    """Enqueue what the ledger lists as unfinished and the durable engine does not work at."""
    for job in ledger.jobs(states=(JobState.WAITING, JobState.READING)):
        _recover_job(job, ledger, enqueue)
    for job_id, destination, state in ledger.unsettled(courier.unconfirmed):
        _recover_delivery(job_id, destination, state, courier, enqueue)


def _recover_job(job: Job, ledger: Ledger, enqueue: Enqueue) -> None:
    """Enqueue a job that a dead process left; a job whose workflow broke becomes a dead letter."""
    statuses = _statuses(f"{job.id}:read")
    if not statuses:
        search = DBOS.get_workflow_status(f"{job.id}:priors")
        # A broken search is not repeated: the study is read without priors.
        (enqueue.reading if search and search.status in _BROKEN else enqueue.search)(job)
    elif statuses[-1] in _BROKEN:
        ledger.move(job.id, JobState.FAILED, reason=_broken_reason(job.id, statuses[-1]))
    else:
        enqueue.reading(job)


def _recover_delivery(job: str, destination: str, state: DeliveryState, courier: Courier, enqueue: Enqueue) -> None:
    """Enqueue a delivery that no workflow works at; a delivery whose workflow broke becomes a dead letter."""
    name = f"{job}:{destination}"
    statuses = _statuses(name)
    if not statuses:
        enqueue.delivery(job, destination, name)
    elif statuses[-1] in _BROKEN:
        courier.give_up(job, destination, reason=_broken_reason(job, statuses[-1]))
    elif statuses[-1] == _ENDED and state is DeliveryState.WAITING:  # a kill came between a retry's two writes
        enqueue.delivery(job, destination, f"{name}:{len(statuses)}")


def _statuses(name: str) -> tuple[str, ...]:
    """Return the statuses of a workflow and of its retries, oldest first."""
    workflows = DBOS.list_workflows(workflow_id_prefix=name, load_input=False, load_output=False)
    return tuple(workflow.status for workflow in workflows if f"{workflow.workflow_id}:".startswith(f"{name}:"))


def _broken_reason(job: str, status: str) -> str:
    return f"its workflow ended as {status}; see the log, then `ainode retry {job}`"


def retry(settings: Settings, ledger: Ledger, job: str, *, token: str) -> tuple[str, ...]:
    """Revive a failed job, its failed deliveries or its withheld documents; return what was enqueued.

    Raises: LookupError if there is no such job, or nothing of it failed.
    """
    revived = released(settings, ledger, ledger.job(job)) or ledger.revive(job)
    if not revived:
        raise LookupError(f"job {job}: nothing of it failed; `ainode jobs` shows its state")
    client = DBOSClient(system_database_url=system_database_url(settings))
    handler = ledger.job(job).handler
    try:
        for destination in revived:
            client.enqueue(
                {
                    "workflow_name": "Jobs.deliver" if destination else "Jobs.read",
                    "class_name": "jobs",
                    "instance_name": "node",
                    "queue_name": delivery_queue(destination) if destination else read_queue(handler),
                    "workflow_id": f"{job}:{destination or 'read'}:{token}",
                    "app_version": APPLICATION_VERSION,
                },
                *((job, destination) if destination else (job,)),
            )
    finally:
        client.destroy()
    return revived
