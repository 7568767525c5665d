"""Which jobs are old enough for their documents to be removed, as conditions of a query."""

from datetime import datetime

import sqlalchemy as sa

from ainode.node.domain import DeliveryState, JobState
from ainode.node.keeping.schema import deliveries, documents, jobs


def is_expired(before: datetime) -> tuple[sa.ColumnElement[bool], ...]:
    """Return the conditions that a job is finished, and that its last delivery was over before a time."""
    last_event = sa.func.coalesce(deliveries.c.confirmed_at, deliveries.c.sent_at, deliveries.c.tried_at)
    to_leave = deliveries.c.state.in_((DeliveryState.WAITING, DeliveryState.CHECKING))
    is_waiting = to_leave & (jobs.c.state != JobState.SUPERSEDED)
    of_job = sa.exists().where(
        documents.c.job == jobs.c.id,
        deliveries.c.sop_instance_uid == documents.c.sop_instance_uid,
        is_waiting | (last_event >= before),
    )
    return jobs.c.state.not_in((JobState.WAITING, JobState.READING)), jobs.c.queued_at < before, ~of_job
