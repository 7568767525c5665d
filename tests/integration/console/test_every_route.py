"""What holds for every address of the node: who gets an answer, which headers it has, which texts are refused."""

import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from fastapi import APIRouter, FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from integration.console.conftest import Browser, is_open, visit_of
from requests import Response
from support.postgresql import postgresql
from support.web_bench import Bench

from ainode.node.console.entry.access import Role, RoleCheck
from ainode.node.keeping.executors import Executor, ExecutorKind, Executors
from ainode.node.web.api import application

OPEN_PATHS = {"/login", "/theme", "/static/{path:path}"}
NUL = "a\0b"
ODD = "'\";-- %_\\ 🙂 \u202e" + "9" * 30
# They start processes, whatever their fields are.
SLOW = {"/system/test", "/routes/ready"}
SAMPLES = {"study": "1.2.3", "series": "1.2.4", "uid": "1.2.5", "job": "0" * 32}
POLICY = "frame-ancestors 'none'"


@dataclass(frozen=True, slots=True)
class Door:
    """A method of an address."""

    method: str
    path: str
    dependant: Dependant
    prefix: str = "/console"

    @property
    def role(self) -> Role | None:
        """Return the role that the route asks for, None if it asks for none."""
        checks = (entry.call for entry in _entries(self.dependant))
        return next((check.role for check in checks if isinstance(check, RoleCheck)), None)

    @property
    def has_files(self) -> bool:
        return any(isinstance(entry.call, RoleCheck) and entry.call.has_files for entry in _entries(self.dependant))

    def names(self, kind: str) -> list[str]:
        """Return the names of the `path_params`, `query_params` or `body_params`."""
        return [field.alias for entry in _entries(self.dependant) for field in getattr(entry, kind)]

    def call(self, browser: Browser, place: str = "", text: str = "", **options: object) -> Response:
        """Send a request, with a text in one place."""
        kind, _, name = place.partition(" ")
        samples = {**SAMPLES, "identifier": secrets.token_hex(16)}
        samples |= {name: _quoted(text)} if kind == "path_params" else {}
        address = re.sub(r"{(\w+)(:\w+)?}", lambda match: samples.get(match[1], "1"), self.path)
        if kind == "query_params":
            options["params"] = {name: text}
        fields = {"csrf": "the token of the visit"} | ({name: text} if kind == "body_params" else {})
        if self.method == "POST":
            form = {key: (None, value) for key, value in fields.items()} if self.has_files else None
            options = {"files": form} | options if form else {"data": fields} | options
        return browser._call(self.method, self.prefix + address, **options)


def _quoted(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in text.encode())


def _entries(dependant: Dependant) -> Iterator[Dependant]:
    yield dependant
    for entry in dependant.dependencies:
        yield from _entries(entry)


def routes_of(router: FastAPI | APIRouter) -> Iterator[APIRoute]:
    for route in router.routes:
        included = getattr(route, "original_router", None)
        if included is not None:
            yield from routes_of(included)
        elif isinstance(route, APIRoute):
            yield route


def doors_of(app: FastAPI, prefix: str = "/console") -> list[Door]:
    return [Door(method, route.path, route.dependant, prefix) for route in routes_of(app) for method in route.methods]


