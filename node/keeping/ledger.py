"""Jobs and the documents they made; `outbox.py` has each document's way to each destination.

What stands here cannot be rebuilt, so it is committed before anything acts on it.
"""

import dataclasses
import json
from collections.abc import Collection, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ainode.node.domain import UID, DeliveryState, DocumentKind, JobState
from ainode.node.identity import returned_job_id
from ainode.node.keeping import succession, transitions
from ainode.node.keeping.announcements import locations_json
from ainode.node.keeping.answers import write_answer
from ainode.node.keeping.database import insert, reference_values
from ainode.node.keeping.document_rows import Wishes, address_copies, write_document
from ainode.node.keeping.expiry import is_expired
from ainode.node.keeping.job_events import (
    Instruction,
    JobEvent,
    JobEventKind,
    Subject,
    write_instruction,
    write_reading_event,
)
from ainode.node.keeping.judgements import AddendumState
from ainode.node.keeping.notices import Notice, Notices, write_notices
from ainode.node.keeping.outbox import Outbox, deliveries_of, document_columns, locked, unsent_to_archives
from ainode.node.keeping.records import Delivery, Job, KeptDocument, Outcome, PastJob, document_of, job_of, past_job_of
from ainode.node.keeping.schema import addenda, answers, deliveries, documents, history, job_events, jobs, tasks
from ainode.node.keeping.tasks import Tasks, forget_attempts
from ainode.node.keeping.witness import Nobody, Witness
from ainode.node.routes import RouteMode

_TIMES: Final = {JobState.READING: "reading_at", JobState.FAILED: "finished_at", JobState.CANCELLED: "finished_at"}
"""the column that says when a job came into a state"""
_ENDINGS: Final = {JobState.FAILED: JobEventKind.GIVEN_UP, JobState.CANCELLED: JobEventKind.CANCELLED}
"""what the row of a job forgets when the job is read after all"""
_FIRST_EARLY: Final = -1_000_000
"""position of the first document that leaves before the rest of its reading; far fewer follow"""


