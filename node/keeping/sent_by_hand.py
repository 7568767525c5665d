"""Deliveries of documents that a person sent: the node did not, and its ledger has them all the same."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from ainode.node.domain import UID, DeliveryState
from ainode.node.keeping import transitions
from ainode.node.keeping.database import insert
from ainode.node.keeping.outbox import locked
from ainode.node.keeping.schema import deliveries, documents


@dataclass(frozen=True, slots=True)
class ArchivedFile:
    """A file that an archive took."""

    sop_instance_uid: UID
    sha256: str
    status: int | None
    comment: str
    """the archive's own words"""


def note_sent(
    engine: sa.Engine, destination: str, archived: Iterable[ArchivedFile], at: datetime, *, settled: bool
) -> tuple[str, ...]:
    """Write a sent delivery of each file that is a document of the ledger, byte for byte; return their jobs.

    The node asks for a proof of them, unless they are `settled`, and a later report names them as predecessors. What
    the archive is known to have stays as it is.
    """
    jobs: dict[str, None] = {}
    for file in archived:
        of_file = documents.c.sop_instance_uid == file.sop_instance_uid, documents.c.sha256 == file.sha256
        with engine.begin() as connection:
            job = connection.execute(sa.select(documents.c.job).where(*of_file)).scalar()
            if job is None:
                continue
            connection.execute(locked(job))
            words = {"archive_comment": file.comment, "error": "", "proof_comment": ""}
            facts = {"state": DeliveryState.SENT, "archive_status": file.status, "sent_at": at, "settled": settled}
            values: dict[str, object] = {**words, **facts}
            row = {"sop_instance_uid": file.sop_instance_uid, "destination": destination, "tried_at": at, **values}
            tried_at = sa.func.coalesce(deliveries.c.tried_at, at)
            connection.execute(
                insert(engine, deliveries)
                .values(row)
                .on_conflict_do_update(
                    index_elements=["sop_instance_uid", "destination"],
                    set_={**values, "tried_at": tried_at},
                    where=deliveries.c.state.in_(transitions.before(DeliveryState.SENT, transitions.DELIVERY)),
                )
            )
        jobs[job] = None
    return tuple(jobs)
