"""What strangers and hostile callers may do over HTTP: nothing is stored, nobody else waits, and little is logged."""

import gzip
import logging
import os
import select
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from http.client import HTTPResponse
from pathlib import Path

import pytest
from pydicom.uid import CTImageStorage
from support import a_file, installed
from support.web_archives import certificate

installed("fastapi", "uvicorn", "requests")

import requests  # noqa: E402
from support.web_bench import MULTIPART, Bench, multipart  # noqa: E402

from ainode.node.receiving.events import InstanceStored  # noqa: E402
from ainode.node.settings import ConsoleTable  # noqa: E402

EVIL = "evil.example"
STUDY = "1.2.3"
SOON_S = 4.0
"""less than the five seconds of a body and the ten of a head, which whoever waits for a place would wait"""


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """The one node of this module."""
    bench = Bench(tmp_path_factory.mktemp("node"))
    yield bench
    bench.web.stop()
    bench.engine.dispose()


@pytest.fixture(scope="module")
def token(bench: Bench) -> str:
    return bench.tokens.add("good")


@pytest.fixture(scope="module")
def hostile_token(bench: Bench) -> str:
    return bench.tokens.add("hostile")


@contextmanager
def connection(bench: Bench, content: bytes = b"") -> Iterator[socket.socket]:
    """Connect and send; whoever is cut off while it sends is cut off when it reads."""
    with socket.create_connection(("127.0.0.1", bench.settings.web.port), timeout=60) as line:
        line.sendall(content)
        yield line


def answer_of(line: socket.socket) -> tuple[int, str, str]:
    """Return the status, the head and the body of the node's answer, as `http.client` reads the answer."""
    response, content = HTTPResponse(line), b""
    response.begin()
    with suppress(ConnectionResetError):  # the node ends a connection whose caller still sends what is no HTTP
        content = response.read()
    return response.status, str(response.headers), content.decode()


def head(target: str, token: str, *lines: str, method: str = "POST", host: str = f"Host: {EVIL}") -> bytes:
    return "\r\n".join([f"{method} {target} HTTP/1.1", host, f"Authorization: Bearer {token}", *lines, "", ""]).encode(
        "latin-1"
    )


# Attacks on the parser, the router and the questions: what is sent (with {token}), and the status of the answer

UPLOAD = f"Content-Type: {MULTIPART}"
ANNOUNCE = f"/studies/{STUDY}/announce"
DOCTYPE = b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b SYSTEM "http://evil.example/b">]><a>&b;</a>'


def question(body: str | bytes, *lines: str, target: str = ANNOUNCE) -> tuple[str, tuple[str, ...], bytes]:
    content = body.encode() if isinstance(body, str) else body
    length = () if any(line.startswith(("Content-Length", "Transfer-Encoding")) for line in lines) else (len(content),)
    has_type = any(line.startswith("Content-Type") for line in lines)
    types = () if has_type else ("Content-Type: application/json",)
    return target, (*types, *lines, *(f"Content-Length: {size}" for size in length)), content


def upload(body: bytes, *lines: str, target: str = "/dicom-web/studies") -> tuple[str, tuple[str, ...], bytes]:
    lines = lines if any(line.startswith("Content-Type") for line in lines) else (UPLOAD, *lines)
    return question(body, *lines, target=target)


