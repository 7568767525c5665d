"""What archives still have of a withdrawn result: no node can withdraw it there, so a person has to delete it."""

from collections.abc import Mapping, Sequence

from ainode.node.domain import SELF_TEST_PEER, DeliveryState, counted
from ainode.node.keeping.ledger import Ledger
from ainode.node.keeping.records import Delivery, Job
from ainode.node.keeping.succession import line_of


def leftovers(ledger: Ledger, job: Job) -> Mapping[str, str]:
    """Return in words what each archive has of a withdrawn job, and of the jobs that it followed; {} of another job."""
    if not job.withdrawn_at:
        return {}
    earlier_jobs = line_of(ledger.jobs(study=job.study_instance_uid), job.route, job.id)
    by_archive: dict[str, list[Delivery]] = {}
    for job_id in (*sorted(earlier_jobs), job.id):
        for delivery in ledger.deliveries(job_id):
            if _may_be_there(delivery):
                by_archive.setdefault(delivery.destination, []).append(delivery)
    return {archive: _words(archive, deliveries) for archive, deliveries in by_archive.items()}


def leftover_words(ledger: Ledger, job: Job) -> str:
    """Return what all archives have of a withdrawn job, '' if that is nothing."""
    return "; ".join(leftovers(ledger, job).values())


def with_leftovers(ledger: Ledger, job_id: str, reason: str) -> str:
    """Return the reason of a job, and what archives have of a withdrawn one."""
    return "; ".join(filter(None, (reason, leftover_words(ledger, ledger.job(job_id)))))


def _words(archive: str, deliveries: Sequence[Delivery]) -> str:
    is_certain = all(delivery.state is DeliveryState.CONFIRMED for delivery in deliveries)
    series = dict.fromkeys(delivery.document.ref.series_instance_uid for delivery in deliveries)
    return (
        f"{archive} {'still has' if is_certain else 'may still have'} {counted(len(deliveries), 'document')} of it, "
        f"to be deleted there: series {', '.join(series)}"
    )


def _may_be_there(delivery: Delivery) -> bool:
    """Return whether an archive has a document, or may have it, as where an attempt had no answer."""
    if delivery.document.kind.is_message or delivery.destination == SELF_TEST_PEER or not delivery.tried_at:
        return False
    is_open = delivery.state in {DeliveryState.WAITING, DeliveryState.FAILED}
    return not is_open or delivery.archive_status is None
