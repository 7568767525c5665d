"""The rows of a document and of its deliveries, written in the transaction that commits what made the document."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ainode.node.domain import DeliveryState, DocumentKind, JobState
from ainode.node.keeping.database import insert, reference_values
from ainode.node.keeping.records import KeptDocument
from ainode.node.keeping.schema import deliveries, documents, jobs

Wishes: TypeAlias = Mapping[str, Sequence[DocumentKind]]
"""destination to the optional documents that it gets; a destination that gets messages gets nothing else"""


def write_document(connection: Connection, document: KeptDocument, position: int) -> None:
    """Insert the row of a document; one that a superseded job made, byte for byte, goes over to the job of now.

    Else what waited for its way of that job would wait for good, since nothing of a superseded job leaves.
    """
    row = {
        **reference_values(document.ref),
        "job": document.job,
        "position": position,
        "kind": document.kind,
        "path": str(document.path),
        "sha256": document.sha256,
        "destination": document.destination,
    }
    is_free = documents.c.job.in_(sa.select(jobs.c.id).where(jobs.c.state == JobState.SUPERSEDED))
    handed_over = {key: row[key] for key in ("job", "position", "path", "sha256")}
    statement = insert(connection.engine, documents).values(row)
    connection.execute(
        statement.on_conflict_do_update(index_elements=["sop_instance_uid"], set_=handed_over, where=is_free)
    )


def address_copies(connection: Connection, document: KeptDocument, destinations: Sequence[str], wishes: Wishes) -> None:
    """Insert a waiting delivery for every destination that gets the document; existing deliveries stay."""
    for destination in destinations:
        if not _is_for(document, destination, wishes.get(destination, ())):
            continue
        row = {
            "sop_instance_uid": document.ref.sop_instance_uid,
            "destination": destination,
            "state": DeliveryState.WAITING,
        }
        connection.execute(insert(connection.engine, deliveries).values(row).on_conflict_do_nothing())


def _is_for(document: KeptDocument, destination: str, wishes: Sequence[DocumentKind]) -> bool:
    """Return whether a destination with these wishes gets a document."""
    if any(kind.is_message for kind in wishes):
        return document.destination == destination
    return not document.destination and (not document.kind.is_optional or document.kind in wishes)
