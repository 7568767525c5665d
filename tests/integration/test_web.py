"""The web interface on a real socket, over a real spool and catalog; the intake is driven by hand."""

import json
import logging
import socket
import struct
import threading
import time
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from xml.dom import minidom

import pytest
from support import a_file, free_port, installed, instance_ref, run
from support.certificates import authority, issued
from support.waiting import until

installed("fastapi", "uvicorn", "requests")

import requests  # noqa: E402
from fastapi import FastAPI  # noqa: E402
from support.web_bench import MULTIPART, Bench, multipart  # noqa: E402

from ainode.node import testing  # noqa: E402
from ainode.node.deciding.events import IntakeEvent, StudyAnnounced  # noqa: E402
from ainode.node.deciding.liveness import Liveness  # noqa: E402
from ainode.node.domain import UID, Location  # noqa: E402
from ainode.node.errors import ConfigError  # noqa: E402
from ainode.node.keeping import database  # noqa: E402
from ainode.node.keeping.announcements import Announcement, Fetching  # noqa: E402
from ainode.node.keeping.spool import Limits  # noqa: E402
from ainode.node.receiving.event_queue import EventQueue  # noqa: E402
from ainode.node.receiving.events import InstanceStored, ObjectRefused  # noqa: E402
from ainode.node.settings import Peer, WebTable  # noqa: E402
from ainode.node.web.limits import Complaints  # noqa: E402
from ainode.node.web.readiness import Readiness  # noqa: E402
from ainode.node.web.server import WebServer  # noqa: E402


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.web.stop()
    made.engine.dispose()


@pytest.fixture
def token(bench: Bench) -> str:
    return bench.tokens.add("orthanc")


def radiographs(folder: Path, name: str, count: int = 1) -> tuple[str, tuple[bytes, ...]]:
    images = [testing.noise(16, 16, seed=number, BodyPartExamined="TSPINE") for number in range(count)]
    return testing.uid(name), tuple(path.read_bytes() for path in testing.write(images, folder / name, study=name))


# Who may call


def test_without_any_token_a_question_is_answered_with_how_to_make_one(bench: Bench) -> None:
    answer = bench.call("GET", "/studies/1.2.3", "anything")
    assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert "no caller has a token yet: create a token with `ainode token add NAME`" in answer.text


@pytest.mark.parametrize("given", ["", "wrong", "ainode_"])
def test_a_wrong_token_is_refused(bench: Bench, token: str, given: str) -> None:
    answer = bench.call("GET", "/studies/1.2.3", given)
    assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert bench.call("POST", "/dicom-web/studies", given, data=b"").status_code == 401
    assert token not in answer.text


def test_a_removed_token_is_refused_from_the_next_request_on(bench: Bench, token: str) -> None:
    bench.tokens.add("other")
    assert bench.call("GET", "/studies/1.2.3", token).status_code == 404
    bench.tokens.remove("orthanc")
    assert bench.call("GET", "/studies/1.2.3", token).status_code == 401


