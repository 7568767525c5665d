"""The processes that share the jobs of a PostgreSQL: who they are, when each was last alive, and who is taken for dead.

The only clock is the database's. An executor that is dead stays dead: its process begins anew under another identifier,
so that nothing that the dead one left half done is mistaken for work of the new one.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ainode.node.domain import JobState
from ainode.node.errors import ConfigError
from ainode.node.keeping.schema import executors, jobs, tasks

# Any number that no other program on the server uses, and another than that of the migrations: "sweeps" in ASCII.
_SWEEP_LOCK: Final = 0x737765657073
_REGISTER_LOCK: Final = 0x6A6F696E
# For so long `ainode workers` shows who ended.
_KEPT_S: Final = 86_400.0


class ExecutorKind(StrEnum):
    """What a process does of the work."""

    NODE = "node"
    """all of it, and receives"""
    WORKER = "worker"
    """reads and delivers"""


class Departure(StrEnum):
    """How a process ended."""

    LEFT = "left"
    """it was asked to stop, and said that it did"""
    SILENT = "silent"
    """it did not beat for too long"""
    KILLED = "killed"
    """another of its name began on its machine, and it had not left"""
    TERMS = "other terms"
    """the node began on other terms than its own"""


LOSSES: Final = frozenset({Departure.SILENT, Departure.KILLED})
"""the ends that a reading may have brought about"""


@dataclass(frozen=True, slots=True)
class Executor:
    """One process from its start to its end."""

    id: str
    name: str
    kind: ExecutorKind
    host: str
    handlers: tuple[str, ...]
    terms: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    """what a worker must have in common with the node, by what it is: version, data folder, digests"""
    beat_age_s: float = 0.0
    """seconds since the last beat"""
    is_dead: bool = False
    """whether it stopped or was taken for dead"""
    departure: str = ""
    """how it ended; '' while it lives, and where nobody knows"""

    def state(self, dead_after_s: float) -> str:
        """Return in words whether the process lives."""
        if self.is_dead:
            is_lost = self.departure and self.departure != Departure.LEFT
            return f"lost ({self.departure})" if is_lost else "ended"
        return "silent" if self.beat_age_s > dead_after_s else "alive"


class Executors:
    """Reads and changes executors; each method but `sweep` is one transaction. For PostgreSQL alone."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def enter(self, executor: Executor, dead_after_s: float) -> None:
        """Enter an executor, alive from now on.

        The caller holds a lock of this machine that no other process of the kind and name has, so that a predecessor
        is dead. A node ends every worker on other terms, too: what such a worker does from then on counts no more.

        Raises: ConfigError if another node is alive.
        """
        with self._engine.begin() as connection:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_REGISTER_LOCK)))
            of_kind, here = executors.c.kind == executor.kind, executors.c.host == executor.host
            connection.execute(_buried(Departure.KILLED, of_kind, here, executors.c.name == executor.name))
            if executor.kind is ExecutorKind.NODE:
                self._enter_node(connection, executor, dead_after_s)
            now, terms = sa.func.now(), json.dumps(dict(executor.terms), sort_keys=True)
            row = {"id": executor.id, "name": executor.name, "kind": executor.kind, "host": executor.host}
            row |= {"handlers": json.dumps(executor.handlers), "terms": terms}
            connection.execute(sa.insert(executors).values(**row, started_at=now, beat_at=now))

    def _enter_node(self, connection: Connection, node: Executor, dead_after_s: float) -> None:
        is_node = executors.c.kind == ExecutorKind.NODE
        beating = sa.select(executors.c.name, executors.c.host).where(is_node, _is_alive(), ~_is_late(dead_after_s))
        if other := connection.execute(beating).first():
            raise ConfigError(
                f"the node {other.name!r} on {other.host} works on this database: stop it, or give this node a "
                f"[database] url of its own; a node that was killed counts as alive for {dead_after_s:.0f} s"
            )
        connection.execute(_buried(Departure.SILENT, is_node))
        terms = json.dumps(dict(node.terms), sort_keys=True)
        is_worker = executors.c.kind == ExecutorKind.WORKER
        connection.execute(_buried(Departure.TERMS, is_worker, executors.c.terms != terms))

    def beat(self, executor: str) -> bool:
        """Note that an executor lives; return False if it is dead, and change nothing then."""
        alive = (executors.c.id == executor, _is_alive())
        with self._engine.begin() as connection:
            beaten = sa.update(executors).where(*alive).values(beat_at=sa.func.now())
            return bool(connection.execute(beaten).rowcount)

    def leave(self, executor: str) -> None:
        """End an executor: its unfinished work is free for others at once."""
        with self._engine.begin() as connection:
            connection.execute(_buried(Departure.LEFT, executors.c.id == executor))

    def sweep(self, give_away: Callable[[Callable[[], frozenset[str]]], int], late_s: float | None) -> tuple[str, ...]:
        """Bury who is late by `late_s`, have the work of the dead given away, and return who was buried.

        What the dead were reading waits from then on, also where nobody else reads with its handler. One process does
        so at a time. `give_away` gets what returns the identifiers of the living. Nobody is buried where `late_s` is
        None.
        """
        with self._sweeping() as connection:
            if connection is None:
                return ()
            buried: tuple[str, ...] = ()
            if late_s is not None:
                burial = _buried(Departure.SILENT, _is_late(late_s)).returning(executors.c.id)
                buried = tuple(connection.execute(burial).scalars())
            is_old = executors.c.dead_at < sa.func.now() - sa.func.make_interval(0, 0, 0, 0, 0, 0, _KEPT_S)
            connection.execute(sa.delete(executors).where(is_old, executors.c.id.not_in(_newest_node())))
            connection.execute(_readings_of_the_dead_wait())
            give_away(lambda: frozenset(connection.execute(sa.select(executors.c.id).where(_is_alive())).scalars()))
            return buried

    @contextmanager
    def _sweeping(self) -> Iterator[Connection | None]:
        """Yield a connection whose statements count at once, None while another process sweeps.

        A burial must count before work is given away: the buried may come to life in between.
        """
        with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            if not connection.execute(sa.select(sa.func.pg_try_advisory_lock(_SWEEP_LOCK))).scalar():
                yield None
                return
            try:
                yield connection
            finally:
                connection.execute(sa.select(sa.func.pg_advisory_unlock(_SWEEP_LOCK)))

    def all(self) -> tuple[Executor, ...]:
        """Return the executors, the living first; none where the database is that of one process."""
        if self._engine.dialect.name != "postgresql":
            return ()
        query = sa.select(executors, _age_s().label("age_s")).order_by(
            executors.c.dead_at.is_not(None), executors.c.kind, executors.c.started_at
        )
        with self._engine.connect() as connection:
            return tuple(map(_executor, connection.execute(query)))

    def node(self) -> Executor | None:
        """Return the node that started last, None if no node has started on the database."""
        query = sa.select(executors, _age_s().label("age_s")).where(executors.c.id.in_(_newest_node()))
        with self._engine.connect() as connection:
            row = connection.execute(query).first()
        return _executor(row) if row else None

    def known(self) -> frozenset[str]:
        """Return the identifiers of all, living and dead; none where the database is that of one process."""
        if self._engine.dialect.name != "postgresql":
            return frozenset()
        with self._engine.connect() as connection:
            return frozenset(connection.execute(sa.select(executors.c.id)).scalars())