SCRIPT = b"<script>alert(1)</script>"
STORED = multipart(a_file())
CHUNKED = "Transfer-Encoding: chunked"
CHUNK = b"%x\r\n" % len(STORED) + STORED + b"\r\n0\r\n\r\n"
ATTACKS = {
    "both lengths": (upload(CHUNK, CHUNKED, f"Content-Length: {len(CHUNK)}"), 400),
    "two lengths": (upload(STORED, f"Content-Length: {len(STORED)}", "Content-Length: 4"), 400),
    "negative length": (upload(STORED, "Content-Length: -1"), 400),
    "length of 40 digits": (upload(STORED, f"Content-Length: {'9' * 40}"), 400),
    "length with a plus": (upload(STORED, f"Content-Length: +{len(STORED)}"), 400),
    "unknown transfer coding": (upload(STORED, "Transfer-Encoding: gzip, chunked"), 400),
    "chunk of a negative size": (upload(b"-5\r\nhello\r\n0\r\n\r\n", CHUNKED), 400),
    "chunk extension of 40 kB": (upload(b"5;" + b"a" * 40_000, CHUNKED), 400),
    "trailer of 40 kB": (upload(b"0\r\nX: " + b"a" * 40_000, CHUNKED), 400),
    "chunks of one byte": (upload(b"1\r\nA\r\n" * 50_000, CHUNKED), 400),
    "gzip": (upload(gzip.compress(STORED), "Content-Encoding: gzip"), 415),
    "deflate": (question("{}", "Content-Encoding: deflate"), 415),
    "XML as an upload": (upload(DOCTYPE, 'Content-Type: multipart/related; type="application/dicom+xml"'), 415),
    "XML as a question": (question(DOCTYPE, "Content-Type: application/xml"), 415),
    "form": (question("instances=1", "Content-Type: application/x-www-form-urlencoded"), 415),
    "XML that is called JSON": (question(DOCTYPE), 422),
    "no multipart": (upload(b"hello"), 400),
    "no boundary": (upload(STORED, 'Content-Type: multipart/related; type="application/dicom"'), 415),
    "quotes in the boundary": (upload(STORED, 'Content-Type: multipart/related; boundary="' + '";' * 5_000), 415),
    "preamble of 1 MB": (upload(bytes(1 << 20) + STORED), 400),
    "header of a part of 1 MB": (upload(b"--b0\r\nX: " + b"a" * (1 << 20) + b"\r\n\r\n" + STORED), 400),
    "empty parts": (upload(b"--b0\r\n\r\n\r\n" * 200_000 + b"--b0--\r\n"), 400),
    "no DICOM in HTML": (upload(multipart(SCRIPT)), 409),
    "HTML as UID": (upload(multipart(a_file().replace(CTImageStorage.encode() + b"\0", SCRIPT + b"\n"))), 409),
    "nested JSON": (question("[" * 30_000), 400),
    "nested JSON objects": (question('{"a":' * 10_000 + "1" + "}" * 10_000), 400),
    "number of 10,000 digits": (question(f'{{"instances": {"9" * 10_000}}}'), 400),
    "number beyond every float": (question('{"instances": 1e999}'), 422),
    "number of instances below one": (question('{"instances": -1}'), 422),
    "no UTF-8": (question(b'{"peer": "\xff\xfe", "instances": 1}'), 400),
    "half a surrogate as key": (question('{"\\ud800": 1, "instances": 1}'), 422),
    "half a surrogate as peer": (question('{"peer": "\\ud800", "instances": 1}'), 422),
    "HTML as peer": (question('{"peer": "<script>alert(1)</script>\\r\\n", "instances": 1}'), 422),
    "address as peer": (question('{"peer": "http://evil.example/", "instances": 1}'), 422),
    "path as study of Orthanc": (question('{"instances": 1, "orthanc_study": "../../tools/shutdown"}'), 422),
    "question of 70 kB": (question(" " * 70_000), 413),
    "chunked question of 70 kB": (question(b"11170\r\n" + b" " * 70_000, CHUNKED), 413),
    "path in the UID": (question('{"instances": 1}', target="/studies/..%2f..%2ftokens/announce"), 404),
    "path to the tokens": (question("{}", target="/studies/../../tokens"), 404),
    "dots as UID": (question('{"instances": 1}', target="/studies/../announce"), 422),
    "line break in the UID": (question('{"instances": 1}', target=f"/studies/{STUDY}%0d%0aX-Evil:%201/announce"), 422),
    "NUL in the UID": (question('{"instances": 1}', target=f"/studies/{STUDY}%00/announce"), 400),
    "UID of 65 characters": (question('{"instances": 1}', target=f"/studies/{'1' * 65}/announce"), 422),
    "traversal in an upload": (upload(STORED, target="/dicom-web/studies/..%2f..%2fx"), 404),
    "dots as study of an upload": (upload(STORED, target="/dicom-web/studies/.."), 422),
    "absolute target": (question('{"instances": 1}', target=f"http://{EVIL}{ANNOUNCE}"), 404),
    "two slashes": (question('{"instances": 1}', target=f"/{ANNOUNCE}"), 404),
    "slash at the end": (question('{"instances": 1}', target=f"{ANNOUNCE}/"), 404),
    "header name with a space": (question("{}", "X Evil: 1"), 400),
    "folded header": (question("{}", "X: 1\r\n 2"), 422),
    "NUL in a header": (question("{}", "X: \0"), 400),
    "headers of 1 MB": (question("{}", *["X: " + "a" * 1_000] * 1_000), 400),
    "upgrade to a web socket": (question("{}", "Connection: Upgrade", "Upgrade: websocket", target="/"), 405),
}  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_has_its_status_and_nothing_is_stored(
    bench: Bench, hostile_token: str, attack: str, caplog: pytest.LogCaptureFixture
) -> None:
    (target, lines, body), status = ATTACKS[attack]
    with caplog.at_level(logging.DEBUG), connection(bench, head(target, hostile_token, *lines)) as line:
        with suppress(ConnectionError):  # the node answered by the head alone
            line.sendall(body)
        answered_status, answered_head, content = answer_of(line)
    assert answered_status == status, content
    assert EVIL not in answered_head
    assert "X-Evil" not in answered_head
    assert EVIL not in content or attack == "address as peer"
    assert "<script>" not in content or (attack == "HTML as peer" and "nosniff" in answered_head)
    assert_nothing_stored(bench)
    assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) <= 12
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert "<script>" not in caplog.text


