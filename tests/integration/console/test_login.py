"""Who may see the console: logins, sessions, forms of other sites, foreign names of the node, and proxies."""

import re
import statistics
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from http.cookies import SimpleCookie
from pathlib import Path

import pytest
from support import installed
from support.web_archives import certificate

installed("fastapi", "uvicorn", "requests", "jinja2", "argon2")

import requests  # noqa: E402
from support.web_bench import Bench  # noqa: E402

from ainode.node.audit.messages import Message  # noqa: E402
from ainode.node.keeping.people import People, Role  # noqa: E402
from ainode.node.settings import ConsoleTable  # noqa: E402

WORDS = "four words of a person"
CSRF = re.compile(r'name="csrf" value="([^"]+)"')
EVIL = "evil.example"


class Visitor:
    """A browser, which keeps cookies and follows no redirection by itself."""

    def __init__(self, bench: Bench, **headers: str) -> None:
        scheme = "https" if bench.certificate else "http"
        self.address = f"{scheme}://127.0.0.1:{bench.settings.web.port}"
        self.session = requests.Session()
        self.session.trust_env = False
        # The node may end a kept connection at any moment, and a browser asks again by itself.
        self.session.headers["Connection"] = "close"
        self.session.headers.update(headers)
        self.session.verify = str(bench.certificate) if bench.certificate else True

    def get(self, path: str, **headers: str) -> requests.Response:
        return self.session.get(f"{self.address}{path}", headers=headers, allow_redirects=False, timeout=120)

    def post(self, path: str, fields: dict[str, str], **headers: str) -> requests.Response:
        return self.session.post(
            f"{self.address}{path}", data=fields, headers=headers, allow_redirects=False, timeout=120
        )

    def csrf(self, path: str = "/console/persons") -> str:
        match = CSRF.search(self.get(path).text)
        assert match
        return match[1]

    def log_in(self, name: str, password: str = WORDS, address: str = "/console/login") -> requests.Response:
        return self.post(address, {"csrf": self.csrf(address), "name": name, "password": password})

    def is_in(self) -> bool:
        return self.get("/console/").status_code == 200

    def cookie(self, purpose: str) -> str:
        return next(str(cookie.value) for cookie in self.session.cookies if f"_{purpose}_" in cookie.name)


