"""What one process queues on PostgreSQL is known in another at once."""

import queue
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue

import psycopg
import pytest
import sqlalchemy as sa
from support.postgresql import postgresql

from ainode.node.jobs.bells import NoBell, PostgresBell, bell_of
from ainode.node.jobs.pollers import Pollers

Rings = SimpleQueue[str | None]
LONG_S = 60


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with postgresql() as address:
        yield address


@contextmanager
def listening(address: str) -> Iterator[tuple[PostgresBell, Rings]]:
    """Yield a bell that listens, and what it hears; its first word, that bells may have been missed, is taken."""
    rings: Rings = SimpleQueue()
    bell = PostgresBell(address, rings.put)
    bell.start()
    assert rings.get(timeout=LONG_S) is None
    yield bell, rings
    bell.stop()


def test_a_bell_is_heard_in_every_other_process_and_not_by_whoever_rang(address: str) -> None:
    with listening(address) as (first, of_first), listening(address) as (second, of_second):
        first.ring("read.reader")
        assert of_second.get(timeout=LONG_S) == "read.reader"
        second.ring("send.archive")
        assert of_first.get(timeout=LONG_S) == "send.archive"
        with pytest.raises(queue.Empty):
            of_first.get_nowait()


def test_after_a_lost_connection_all_queues_are_looked_into_and_bells_are_heard_again(address: str) -> None:
    """As after PostgreSQL was started again: what was rung meanwhile was heard by nobody."""
    with listening(address) as (first, _), listening(address) as (_, of_second):
        first.ring("before")
        assert of_second.get(timeout=LONG_S) == "before"
        cut_all(address)
        assert of_second.get(timeout=LONG_S) is None
        first.ring("lost with its connection")  # which the process finds out by this ring
        first.ring("after")
        heard(of_second, "after")


def heard(rings: Rings, word: str) -> None:
    while rings.get(timeout=LONG_S) != word:
        pass


def cut_all(address: str) -> None:
    """End every other connection to the server."""
    url = sa.make_url(address).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE pid <> pg_backend_pid() AND datname = current_database()"
        )


def test_a_process_that_has_the_queues_for_itself_rings_nowhere() -> None:
    def never(_: str | None) -> None:
        raise AssertionError

    bell = bell_of("sqlite:////nowhere/workflows.sqlite", never)
    assert isinstance(bell, NoBell)
    for step in (bell.start, lambda: bell.ring("read.reader"), bell.stop):
        call: Callable[[], None] = step
        call()


def test_the_node_hears_of_which_job_a_worker_has_done_something_and_the_worker_not_of_itself(address: str) -> None:
    of_node, of_worker = SimpleQueue[str](), SimpleQueue[str]()
    node = Pollers(None, (), address, of_node.put)  # type: ignore[arg-type] # without a queue nothing is taken
    worker = Pollers(None, (), address, of_worker.put)  # type: ignore[arg-type]
    with listening(address) as (_, rings):
        node.start()
        worker.start()
        while of_node.empty():  # until the node listens
            worker.tell("0815")
            heard(rings, "job:0815")
            time.sleep(0.05)
        assert of_node.get(timeout=LONG_S) == "0815"
        assert of_worker.empty()
    node.stop()
    worker.stop()