@pytest.fixture(scope="module")
def doors(bench: Bench) -> list[Door]:
    return doors_of(bench.pages)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def either(request: pytest.FixtureRequest, bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A node over each database."""
    if request.param == "sqlite":
        yield bench
        return
    with postgresql() as url:
        made = Bench(tmp_path_factory.mktemp("postgresql"), database_url=url)
        made.pages.state.visit_of, made.pages.state.is_open = visit_of, is_open
        yield made
        made.web.stop()
        made.parts.stop()
        made.engine.dispose()


def test_every_page_asks_for_a_role_but_the_login_the_colors_and_the_files(doors: list[Door]) -> None:
    assert len(doors) > 60
    assert {door.path for door in doors if door.role is None} == OPEN_PATHS


def test_nobody_gets_a_page_without_a_login(doors: list[Door], nobody: Browser) -> None:
    for door in doors:
        if door.role:
            answer = door.call(nobody)
            assert (answer.status_code, answer.content) == (303, b""), door
            assert answer.headers["location"].startswith("/console/login")
            part = door.call(nobody, headers={"HX-Request": "true"})
            assert (part.status_code, part.content) == (401, b""), door
            assert_protected(answer)
            assert_protected(part)


def test_no_role_gets_the_page_of_a_higher_role(doors: list[Door], bench: Bench) -> None:
    browsers = {role: Browser(bench, role) for role in Role}
    for door in doors:
        for role, browser in browsers.items():
            if door.role and role < door.role:
                answer = door.call(browser)
                assert answer.status_code == 403, (door, role)
                assert f"This needs the role {door.role.word}" in answer.text
                assert_protected(answer)


def test_a_form_without_the_token_of_the_visit_changes_nothing(doors: list[Door], administrator: Browser) -> None:
    for door in doors:
        if door.method == "POST" and door.role:
            form = {"files": {"x": (None, "y")}} if door.has_files else {"data": {"x": "y"}}
            answer = door.call(administrator, **form)
            assert answer.status_code == 403, door
            assert "not from this visit" in answer.text
            assert_protected(answer)


def test_every_answer_has_the_headers_that_protect_it(doors: list[Door], administrator: Browser, bench: Bench) -> None:
    token = bench.tokens.add("caller")
    for door in doors:
        if door.method == "GET" and door.path not in SLOW:
            with door.call(administrator, stream=True) as answer:
                assert answer.status_code < 500, door
                assert_protected(answer, is_static=door.path.startswith("/static"))
    for door in doors_of(application(bench.parts.web), ""):
        if door.method == "GET":
            for headers in ({}, {"Authorization": f"Bearer {token}"}):
                assert_protected(door.call(Browser(bench, None), headers=headers))
    for path in ("/", "/absent", "/console", "/console/absent", "/console/static/style.css", "/console/%00"):
        assert_protected(administrator.get(path), is_static="static" in path)
    assert_protected(administrator.get("/console/", headers={"Host": "evil.example"}))


def assert_protected(answer: Response, *, is_static: bool = False) -> None:
    headers = answer.headers
    assert POLICY in headers["content-security-policy"], answer.url
    assert "default-src 'none'" in headers["content-security-policy"], answer.url
    assert headers["x-content-type-options"] == "nosniff", answer.url
    assert headers["referrer-policy"] == "same-origin", answer.url
    assert headers["cache-control"] == "no-store" or (is_static and answer.ok), answer.url


def test_a_nul_in_any_field_is_refused_in_words_and_no_other_text_is_a_fault_of_the_node(either: Bench) -> None:
    administrator = Browser(either, Role.ADMINISTRATOR)
    for door in doors_of(either.pages):
        places = [f"{kind} {name}" for kind in ("path_params", "query_params") for name in door.names(kind)]
        if door.method == "POST":
            places += [f"body_params {name}" for name in (*door.names("body_params"), "any")]
        for place in places:
            with door.call(administrator, place, NUL, stream=True) as answer:
                assert answer.status_code == 400, (door, place)
                assert "NUL" in answer.text
            if door.path not in SLOW:
                with door.call(administrator, place, ODD, stream=True) as answer:
                    assert answer.status_code < 500, (door, place)


@pytest.mark.parametrize(
    ("content_type", "body", "status"),
    [
        ("multipart/form-data; boundary=b; charset=utf-7", "+AAA-", 415),
        ('multipart/form-data; boundary=b; Charset="UTF-16"', "a", 415),
        ("multipart/form-data; boundary=b", "a\0b", 400),
        ("multipart/form-data; boundary=b; charset=UTF-8", "a%00b", 303),
    ],
)
def test_a_nul_is_refused_in_every_encoding_of_a_form(
    viewer: Browser, content_type: str, body: str, status: int
) -> None:
    content = f'--b\r\nContent-Disposition: form-data; name="text"\r\n\r\n{body}\r\n--b--\r\n'.encode()
    headers = {"Content-Type": content_type, "X-CSRF": "the token of the visit"}
    assert viewer._call("POST", "/console/search", data=content, headers=headers).status_code == status


def test_a_nul_in_the_question_of_a_machine_is_refused(bench: Bench) -> None:
    token = bench.tokens.add("machine")
    question = {"instances": 1, "peer": NUL}
    answer = bench.call("POST", "/studies/1.2.3/announce", token, json=question)
    assert (answer.status_code, "NUL" in answer.text) == (400, True)


def test_the_page_of_the_system_shows_node_and_workers_where_there_are_several_processes(either: Bench) -> None:
    executors = Executors(either.engine)
    is_postgresql = either.engine.dialect.name == "postgresql"
    if is_postgresql:
        for kind, machine in (
            (ExecutorKind.NODE, "here"),
            (ExecutorKind.WORKER, "there"),
            (ExecutorKind.WORKER, "gone"),
        ):
            executors.enter(Executor(f"{machine}:1", machine, kind, f"machine-{machine}", ("spine_radiograph",)), 60.0)
        executors.leave("gone:1")
    text = Browser(either, Role.VIEWER).get("/console/system").text
    assert ("Node and workers" in text) is is_postgresql
    assert ("machine-there" in text) is is_postgresql
    assert "machine-gone" not in text


def test_the_page_of_the_system_names_a_lost_worker_and_the_handler_that_nobody_reads_with(either: Bench) -> None:
    executors = Executors(either.engine)
    is_postgresql = either.engine.dialect.name == "postgresql"
    if is_postgresql:
        worker = Executor("missed:1", "missed", ExecutorKind.WORKER, "machine-missed", ("spine_radiograph",))
        executors.enter(worker, 60.0)
        executors.sweep(lambda _: 0, -1.0)
        executors.enter(Executor("here:2", "here", ExecutorKind.NODE, "machine-here", ()), 60.0)
    text = Browser(either, Role.VIEWER).get("/console/system").text
    assert ("No process reads with spine_radiograph" in text) is is_postgresql
    assert ("&#39;missed&#39; on machine-missed (silent)" in text) is is_postgresql
    assert ("lost (silent)</span>" in text) is is_postgresql