def test_a_token_stands_in_no_file_and_in_no_log(bench: Bench, token: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        bench.call("GET", "/studies/1.2.3", token)
        bench.store(token, a_file())
    assert token not in caplog.text
    assert not [one for one in bench.folder.rglob("*") if one.is_file() and token.encode() in one.read_bytes()]
    assert (bench.folder / "tokens").stat().st_mode & 0o777 == 0o600


def test_health_needs_no_token_and_states_the_fault_of_the_receiver(bench: Bench) -> None:
    healthy = bench.call("GET", "/health").json()
    assert (healthy["status"], healthy["self_test"]) == ("healthy", "off")
    bench.fault = "the receiver ended"
    answer = bench.call("GET", "/health")
    assert (answer.status_code, answer.json()["status"]) == (503, "the receiver ended")


def unready_parts(answer: requests.Response) -> dict[str, str]:
    """Return the parts that are not ready, with their reasons."""
    parts = answer.json()["parts"]
    assert set(parts) == {"database", "intake", "receiver", "disk"}
    reasons = {name: part["reason"] for name, part in parts.items() if part["status"] == "not ready"}
    assert (answer.status_code, answer.json()["status"]) == ((503, "not ready") if reasons else (200, "ready"))
    return reasons


def test_every_part_of_a_node_that_works_is_ready_without_a_token(bench: Bench) -> None:
    assert unready_parts(bench.call("GET", "/ready")) == {}


def test_a_database_whose_file_is_damaged_is_not_ready(bench: Bench) -> None:
    bench.engine.dispose()
    for path in bench.folder.glob("catalog.sqlite*"):
        path.write_bytes(b"damaged" * 1000)
    assert list(unready_parts(bench.call("GET", "/ready"))) == ["database"]


def test_a_question_is_answered_in_words_while_the_database_is_away_and_where_the_node_fails(
    bench: Bench, token: str
) -> None:
    def fail(_: IntakeEvent) -> None:
        raise ValueError("Kanari")

    bench.put_event = fail
    failed = bench.call("POST", "/studies/1.2.3/announce", token, json={"instances": 1})
    assert (failed.status_code, failed.json()["detail"][:18]) == (500, "the request failed")
    assert failed.headers["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'"
    bench.engine.dispose()
    for path in bench.folder.glob("catalog.sqlite*"):
        path.write_bytes(b"no database" * 1000)
    away = bench.call("GET", "/studies/1.2.3", token)
    assert (away.status_code, away.headers["Retry-After"]) == (503, "10")
    assert "the node cannot ask its database" in away.json()["detail"]


def test_a_database_that_does_not_answer_is_soon_not_ready(bench: Bench) -> None:
    postgresql = socket.create_server(("127.0.0.1", 0))  # takes connections and answers nobody
    address = f"postgresql+psycopg://nobody@127.0.0.1:{postgresql.getsockname()[1]}/nothing"
    installed("psycopg")
    engine = database.connect(address)
    readiness = Readiness(engine, Liveness(lambda: "", lambda: "", lambda: ""), bench.folder, 0)
    for _ in range(2):
        begin = time.monotonic()
        assert readiness.faults()["database"] == "no answer within 2 s"
        assert time.monotonic() - begin < 10
    assert sum(thread.name == "probe" for thread in threading.enumerate()) == 1
    postgresql.close()
    engine.dispose()


def test_a_full_disk_and_a_disk_without_inodes_are_not_ready(bench: Bench, tmp_path: Path) -> None:
    live = Liveness(lambda: "", lambda: "", lambda: "")
    assert "min_free_bytes" in Readiness(bench.engine, live, bench.folder, 1 << 60).faults()["disk"]
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = run("mount", "-t", "tmpfs", "-o", "size=1m,nr_inodes=50", "tmpfs", folder)
    if mounted.returncode:
        pytest.skip("mounting needs root")
    try:
        assert "files" in Readiness(bench.engine, live, folder, 0).faults()["disk"]
    finally:
        run("umount", folder)


def test_health_is_answered_while_every_other_request_waits_for_a_full_queue(bench: Bench, token: str) -> None:
    queue = EventQueue[IntakeEvent](1)
    queue.put(StudyAnnounced(UID("1.2")))
    waiting: list[IntakeEvent] = []

    def put(event: IntakeEvent) -> None:
        waiting.append(event)
        queue.put(event)

    bench.put_event = put
    question = {"instances": 1}
    with ThreadPoolExecutor(60) as threads:
        calls = [
            threads.submit(bench.call, "POST", f"/studies/1.2.{number}/announce", token, json=question)
            for number in range(60)
        ]
        until(lambda: len(waiting) >= 40)
        assert bench.call("GET", "/health").status_code == 200
        assert bench.call("GET", "/ready").status_code == 200
        assert not any(call.done() for call in calls)
        queue.close()
        assert {call.result().status_code for call in calls} == {202}


def self_signed(pem: Path) -> None:
    subject = ("-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1")
    made = run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", pem, "-out", pem, *subject)
    assert made.returncode == 0, made.stderr


def test_with_a_certificate_it_speaks_https_only_and_takes_up_a_renewed_one(tmp_path: Path) -> None:
    pem = tmp_path / "node.pem"
    self_signed(pem)
    bench = Bench(tmp_path / "node", certificate=pem)
    address = f"127.0.0.1:{bench.settings.web.port}/health"
    with requests.Session() as session:
        assert session.get(f"https://{address}", verify=str(pem), timeout=60).status_code == 200
        with pytest.raises(requests.ConnectionError):
            session.get(f"http://{address}", timeout=60)
    self_signed(pem)
    assert requests.get(f"https://{address}", verify=str(pem), timeout=60).status_code == 200
    bench.web.stop()
    bench.engine.dispose()


@pytest.mark.parametrize("wrong", ["missing", "another's key", "with a passphrase", "no PEM"])
def test_a_wrong_certificate_is_a_configuration_error_before_anybody_listens(tmp_path: Path, wrong: str) -> None:
    ca = authority(tmp_path, "ca")
    own, other = issued(ca, "own"), issued(ca, "other")
    secret = tmp_path / "secret.key"
    made = run("openssl", "rsa", "-aes128", "-passout", "pass:word", "-in", own.key, "-out", secret)
    assert made.returncode == 0, made.stderr
    (tmp_path / "text").write_text("no key")
    keys = {"another's key": other.key, "with a passphrase": secret, "no PEM": tmp_path / "text"}
    key = keys.get(wrong, tmp_path / "gone.key")
    web = WebTable(enabled=True, port=free_port(), tls_certificate=own.path, tls_key=key)
    with pytest.raises(ConfigError, match=r"^\[web\] tls_certificate, tls_key: "):
        WebServer(FastAPI(), web, Complaints())
    socket.create_server((web.bind, web.port)).close()


def test_a_server_that_waits_is_told_of_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ainode.node.web.server._TICK_S", 3600.0)
    web = WebTable(enabled=True, port=free_port())
    server = WebServer(FastAPI(), web, Complaints())
    server.start()
    assert requests.get(f"http://127.0.0.1:{web.port}/", timeout=60).status_code == 404
    end = threading.Thread(target=server.stop, daemon=True)
    end.start()
    end.join(60)
    assert not end.is_alive()
    assert not server.is_alive()


def test_a_server_that_is_told_of_its_end_before_it_serves_ends() -> None:
    web = WebTable(enabled=True, port=free_port())
    server = WebServer(FastAPI(), web, Complaints())
    server.start()
    server.stop()
    assert not server.is_alive()


def test_an_answer_states_the_present_time(bench: Bench) -> None:
    address = f"http://127.0.0.1:{bench.settings.web.port}/health"
    first = requests.get(address, timeout=60).headers["Date"]
    until(lambda: requests.get(address, timeout=60).headers["Date"] != first)


def test_the_station_is_alive_from_start_to_stop(bench: Bench) -> None:
    assert bench.web.is_alive()
    bench.web.stop()
    assert not bench.web.is_alive()


def test_a_body_longer_than_any_question_is_refused(bench: Bench, token: str) -> None:
    answer = bench.call("POST", "/studies/1.2.3/read", token, data=b" " * 70_000)
    assert answer.status_code == 413


def test_the_page_of_the_interface_lists_every_question_and_runs_no_script(bench: Bench) -> None:
    page = bench.call("GET", "/docs").text
    assert "/studies/{study}/announce" in page
    assert "/dicom-web/studies" in page
    assert "<script" not in page
    assert bench.call("GET", "/openapi.json").json()["components"]["securitySchemes"]


def test_the_examples_of_the_interface_call_the_node_where_it_is(bench: Bench) -> None:
    page = bench.call("GET", "/docs").text
    address = f"http://127.0.0.1:{bench.settings.web.port}"
    assert page.count(address) == 5
    assert "8080" not in page
    assert "NODE" not in page


# STOW-RS


def items(answer: requests.Response, tag: str) -> list[dict[str, dict[str, list[object]]]]:
    found: list[dict[str, dict[str, list[object]]]] = answer.json().get(tag, {}).get("Value", [])
    return found


def test_stored_instances_are_on_disk_bit_for_bit_before_the_answer(bench: Bench, token: str) -> None:
    files = [a_file(), a_file(rows=300)]
    answer = bench.store(token, *files)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/dicom+json")
    uids = {one["00081155"]["Value"][0] for one in items(answer, "00081199")}
    assert uids == {instance_ref(one).sop_instance_uid for one in files}
    spooled = {one.path.read_bytes() for one in bench.events if isinstance(one, InstanceStored)}
    for one in files:
        begin = 144 + struct.unpack("<I", one[140:144])[0]
        assert any(kept.endswith(one[begin:]) for kept in spooled)


def test_a_bad_instance_is_named_with_its_reason_and_spares_the_others(bench: Bench, token: str) -> None:
    good = a_file()
    cut_off = a_file()[:-100]
    printer = a_file(sop_class_uid="1.2.840.10008.5.1.1.16")
    strange = a_file().replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.9.9\0")
    answer = bench.store(token, good, cut_off, printer, strange, b"no DICOM at all")
    assert answer.status_code == 202
    assert len(items(answer, "00081199")) == 1
    reasons = {one["00081155"]["Value"][0]: one["00081197"]["Value"][0] for one in items(answer, "00081198")}
    assert reasons == {
        instance_ref(a_whole(cut_off)).sop_instance_uid: 0xC000,
        instance_ref(printer).sop_instance_uid: 0x0122,
        instance_ref(a_whole(strange)).sop_instance_uid: 0xC122,
    }
    assert [one["00081197"]["Value"] for one in items(answer, "0008119A")] == [[0xC000]]


def a_whole(content: bytes) -> bytes:
    """Return a file whose header can be read, from one that is cut off or of an unknown transfer syntax."""
    return content.replace(b"1.2.840.10008.1.9.9\0", b"1.2.840.10008.1.2.1\0") + bytes(100)


def test_an_instance_that_names_a_second_study_behind_its_pixels_is_refused_as_over_dimse(
    bench: Bench, token: str
) -> None:
    second_study = struct.pack("<HH2sH", 0x0020, 0x000D, b"UI", 4) + b"1.2\0"
    answer = bench.store(token, a_file() + second_study)
    assert answer.status_code == 409
    assert [refusal["00081197"]["Value"] for refusal in items(answer, "00081198")] == [[0xC000]]


def test_a_request_of_which_parts_are_refused_tells_so_once(bench: Bench, token: str) -> None:
    assert bench.store(token, a_file(), b"no DICOM", b"nor this").status_code == 202
    assert [type(event) for event in bench.events if isinstance(event, InstanceStored | ObjectRefused)] == [
        InstanceStored,
        ObjectRefused,
    ]


def test_a_request_of_which_nothing_was_stored_is_a_conflict(bench: Bench, token: str) -> None:
    assert bench.store(token, b"no DICOM").status_code == 409


def test_an_instance_of_another_study_than_the_address_says_is_refused(bench: Bench, token: str) -> None:
    answer = bench.store(token, a_file(study="1.2.3"), a_file(study="1.2.4"), path="/dicom-web/studies/1.2.3")
    assert answer.status_code == 202
    assert [one["00081197"]["Value"] for one in items(answer, "00081198")] == [[0xA900]]


def test_a_full_disk_is_said_for_each_instance(tmp_path: Path) -> None:
    made = Bench(tmp_path)
    made.web.pullers.doorway.spool.limits = Limits(1 << 60, 1 << 30)
    answer = made.store(made.tokens.add("x"), a_file())
    assert [one["00081197"]["Value"] for one in items(answer, "00081198")] == [[0xA700]]
    made.web.stop()
    made.engine.dispose()


@pytest.mark.parametrize(
    ("content_type", "accept", "status"),
    [
        ("application/dicom", "*/*", 415),
        ('multipart/related; type="application/dicom+json"; boundary=b0', "*/*", 415),
        (MULTIPART, "application/dicom+json", 400),
    ],
)
def test_what_is_no_stow_request_is_refused(
    bench: Bench, token: str, content_type: str, accept: str, status: int
) -> None:
    headers = {"Content-Type": content_type, "Accept": accept}
    answer = bench.call("POST", "/dicom-web/studies", token, data=b"--b0\r\n", headers=headers)
    assert answer.status_code == status


DCM4CHE_ACCEPTS = "application/dicom+xml"


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        (DCM4CHE_ACCEPTS, "application/dicom+xml"),
        ("application/dicom+json", "application/dicom+json"),
        ("*/*", "application/dicom+json"),
        ("", "application/dicom+json"),
        ("application/json", "application/dicom+json"),
        ("text/html", "application/dicom+json"),
        ("application/dicom+xml;q=0.5, application/dicom+json", "application/dicom+json"),
        ("application/dicom+json; q=0.1, Application/DICOM+XML", "application/dicom+xml"),
        ("application/dicom+xml;q=0", "application/dicom+json"),
        ('multipart/related; type="application/dicom+xml"', "multipart/related"),
    ],
)
def test_a_study_is_stored_whatever_form_of_answer_the_caller_asks_for(
    bench: Bench, token: str, accept: str, form: str
) -> None:
    content = a_file()
    headers = {"Content-Type": MULTIPART, "Accept": accept}
    answer = bench.call("POST", "/dicom-web/studies", token, data=multipart(content), headers=headers)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith(form)
    assert instance_ref(content).sop_instance_uid in answer.text


