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
from ainode.node.keeping.database import aware, chunks, insert, reference, reference_values
from ainode.node.keeping.schema import completions, instances, jobs, mismatches, senders, studies
from ainode.node.keeping.unread import Mismatch, UnreadReason, replace_mismatch


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


@dataclass(frozen=True, slots=True)
class Completion:
    """When and why a study counted as complete."""

    at: datetime
    reason: str


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

    def index(self, batch: Sequence[StoredInstance]) -> None:
        """Commit a batch of instances; a study whose content changes waits for routing from then on.

        The same bytes again change nothing, except in a study with a problem, which they may mend; other bytes under
        the same UID replace the older.
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
            changed_studies = {stored.ref.study_instance_uid for stored in changed.values()}
            for uids in chunks(last):
                is_stale = studies.c.study_instance_uid.in_(changed_studies.intersection(uids)) | (
                    studies.c.problem != ""
                )
                update = sa.update(studies).where(studies.c.study_instance_uid.in_(uids), is_stale)
                connection.execute(update.values(is_routed=False))

    def _indexed_digests(self, connection: Connection, batch: Sequence[StoredInstance]) -> dict[tuple[str, str], str]:
        """Return the digests of those instances of the batch that are indexed."""
        query = sa.select(instances.c.study_instance_uid, instances.c.sop_instance_uid, instances.c.sha256)
        return {
            (row.study_instance_uid, row.sop_instance_uid): row.sha256
            for uids in chunks(stored.ref.sop_instance_uid for stored in batch)
            for row in connection.execute(query.where(instances.c.sop_instance_uid.in_(uids)))
        }

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
        with self._engine.connect() as connection:
            return self._content(connection, study)

    def _content(self, connection: Connection, study: UID) -> dict[UID, str]:
        query = sa.select(instances.c.sop_instance_uid, instances.c.sha256)
        rows = connection.execute(query.where(instances.c.study_instance_uid == study))
        return {UID(row.sop_instance_uid): row.sha256 for row in rows}

    def sender(self, study: UID) -> str:
        """Return the AE title that sent the newest instance of the study, '' if the study has no instance."""
        query = sa.select(instances.c.calling_ae_title).where(instances.c.study_instance_uid == study)
        with self._engine.connect() as connection:
            return connection.execute(query.order_by(instances.c.received_at.desc()).limit(1)).scalar() or ""

    def versions(self, sop_instance_uids: Iterable[str]) -> dict[tuple[UID, UID], StoredInstance]:
        """Return the indexed instances of these SOP Instance UIDs, by Study and SOP Instance UID."""
        query = sa.select(instances)
        with self._engine.connect() as connection:
            stored_instances = [
                _stored(row)
                for uids in chunks(sop_instance_uids)
                for row in connection.execute(query.where(instances.c.sop_instance_uid.in_(uids)))
            ]
        return {(stored.ref.study_instance_uid, stored.ref.sop_instance_uid): stored for stored in stored_instances}

    def existing(self, sop_instance_uids: Iterable[str]) -> frozenset[str]:
        """Return those of the SOP Instance UIDs that are indexed."""
        query = sa.select(instances.c.sop_instance_uid)
        with self._engine.connect() as connection:
            return frozenset(
                uid
                for uids in chunks(sop_instance_uids)
                for uid in connection.execute(query.where(instances.c.sop_instance_uid.in_(uids))).scalars()
            )

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

    def mark_routed(
        self,
        study: UID,
        *,
        content: Mapping[UID, str],
        explanation: object,
        completion: Completion | None = None,
        mismatch: Mismatch | None = None,
    ) -> None:
        """Write down which content was routed, and the explanation; nothing keeps the study from being routed then.

        A study whose content changed meanwhile waits for routing still. The completion outlives the study, and so does
        `mismatch`, which tells why no route took the study.
        """
        routed = content_hash(content)
        with self._engine.begin() as connection:
            values = {
                "content_hash": routed,
                "explanation": json.dumps(explanation),
                "is_routed": content_hash(self._content(connection, study)) == routed,
                "fault": "",
            }
            connection.execute(sa.update(studies).where(studies.c.study_instance_uid == study).values(values))
            replace_mismatch(self._engine, connection, study, mismatch)
            if completion:
                self._complete(connection, study, completion, len(content))

    def _complete(self, connection: Connection, study: UID, completion: Completion, instance_count: int) -> None:
        row = sa.select(
            studies.c.study_instance_uid,
            sa.literal(completion.at, completions.c.at.type),
            sa.literal(completion.reason, sa.Text),
            sa.literal(instance_count, sa.Integer),
            studies.c.first_received_at,
            studies.c.last_received_at,
        ).where(studies.c.study_instance_uid == study)
        statement = insert(self._engine, completions).from_select([column.name for column in completions.c], row)
        connection.execute(statement.on_conflict_do_nothing())

    def note_problem(self, study: UID, problem: str) -> None:
        """Write down which instances of the study cannot be read or may be missing and why, '' if none."""
        self._note(study, problem=problem)

    def note_fault(self, study: UID, fault: str) -> None:
        """Write down what keeps the study from being routed, until `mark_routed`."""
        self._note(study, fault=fault)

    def _note(self, study: UID, **values: str) -> None:
        with self._engine.begin() as connection:
            connection.execute(sa.update(studies).where(studies.c.study_instance_uid == study).values(values))

    def problem(self, study: UID) -> str:
        """Return which instances of the study could not be read when the study was routed, '' if all could."""
        query = sa.select(studies.c.problem).where(studies.c.study_instance_uid == study)
        with self._engine.connect() as connection:
            return connection.execute(query).scalar() or ""

    def is_rejected(self, study: UID) -> bool:
        """Return whether no route took the study because rejection notes name its images."""
        query = sa.select(mismatches.c.reason).where(mismatches.c.study_instance_uid == study)
        with self._engine.connect() as connection:
            return connection.execute(query).scalar() == UnreadReason.REJECTED

    def problems(self, study: UID | None = None) -> dict[UID, str]:
        """Return Study Instance UID -> what could not be read or routed, for every study with a problem, or for one."""
        has_problem = (studies.c.problem != "") | (studies.c.fault != "")
        query = sa.select(studies.c.study_instance_uid, studies.c.problem, studies.c.fault).where(has_problem)
        if study:
            query = query.where(studies.c.study_instance_uid == study)
        with self._engine.connect() as connection:
            rows = connection.execute(query.order_by(studies.c.last_received_at))
            return {UID(row.study_instance_uid): "; ".join(filter(None, (row.problem, row.fault))) for row in rows}

    def was_routed(self, study: UID) -> bool:
        """Whether the study was routed, with the content of now or of before."""
        query = sa.select(studies.c.content_hash != "").where(studies.c.study_instance_uid == study)
        with self._engine.connect() as connection:
            return bool(connection.execute(query).scalar())

    def is_routed(self, study: UID) -> bool:
        """Whether the content of the study is the content that was last routed."""
        query = sa.select(studies.c.is_routed).where(studies.c.study_instance_uid == study)
        with self._engine.connect() as connection:
            return bool(connection.execute(query).scalar())

    def unrouted(self, among: Iterable[UID] | None = None) -> tuple[UID, ...]:
        """Return the studies whose content changed since they were last routed, oldest first; of all, or of some."""
        query = (
            sa.select(studies.c.study_instance_uid).where(~studies.c.is_routed).order_by(studies.c.first_received_at)
        )
        queries = (
            [query]
            if among is None
            else [query.where(studies.c.study_instance_uid.in_(uids)) for uids in chunks(among)]
        )
        with self._engine.connect() as connection:
            return tuple(UID(uid) for part in queries for uid in connection.execute(part).scalars())

    def studies(self) -> frozenset[UID]:
        """Return the studies that are indexed."""
        with self._engine.connect() as connection:
            return frozenset(map(UID, connection.execute(sa.select(studies.c.study_instance_uid)).scalars()))

    def newest(self, count: int) -> tuple[UID, ...]:
        """Return the studies whose last instances arrived last, the newest first."""
        query = sa.select(studies.c.study_instance_uid).order_by(studies.c.last_received_at.desc()).limit(count)
        with self._engine.connect() as connection:
            return tuple(UID(uid) for uid in connection.execute(query).scalars())

    def explanation(self, study: UID) -> Any:  # noqa: ANN401 - what was given to `mark_routed`
        """Return the stored explanation, None where the study was never routed."""
        query = sa.select(studies.c.explanation).where(studies.c.study_instance_uid == study)
        with self._engine.connect() as connection:
            text = connection.execute(query).scalar()
        return json.loads(text) if text else None

    def expired(self, before: datetime) -> tuple[UID, ...]:
        """Return the routed studies whose last instance arrived before that time."""
        query = sa.select(studies.c.study_instance_uid).where(studies.c.is_routed, studies.c.last_received_at < before)
        with self._engine.connect() as connection:
            return tuple(UID(uid) for uid in connection.execute(query).scalars())

    def forget(self, study: UID) -> None:
        """Remove the rows of a study; its jobs and documents stay."""
        with self._engine.begin() as connection:
            connection.execute(sa.delete(instances).where(instances.c.study_instance_uid == study))
            connection.execute(sa.delete(studies).where(studies.c.study_instance_uid == study))

    def forget_past(self, before: datetime) -> None:
        """Remove when studies that are gone were complete, and why no route took them, where that is older."""
        present = sa.select(studies.c.study_instance_uid)
        with_job = sa.select(jobs.c.study_instance_uid)
        is_over = (completions.c.at < before, completions.c.study_instance_uid.not_in(present))
        is_unmatched = (mismatches.c.received_at < before, mismatches.c.study_instance_uid.not_in(present))
        with self._engine.begin() as connection:
            connection.execute(
                sa.delete(completions).where(*is_over, completions.c.study_instance_uid.not_in(with_job))
            )
            connection.execute(sa.delete(mismatches).where(*is_unmatched))

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
