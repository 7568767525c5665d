"""What the ledger keeps of routes that routes.toml has no more, as after one was removed or got another name."""

import json
from collections.abc import Collection, Mapping

import sqlalchemy as sa

from ainode.node.domain import SELF_TEST_PEER, DocumentKind
from ainode.node.keeping.patient_index import made_up_studies
from ainode.node.keeping.schema import answers, deliveries, documents, jobs
from ainode.node.keeping.statistics import Period


def sent_reports(engine: sa.Engine, route: str) -> int:
    """Return how many reports of a route were sent to an archive, also those that a later report followed."""
    query = (
        sa.select(sa.func.count(sa.distinct(documents.c.sop_instance_uid)))
        .select_from(documents.join(jobs).join(deliveries))
        .where(
            jobs.c.route == route,
            jobs.c.destinations != json.dumps([SELF_TEST_PEER]),
            documents.c.kind == DocumentKind.STRUCTURED_REPORT,
            deliveries.c.sent_at.is_not(None),
        )
    )
    with engine.connect() as connection:
        return int(connection.execute(query).scalar_one())


def studies_of_gone_routes(
    engine: sa.Engine, route_names: Collection[str], period: Period | None = None
) -> Mapping[str, int]:
    """Return of each route that is not among the names how many studies it answered, of a period if given.

    Synthetic studies do not count.
    """
    conditions = (
        answers.c.route.not_in(route_names),
        ~answers.c.is_superseded,
        answers.c.study_instance_uid.not_in(made_up_studies()),
        *((answers.c.at >= period.since, answers.c.at < period.until) if period else ()),
    )
    count = sa.func.count(sa.distinct(answers.c.study_instance_uid))
    query = sa.select(answers.c.route, count).where(*conditions).group_by(answers.c.route).order_by(answers.c.route)
    with engine.connect() as connection:
        return dict(connection.execute(query).all())
