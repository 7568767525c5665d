"""Many requests at once, of strangers and of one person: nobody else is kept waiting, and little is logged."""

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from integration.console.conftest import Browser
from support.waiting import until
from support.web_bench import Bench

_PLACES = 384
FORM = ("Content-Type: application/x-www-form-urlencoded", "Content-Length: 60000")


@contextmanager
def crowd(bench: Bench, count: int, request: str, *lines: str, body: str = "") -> Iterator[list[socket.socket]]:
    """Send a request over each of many connections, and wait for no answer."""
    content = "\r\n".join([f"{request} HTTP/1.1", "Host: 127.0.0.1", *lines, "", body]).encode()
    with ExitStack() as stack:
        connections = []
        for _ in range(count):
            address = ("127.0.0.1", bench.settings.web.port)
            connections.append(stack.enter_context(socket.create_connection(address, timeout=60)))
            connections[-1].sendall(content)
        yield connections


def statuses(connections: list[socket.socket]) -> list[bytes]:
    """Return the first line of each answer."""
    return [connection.recv(64).partition(b"\r\n")[0] for connection in connections]


def test_forms_of_strangers_that_never_end_keep_nobody_out(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """Each request has a connection of its own: a kept connection that waits at the strangers' address may be ended.

    A browser asks again over a new connection by itself.
    """
    viewer = {"X-Role": "VIEWER"}
    with crowd(bench, _PLACES + 100, "POST /console/login", *FORM, body="csrf=") as connections:
        begin = time.monotonic()
        for _ in range(2):
            assert bench.call("GET", "/health").status_code == 200
            assert bench.call("GET", "/console/", headers=viewer).status_code == 200
        connections[-1].recv(1)
        assert time.monotonic() - begin < 120
    assert bench.call("GET", "/console/", headers=viewer).status_code == 200
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_a_person_who_opens_hundreds_of_live_pages_keeps_nobody_out(
    bench: Bench, viewer: Browser, reader: Browser
) -> None:
    lines = ("X-Role: VIEWER", "Accept: text/event-stream")
    with crowd(bench, 300, "GET /console/worklist/events", *lines) as connections:
        answers = statuses(connections)
        assert answers.count(b"HTTP/1.1 200 OK") == 48
        assert answers.count(b"HTTP/1.1 429 Too Many Requests") == 300 - 48
        assert bench.call("GET", "/health").status_code == 200
        for person in (viewer, reader):
            assert person.get("/console/").status_code == 200
    stream = {"Accept": "text/event-stream"}
    until(lambda: viewer.get("/console/worklist/events", headers=stream, stream=True).status_code == 200)


def test_the_forms_of_a_person_that_never_end_are_limited_too(bench: Bench, viewer: Browser, reader: Browser) -> None:
    with crowd(bench, 100, "POST /console/search", "X-Role: VIEWER", *FORM, body="csrf=") as connections:
        assert statuses(connections[-52:]) == [b"HTTP/1.1 429 Too Many Requests"] * 52
        assert reader.get("/console/").status_code == 200
    while viewer.get("/console/").status_code == 429:
        pass


def test_many_who_ask_what_a_process_must_find_out_hold_no_thread_of_other_pages(bench: Bench, viewer: Browser) -> None:
    """Forty is the number of threads of the server."""
    with crowd(bench, 40, "GET /console/routes/ready", "X-Role: READER", "Connection: close") as connections:
        assert viewer.get("/console/routes").status_code == 200
        pages = [whole(connection) for connection in connections]
    refusals = [page for page in pages if page.startswith(b"HTTP/1.1 503")]
    assert len(refusals) >= 30
    assert len(refusals) + sum(page.startswith(b"HTTP/1.1 200") for page in pages) == 40
    assert all(b"retry-after: 60" in page and b"try again in a minute" in page for page in refusals)


def whole(connection: socket.socket) -> bytes:
    """Return an answer to its end, which takes the time of a process that imports the handlers."""
    connection.settimeout(120)
    with connection.makefile("rb") as file:
        return file.read()