class Ledger:
    """Reads and changes jobs, documents and deliveries; each method is one transaction."""

    def __init__(self, engine: sa.Engine, witness: Witness | None = None) -> None:
        self._engine, self._witness = engine, witness or Nobody()
        self.outbox, self.tasks, self.notices = Outbox(engine, self._witness), Tasks(engine), Notices(engine)

    # Jobs

    def open(self, job: Job, former_routes: Collection[str] = ()) -> Job | None:
        """Commit a new job and supersede the older jobs of its route; None if the live job has the same inputs.

        A study that goes back to the inputs of a superseded job has a new job under another name. The predecessors of
        the new job are the reports of older jobs that left, or may have left, the node; its documents are dated later
        than what was told. Where its route told nothing of the study, it takes the place of those of `former_routes`.
        """
        with self._engine.begin() as connection:
            identifier = self._new_identifier(connection, job)
            if identifier is None:
                return None
            told = self._supersede(connection, job, identifier, former_routes)
            predecessors = succession.sent_documents(connection, told, DocumentKind.STRUCTURED_REPORT)
            is_correction = bool(succession.sent_documents(connection, told))
            created_at = max(job.created_at, job.queued_at) if is_correction else job.created_at
            row = {
                "id": identifier,
                "inputs": job.id,
                "study_instance_uid": job.study_instance_uid,
                "route": job.route,
                "handler": job.handler,
                "state": JobState.WAITING,
                "priority": job.priority,
                "content": json.dumps(dict(job.content)),
                "destinations": json.dumps(job.destinations),
                "mode": job.mode or "",
                "predecessors": json.dumps([list(reference_values(ref).values()) for ref in predecessors]),
                "locations": locations_json(job.locations),
                "created_at": created_at,
                "queued_at": job.queued_at,
                "withheld": job.withheld,
                "refusal": job.refusal,
            }
            connection.execute(sa.insert(jobs).values(row))
            succession.list_together(connection, job.study_instance_uid)
        return dataclasses.replace(job, id=identifier, predecessors=predecessors, created_at=created_at)

    def _new_identifier(self, connection: Connection, job: Job) -> str | None:
        """Return the identifier of a job that is opened now, None if the job is the live job of its route."""
        query = sa.select(jobs.c.id, jobs.c.inputs, jobs.c.state).where(
            jobs.c.study_instance_uid == job.study_instance_uid, jobs.c.route == job.route
        )
        rows = connection.execute(query).all()
        inputs_of_live_jobs = {row.id: row.inputs for row in rows if row.state != JobState.SUPERSEDED}
        if job.id in inputs_of_live_jobs.values():
            return None
        if job.id in {row.inputs for row in rows}:  # without a live job, one of another route has superseded all
            return returned_job_id(job.id, "".join(inputs_of_live_jobs or sorted(row.id for row in rows)))
        return job.id

    def _supersede(
        self, connection: Connection, job: Job, identifier: str, former_routes: Collection[str]
    ) -> frozenset[str]:
        """Supersede the older jobs; return all jobs in whose place the new job is."""
        inherited = succession.heritage(connection, job.study_instance_uid, job.route, former_routes)
        connection.execute(sa.update(jobs).where(jobs.c.id.in_(inherited)).values(successor=identifier))
        of_route = jobs.c.study_instance_uid == job.study_instance_uid, jobs.c.route == job.route
        older_jobs = (*connection.execute(sa.select(jobs.c.id).where(*of_route)).scalars(), *inherited)
        if not older_jobs:
            return frozenset()
        for older_job in older_jobs:
            self._move(connection, older_job, JobState.SUPERSEDED)
        connection.execute(sa.update(answers).where(answers.c.job.in_(older_jobs)).values(is_superseded=True))
        return succession.line_before(connection, job.study_instance_uid, job.route, identifier)

    def job(self, job: str) -> Job:
        """Return one job.

        Raises: LookupError if no job has the identifier.
        """
        with self._engine.connect() as connection:
            row = connection.execute(sa.select(jobs).where(jobs.c.id == job)).one_or_none()
        if row is None:
            raise LookupError(f"no job {job}; `ainode jobs` lists them")
        return job_of(row)

    def jobs(self, *, study: UID | None = None, states: Sequence[JobState] = ()) -> tuple[Job, ...]:
        """Return the jobs, oldest first; of a study, or in certain states, if these are given."""
        query = sa.select(jobs).order_by(jobs.c.queued_at)
        if study:
            query = query.where(jobs.c.study_instance_uid == study)
        if states:
            query = query.where(jobs.c.state.in_(states))
        with self._engine.connect() as connection:
            return tuple(job_of(row) for row in connection.execute(query))

    def move(self, job: str, state: JobState, *, reason: str = "", at: datetime | None = None) -> bool:
        """Change the state of a job; return False if the state of the job may not follow, such as after superseded.

        `at`: when the reading begins, or failed.
        """
        times = {_TIMES[state]: at} if state in _TIMES else {}
        with self._engine.begin() as connection:
            is_moved = self._move(connection, job, state, reason=reason, **times)
            if is_moved and at and state in _ENDINGS:
                write_reading_event(connection, JobEvent(job, at, _ENDINGS[state], Subject.READING, error=reason))
        return is_moved

    def prioritize(self, job: str, priority: int) -> bool:
        """Give a waiting job another place in its queue, 1 the first; return False if the job does not wait."""
        is_waiting = (jobs.c.id == job, jobs.c.state == JobState.WAITING)
        with self._engine.begin() as connection:
            return bool(connection.execute(sa.update(jobs).where(*is_waiting).values(priority=priority)).rowcount)

    def _move(
        self, connection: Connection, job: str, state: JobState, *conditions: sa.ColumnElement[bool], **values: object
    ) -> bool:
        """Change the state of a job, and other columns of the job with it: the only place that changes a state."""
        if state is JobState.READING:
            values["attempts"] = jobs.c.attempts + 1
        earlier = jobs.c.state.in_(transitions.before(state, transitions.JOB))
        update = sa.update(jobs).where(jobs.c.id == job, earlier, *conditions).values(state=state, **values)
        return bool(connection.execute(update).rowcount)

    def searched(self, job: str) -> None:
        """Note that the search for the priors of a job has ended, whatever the search brought."""
        with self._engine.begin() as connection:
            is_open = (jobs.c.id == job, jobs.c.state != JobState.CANCELLED)  # whose reason says who cancelled the job
            connection.execute(sa.update(jobs).where(*is_open).values(searched=True, reason=""))
            connection.execute(sa.update(tasks).where(tasks.c.job == job).values(attempts=0, due_at=None))

    def address(self, job: str, destinations: Sequence[str], mode: RouteMode, *, withheld: str = "") -> Job:
        """Set where the documents of a job go, by a route of a mode, or why they stay; return the changed job."""
        with self._engine.begin() as connection:
            values = {"withheld": withheld, "destinations": json.dumps(tuple(destinations)), "mode": mode}
            connection.execute(sa.update(jobs).where(jobs.c.id == job).values(values))
        return self.job(job)

    def release(self, job: Job, destinations: Sequence[str], wishes: Wishes) -> tuple[str, ...]:
        """Let the withheld documents of a finished job leave; return the destinations to deliver to.

        Raises: LookupError if the job is not finished, is superseded, or is not withheld any more.
        """
        finished = (JobState.REPORTED, JobState.OUT_OF_SCOPE)
        with self._engine.begin() as connection:
            values = {"withheld": "", "destinations": json.dumps(tuple(destinations))}
            releasable = (jobs.c.id == job.id, jobs.c.state.in_(finished), jobs.c.withheld != "")
            if not connection.execute(sa.update(jobs).where(*releasable).values(values)).rowcount:
                raise LookupError(f"job {job.id} is {job.state}; only the documents of a finished job can be sent")
            for document in self._documents(connection, job.id):
                address_copies(connection, document, destinations, wishes)
        return tuple(destinations)

    # Documents and deliveries

    def report(
        self,
        job: Job,
        kept_documents: Sequence[KeptDocument],
        reading: Outcome,
        *,
        wishes: Wishes = MappingProxyType({}),
        notices: Sequence[Notice] = (),
        endings: Sequence[KeptDocument] = (),
    ) -> bool:
        """Commit the documents of a job that is read, its answer, a waiting delivery to each destination, and notices.

        Optional documents go where `wishes` names their kind, and `endings` to their own listeners alone. Return False,
        and change nothing, if the job is not `reading`: what was encoded first leaves, and nothing of a superseded job.
        """
        with self._engine.begin() as connection:
            values = dataclasses.asdict(reading) | {"overheads": json.dumps(dict(reading.overheads))}
            if not self._move(connection, job.id, **values):
                return False
            write_answer(connection, job, reading)
            write_notices(connection, notices)
            for position, document in enumerate((*endings, *kept_documents)):
                write_document(connection, document, position)
                destinations = (document.destination,) if document in endings else job.destinations
                address_copies(connection, document, destinations, wishes)
        self._witness.answered(job, reading)
        return True

    def report_early(
        self,
        job: Job,
        kept_documents: Sequence[KeptDocument],
        *,
        wishes: Wishes = MappingProxyType({}),
        notices: Sequence[Notice] = (),
    ) -> bool:
        """Commit what is urgent of a job that is being read: messages with their deliveries, and notices.

        The job stays `reading`: a kill before `report` has it read again, and the same messages and notices are known.
        What says something else follows them as a correction (`jobs.corrections`).
        Return False, and change nothing, if the job is not `reading`, such as after a later job superseded it.
        """
        is_read = jobs.c.id == job.id, jobs.c.state == JobState.READING
        with self._engine.begin() as connection:
            connection.execute(locked(job.id))
            # SQLite takes its lock here, before it looks at the job.
            if not connection.execute(sa.update(jobs).where(*is_read).values(state=JobState.READING)).rowcount:
                return False
            write_notices(connection, notices)
            is_early = documents.c.job == job.id, documents.c.position < 0
            count = connection.execute(sa.select(sa.func.count()).select_from(documents).where(*is_early)).scalar_one()
            # Before all other documents, by which `tasks` knows them, and behind what they correct.
            for position, document in enumerate(kept_documents, start=count + _FIRST_EARLY):
                write_document(connection, document, position)
                address_copies(connection, document, job.destinations, wishes)
        return True

    def withdraw(self, job: str, endings: Sequence[KeptDocument], reason: str, at: datetime, *, wishes: Wishes) -> bool:
        """Withdraw a reported job, with a message for each listener; return False if it is not reported any more."""
        with self._engine.begin() as connection:
            connection.execute(locked(job))
            # SQLite takes its lock here, before it looks at the job.
            is_reported = jobs.c.id == job, jobs.c.state == JobState.REPORTED
            withdrawn = sa.update(jobs).where(*is_reported).values(reason=reason, withdrawn_at=at)
            if not connection.execute(withdrawn).rowcount:
                return False
            connection.execute(unsent_to_archives(job))
            count = sa.select(sa.func.count()).select_from(documents).where(documents.c.job == job)
            forget_attempts(connection, job)
            for position, document in enumerate(endings, start=connection.execute(count).scalar_one()):
                write_document(connection, document, position)
                address_copies(connection, document, (document.destination,), wishes)
        return True

    def reject(self, job: str, reason: str, at: datetime) -> bool:
        """Withdraw a job that has no result, as its images are not to be used; return False if it has one by now."""
        with self._engine.begin() as connection:
            connection.execute(locked(job))
            self._move(connection, job, JobState.WAITING)  # nobody cancels what is being read but this
            times = {"finished_at": at, "withdrawn_at": at}
            is_ended = self._move(connection, job, JobState.CANCELLED, reason=reason, **times)
            if is_ended:
                ending = (at, JobEventKind.CANCELLED, Subject.READING)
                write_reading_event(connection, JobEvent(job, *ending, error=reason))
        return is_ended

    def append(
        self, new_documents: Sequence[KeptDocument], judgement: int, *, wishes: Wishes = MappingProxyType({})
    ) -> bool:
        """Commit the documents of a judgement, that for archives first, and their waiting deliveries.

        Return False, and change nothing, if the job is superseded or withdrawn: its report is not the last word.
        """
        first, job = new_documents[0].ref.sop_instance_uid, new_documents[0].job
        with self._engine.begin() as connection:
            connection.execute(locked(job))
            composed = {"state": AddendumState.COMPOSED, "sop_instance_uid": first, "error": ""}
            holds = jobs.c.id == job, jobs.c.state == JobState.REPORTED, jobs.c.withdrawn_at.is_(None)
            # SQLite takes its lock here, before it looks at the job.
            update = sa.update(addenda).where(addenda.c.judgement == judgement, sa.exists().where(*holds))
            if not connection.execute(update.values(composed)).rowcount:
                return False
            names: str = connection.execute(sa.select(jobs.c.destinations).where(jobs.c.id == job)).scalar_one()
            count = sa.select(sa.func.count()).select_from(documents).where(documents.c.job == job)
            forget_attempts(connection, job)
            for position, document in enumerate(new_documents, start=connection.execute(count).scalar_one()):
                write_document(connection, document, position)
                address_copies(connection, document, json.loads(names), wishes)
        return True

    def revive(self, job: str, instruction: Instruction, *, unconfirmed: Sequence[str] = ()) -> tuple[str, ...]:
        """Set failed and cancelled work back to waiting, and ask again for a proof of what was sent without one.

        Nobody asks an `unconfirmed` destination for a proof. Return the destinations to deliver to or to ask, an empty
        text for the reading.
        """
        failed = (deliveries_of(job), deliveries.c.state == DeliveryState.FAILED)
        with self._engine.begin() as connection:
            connection.execute(locked(job))
            # A job that waits or is read has not failed, though WAITING may follow READING.
            has_failed = jobs.c.state.in_((JobState.FAILED, JobState.CANCELLED))
            if self._move(connection, job, JobState.WAITING, has_failed, reason=""):
                revived: tuple[str, ...] = ("",)
                again = (instruction.at, JobEventKind.TRIED_AGAIN, Subject.READING)
                write_reading_event(connection, JobEvent(job, *again, person=instruction.person))
            else:
                unproven = (
                    *(deliveries_of(job), deliveries.c.state == DeliveryState.SENT, deliveries.c.settled),
                    deliveries.c.destination.not_in(unconfirmed),
                )
                conditions = sa.and_(*failed) | sa.and_(*unproven)
                query = sa.select(deliveries.c.destination).where(conditions).distinct()
                revived = tuple(connection.execute(query).scalars())
                write_instruction(connection, job, JobEventKind.TRIED_AGAIN, instruction, [conditions])
                waiting = {"state": DeliveryState.WAITING, "error": ""}
                connection.execute(sa.update(deliveries).where(*failed).values(waiting))
                connection.execute(sa.update(deliveries).where(*unproven).values(settled=False, error=""))
            if revived:
                anew = {"attempts": 0, "due_at": None, "losses": 0, "executor": ""}
                connection.execute(sa.update(tasks).where(tasks.c.job == job).values(anew))
        return revived

    def documents(self, job: str) -> tuple[KeptDocument, ...]:
        """Return the documents of a job in the order of sending."""
        with self._engine.connect() as connection:
            return self._documents(connection, job)

    def _documents(self, connection: Connection, job: str) -> tuple[KeptDocument, ...]:
        query = sa.select(*document_columns()).where(documents.c.job == job).order_by(documents.c.position)
        return tuple(document_of(row) for row in connection.execute(query))

    def deliveries(self, job: str, destination: str = "") -> tuple[Delivery, ...]:
        """Return the deliveries of a job, to all destinations or to one."""
        return self.outbox.of(job, destination)

    # Retention

    def expired(self, before: datetime) -> tuple[str, ...]:
        """Return the finished jobs whose last delivery was confirmed, sent or tried before a time.

        A job with a document that still has to leave is never among them.
        """
        with self._engine.connect() as connection:
            return tuple(connection.execute(sa.select(jobs.c.id).where(*is_expired(before))).scalars())

    def archive(self, job: str, before: datetime, at: datetime) -> bool:
        """Move what a job answered into the history; remove the job, its documents and deliveries.

        Return False, and change nothing, if the job has not expired: somebody revived it meanwhile.
        """
        names = [column.name for column in history.c if column.name != "removed_at"]
        removed_at = sa.literal(at, history.c.removed_at.type)
        row = sa.select(*(jobs.c[name] for name in names), removed_at).where(jobs.c.id == job, *is_expired(before))
        statement = insert(self._engine, history).from_select([*names, "removed_at"], row)
        values = {name: statement.excluded[name] for name in (*names, "removed_at")}
        with self._engine.begin() as connection:
            connection.execute(locked(job))
            # SQLite takes its lock here, before it looks whether the job has expired.
            if not connection.execute(statement.on_conflict_do_update(index_elements=["id"], set_=values)).rowcount:
                return False
            connection.execute(sa.delete(deliveries).where(deliveries_of(job)))
            for table in (documents, tasks, job_events):
                connection.execute(sa.delete(table).where(table.c.job == job))
            connection.execute(sa.delete(jobs).where(jobs.c.id == job))
        return True

    def is_known(self, job: str) -> bool:
        """Return whether a job is here, and not only its history."""
        with self._engine.connect() as connection:
            return connection.execute(sa.select(jobs.c.id).where(jobs.c.id == job)).scalar() is not None

    def history(self, study: UID | None = None) -> tuple[PastJob, ...]:
        """Return what is left of jobs whose documents were removed, oldest first; of a study if a study is given."""
        query = sa.select(history).order_by(history.c.queued_at)
        if study:
            query = query.where(history.c.study_instance_uid == study)
        with self._engine.connect() as connection:
            return tuple(past_job_of(row) for row in connection.execute(query))
