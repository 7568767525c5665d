"""Persons, their passwords and roles, and their sessions, on SQLite and on PostgreSQL where there is one."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest
import sqlalchemy as sa
from support import installed
from support.databases import migrated

installed("argon2")

from argon2 import PasswordHasher, Type, extract_parameters  # noqa: E402

from ainode.node.errors import ConfigError  # noqa: E402
from ainode.node.keeping import passwords  # noqa: E402
from ainode.node.keeping.people import People, Role, SessionLimits, person_name, session_digest  # noqa: E402
from ainode.node.keeping.schema import persons, sessions  # noqa: E402

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LIMITS = SessionLimits(timedelta(hours=1), timedelta(hours=12))
WORDS = "correct horse battery"
OTHER_WORDS = "staple of four words"


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[sa.Engine]:
    engine = migrated(f"sqlite:///{tmp_path / 'node.sqlite'}")
    yield engine
    engine.dispose()


@pytest.fixture
def shared_people(url: str) -> Iterator[People]:
    """The persons in a database of both kinds in turn."""
    engine = migrated(url)
    yield with_persons(engine)
    engine.dispose()


@pytest.fixture
def people(engine: sa.Engine) -> People:
    return with_persons(engine)


def with_persons(engine: sa.Engine) -> People:
    people = People(engine)
    people.add("chief", Role.ADMINISTRATOR, WORDS, NOW)
    people.add("anna", Role.READER, WORDS, NOW)
    return people


def opened(people: People, name: str = "anna") -> str:
    token = people.open(name, NOW, LIMITS)
    assert token
    return token


def test_a_password_is_kept_as_argon2id_that_another_implementation_verifies(engine: sa.Engine, people: People) -> None:
    kept_hash = people.password_hash("anna")
    assert extract_parameters(kept_hash).type is Type.ID
    assert PasswordHasher().verify(kept_hash, WORDS)
    with engine.connect() as connection:
        assert WORDS not in str(connection.execute(sa.select(persons)).all())


def test_the_memory_of_a_hash_is_given_back_by_every_thread(people: People) -> None:
    stored_hash, process = people.password_hash("anna"), psutil.Process()
    before_bytes = process.memory_info().rss
    for _ in range(4):
        thread = threading.Thread(target=passwords.is_password, args=(stored_hash, OTHER_WORDS))
        thread.start()
        thread.join()
    assert process.memory_info().rss - before_bytes < 10_000_000


def test_the_password_of_the_person_alone_is_the_password(people: People) -> None:
    assert passwords.is_password(people.password_hash("anna"), WORDS)
    assert not passwords.is_password(people.password_hash("anna"), OTHER_WORDS)
    assert not passwords.is_password(people.password_hash("nobody"), WORDS)
    assert not passwords.is_password("damaged", WORDS)


def test_a_letter_that_a_keyboard_composes_otherwise_is_the_same_letter(people: People) -> None:
    people.change_password("anna", "Grüße aus München an alle")
    assert passwords.is_password(people.password_hash("anna"), "Gru\u0308ße aus Mu\u0308nchen an alle")


WEAK = (
    *("", "fourteen chars", "aaaaaaaaaaaaaaaaaaaa", "abababababababab", "1234567890123456", "9876543210987654"),
    *("qwertyuiopasdfgh", "Anna.Anna.Anna.Anna1", "ainode-administrator", "Password-password1"),
    *("four words with\x00 more", "x" * 257),
)


@pytest.mark.parametrize("weak", WEAK)
def test_a_password_that_somebody_guesses_is_refused_without_repeating_it(people: People, weak: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        people.add("anna2", Role.VIEWER, weak, NOW)
    assert not weak or weak not in str(refusal.value)
    assert people.person("anna2") is None
    with pytest.raises(ConfigError):
        people.change_password("anna", weak)
    assert passwords.is_password(people.password_hash("anna"), WORDS)


def test_upper_and_lower_case_are_the_same_person(people: People) -> None:
    with pytest.raises(ConfigError, match="exists"):
        people.add("ANNA", Role.VIEWER, WORDS, NOW)


@pytest.mark.parametrize("name", ["", " ", "a b", "<b>", "a" * 65, "-x", "../x", "ä", "a\nb", "a\x00b"])
def test_a_name_that_is_no_login_name_is_refused(name: str) -> None:
    with pytest.raises(ConfigError):
        person_name(name)


def test_a_token_is_kept_as_a_digest_and_is_new_at_every_login(engine: sa.Engine, people: People) -> None:
    token, second = opened(people), opened(people)
    assert token != second
    with engine.connect() as connection:
        rows = str(connection.execute(sa.select(sessions)).all())
    assert token not in rows
    assert session_digest(token) in rows


def test_a_session_names_its_person_and_the_role_of_this_moment(people: People) -> None:
    session = people.session(opened(people), NOW, LIMITS)
    assert session is not None
    assert (session.person, session.role) == ("anna", Role.READER)
    assert people.session("another token", NOW, LIMITS) is None


def test_a_session_ends_after_an_idle_hour_and_at_its_absolute_limit(shared_people: People) -> None:
    people = shared_people
    token, minute = opened(people), timedelta(minutes=1)
    assert people.session(token, NOW + timedelta(hours=1), LIMITS) is None
    now = NOW
    while now < NOW + timedelta(hours=12) - 50 * minute:
        now += 50 * minute
        assert people.session(token, now, LIMITS)
    assert people.session(token, NOW + timedelta(hours=12), LIMITS) is None


def test_a_look_at_whether_a_session_is_open_keeps_it_not_alive(people: People) -> None:
    digest, half = session_digest(opened(people)), timedelta(minutes=40)
    assert people.is_session_open(digest, NOW + half, LIMITS)
    assert not people.is_session_open(digest, NOW + 2 * half, LIMITS)


def test_every_change_of_a_person_ends_the_sessions_of_that_person_alone(shared_people: People) -> None:
    people = shared_people
    changes = (
        lambda: people.change_role("anna", Role.OPERATOR),
        lambda: people.change_password("anna", OTHER_WORDS),
        lambda: people.remove("anna"),
    )
    other = opened(people, "chief")
    for change in changes:
        token = opened(people)
        change()
        assert people.session(token, NOW, LIMITS) is None
    assert people.session(other, NOW, LIMITS)


def test_no_session_opens_for_who_is_gone_or_whose_password_changed_during_the_login(people: People) -> None:
    kept_hash = people.password_hash("anna")
    people.change_password("anna", OTHER_WORDS)
    assert people.open("anna", NOW, LIMITS, kept_hash) is None
    people.remove("anna")
    assert people.open("anna", NOW, LIMITS) is None


def test_a_session_that_is_over_is_removed_at_the_next_login(engine: sa.Engine, people: People) -> None:
    opened(people)
    people.open("chief", NOW + timedelta(hours=2), LIMITS)
    with engine.connect() as connection:
        assert connection.execute(sa.select(sessions.c.person)).scalars().all() == ["chief"]


def test_a_closed_session_is_over(people: People) -> None:
    token = opened(people)
    people.close(session_digest(token))
    assert people.session(token, NOW, LIMITS) is None


def test_persons_are_never_left_without_an_administrator(shared_people: People) -> None:
    people = shared_people
    token = opened(people, "chief")
    for change in (lambda: people.remove("chief"), lambda: people.change_role("chief", Role.VIEWER)):
        with pytest.raises(ConfigError, match="no administrator"):
            change()
    assert people.session(token, NOW, LIMITS)
    people.remove("anna")
    people.remove("chief")
    assert people.are_none()


def test_who_comes_through_a_proxy_alone_has_no_password(people: People) -> None:
    people.add("proxied", Role.VIEWER, None, NOW)
    assert not passwords.is_password(people.password_hash("proxied"), "")
    assert [person.has_password for person in people.all()] == [True, True, False]


def test_each_role_may_do_what_the_roles_below_it_may_do() -> None:
    assert [role.word for role in sorted(Role)] == ["viewer", "reader", "operator", "administrator"]
    assert Role.of("operator") > Role.READER
    with pytest.raises(ConfigError, match="no role"):
        Role.of("root")