@pytest.fixture(scope="module")
def records() -> list[Message]:
    return []


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, records: list[Message]) -> Iterator[Bench]:
    yield from with_persons(Bench(tmp_path_factory.mktemp("login"), record=records.append))


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A node behind a proxy on this machine that names persons."""
    console = ConsoleTable(proxies=("127.0.0.1",), login_header="X-Remote-User")
    yield from with_persons(Bench(tmp_path_factory.mktemp("proxied"), console=console))


def with_persons(bench: Bench) -> Iterator[Bench]:
    """Yield a node with a person of two roles."""
    people, now = People(bench.engine), datetime.now(UTC)
    people.add("anna", Role.VIEWER, WORDS, now)
    people.add("chief", Role.ADMINISTRATOR, WORDS, now)
    yield bench
    bench.web.stop()
    bench.parts.rendering.stop()
    bench.engine.dispose()


@pytest.fixture
def person(bench: Bench) -> Iterator[str]:
    """The name of a person of this test alone."""
    name = f"person{time.monotonic_ns()}"
    People(bench.engine).add(name, Role.VIEWER, WORDS, datetime.now(UTC))
    return name


@pytest.fixture
def chief(bench: Bench) -> Visitor:
    visitor = Visitor(bench)
    assert visitor.log_in("chief").status_code == 303
    return visitor


def test_a_person_logs_in_sees_a_page_and_logs_out(bench: Bench, records: list[Message]) -> None:
    visitor = Visitor(bench)
    answer = visitor.log_in("Anna")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/console/")
    assert visitor.is_in()
    token = visitor.cookie("session")
    visitor.post("/console/logout", {"csrf": visitor.csrf("/console/password")})
    assert not visitor.is_in()
    visitor.session.cookies.set(f"ainode_session_{bench.settings.web.port}", token)
    assert not visitor.is_in()
    login, logout = [record for record in records if record.event.value == "110114"][-2:]
    assert (login.event.value, login.type and login.type.value) == ("110114", "110122")
    assert (logout.event.value, logout.type and logout.type.value) == ("110114", "110123")
    assert login.participants[0].user_id == logout.participants[0].user_id == "anna"


def test_a_wrong_password_and_an_unknown_name_get_the_same_answer(bench: Bench, records: list[Message]) -> None:
    answers = [Visitor(bench).log_in(name, "not the password") for name in ("anna", "nobody.at.all")]
    assert [answer.status_code for answer in answers] == [401, 401]
    texts = [CSRF.sub("", answer.text) for answer in answers]
    assert texts[0] == texts[1]
    assert [record.participants[0].user_id for record in records[-2:]] == ["anna", "unknown"]
    assert all(record.failure for record in records[-2:])


def test_an_unknown_name_takes_as_long_as_a_known_name(bench: Bench) -> None:
    def seconds(name: str) -> float:
        visitor = Visitor(bench)
        token = visitor.csrf("/console/login")
        begin_s = time.perf_counter()
        visitor.post("/console/login", {"csrf": token, "name": name, "password": "not the password"})
        return time.perf_counter() - begin_s

    people, now = People(bench.engine), datetime.now(UTC)
    for number in range(3):
        people.add(f"timed{number}", Role.VIEWER, WORDS, now)
    known = statistics.median(seconds(f"timed{number}") for number in range(3))
    unknown = statistics.median(seconds(f"untimed{number}") for number in range(3))
    assert 0.4 < unknown / known < 2.5


def test_the_token_of_before_the_login_opens_nothing_after_it(bench: Bench) -> None:
    name = f"ainode_session_{bench.settings.web.port}"
    victim, attacker = Visitor(bench), Visitor(bench)
    for visitor in (victim, attacker):
        visitor.session.cookies.set(name, "chosen by the attacker")
    victim.log_in("anna")
    assert victim.is_in()
    assert not attacker.is_in()


def test_a_login_ends_the_earlier_session_of_the_browser(bench: Bench) -> None:
    visitor, thief = Visitor(bench), Visitor(bench)
    token = visitor.csrf("/console/login")
    cookies = dict(visitor.session.cookies)
    fields = {"csrf": token, "name": "anna", "password": WORDS}
    visitor.post("/console/login", fields)
    thief.session.cookies.update(visitor.session.cookies)
    assert thief.is_in()
    visitor.session.cookies.update(cookies)
    visitor.post("/console/login", fields)
    assert visitor.is_in()
    assert not thief.is_in()


def test_no_script_and_no_other_site_gets_the_cookie_of_a_session(bench: Bench, tmp_path: Path) -> None:
    (plain,) = session_cookies(Visitor(bench).log_in("anna"))
    assert (plain["httponly"], plain["samesite"].lower(), plain["secure"], plain["domain"]) == (True, "lax", "", "")
    secured = with_persons(Bench(tmp_path, certificate=certificate(tmp_path)))
    bench = next(secured)
    (encrypted,) = session_cookies(Visitor(bench).log_in("anna"))
    assert encrypted["secure"]
    assert encrypted.key.startswith("__Host-")
    list(secured)


def session_cookies(answer: requests.Response) -> list[SimpleCookie]:
    headers = answer.raw.headers.getlist("set-cookie")
    cookies = [cookie for header in headers for cookie in SimpleCookie(header).values()]
    return [cookie for cookie in cookies if "_session_" in cookie.key and cookie.value]


def test_nothing_of_a_password_or_a_token_is_in_the_log(
    bench: Bench, caplog: pytest.LogCaptureFixture, records: list[Message]
) -> None:
    visitor = Visitor(bench)
    visitor.log_in("anna")
    Visitor(bench).log_in("a-password-in-the-wrong-field", "another password")
    for secret in (WORDS, visitor.cookie("session"), "wrong-field", "another password"):
        assert secret not in caplog.text + str(records)


# Forms of other sites


def test_a_form_without_the_token_of_the_visit_changes_nothing(bench: Bench, chief: Visitor) -> None:
    other = Visitor(bench)
    other.log_in("chief")
    for token in ("", "wrong", "ü", other.csrf()):
        answer = chief.post("/console/persons", {"csrf": token, "name": "intruder", "role": "administrator"})
        assert answer.status_code == 403
        assert "load the page again" in answer.text
    assert "intruder" not in chief.get("/console/persons").text


def test_a_login_that_another_site_makes_the_browser_send_is_refused(bench: Bench) -> None:
    visitor = Visitor(bench)
    visitor.get("/console/login")
    answer = visitor.post("/console/login", {"csrf": "", "name": "anna", "password": WORDS})
    assert answer.status_code == 403
    assert not visitor.is_in()


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": f"http://{EVIL}"},
        {"Origin": "null"},
    ],
)
def test_what_another_site_sends_is_refused_although_it_has_the_token(chief: Visitor, headers: dict[str, str]) -> None:
    fields = {"csrf": chief.csrf(), "name": "intruder", "role": "viewer"}
    assert chief.post("/console/persons", fields, **headers).status_code == 403
    assert "intruder" not in chief.get("/console/persons").text


def test_who_is_not_logged_in_is_refused_before_the_body_is_read(bench: Bench) -> None:
    answer = Visitor(bench).post("/console/persons", {"csrf": "x", "name": "intruder"})
    assert (answer.status_code, answer.headers["Location"]) == (303, "/console/login?next=%2Fconsole%2F")


def test_a_form_is_refused_by_its_length_and_type_where_no_files_are_taken(chief: Visitor) -> None:
    long = {"csrf": chief.csrf(), "name": "x" * 70_000}
    for path in ("/console/persons", "/console/trials/example", "/console/login"):
        assert chief.post(path, long).status_code == 413, path
    upload = f"/console/trials/{'0' * 32}"
    assert chief.post(upload, long).status_code == 415
    assert chief.post("/console/persons", {}, **{"Content-Type": "text/plain"}).status_code == 415
    assert chief.post("/console/persons", {}, **{"Content-Encoding": "gzip"}).status_code == 415


def test_a_login_leads_to_a_page_of_the_node_alone(bench: Bench) -> None:
    for target, location in (
        ("/console/unread", "/console/unread"),
        (f"https://{EVIL}/", "/console/"),
        (f"//{EVIL}/console/", "/console/"),
        (f"/console/\\{EVIL}", "/console/"),
        ("/console/%0d%0aX: 1", "/console/"),
        ("javascript:alert(1)", "/console/"),
    ):
        visitor = Visitor(bench)
        answer = visitor.log_in("anna", address=f"/console/login?next={target}")
        assert answer.headers["Location"] == location


# Persons who change


def test_the_session_of_a_removed_person_is_over_at_the_next_request(bench: Bench, chief: Visitor, person: str) -> None:
    visitor = Visitor(bench)
    visitor.log_in(person)
    assert visitor.is_in()
    assert chief.post(f"/console/persons/{person}/remove", {"csrf": chief.csrf()}).status_code == 303
    assert not visitor.is_in()
    assert "Your session is over. Log in again." in visitor.get("/console/login").text
    assert visitor.log_in(person).status_code == 401


def test_a_new_role_and_a_new_password_end_the_sessions(
    bench: Bench, chief: Visitor, person: str, records: list[Message]
) -> None:
    for action, fields in (("role", {"role": "reader"}), ("password", {})):
        visitor = Visitor(bench)
        assert visitor.log_in(person).status_code == 303
        chief.post(f"/console/persons/{person}/{action}", {"csrf": chief.csrf(), **fields})
        assert not visitor.is_in()
        changes = [record for record in records if record.subjects and person in record.subjects[0].identifier]
        assert "chief" in [participant.user_id for participant in changes[-1].participants]
    assert Visitor(bench).log_in(person).status_code == 401


def test_a_new_person_logs_in_with_the_password_that_is_shown_once(bench: Bench, chief: Visitor) -> None:
    answer = chief.post("/console/persons", {"csrf": chief.csrf(), "name": "Newcomer", "role": "reader"})
    match = re.search(r"<code>([^<]{16,})</code>", answer.text)
    assert match
    assert match[1] not in chief.get("/console/persons").text
    visitor = Visitor(bench)
    visitor.log_in("newcomer", match[1])
    assert "reader" in visitor.get("/console/").text


def test_only_an_administrator_sees_and_changes_persons(bench: Bench, person: str) -> None:
    visitor = Visitor(bench)
    visitor.log_in(person)
    assert visitor.get("/console/persons").status_code == 403
    token = visitor.csrf("/console/password")
    for path in ("/console/persons", f"/console/persons/{person}/role", "/console/persons/chief/remove"):
        answer = visitor.post(path, {"csrf": token, "name": "intruder", "role": "administrator"})
        assert answer.status_code == 403
    assert People(bench.engine).person("chief")
    assert not People(bench.engine).person("intruder")


def test_the_last_administrator_stays(chief: Visitor) -> None:
    answer = chief.post("/console/persons/chief/role", {"csrf": chief.csrf(), "role": "viewer"})
    assert (answer.status_code, "No administrator" in answer.text) == (400, True)
    assert chief.post("/console/persons/chief/remove", {"csrf": chief.csrf()}).status_code == 400


def test_a_person_changes_the_own_password_with_the_current_one_alone(bench: Bench, person: str) -> None:
    visitor = Visitor(bench)
    visitor.log_in(person)
    new = "another four words here"

    def change(current: str, again: str = new) -> int:
        fields = {"csrf": visitor.csrf("/console/password"), "current": current, "new": new, "again": again}
        return visitor.post("/console/password", fields).status_code

    assert change("not the password") == 400
    assert change(WORDS, "something else entirely") == 400
    assert change(WORDS) == 303
    assert not visitor.is_in()
    assert visitor.log_in(person, new).status_code == 303


def test_every_action_of_a_person_names_the_person_in_the_trail(chief: Visitor, records: list[Message]) -> None:
    chief.post("/console/persons/nobody.at.all/remove", {"csrf": chief.csrf()})
    action = records[-1]
    assert action.type
    assert (action.event.value, action.type.value) == ("110113", "110132")
    assert [participant.user_id for participant in action.participants] == ["", "chief"]


# Guesses


def test_who_guesses_is_told_to_wait_and_keeps_out_nobody_who_was_there_before(bench: Bench, person: str) -> None:
    regular = Visitor(bench)
    regular.log_in(person)
    regular.post("/console/logout", {"csrf": regular.csrf("/console/password")})
    guesser = Visitor(bench)
    token = guesser.csrf("/console/login")
    fields = {"csrf": token, "name": person, "password": "a guess"}
    statuses = [guesser.post("/console/login", fields).status_code for _ in range(7)]
    assert statuses[:5] == [401] * 5
    assert statuses[5:] == [429] * 2
    refusal = guesser.post("/console/login", {**fields, "password": WORDS})
    assert (refusal.status_code, 1 <= int(refusal.headers["Retry-After"]) <= 60) == (429, True)
    assert regular.log_in(person).status_code == 303


def test_a_forged_mark_of_a_browser_is_no_way_round_the_limit(bench: Bench, person: str) -> None:
    other = Visitor(bench)
    other.log_in("anna")
    guesser = Visitor(bench)
    guesser.session.cookies.set(f"ainode_browser_{bench.settings.web.port}", other.cookie("browser"))
    fields = {"csrf": guesser.csrf("/console/login"), "name": person, "password": "a guess"}
    assert [guesser.post("/console/login", fields).status_code for _ in range(6)][-1] == 429


# Names of the node


def test_a_page_is_refused_by_a_name_that_is_not_the_nodes(bench: Bench) -> None:
    for host in (EVIL, f"{EVIL}:8080", "127.0.0.1.evil.example", f"localhost@{EVIL}", f"[::1]{EVIL}", ""):
        answer = Visitor(bench).get("/console/login", Host=host)
        assert answer.status_code in {400, 421}, host
        assert EVIL not in answer.text + str(answer.headers)
    answer = Visitor(bench).get("/console/login", Host=EVIL)
    assert "`hosts` of [web]" in answer.json()["detail"]


def test_a_browser_gets_a_page_that_says_why_its_name_is_refused_and_a_script_gets_json(bench: Bench) -> None:
    browsers = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"
    answer = Visitor(bench).get("/console/", Host=EVIL, Accept=browsers)
    assert (answer.status_code, answer.headers["Content-Type"]) == (421, "text/html; charset=utf-8")
    assert "<h1>Misdirected Request</h1><p>the node does not have the name in this address" in answer.text
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    for accepts in ("*/*", "application/json, text/html;q=0.5", ""):
        answer = Visitor(bench).get("/console/", Host=EVIL, Accept=accepts)
        assert answer.json()["detail"].startswith("the node does not have the name"), accepts


def test_a_page_is_shown_by_every_name_and_address_of_the_node(bench: Bench) -> None:
    for host in ("localhost", "LOCALHOST:8080", "192.0.2.7", "192.0.2.7:80", "[::1]:8080", "127.0.0.1"):
        assert Visitor(bench).get("/console/login", Host=host).status_code == 200


# Reverse proxies


def test_a_listed_proxy_names_the_person(proxied: Bench) -> None:
    visitor = Visitor(proxied, **{"X-Remote-User": "chief"})
    assert visitor.is_in()
    token = visitor.csrf()
    assert visitor.post("/console/persons", {"csrf": "", "name": "intruder"}).status_code == 403
    assert visitor.post("/console/persons", {"csrf": token, "name": "colleague"}).status_code == 200
    assert not Visitor(proxied, **{"X-Remote-User": "nobody"}).is_in()
    assert not Visitor(proxied, **{"X-Remote-User": "<script>"}).is_in()


def test_a_person_whom_the_proxy_names_and_who_is_removed_is_out(proxied: Bench) -> None:
    people = People(proxied.engine)
    people.add("passing", Role.VIEWER, None, datetime.now(UTC))
    visitor = Visitor(proxied, **{"X-Remote-User": "passing"})
    assert visitor.is_in()
    people.remove("passing")
    assert not visitor.is_in()


def test_the_header_of_a_stranger_names_nobody(bench: Bench) -> None:
    assert not Visitor(bench, **{"X-Remote-User": "chief"}).is_in()


def test_behind_a_proxy_the_guesses_of_a_stranger_count_for_the_stranger_alone(proxied: Bench) -> None:
    guesser = Visitor(proxied, **{"X-Forwarded-For": "127.0.0.1, 198.51.100.7", "X-Forwarded-Proto": "https"})
    guesser.session.cookies.set("__Host-ainode_form_" + str(proxied.settings.web.port), "token")
    fields = {"csrf": "token", "name": "anna", "password": "a guess"}
    assert [guesser.post("/console/login", fields).status_code for _ in range(6)][-1] == 429
    assert Visitor(proxied, **{"X-Forwarded-For": "198.51.100.8"}).log_in("anna").status_code == 303


# Faults


def test_a_page_says_that_the_database_does_not_answer(tmp_path: Path) -> None:
    nodes = with_persons(Bench(tmp_path))
    node = next(nodes)
    visitor = Visitor(node)
    visitor.log_in("anna")
    node.engine.dispose()
    for path in tmp_path.glob("catalog.sqlite*"):
        path.unlink()
    (tmp_path / "catalog.sqlite").write_bytes(b"damaged" * 1_000)
    for page in ("/console/", "/console/login"):
        answer = visitor.get(page)
        assert (answer.status_code, "cannot ask its database" in answer.text) == (503, True)
    list(nodes)


# The first person


def test_a_node_without_persons_says_in_a_line_how_the_first_is_made(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    text = Visitor(bench).get("/console/login").text
    assert "ainode user add NAME --role administrator" in text
    bench.web.stop()
    bench.parts.rendering.stop()
    bench.engine.dispose()


def routes_of(bench: Bench) -> Iterator[tuple[str, set[str]]]:
    """Yield the address of every page but the login, with names of parameters, and its methods."""
    for entry in bench.pages.routes:
        for route in getattr(getattr(entry, "original_router", None), "routes", [entry]):
            if route.path not in {"/login", "/static/{path:path}", "/theme"}:
                yield f"/console{route.path}", route.methods


def changes_of(bench: Bench) -> set[str]:
    return {path for path, methods in routes_of(bench) if methods - {"GET", "HEAD"}}


def filled(path: str) -> str:
    """Return an address of new identifiers, which are UIDs and hexadecimal digits at once."""
    return re.sub(r"{[^}]*}", lambda _: f"1{time.monotonic_ns():031d}", path)


def test_no_page_but_the_login_is_open(bench: Bench) -> None:
    stranger = Visitor(bench)
    paths = {path for path, _ in routes_of(bench)}
    assert len(paths) > 5
    for path in paths:
        for answer in (stranger.get(filled(path)), stranger.post(filled(path), {})):
            assert (answer.status_code, answer.headers["Location"][:14]) == (303, "/console/login"), path


def test_no_page_changes_anything_without_the_token_of_the_visit(bench: Bench, chief: Visitor) -> None:
    assert len(changes_of(bench)) > 5
    for path in changes_of(bench):
        for fields in ({}, {"csrf": "wrong"}):
            assert chief.post(filled(path), fields).status_code in {403, 415}, path
        answer = chief.session.post(
            chief.address + filled(path),
            data=b"--b--\r\n",
            headers={"Content-Type": "multipart/form-data; boundary=b"},
            allow_redirects=False,
            timeout=120,
        )
        assert answer.status_code == 403, path


def test_a_viewer_searches_and_changes_nothing_but_the_own_password(bench: Bench, person: str) -> None:
    viewer = Visitor(bench)
    viewer.log_in(person)
    token = viewer.csrf("/console/password")
    for path in changes_of(bench) - {"/console/password", "/console/logout", "/console/search"}:
        assert viewer.post(filled(path), {"csrf": token}, **{"X-CSRF": token}).status_code in {403, 415}, path