def assert_nothing_stored(bench: Bench) -> None:
    assert not [event for event in bench.events if isinstance(event, InstanceStored)]
    assert not [path for path in (bench.folder / "spool").rglob("*") if path.is_file()]
    assert bench.announcements.waiting("pacs") == ()


# Connections: silent, slow, too many


def seconds_of_health(bench: Bench) -> float:
    """Return the median of the seconds that `/health` takes."""
    durations = []
    for _ in range(15):
        begin = time.monotonic()
        assert bench.call("GET", "/health").status_code == 200
        durations.append(time.monotonic() - begin)
    return statistics.median(durations)


def test_two_hundred_and_thirty_silent_connections_neither_close_health_nor_stay(bench: Bench) -> None:
    with ExitStack() as stack:
        for _ in range(230):
            stack.enter_context(connection(bench))
        assert seconds_of_health(bench) < SOON_S


def test_more_silent_connections_than_places_displace_each_other(bench: Bench, token: str) -> None:
    with ExitStack() as stack:
        lines = [stack.enter_context(connection(bench, b"GET /health HT")) for _ in range(600)]
        assert seconds_of_health(bench) < SOON_S
        assert bench.call("GET", f"/studies/{STUDY}", token).status_code == 404
        assert lines[0].recv(1) == b""


def test_a_crowd_of_one_address_displaces_no_silent_caller_of_another(bench: Bench) -> None:
    address = ("127.0.0.1", bench.settings.web.port)
    with ExitStack() as stack:
        early = stack.enter_context(socket.create_connection(address, timeout=60, source_address=("127.0.0.3", 0)))
        for _ in range(600):
            stack.enter_context(socket.create_connection(address, timeout=60, source_address=("127.0.0.2", 0)))
        early.sendall(head("/health", "", method="GET"))
        assert answer_of(early)[0] == 200


def wait_for_connections(port: int, count: int) -> None:
    """Wait until the kernel lists so many connections to a port of this machine."""
    address, deadline = f"0100007F:{port:04X} ", time.monotonic() + 120
    while time.monotonic() < deadline:
        rows = Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()
        if sum(address in row.partition(": ")[2][:14] and row.split()[3] == "01" for row in rows) >= count:
            return
    pytest.fail(f"fewer than {count} connections to port {port}")


