"""What a person asks for again: a failed reading, failed deliveries, or documents that were withheld."""

from ainode.node.jobs.withholding import released
from ainode.node.keeping.ledger import Ledger
from ainode.node.settings import Settings


def retry(settings: Settings, ledger: Ledger, job: str) -> tuple[str, ...]:
    """Set failed or withheld work of a job to waiting; return the destinations, an empty text for the reading.

    The dispatcher of the node takes up what waits, now if the node runs, else at its start.

    Raises: LookupError if there is no such job, or nothing of it failed.
    """
    revived = released(settings, ledger, ledger.job(job)) or ledger.revive(job)
    if not revived:
        raise LookupError(f"job {job}: nothing of it failed; `ainode jobs` shows its state")
    return revived
