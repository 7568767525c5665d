"""Rows of the ledger brought into a state by plain SQL, as another life of the node may have left them."""

from collections.abc import Sequence

import sqlalchemy as sa

from ainode.node.domain import JobState
from ainode.node.keeping.ledger import Ledger
from ainode.node.keeping.records import Delivery, Job, KeptDocument, Outcome
from ainode.node.keeping.schema import deliveries, jobs


def put_delivery(ledger: Ledger, delivery: Delivery, **values: object) -> None:
    """Change columns of one delivery."""
    values = {"transactions": values.get("transaction_uid", ""), **values}
    statement = sa.update(deliveries).where(
        deliveries.c.sop_instance_uid == delivery.document.ref.sop_instance_uid,
        deliveries.c.destination == delivery.destination,
    )
    with ledger._engine.begin() as connection:
        connection.execute(statement.values(values))


def put_job(ledger: Ledger, job: str, **values: object) -> None:
    """Change columns of one job."""
    with ledger._engine.begin() as connection:
        connection.execute(sa.update(jobs).where(jobs.c.id == job).values(values))


def read(ledger: Ledger, job: Job, documents: Sequence[KeptDocument], outcome: Outcome, **wishes: object) -> None:
    """Read a job that waits, and report its documents."""
    ledger.move(job.id, JobState.READING)
    ledger.report(job, documents, outcome, **wishes)  # type: ignore[arg-type]
