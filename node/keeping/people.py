"""Persons who may use the console: their roles, and sessions that end with them. Each method is one transaction."""

import hashlib
import re
import secrets
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from typing import Any, Final

import sqlalchemy as sa

from ainode.node.errors import ConfigError, DatabaseUnavailable
from ainode.node.keeping import passwords
from ainode.node.keeping.database import aware, insert
from ainode.node.keeping.schema import persons, sessions

# A login name, or an e-mail address that a proxy names.
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_.@-]{0,63}")
_RANDOM_BYTES: Final = 32
# A request writes only where the last note is older: a page of ten pictures is one note.
_NOTE_AFTER: Final = timedelta(minutes=1)


class Role(IntEnum):
    """What a person may do; each role may do what the roles below it may do."""

    VIEWER = 1
    """looks"""
    READER = 2
    """judges, tries files"""
    OPERATOR = 3
    """reads and delivers again, cancels, prioritizes, retries"""
    ADMINISTRATOR = 4
    """persons, routes, configuration"""

    @property
    def word(self) -> str:
        """Return the role as it is written in commands, on pages and in the database."""
        return self.name.lower()

    @classmethod
    def of(cls, word: str) -> "Role":
        """Return the role of a word.

        Raises: ConfigError.
        """
        for role in cls:
            if role.word == word:
                return role
        raise ConfigError(f"{word!r} is no role; give one of {', '.join(role.word for role in cls)}")


@dataclass(frozen=True, slots=True)
class Person:
    """A person who may log in."""

    name: str
    role: Role
    created_at: datetime
    has_password: bool
    """without a password, the person comes through a proxy that names persons"""

    @property
    def identity(self) -> str:
        """Return what tells the person from a later one of the same name."""
        return _identity(self.created_at)


@dataclass(frozen=True, slots=True)
class Session:
    """A login that is open."""

    digest: str
    """sha256 of the token, which the browser alone has"""
    person: str
    role: Role
    csrf: str
    identity: str
    """of the person, as `Person.identity`"""


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """How long a session lasts without a request, and how long at most."""

    idle: timedelta
    absolute: timedelta


def person_name(text: str) -> str:
    """Return a name as it is kept; upper and lower case are the same person.

    Raises: ConfigError if the text is no name.
    """
    name = text.strip().lower()
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{text!r}: a person's name has 1 to 64 of a-z 0-9 _ . @ - and begins with a letter or digit")
    return name


def session_digest(token: str) -> str:
    """Return what is kept of a session's token, which has 256 random bits."""
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