def test_an_answer_in_xml_says_what_the_answer_in_json_says(bench: Bench, token: str) -> None:
    """`xml.dom.minidom` and the keywords of PS3.19 A.1 judge."""
    stored, broken = a_file(), b"no DICOM"
    headers = {"Content-Type": MULTIPART, "Accept": 'multipart/related; type="application/dicom+xml"'}
    answer = bench.call("POST", "/dicom-web/studies", token, data=multipart(stored, broken), headers=headers)
    assert answer.status_code == 202
    boundary = answer.headers["Content-Type"].rpartition("boundary=")[2]
    (part,) = [piece for piece in answer.text.split(f"--{boundary}") if "<" in piece]
    root = minidom.parseString(part.partition("\r\n\r\n")[2]).documentElement  # noqa: S318 - the node's own answer
    assert (root.tagName, root.namespaceURI) == ("NativeDicomModel", "http://dicom.nema.org/PS3.19/models/NativeDICOM")
    attributes = {node.getAttribute("tag"): node for node in root.childNodes}
    assert attributes.keys() == {"00081190", "00081199", "0008119A"}
    (item,) = attributes["00081199"].getElementsByTagName("Item")
    values = {node.getAttribute("tag"): node.firstChild.firstChild.data for node in item.childNodes if node.firstChild}
    ref = instance_ref(stored)
    assert values == {"00081150": ref.sop_class_uid, "00081155": ref.sop_instance_uid}


