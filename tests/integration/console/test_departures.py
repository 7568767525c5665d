"""Who is removed, demoted or logged out sees and does nothing more, and nothing of the person is left."""

import socket
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest
from integration.console.test_login import WORDS, Visitor, with_persons
from integration.console.test_routes import image
from support.web_bench import Bench

from ainode.node.keeping.people import People, Role
from ainode.node.offline.trial_question import Stage

SECONDS = 120
"""what "within seconds" may take on a busy machine; the node looks every 2 s at visits, every 4 s at trials"""


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    yield from with_persons(Bench(tmp_path_factory.mktemp("departures")))


@pytest.fixture
def people(bench: Bench) -> People:
    return People(bench.engine)


@pytest.fixture
def eve(bench: Bench, people: People) -> Visitor:
    """A reader, whom no earlier test has left behind."""
    if people.person("eve"):
        people.remove("eve")
    people.add("eve", Role.READER, WORDS, datetime.now(UTC))
    return logged_in(bench)


def logged_in(bench: Bench) -> Visitor:
    visitor = Visitor(bench)
    assert visitor.log_in("eve").status_code == 303
    return visitor


def soon(is_so: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + SECONDS
    while not is_so() and time.monotonic() < deadline:
        time.sleep(0.05)
    return is_so()


@pytest.mark.parametrize("end", ["remove", "change_role", "log out"])
def test_a_live_page_ends_with_the_visit(people: People, eve: Visitor, end: str) -> None:
    address = f"{eve.address}/console/worklist/events"
    with eve.session.get(address, headers={"Accept": "text/event-stream"}, stream=True, timeout=SECONDS) as events:
        content = events.iter_content(None)
        assert next(content)
        if end == "log out":
            eve.post("/console/logout", {"csrf": eve.csrf("/console/password")})
        else:
            people.remove("eve") if end == "remove" else people.change_role("eve", Role.VIEWER)
        begin = time.monotonic()
        list(content)
        assert time.monotonic() - begin < SECONDS
    assert eve.get("/console/").status_code == 303


def test_the_upload_of_a_person_who_is_removed_ends_and_leaves_nothing(
    bench: Bench, people: People, eve: Visitor
) -> None:
    identifier = bench.parts.web.trials.new_identifier()
    folder = bench.folder / "trials" / identifier
    cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in eve.session.cookies)
    lines = [
        f"POST /console/trials/{identifier} HTTP/1.1",
        "Host: 127.0.0.1",
        f"Cookie: {cookies}",
        "Content-Type: multipart/form-data; boundary=b",
        "Content-Length: 5000\r\n",
        '--b\r\nContent-Disposition: form-data; name="files"; filename="a.dcm"\r\n\r\nthe begin',
    ]
    with socket.create_connection(("127.0.0.1", bench.settings.web.port), timeout=SECONDS) as connection:
        connection.sendall("\r\n".join(lines).encode())
        assert soon(folder.exists)
        people.remove("eve")
        assert connection.recv(64).startswith(b"HTTP/1.1 303 ")
    assert soon(lambda: not folder.exists())


def test_a_later_person_of_the_same_name_has_no_trials_and_those_of_the_former_are_removed(
    bench: Bench, people: People, eve: Visitor
) -> None:
    csrf = eve.csrf("/console/trials")
    form = [("csrf", (None, csrf)), ("files", ("a.dcm", image(BodyPartExamined="SPINE")))]
    address = f"/console/trials/{bench.parts.web.trials.new_identifier()}"
    sent = eve.session.post(eve.address + address, files=form, allow_redirects=False)
    assert sent.status_code == 303
    assert eve.get(address).status_code == 200
    folder = bench.folder / address.removeprefix("/console/")
    assert folder.exists()
    people.remove("eve")
    people.add("eve", Role.READER, WORDS, datetime.now(UTC))
    later = logged_in(bench)
    assert later.get(address).status_code == 404
    assert address not in later.get("/console/trials").text
    assert soon(lambda: not folder.exists())


def test_the_reading_of_a_person_who_is_removed_ends(bench: Bench, people: People, eve: Visitor) -> None:
    fields = {"csrf": eve.csrf("/console/trials"), "model": "ct_pneumonia"}
    address = eve.post("/console/trials/example", fields).headers["location"]
    (trial,) = (item for item in bench.parts.web.trials._trials.values() if address.endswith(item.identifier))
    assert soon(lambda: trial.state.stage in {Stage.CONVERTING, Stage.READING, Stage.DONE})
    people.remove("eve")
    assert soon(lambda: not trial.folder.exists())
    assert trial.identifier not in bench.parts.web.trials._trials