def test_two_hundred_hostile_callers_delay_neither_health_nor_an_upload(bench: Bench, token: str) -> None:
    port = bench.settings.web.port
    command = [sys.executable, "-m", "support.hostile", str(port), "--http"]
    paths = {"PYTHONPATH": os.pathsep.join(sys.path)}  # pytest's own, which a new process does not have
    with subprocess.Popen(command, stdin=subprocess.PIPE, env=os.environ | paths) as crowd:
        wait_for_connections(port, 150)
        assert seconds_of_health(bench) < SOON_S
        assert bench.store(token, a_file()).status_code == 200
        assert crowd.stdin
        crowd.stdin.close()
    assert crowd.returncode == 0


def send_until_cut_off(line: socket.socket, piece: bytes, pause_s: float) -> float:
    """Send the piece again and again, and return the seconds until the node ends the connection."""
    begin = time.monotonic()
    line.settimeout(pause_s)
    with suppress(ConnectionError):
        while time.monotonic() - begin < 120:
            line.sendall(piece)
            with suppress(TimeoutError):
                if not line.recv(1):
                    break
    return time.monotonic() - begin


def test_a_head_that_arrives_byte_by_byte_ends_after_ten_seconds(bench: Bench) -> None:
    with connection(bench) as line:
        assert 9 < send_until_cut_off(line, b"G", 0.5) < 40


def test_a_stranger_is_refused_before_the_body_and_cannot_go_on_sending(bench: Bench) -> None:
    with connection(bench, head("/dicom-web/studies", "wrong", UPLOAD, "Content-Length: 1000000000")) as line:
        assert answer_of(line)[0] in {401, 429}
        assert send_until_cut_off(line, bytes(1 << 16), 0.1) < 40