def test_what_was_stored_before_an_upload_broke_off_is_kept(bench: Bench, token: str) -> None:
    first, second = a_file(rows=200), a_file(rows=200)
    body = multipart(first, second)
    head = (
        f"POST /dicom-web/studies HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Type: {MULTIPART}\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode()
    with socket.create_connection(("127.0.0.1", bench.settings.web.port)) as connection:
        connection.sendall(head + body[:-50_000])
        connection.settimeout(1)
        with pytest.raises(TimeoutError):
            connection.recv(1)
    until(lambda: any(getattr(event, "is_released", None) is False for event in bench.events))
    stored = [one.ref.sop_instance_uid for one in bench.events if isinstance(one, InstanceStored)]
    assert stored == [instance_ref(first).sop_instance_uid]
    assert bench.store(token, second).status_code == 200


def test_an_upload_is_never_whole_in_memory(bench: Bench, token: str) -> None:
    encoded = a_file(rows=16)
    cut = encoded.rindex(struct.pack("<HH2sHI", 0x7FE0, 0x10, b"OW", 0, 512))
    size = 96 << 20
    pixels = struct.pack("<HH2sHI", 0x7FE0, 0x10, b"OW", 0, size)

    def body() -> Iterator[bytes]:
        yield b"--b0\r\nContent-Type: application/dicom\r\n\r\n" + encoded[:cut] + pixels
        for _ in range(size >> 18):
            yield bytes(1 << 18)
        yield b"\r\n--b0--\r\n"

    tracemalloc.start()
    try:
        answer = bench.call("POST", "/dicom-web/studies", token, data=body(), headers={"Content-Type": MULTIPART})
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert answer.status_code == 200
    assert peak < 16 << 20


def test_a_dicomweb_client_stores_a_study_that_is_then_read(bench: Bench, token: str, tmp_path: Path) -> None:
    installed("dicomweb_client")
    from ainode.node.archive import stow
    from ainode.node.archive.store import Outgoing
    from ainode.node.archive.web import WebLink

    study, files = radiographs(tmp_path, "by web", 3)
    address = f"http://127.0.0.1:{bench.settings.web.port}/dicom-web"
    variable = "AINODE_TEST_TOKEN"
    peer = Peer(name="self", ae_title="X", host="h", port=1, dicomweb=address, deliver="dicomweb", token_env=variable)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(variable, token)
        sent = stow.send(WebLink(peer), [Outgoing.of(one) for one in files])
    assert [one.error for one in sent] == [None] * 3
    bench.take(later=timedelta(seconds=11))
    assert [job.study_instance_uid for job in bench.opened] == [study]
    assert {one.calling_ae_title for one in bench.catalog.instances(UID(study))} == {"orthanc"}


# Announcing, reading now


def test_a_study_with_as_many_instances_as_announced_is_not_waited_for(
    bench: Bench, token: str, tmp_path: Path
) -> None:
    study, files = radiographs(tmp_path, "announced", 2)
    answer = bench.call("POST", f"/studies/{study}/announce", token, json={"instances": 2})
    assert (answer.status_code, answer.json()["state"]) == (202, "announced")
    bench.store(token, files[0])
    bench.take()
    assert bench.opened == []
    assert bench.call("GET", f"/studies/{study}", token).json()["state"] == "receiving"
    bench.store(token, files[1])
    bench.take()
    assert [len(job.content) for job in bench.opened] == [2]


def test_a_study_announced_when_it_is_all_here_is_not_waited_for(bench: Bench, token: str, tmp_path: Path) -> None:
    study, files = radiographs(tmp_path, "late word", 2)
    bench.store(token, *files)
    bench.take()
    assert bench.opened == []
    bench.call("POST", f"/studies/{study}/announce", token, json={"instances": 2})
    bench.take()
    assert len(bench.opened) == 1


def test_a_study_whose_pull_was_given_up_has_failed(bench: Bench, token: str) -> None:
    now = datetime.now(UTC)
    given_up = Announcement(UID("1.2.3"), now, now, peer="pacs", state=Fetching.FAILED, reason="not pulled: gone")
    bench.announcements.announce(given_up)
    answer = bench.call("GET", "/studies/1.2.3", token).json()
    assert (answer["state"], answer["reason"]) == ("failed", "not pulled: gone")
    bench.announcements.announce(replace(given_up, state=Fetching.WAITING))
    assert bench.call("GET", "/studies/1.2.3", token).json()["state"] == "announced"


def test_an_announcement_outlives_a_restart(bench: Bench, token: str, tmp_path: Path) -> None:
    study, files = radiographs(tmp_path, "restart", 2)
    bench.call("POST", f"/studies/{study}/announce", token, json={"instances": 2})
    bench.store(token, *files)
    bench.events.clear()
    bench.restart()
    bench.take()
    assert [len(job.content) for job in bench.opened] == [2]


def test_what_is_announced_again_after_it_was_read_does_nothing(bench: Bench, token: str, tmp_path: Path) -> None:
    study, files = radiographs(tmp_path, "again")
    for _ in range(2):
        bench.store(token, *files)
        bench.call("POST", f"/studies/{study}/announce", token, json={"instances": 1})
        bench.take()
    assert len(bench.opened) == 1
    settled = bench.announcements.of(UID(study))
    assert settled
    assert settled.expected is None


def test_read_now_closes_a_study_that_still_arrives(bench: Bench, token: str, tmp_path: Path) -> None:
    study, files = radiographs(tmp_path, "now")
    bench.store(token, *files)
    bench.take()
    assert bench.opened == []
    assert bench.call("POST", f"/studies/{study}/read", token, json={}).status_code == 202
    bench.take(later=timedelta(0))
    assert len(bench.opened) == 1


def test_a_position_asked_for_makes_one_more_job_that_outlives_a_restart(
    bench: Bench, token: str, tmp_path: Path
) -> None:
    study, files = radiographs(tmp_path, "pointed at")
    bench.store(token, *files)
    bench.take(later=timedelta(seconds=11))
    (first,) = bench.opened
    question = {"positions": [{"position_mm": [-31.5, 12, 104.25], "frame_of_reference_uid": "1.2.9"}]}
    assert bench.call("POST", f"/studies/{study}/read", token, json=question).status_code == 202
    bench.events.clear()
    bench.restart()
    bench.take(later=timedelta(0))
    second = bench.opened[-1]
    assert second.id != first.id
    assert second.locations == (Location((-31.5, 12.0, 104.25), "request", frame_of_reference_uid=UID("1.2.9")),)
    assert bench.ledger.open(second) == bench.ledger.job(second.id)
    assert bench.ledger.job(second.id).locations == second.locations
    bench.call("POST", f"/studies/{study}/read", token, json=question)
    bench.take(later=timedelta(0))
    assert bench.opened[-1].id == second.id


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e400", "100001", "-1e9", '"nan"'])
def test_numbers_that_are_no_position_are_refused_with_the_reason(
    bench: Bench, token: str, tmp_path: Path, number: str
) -> None:
    study, files = radiographs(tmp_path, "pointed at nothing")
    bench.store(token, *files)
    bench.take()
    question = f'{{"positions": [{{"position_mm": [1, 2, {number}]}}]}}'
    header = {"Content-Type": "application/json"}
    answer = bench.call("POST", f"/studies/{study}/read", token, data=question, headers=header)
    assert answer.status_code == 422
    (problem,) = answer.json()["detail"]
    assert problem["loc"] == ["body", "positions", 0, "position_mm", 2]
    assert problem["msg"]
    assert not bench.announcements.of(UID(study))


def test_a_study_that_is_nowhere_cannot_be_read_now(bench: Bench, token: str) -> None:
    assert bench.call("POST", "/studies/1.2.3/read", token, json={}).status_code == 404
    assert bench.call("POST", "/studies/1.2.3/read", token, json={"peer": "pacs"}).status_code == 404
    answer = bench.call("POST", "/studies/1.2.3/read", token, json={"peer": "nobody"})
    assert (answer.status_code, "pacs" in answer.text) == (422, True)


def test_no_patient_attribute_stands_in_an_answer_or_a_log(
    bench: Bench, token: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    study, files = radiographs(tmp_path, "private")
    dataset_says = b"TEST^SYNTHETIC"
    with caplog.at_level(logging.DEBUG):
        stored = bench.store(token, a_file(), a_file()[:-9], *files).text
        bench.take(later=timedelta(seconds=61))  # the longest silence, as a part is refused
        said = bench.call("GET", f"/studies/{study}", token).text
        explained = bench.call("GET", f"/studies/{study}/explanation", token)
    assert json.loads(explained.text)[0]["route"] == "spine"
    for text in (stored, said, explained.text, caplog.text):
        assert dataset_says.decode() not in text
        assert "SYNTHETIC" not in text


def test_a_study_of_which_an_instance_is_gone_says_so_whatever_its_state(
    bench: Bench, token: str, tmp_path: Path
) -> None:
    study, files = radiographs(tmp_path, "incomplete", 2)
    bench.store(token, *files)
    bench.take()
    for number in (0, 1):
        stored = bench.catalog.instances(UID(study))[number]
        stored.path.unlink()
        bench.catalog.index([stored])
        bench.restart()
        bench.take(later=timedelta(minutes=5))
        status = bench.call("GET", f"/studies/{study}", token).json()
        assert f"{stored.ref.sop_instance_uid}: No such file" in status["problem"] or status["state"] == "failed"
        assert status["problem"] in status["reason"]
        assert status["state"] != "receiving"
