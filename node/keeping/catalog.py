"""Which instances the node holds, of which studies, from which senders.

No patient attribute is kept here; those stay in the instance files. Every row can be rebuilt from the spool.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ainode.node.domain import UID, InstanceRef
from ainode.node.identity import content_hash
from ainode.node.keeping.database import aware, insert, reference, reference_values
from ainode.node.keeping.schema import instances, senders, studies


@dataclass(frozen=True, slots=True)
class StoredInstance:
    """One instance as the spool holds it."""

    ref: InstanceRef
    transfer_syntax_uid: UID
    sha256: str
    size_bytes: int
    path: Path
    calling_ae_title: str
    received_at: datetime


def _stored(row: Any) -> StoredInstance:  # noqa: ANN401
    return StoredInstance(
        ref=reference(row),
        transfer_syntax_uid=UID(row.transfer_syntax_uid),
        sha256=row.sha256,
        size_bytes=row.size_bytes,
        path=Path(row.path),
        calling_ae_title=row.calling_ae_title,
        received_at=aware(row.received_at),
    )


def _key(stored: StoredInstance) -> tuple[str, str]:
    return stored.ref.study_instance_uid, stored.ref.sop_instance_uid


def _row(stored: StoredInstance) -> dict[str, object]:
    return {
        **reference_values(stored.ref),
        "transfer_syntax_uid": stored.transfer_syntax_uid,
        "sha256": stored.sha256,
        "size_bytes": stored.size_bytes,
        "path": str(stored.path),
        "calling_ae_title": stored.calling_ae_title,
        "received_at": stored.received_at,
    }


class Catalog:
    """Reads and changes instances, studies and senders; each method is one transaction."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def index(self, batch: Sequence[StoredInstance]) -> frozenset[UID]:
        """Commit a batch of instances; return the studies whose content changed.

        The same bytes again change nothing; other bytes under the same UID replace the older.
        """
        with self._engine.begin() as connection:
            indexed = self._indexed_digests(connection, batch)
            # A dictionary: of two versions of an instance in one batch, the later version stays.
            changed = {_key(stored): stored for stored in batch if indexed.get(_key(stored)) != stored.sha256}
            first = {stored.ref.study_instance_uid: stored.received_at for stored in reversed(batch)}
            last = {stored.ref.study_instance_uid: stored.received_at for stored in batch}
            rows = [
                {"study_instance_uid": study, "first_received_at": first[study], "last_received_at": last[study]}
                for study in last
            ]
            self._upsert(connection, studies, rows, keep=("first_received_at",))
            if changed:
                self._upsert(connection, instances, [_row(stored) for stored in changed.values()])
        return frozenset(stored.ref.study_instance_uid for stored in changed.values())

    def _indexed_digests(self, connection: Connection, batch: Sequence[StoredInstance]) -> dict[tuple[str, str], str]:
        """Return the digests of those instances of the batch that are indexed."""
        uids = [stored.ref.sop_instance_uid for stored in batch]
        query = sa.select(instances.c.study_instance_uid, instances.c.sop_instance_uid, instances.c.sha256)
        rows = connection.execute(query.where(instances.c.sop_instance_uid.in_(uids)))
        return {(row.study_instance_uid, row.sop_instance_uid): row.sha256 for row in rows}

    def _upsert(
        self, connection: Connection, table: sa.Table, rows: Sequence[Mapping[str, object]], keep: Sequence[str] = ()
    ) -> None:
        """Insert the rows; replace the columns of an existing row, except the columns of `keep`."""
        statement = insert(self._engine, table)
        keys = [column.name for column in table.primary_key]
        replaced = {name: statement.excluded[name] for name in rows[0] if name not in (*keys, *keep)}
        connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=replaced), rows)

    def instances(self, study: UID) -> tuple[StoredInstance, ...]:
        """Return the instances of the study, oldest first."""
        query = sa.select(instances).where(instances.c.study_instance_uid == study).order_by(instances.c.received_at)
        with self._engine.connect() as connection:
            return tuple(_stored(row) for row in connection.execute(query))

    def content(self, study: UID) -> dict[UID, str]:
        """Return SOP Instance UID -> sha256 of the instances of the study."""
        query = sa.select(instances.c.sop_instance_uid, instances.c.sha256)
        with self._engine.connect() as connection:
            rows = connection.execute(query.where(instances.c.study_instance_uid == study))
            return {UID(row.sop_instance_uid): row.sha256 for row in rows}

    def versions(self, sop_instance_uids: Iterable[str]) -> dict[tuple[UID, UID], StoredInstance]:
        """Return the indexed instances of these SOP Instance UIDs, by Study and SOP Instance UID."""
        query = sa.select(instances).where(instances.c.sop_instance_uid.in_(list(sop_instance_uids)))
        with self._engine.connect() as connection:
            stored_instances = [_stored(row) for row in connection.execute(query)]
        return {(stored.ref.study_instance_uid, stored.ref.sop_instance_uid): stored for stored in stored_instances}

    def existing(self, sop_instance_uids: Iterable[str]) -> frozenset[str]:
        """Return those of the SOP Instance UIDs that are indexed."""
        query = sa.select(instances.c.sop_instance_uid).where(instances.c.sop_instance_uid.in_(list(sop_instance_uids)))
        with self._engine.connect() as connection:
            return frozenset(connection.execute(query).scalars())

    def first_received(self, study: UID) -> datetime:
        """Return when the first instance of the study arrived.

        Raises: LookupError if the node never saw the study.
        """
        query = sa.select(studies.c.first_received_at).where(studies.c.study_instance_uid == study)
        with self._engine.connect() as connection:
            received = connection.execute(query).scalar()
        if received is None:
            raise LookupError(f"study {study}: never received here")
        return aware(received)

    def mark_routed(self, study: UID, *, content: Mapping[UID, str], explanation: object) -> None:
        """Write down which content was routed, and the explanation."""
        values = {"content_hash": content_hash(content), "explanation": json.dumps(explanation)}
        with self._engine.begin() as connection:
            connection.execute(sa.update(studies).where(studies.c.study_instance_uid == study).values(values))

    def is_routed(self, study: UID) -> bool:
        """Whether the content of the study is the content that was last routed."""
        query = sa.select(studies.c.content_hash).where(studies.c.study_instance_uid == study)
        with self._engine.connect() as connection:
            routed = connection.execute(query).scalar()
        return bool(routed == content_hash(self.content(study)))

    def unrouted(self) -> tuple[UID, ...]:
        """Return the studies whose content changed since they were last routed."""
        query = sa.select(studies.c.study_instance_uid, studies.c.content_hash)
        with self._engine.connect() as connection:
            rows = connection.execute(query).all()
        return tuple(
            UID(row.study_instance_uid)
            for row in rows
            if row.content_hash != content_hash(self.content(row.study_instance_uid))
        )

    def explanation(self, study: UID) -> Any:  # noqa: ANN401 - what was given to `mark_routed`
        """Return the stored explanation, None where the study was never routed."""
        query = sa.select(studies.c.explanation).where(studies.c.study_instance_uid == study)
        with self._engine.connect() as connection:
            text = connection.execute(query).scalar()
        return json.loads(text) if text else None

    def expired(self, before: datetime) -> tuple[UID, ...]:
        """Return the studies whose last instance arrived before that time."""
        query = sa.select(studies.c.study_instance_uid).where(studies.c.last_received_at < before)
        with self._engine.connect() as connection:
            return tuple(UID(uid) for uid in connection.execute(query).scalars())

    def forget(self, study: UID) -> None:
        """Remove the rows of a study; its jobs and documents stay."""
        with self._engine.begin() as connection:
            connection.execute(sa.delete(instances).where(instances.c.study_instance_uid == study))
            connection.execute(sa.delete(studies).where(studies.c.study_instance_uid == study))

    def sender_history(self, ae_title: str) -> Any:  # noqa: ANN401 - what was given to `remember_sender`
        """Return the history of the sender, None for a new sender."""
        query = sa.select(senders.c.history).where(senders.c.ae_title == ae_title)
        with self._engine.connect() as connection:
            text = connection.execute(query).scalar()
        return json.loads(text) if text else None

    def remember_sender(self, ae_title: str, history: object) -> None:
        """Write down the history of the sender."""
        row = {"ae_title": ae_title, "history": json.dumps(history)}
        with self._engine.begin() as connection:
            connection.execute(
                insert(self._engine, senders).values(row).on_conflict_do_update(index_elements=["ae_title"], set_=row)
            )
