"""Which jobs of a study stand in one line, each in the place of those before: of one route, or taken from another.

A job of a live route takes over what a former route told, where its own route has told nothing of the study; so one
report and one message has the place of the former, and no second line is told beside it.
"""

from collections.abc import Collection, Iterable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ainode.node.domain import DocumentKind, InstanceRef, JobState
from ainode.node.keeping.database import reference
from ainode.node.keeping.schema import deliveries, documents, jobs


def line_of(study_jobs: Iterable[Any], route: str, newest: str = "") -> frozenset[str]:
    """Return the jobs that the newest job of a route follows: of the route, and what those or itself took over.

    The jobs of a study are `Job` or rows. What another route took over is of the line of that route; `newest` is not
    among the jobs that are returned.
    """
    rows = list(study_jobs)
    line = {row.id for row in rows if row.route == route and not row.successor}
    line |= {newest} if newest else set()
    while more := {row.id for row in rows if row.successor in line} - line:
        line |= more
    return frozenset(line - {newest})


def heritage(connection: Connection, study: str, route: str, former_routes: Collection[str]) -> tuple[str, ...]:
    """Return the jobs of former routes that a new job of a route takes over: nothing where its own route told before.

    A route with a job that waits or is being read speaks for itself: its reading withdraws what it told.
    """
    if not former_routes:
        return ()
    columns = (jobs.c.id, jobs.c.route, jobs.c.state, jobs.c.successor)
    rows = connection.execute(sa.select(*columns).where(jobs.c.study_instance_uid == study)).all()
    if sent_documents(connection, line_of(rows, route)):
        return ()
    unread = {row.route for row in rows if row.state in {JobState.WAITING, JobState.READING}}
    routes = [
        name
        for name in sorted(set(former_routes) - unread - {route})
        if sent_documents(connection, line_of(rows, name))
    ]
    return tuple(row.id for row in rows if row.route in routes and not row.successor)


def line_before(connection: Connection, study: str, route: str, newest: str) -> frozenset[str]:
    """Return the jobs that the newest job of a route follows."""
    query = sa.select(jobs.c.id, jobs.c.route, jobs.c.successor).where(jobs.c.study_instance_uid == study)
    return line_of(connection.execute(query).all(), route, newest)


def sent_documents(connection: Connection, job_ids: Collection[str], *kinds: DocumentKind) -> tuple[InstanceRef, ...]:
    """Return the documents of jobs that left, or may have left, the node; of some kinds if these are given."""
    query = (
        sa.select(documents)
        .join(deliveries, deliveries.c.sop_instance_uid == documents.c.sop_instance_uid)
        .where(
            documents.c.job.in_(job_ids),
            deliveries.c.tried_at.is_not(None),
            *([documents.c.kind.in_(kinds)] if kinds else []),
        )
        .distinct()
    )
    return tuple(reference(row) for row in connection.execute(query))


def list_together(connection: Connection, study: str) -> None:
    """Bring every job of a study to the place of its newest job in the worklist."""
    newest = sa.select(sa.func.max(jobs.c.queued_at)).where(jobs.c.study_instance_uid == study)
    listed_at = connection.execute(newest).scalar_one()
    of_study = jobs.c.study_instance_uid == study
    connection.execute(sa.update(jobs).where(of_study).values(listed_at=listed_at))