class People:
    """The persons and their sessions, in the database."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def add(self, name: str, role: Role, password: str | None, now: datetime) -> Person:
        """Add a person; without a password, the person comes through a proxy alone.

        Raises: ConfigError if the name or the password is refused, or somebody has the name.
        """
        name = person_name(name)
        row = {"name": name, "role": role.word, "password": _kept(password, name), "created_at": now}
        with self._engine.begin() as connection:
            statement = insert(self._engine, persons).values(row).on_conflict_do_nothing()
            if not connection.execute(statement).rowcount:
                raise ConfigError(f"{name!r} exists; `ainode user role` and `ainode user password` change a person")
        return Person(name, role, now, has_password=password is not None)

    def remove(self, name: str) -> None:
        """Remove a person, and end the person's sessions; the last person may go, too.

        Raises: ConfigError if there is no such person, or persons would be left without an administrator.
        """
        with self._engine.begin() as connection:
            _lock(connection)
            had_administrator = _has_administrator(connection)
            _end_sessions(connection, name)
            _refuse_none(connection.execute(sa.delete(persons).where(persons.c.name == name)), name)
            is_anybody_left = connection.execute(sa.select(persons.c.name).limit(1)).first()
            if had_administrator and is_anybody_left:
                _refuse_no_administrator(connection)

    def change_role(self, name: str, role: Role) -> None:
        """Give a person another role, and end the person's sessions.

        Raises: ConfigError if there is no such person, or no administrator would be left.
        """
        with self._engine.begin() as connection:
            _lock(connection)
            had_administrator = _has_administrator(connection)
            change = sa.update(persons).where(persons.c.name == name).values(role=role.word)
            _refuse_none(connection.execute(change), name)
            _end_sessions(connection, name)
            if had_administrator:
                _refuse_no_administrator(connection)

    def change_password(self, name: str, password: str) -> None:
        """Give a person another password, and end the person's sessions.

        Raises: ConfigError if there is no such person, or the password is refused.
        """
        stored_hash = _kept(password, name)
        with self._engine.begin() as connection:
            change = sa.update(persons).where(persons.c.name == name).values(password=stored_hash)
            _refuse_none(connection.execute(change), name)
            _end_sessions(connection, name)

    def all(self) -> tuple[Person, ...]:
        """Return all persons by name."""
        with self._engine.connect() as connection:
            return tuple(map(_person, connection.execute(sa.select(persons).order_by(persons.c.name))))

    def person(self, name: str) -> Person | None:
        """Return a person, None if nobody has the name."""
        with self._engine.connect() as connection:
            row = connection.execute(sa.select(persons).where(persons.c.name == name)).first()
        return _person(row) if row else None

    def are_none(self) -> bool:
        """Return whether nobody can log in yet."""
        with self._engine.connect() as connection:
            return connection.execute(sa.select(persons.c.name).limit(1)).first() is None

    def password_hash(self, name: str) -> str:
        """Return what is kept of a person's password, '' for nobody and for nobody's password."""
        with self._engine.connect() as connection:
            return str(connection.execute(sa.select(persons.c.password).where(persons.c.name == name)).scalar() or "")

    def open(self, name: str, now: datetime, limits: SessionLimits, stored_hash: str | None = None) -> str | None:
        """Open a session, and return its token; None if the person is gone or has another password than a moment ago.

        Sessions that are over are removed.
        """
        token = secrets.token_urlsafe(_RANDOM_BYTES)
        values = {
            "digest": session_digest(token),
            "person": name,
            "csrf": secrets.token_urlsafe(_RANDOM_BYTES),
            "created_at": now,
            "seen_at": now,
        }
        with self._engine.begin() as connection:
            connection.execute(sa.delete(sessions).where(~_is_open(now, limits)))
            query = sa.select(persons.c.password).where(persons.c.name == name).with_for_update()
            current = connection.execute(query).scalar()
            if current is None or stored_hash not in {None, current}:
                return None
            connection.execute(sa.insert(sessions).values(values))
        return token

    def session(self, token: str, now: datetime, limits: SessionLimits) -> Session | None:
        """Return the open session of a token with the person's role of this moment, None if there is none."""
        digest = session_digest(token)
        query = (
            sa.select(sessions, persons.c.role, persons.c.created_at.label("added_at"))
            .join(persons, persons.c.name == sessions.c.person)
            .where(sessions.c.digest == digest, _is_open(now, limits))
        )
        with self._engine.connect() as connection:
            row = connection.execute(query).first()
        if row is None:
            return None
        if now - aware(row.seen_at) > _NOTE_AFTER:
            # Who sees why the disk is full must not be logged out by the full disk.
            with suppress(DatabaseUnavailable), self._engine.begin() as connection:
                connection.execute(sa.update(sessions).where(sessions.c.digest == digest).values(seen_at=now))
        return Session(digest, row.person, Role.of(row.role), row.csrf, _identity(row.added_at))

    def is_session_open(self, digest: str, now: datetime, limits: SessionLimits) -> bool:
        """Return whether a session is still open; the question is no sign of life of the person."""
        query = sa.select(sessions.c.digest).where(sessions.c.digest == digest, _is_open(now, limits))
        with self._engine.connect() as connection:
            return connection.execute(query).first() is not None

    def close(self, digest: str) -> None:
        """End a session."""
        with self._engine.begin() as connection:
            connection.execute(sa.delete(sessions).where(sessions.c.digest == digest))


def _identity(created_at: datetime) -> str:
    return aware(created_at).astimezone(UTC).isoformat()


def _kept(password: str | None, name: str) -> str:
    if password is None:
        return ""
    passwords.refuse_weak(password, name)
    return passwords.password_hash(password)


def _person(row: Any) -> Person:  # noqa: ANN401 - rows have the columns of their query
    return Person(row.name, Role.of(row.role), aware(row.created_at), has_password=bool(row.password))


def _is_open(now: datetime, limits: SessionLimits) -> sa.ColumnElement[bool]:
    return sa.and_(sessions.c.seen_at > now - limits.idle, sessions.c.created_at > now - limits.absolute)


def _end_sessions(connection: sa.Connection, name: str) -> None:
    connection.execute(sa.delete(sessions).where(sessions.c.person == name))


def _refuse_none(result: sa.CursorResult[Any], name: str) -> None:
    if not result.rowcount:
        raise ConfigError(f"nobody is named {name!r}; `ainode user list` lists the persons")


def _lock(connection: sa.Connection) -> None:
    """Let two administrators who remove each other wait for each other; SQLite has one writer at a time anyway."""
    connection.execute(sa.select(persons.c.name).with_for_update())


def _has_administrator(connection: sa.Connection) -> bool:
    query = sa.select(persons.c.name).where(persons.c.role == Role.ADMINISTRATOR.word).limit(1)
    return connection.execute(query).first() is not None


def _refuse_no_administrator(connection: sa.Connection) -> None:
    if not _has_administrator(connection):
        raise ConfigError("no administrator would be left; add another administrator first")