def _is_alive() -> sa.ColumnElement[bool]:
    return executors.c.dead_at.is_(None)


def _age_s() -> sa.ColumnElement[float]:
    return sa.cast(sa.extract("epoch", sa.func.now() - executors.c.beat_at), sa.Float)


def _is_late(late_s: float) -> sa.ColumnElement[bool]:
    return _age_s() > late_s


def _buried(departure: Departure, *conditions: sa.ColumnElement[bool]) -> sa.Update:
    return sa.update(executors).where(_is_alive(), *conditions).values(dead_at=sa.func.now(), departure=departure)


def _readings_of_the_dead_wait() -> sa.Update:
    of_dead = (tasks.c.job == jobs.c.id) & (executors.c.id == tasks.c.executor) & executors.c.dead_at.is_not(None)
    reason = executors.c.name + " ended while it read the study, which is begun again"
    return (
        sa.update(jobs).where(jobs.c.state == JobState.READING, of_dead).values(state=JobState.WAITING, reason=reason)
    )


def _newest_node() -> sa.Select[tuple[str]]:
    of_node = sa.select(executors.c.id).where(executors.c.kind == ExecutorKind.NODE)
    return of_node.order_by(executors.c.started_at.desc()).limit(1)


def _executor(row: Any) -> Executor:  # noqa: ANN401 - rows have the columns of their query
    return Executor(
        id=row.id,
        name=row.name,
        kind=ExecutorKind(row.kind),
        host=row.host,
        handlers=tuple(json.loads(row.handlers)),
        terms=json.loads(row.terms),
        beat_age_s=float(row.age_s),
        is_dead=row.dead_at is not None,
        departure=row.departure,
    )