def test_a_body_that_stops_being_http_after_the_answer_ends_the_connection_without_an_error(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    with connection(bench, head("/dicom-web/studies", "wrong", UPLOAD, CHUNKED)) as line:
        assert answer_of(line)[0] >= 400
        with suppress(ConnectionError):
            line.sendall(b"no chunk\r\n")
            assert not line.recv(1)
    bench.call("GET", "/health")
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_eight_dripping_uploads_end_and_delay_no_other_caller(bench: Bench, token: str, hostile_token: str) -> None:
    drip = head("/dicom-web/studies", hostile_token, UPLOAD, "Content-Length: 1000000") + STORED[:100]
    with ExitStack() as stack:
        lines = [stack.enter_context(connection(bench, drip)) for _ in range(8)]
        begin = time.monotonic()
        assert bench.store(token, a_file()).status_code == 200
        assert select.select(lines, [], [], 0)[0] == [], "it waited for the end of the others"
        lines[0].settimeout(0.2)
        statuses = set()
        while time.monotonic() - begin < 60 and not statuses:
            for line in lines:
                with suppress(ConnectionError):  # the node has ended it
                    line.sendall(b"-")
            with suppress(TimeoutError):
                statuses.add(answer_of(lines[0])[0])
        assert statuses == {408}
        assert 4 < time.monotonic() - begin < 60


def test_a_caller_with_too_many_requests_at_once_is_told_to_wait(bench: Bench, hostile_token: str) -> None:
    slow = head(ANNOUNCE, hostile_token, "Content-Type: application/json", "Content-Length: 100")
    with ExitStack() as stack:
        lines = [stack.enter_context(connection(bench, slow)) for _ in range(65)]
        # More than one, where those of the test before count still.
        (answered, *_), _, _ = select.select(lines, [], [], 60)
        status, answered_head, _ = answer_of(answered)
    assert status == 429
    assert "retry-after: 1" in answered_head.lower()


def test_silent_callers_of_https_displace_each_other_before_and_in_the_handshake(tmp_path: Path) -> None:
    pem = certificate(tmp_path)
    bench = Bench(tmp_path / "node", certificate=pem)
    hello = b"\x16\x03\x01\x02\x00\x01\x00"
    with ExitStack() as stack:
        stack.callback(bench.engine.dispose)
        stack.callback(bench.web.stop)
        lines = [stack.enter_context(connection(bench, hello[: number % 2 * 7])) for number in range(600)]
        begin = time.monotonic()
        with requests.Session() as session:
            address = f"https://127.0.0.1:{bench.settings.web.port}/health"
            assert session.get(address, verify=str(pem), timeout=60).status_code == 200
        assert time.monotonic() - begin < SOON_S
        assert lines[0].recv(1) == b""


def test_tiny_chunks_and_tiny_headers_do_not_delay_health(bench: Bench, token: str, hostile_token: str) -> None:
    chunks = head("/dicom-web/studies", hostile_token, UPLOAD, CHUNKED) + b"1\r\nA\r\n" * 40_000
    headers = head("/health", "", *["a:"] * 60_000, method="GET")
    with ExitStack() as stack:
        for content in (chunks, headers) * 20:
            line = stack.enter_context(connection(bench))
            line.settimeout(0.1)
            with suppress(ConnectionError, TimeoutError):
                line.sendall(content)
        assert seconds_of_health(bench) < SOON_S
        assert bench.store(token, a_file()).status_code == 200


# Guesses, answers


def test_a_thousand_guesses_are_told_to_wait_and_write_four_lines(
    bench: Bench, token: str, caplog: pytest.LogCaptureFixture
) -> None:
    address = f"http://127.0.0.1:{bench.settings.web.port}/studies/{STUDY}"
    with requests.Session() as session, caplog.at_level(logging.INFO):
        answers = [
            session.get(address, headers={"Authorization": f"Bearer guess{number}"}, timeout=60)
            for number in range(1_000)
        ]
    assert answers[-1].status_code == 429
    assert 1 <= int(answers[-1].headers["Retry-After"]) <= 60
    lines = [record for record in caplog.records if getattr(record, "action", "") == "token_refused"]
    assert 1 <= len(lines) <= 8
    assert {record.address for record in lines} == {"127.0.0.1"}  # type: ignore[attr-defined]
    assert "guess" not in caplog.text
    assert bench.call("GET", f"/studies/{STUDY}", token).status_code == 404


def test_every_answer_forbids_to_sniff_to_keep_and_to_run_anything(bench: Bench, token: str) -> None:
    for path in ("/", "/health", "/docs", "/nothing", f"/studies/{STUDY}"):
        headers = bench.call("GET", path, token, allow_redirects=False).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cache-Control"] == "no-store"
        nothing, *of_docs, no_frame = headers["Content-Security-Policy"].split("; ")
        assert (nothing, no_frame) == ("default-src 'none'", "frame-ancestors 'none'")
        # The page of the interface has one style, which its digest names.
        assert [part.partition("-")[0] for part in of_docs] == (["style"] if path == "/docs" else [])
        assert all(part.startswith("style-src 'sha256-") for part in of_docs)


def test_without_the_console_the_root_names_the_addresses_that_need_no_token(tmp_path: Path) -> None:
    bench = Bench(tmp_path, console=ConsoleTable(enabled=False))
    answer = bench.call("GET", "/")
    bench.web.stop()
    bench.engine.dispose()
    assert answer.status_code == 404
    assert "/health" in answer.json()["detail"]


def test_a_hostile_host_is_in_no_answer(bench: Bench, token: str) -> None:
    headers = {"Host": EVIL, "X-Forwarded-Host": EVIL, "X-Forwarded-For": "<script>"}
    for path in ("/", "/health/", "/docs", "/openapi.json", "/studies/"):
        answer = bench.call("GET", path, token, headers=headers)
        assert answer.status_code in {200, 404, 421}
        assert EVIL not in answer.text + str(answer.headers)
