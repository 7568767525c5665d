import json
import threading
import time
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping
from datetime import date
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import DeflatedExplicitVRLittleEndian, generate_uid
from support import Orthanc, a_file, free_port, instance_ref
from support.node import configured, running
from support.web_archives import Answer, certificate, dicomweb_orthanc, http, said, web_peer

from ainode.node import testing
from ainode.node.archive import store
from ainode.node.archive.dicom_json import datasets_of, text, xml_of
from ainode.node.archive.dicomweb import WebArchive
from ainode.node.archive.dimse import Link
from ainode.node.archive.multipart import Body, boundary_of, parts
from ainode.node.archive.qido import confirm_by_query
from ainode.node.archive.search import Deadline, SeriesEntry, StudyQuery
from ainode.node.archive.store import Outgoing
from ainode.node.archive.stow import send
from ainode.node.archive.web import WebLink, credentials
from ainode.node.diagnosis.checks import check_lines
from ainode.node.domain import UID, DeliveryState, Patient
from ainode.node.errors import ArchiveRefused, ArchiveUnreachable, ConfigError
from ainode.node.settings import Peer, Settings

Refusal: TypeAlias = Callable[[Mapping[str, str]], object]
PATIENT = Patient("SECRET-7", "", "19500101")
EVER = StudyQuery(PATIENT, date(2000, 1, 1), date(2026, 1, 1), ("CT",))


def link(peer: Peer, timeout_s: float = 30.0, max_bytes: int = 1 << 20) -> WebLink:
    return WebLink(peer, timeout_s, max_bytes)


def always(status: int, body: object = None, **headers: str) -> Answer:
    return lambda request: said(request, status, body, **headers)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Orthanc, Peer]]:
    with dicomweb_orthanc(tmp_path_factory.mktemp("orthanc")) as started:
        yield started


def series_of(content: bytes, instances: int | None = None) -> SeriesEntry:
    ref = instance_ref(content)
    return SeriesEntry(ref.study_instance_uid, ref.series_instance_uid, "CT", instance_count=instances)


# Storing and fetching


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.1", "1.2.840.10008.1.2", DeflatedExplicitVRLittleEndian])
def test_what_is_stored_by_stow_is_found_by_qido_and_comes_back_by_wado_byte_for_byte(
    archive: tuple[Orthanc, Peer], tmp_path: Path, syntax: str
) -> None:
    study, web = generate_uid(prefix=None), link(archive[1])
    contents = [a_file(study=study, series=f"{study}.1", transfer_syntax_uid=syntax) for _ in range(3)]
    on_disk = tmp_path / "one.dcm"
    on_disk.write_bytes(contents[0])
    sent = send(web, [Outgoing.of(on_disk), *(Outgoing.of(one) for one in contents[1:])])
    assert [(one.status, one.error) for one in sent] == [(0, None)] * 3
    never_sent = instance_ref(a_file(study=study, series=f"{study}.1"))
    found = confirm_by_query(web, [*map(instance_ref, contents), never_sent])
    assert found == {instance_ref(one).sop_instance_uid for one in contents}
    folder = tmp_path / "fetched"
    folder.mkdir()
    WebArchive(web).fetch(series_of(contents[0]), folder, Deadline())
    assert {path.read_bytes() for path in folder.iterdir()} == set(contents)


def test_hundreds_of_objects_pass_in_the_memory_of_one_block(archive: tuple[Orthanc, Peer], tmp_path: Path) -> None:
    study = generate_uid(prefix=None)
    source, target = tmp_path / "source", tmp_path / "target"
    for folder in (source, target):
        folder.mkdir()
    for number in range(60):
        (source / f"{number}.dcm").write_bytes(a_file(study=study, series=f"{study}.1", rows=1024))
    sent = [Outgoing.of(path) for path in source.iterdir()]
    before = most_resident_kib(reset=True)
    assert not [one for one in send(link(archive[1], 60.0), sent) if one.error]
    WebArchive(link(archive[1], 60.0)).fetch(SeriesEntry(UID(study), UID(f"{study}.1")), target, Deadline())
    assert len(list(target.iterdir())) == 60
    # 120 MiB went through twice
    assert most_resident_kib() - before < 20 * 1024


def most_resident_kib(*, reset: bool = False) -> int:
    if reset:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    (line,) = [one for one in Path("/proc/self/status").read_text(encoding="ascii").splitlines() if "VmHWM" in one]
    return int(line.split()[1])


# What an archive answers to STOW-RS


def item(uid: str, reason: int | None = None) -> dict[str, object]:
    found: dict[str, object] = {"00081155": {"vr": "UI", "Value": [uid]}}
    return found if reason is None else found | {"00081197": {"vr": "US", "Value": [reason]}}


def test_a_partly_stored_request_has_an_outcome_for_each_document() -> None:
    documents = [Outgoing.of(a_file()) for _ in range(5)]
    stored, full, refused, duplicate, unknown = (one.sop_instance_uid for one in documents)
    body = {
        "00081199": {"vr": "SQ", "Value": [item(stored)]},
        "00081198": {"vr": "SQ", "Value": [item(full, 0xA700), item(refused, 0x0122), item(duplicate, 0x0111)]},
    }
    with http(always(202, body)) as peer:
        sent = send(link(peer), documents)
    assert [one.sop_instance_uid for one in sent] == [stored, full, refused, duplicate, unknown]
    assert [one.status for one in sent] == [0, 0xA700, 0x0122, 0x0111, None]
    errors = [type(one.error) if one.error else None for one in sent]
    assert errors == [None, ArchiveUnreachable, ArchiveRefused, None, None]
    assert [one.is_proven for one in sent] == [True, False, False, True, False]


def test_all_failed_is_what_each_reason_says() -> None:
    document = Outgoing.of(a_file())
    body = {"00081198": {"vr": "SQ", "Value": [item(document.sop_instance_uid, 0xC122)]}}
    with http(always(409, body)) as peer:
        (sent,) = send(link(peer), [document])
    assert isinstance(sent.error, ArchiveRefused)
    assert sent.error.archive_status == 0xC122


@pytest.mark.parametrize("reason", [0x0000, 0xB000, 0xB007])
def test_a_warning_among_the_failures_proves_nothing(reason: int) -> None:
    document = Outgoing.of(a_file())
    body = {"00081198": {"vr": "SQ", "Value": [item(document.sop_instance_uid, reason)]}}
    with http(always(202, body)) as peer:
        (sent,) = send(link(peer), [document])
    assert (sent.status, sent.error, sent.is_proven) == (None, None, False)


STRANGE = [None, [], "<xml/>", {"00081198": 3}, {"00081198": {"Value": [7, {}]}}, [[]], {"00081199": {"Value": []}}]


@pytest.mark.parametrize("status", [200, 201, 202, 204])
@pytest.mark.parametrize("body", STRANGE)
def test_a_success_that_does_not_name_the_instance_proves_nothing(body: object, status: int) -> None:
    document = Outgoing.of(a_file())
    with http(always(status, body)) as peer:
        (sent,) = send(link(peer), [document])
    assert (sent.status, sent.error, sent.is_proven) == (None, None, False)


def test_a_sign_in_page_is_no_store_and_its_words_are_kept_without_its_tags() -> None:
    page = (
        "<!doctype html><style>p {color: red}</style><title>Sign in</title>"
        "<p>Patient &lt;SECRET&gt;\n\u202e </p><script>go()</script>"
    )
    with http(text_answer(200, page, "text/html; charset=nonsense")) as peer:
        (sent,) = send(link(peer), [Outgoing.of(a_file())])
    assert not sent.is_proven
    assert sent.comment == "Sign in Patient <SECRET>"


def text_answer(status: int, content: str, content_type: str, **headers: str) -> Answer:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        for name, value in {
            "Content-Type": content_type,
            "Content-Length": str(len(content.encode())),
            **headers,
        }.items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(content.encode())

    return answer


def native(sequence: str, *uids: str, elements: str = "", namespace: str = "") -> str:
    """Return an answer in the Native DICOM Model (PS3.19 A.1), written by hand."""
    listed = "".join(
        f'<Item number="{number}"><DicomAttribute tag="00081150" vr="UI" keyword="ReferencedSOPClassUID">'
        '<Value number="1">1.2.840.10008.5.1.4.1.1.2</Value></DicomAttribute>'
        '<DicomAttribute tag="00081155" vr="UI" keyword="ReferencedSOPInstanceUID">'
        f'<Value number="1">{uid}</Value></DicomAttribute>{elements}</Item>'
        for number, uid in enumerate(uids, start=1)
    )
    declared = namespace and f' xmlns="{namespace}"'
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><NativeDicomModel{declared} xml:space="preserve">'
        '<DicomAttribute tag="00081190" vr="UR" keyword="RetrieveURL"/>'
        f'<DicomAttribute tag="{sequence}" vr="SQ">{listed}</DicomAttribute></NativeDicomModel>'
    )


@pytest.mark.parametrize("namespace", ["", "http://dicom.nema.org/PS3.19/models/NativeDICOM"])
def test_an_answer_in_xml_names_what_was_stored_and_what_failed(namespace: str) -> None:
    stored, failed, other = (Outgoing.of(a_file()) for _ in range(3))
    warned = '<DicomAttribute tag="00081196" vr="US"><Value number="1">45056</Value></DicomAttribute>'
    body = native("00081199", stored.sop_instance_uid, elements=warned, namespace=namespace)
    with http(text_answer(202, body, "application/dicom+xml")) as peer:
        answers = send(link(peer), [stored, other])
    assert [(one.status, one.is_proven) for one in answers] == [(0xB000, True), (None, False)]
    reason = '<DicomAttribute tag="00081197" vr="US"><Value number="1">49442</Value></DicomAttribute>'
    body = native("00081198", failed.sop_instance_uid, elements=reason, namespace=namespace)
    with http(text_answer(409, body, "application/dicom+xml")) as peer:
        (refused,) = send(link(peer), [failed])
    assert refused.status == 0xC122
    assert isinstance(refused.error, ArchiveRefused)


def test_an_answer_of_several_parts_or_of_addresses_alone_names_what_was_stored() -> None:
    first, second = (Outgoing.of(a_file()) for _ in range(2))
    body = f"--edge\r\n\r\n{native('00081199', first.sop_instance_uid)}\r\n--edge--"
    with http(text_answer(200, body, 'multipart/related; type="application/dicom+xml"; boundary=edge')) as peer:
        answers = send(link(peer), [first, second])
    assert [answer.is_proven for answer in answers] == [True, False]
    address = f"http://archive/studies/1.2/series/1.3/instances/{first.sop_instance_uid}"
    stored = {"00081190": {"vr": "UR", "Value": [address]}}
    with http(always(200, {"00081199": {"vr": "SQ", "Value": [stored]}})) as peer:
        answers = send(link(peer), [first, second])
    assert [answer.is_proven for answer in answers] == [True, False]


def test_xml_with_a_document_type_is_not_parsed() -> None:
    document = Outgoing.of(a_file())
    entity = f'<!DOCTYPE x [<!ENTITY uid "{document.sop_instance_uid}">]>'
    body = native("00081199", "&uid;").replace("<NativeDicomModel", f"{entity}<NativeDicomModel", 1)
    with http(text_answer(200, body, "application/dicom+xml")) as peer:
        (sent,) = send(link(peer), [document])
    assert not sent.is_proven


def test_a_server_that_knows_xml_alone_is_asked_for_xml() -> None:
    document = Outgoing.of(a_file())
    accepted: list[str] = []

    def answer(request: BaseHTTPRequestHandler) -> None:
        accepted.append(request.headers["Accept"])
        body = native("00081199", document.sop_instance_uid)
        status = 200 if "xml" in accepted[-1] else 406
        text_answer(status, body if status == 200 else "", "application/dicom+xml")(request)

    with http(answer) as peer:
        (sent,) = send(link(peer), [document])
    assert sent.is_proven
    assert accepted == ["application/dicom+json", "application/dicom+xml"]


def test_a_request_that_is_too_large_is_sent_in_halves() -> None:
    documents = [Outgoing.of(a_file()) for _ in range(5)]

    def answer(request: BaseHTTPRequestHandler) -> None:
        names = [uid for uid in (one.sop_instance_uid for one in documents) if uid.encode() in request.body]  # type: ignore[attr-defined]
        said(
            request, *((413, None) if len(names) > 2 else (200, {"00081199": {"Value": [item(uid) for uid in names]}}))
        )

    with http(answer) as peer:
        sent = send(link(peer), documents)
    assert [(one.sop_instance_uid, one.status) for one in sent] == [(one.sop_instance_uid, 0) for one in documents]


@pytest.mark.parametrize("status", [400, 409, 415, 422, 500])
def test_an_object_that_the_server_refuses_the_whole_request_for_stops_no_other_object(status: int) -> None:
    documents = [Outgoing.of(a_file()) for _ in range(5)]
    uids = [document.sop_instance_uid for document in documents]

    def answer(request: BaseHTTPRequestHandler) -> None:
        names = [uid for uid in uids if uid.encode() in request.body]  # type: ignore[attr-defined]
        if uids[3] in names:
            said(request, status, {"message": "SR is not supported"})
        else:
            said(request, 200, {"00081199": {"Value": [item(uid) for uid in names]}})

    with http(answer) as peer:
        sent = send(link(peer), documents)
    assert [one.sop_instance_uid for one in sent] == uids
    assert [one.status for one in sent] == [0, 0, 0, status, 0]
    assert [bool(one.error) for one in sent] == [False, False, False, True, False]


def test_a_server_that_names_what_failed_is_not_asked_again() -> None:
    documents = [Outgoing.of(a_file()) for _ in range(3)]
    requests: list[BaseHTTPRequestHandler] = []
    body = {"00081198": {"Value": [item(document.sop_instance_uid, 0xC122) for document in documents]}}

    def answer(request: BaseHTTPRequestHandler) -> None:
        requests.append(request)
        said(request, 409, body)

    with http(answer) as peer:
        sent = send(link(peer), documents)
    assert [one.status for one in sent] == [0xC122] * 3
    assert len(requests) == 1


def test_warnings_and_bodies_of_an_archive_are_kept_beside_the_error_and_not_in_it() -> None:
    long_text = "Patient SECRET-7 is locked\r\n\x07" + "x" * 1000
    with http(text_answer(403, long_text, "text/plain", Warning='299 pacs "quota\x1b[31m"')) as peer:
        (sent,) = send(link(peer), [Outgoing.of(a_file())])
        with pytest.raises(ArchiveUnreachable) as refused:
            confirm_by_query(link(peer), [instance_ref(a_file())])
    for comment in (sent.comment, refused.value.comment):
        assert comment.startswith('299 pacs "quota [31m" Patient SECRET-7 is locked xxx')
        assert len(comment) == 300
    assert "SECRET" not in f"{sent.error} {refused.value}"


@pytest.mark.parametrize(
    ("status", "error", "word"),
    [
        (500, ArchiveUnreachable, "try again"),
        (503, ArchiveUnreachable, "try again"),
        (429, ArchiveUnreachable, "try again"),
        (401, ArchiveUnreachable, "token_env"),
        (403, ArchiveUnreachable, "rights"),
        (404, ArchiveUnreachable, "address"),
        (400, ArchiveRefused, "log"),
        (413, ArchiveRefused, "log"),
        (415, ArchiveRefused, "log"),
    ],
)
def test_each_http_status_says_whether_to_try_again_and_what_to_do(status: int, error: type, word: str) -> None:
    reference = instance_ref(a_file())
    with http(always(status)) as peer:
        (sent,) = send(link(peer), [Outgoing.of(a_file())])
        with pytest.raises(error, match=word):
            confirm_by_query(link(peer), [reference])
    assert isinstance(sent.error, error)
    assert word in str(sent.error)


def test_a_redirect_is_not_followed() -> None:
    asked = []

    def elsewhere(request: BaseHTTPRequestHandler) -> None:
        asked.append(request.path)
        said(request, 302, Location="/other")

    with http(elsewhere) as peer:
        (sent,) = send(link(peer), [Outgoing.of(a_file())])
    assert "redirects" in str(sent.error)
    assert len(asked) == 1


# Slow, broken, absent


def test_nobody_there_is_tried_again() -> None:
    peer = web_peer(f"http://127.0.0.1:{free_port()}/dicom-web")
    (sent,) = send(link(peer), [Outgoing.of(a_file())])
    assert isinstance(sent.error, ArchiveUnreachable)


def test_an_archive_that_never_answers_is_left_at_the_time_limit() -> None:
    hang = threading.Event()
    with http(lambda _: hang.wait(120)) as peer:  # type: ignore[arg-type]
        started = time.monotonic()
        with pytest.raises(ArchiveUnreachable):
            list(WebArchive(link(peer, 0.5)).studies(EVER, Deadline.within(30)))
        hang.set()
    assert time.monotonic() - started < 28


def drip(request: BaseHTTPRequestHandler) -> None:
    request.send_response(200)
    request.send_header("Content-Type", "application/dicom+json")
    request.end_headers()
    for _ in range(1200):
        request.wfile.write(b" ")
        request.wfile.flush()
        time.sleep(0.05)


def test_an_answer_that_drips_is_left_at_the_deadline() -> None:
    with http(drip) as peer:
        started = time.monotonic()
        with pytest.raises(ArchiveUnreachable, match="time limit"):
            list(WebArchive(link(peer)).studies(EVER, Deadline.within(0.7)))
    assert time.monotonic() - started < 40


def test_a_request_may_take_longer_than_an_answer() -> None:
    big = a_file(rows=4096)
    with http(always(200, {}), pause_s=0.25) as peer:
        started = time.monotonic()
        (sent,) = send(link(peer, 6.0), [Outgoing.of(big)])
    assert sent.error is None
    assert time.monotonic() - started > 7.2


def test_an_answer_without_end_is_left_at_its_bound() -> None:
    def endless(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        while True:
            request.wfile.write(b" " * 65_536)

    with http(endless) as peer, pytest.raises(ArchiveUnreachable, match="longer than"):
        list(WebArchive(link(peer)).studies(EVER, Deadline()))


@pytest.mark.parametrize("cut", [10, 200, 700])
def test_a_series_that_breaks_off_is_no_series(cut: int, tmp_path: Path) -> None:
    content = a_file()
    body = Body((content, content), "edge")
    whole = b"".join(body)

    def broken(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Type", body.content_type)
        request.end_headers()
        request.wfile.write(whole[:cut])

    with http(broken) as peer, pytest.raises(ArchiveUnreachable):
        WebArchive(link(peer)).fetch(series_of(content), tmp_path, Deadline())


def test_an_instance_that_comes_without_multipart_is_taken(tmp_path: Path) -> None:
    content = a_file()

    def bare(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Type", "application/dicom")
        request.end_headers()
        request.wfile.write(content)

    with http(bare) as peer:
        WebArchive(link(peer)).fetch(series_of(content), tmp_path, Deadline())
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [content]


def test_no_error_names_the_patient_that_was_asked_for() -> None:
    dead = web_peer(f"http://127.0.0.1:{free_port()}/dicom-web")
    for answer in (always(500), always(404), always(302, Location="/x"), always(200, {"a": 1}), drip):
        with http(answer) as peer:
            for error in filter(None, (failure(peer), failure(dead))):
                assert PATIENT.patient_id not in str(error)
                assert error.__cause__ is None
                assert error.__suppress_context__ or not error.__context__
    assert PATIENT.patient_id not in repr(EVER)


def failure(peer: Peer) -> Exception | None:
    try:
        list(WebArchive(link(peer, 0.3)).studies(EVER, Deadline.within(0.3)))
    except (ArchiveUnreachable, ArchiveRefused) as error:
        return error
    return None


# Pages


def paged(
    total: int, most: int | None, *, ignore_offset: bool = False, refused: Refusal = lambda _: False, status: int = 400
) -> Answer:
    """Answer with the studies of a page; `most` is the server's own limit, a `refused` query is answered `status`."""
    studies = [{"0020000D": {"vr": "UI", "Value": [f"1.2.{number}"]}} for number in range(total)]

    def answer(request: BaseHTTPRequestHandler) -> None:
        query = dict(pair.split("=") for pair in request.path.partition("?")[2].split("&") if "=" in pair)
        if refused(query):
            said(request, status, "no")
            return
        offset = 0 if ignore_offset else int(query.get("offset", 0))
        limit = min(int(query.get("limit", total)), most or total)
        said(request, 200, studies[offset : offset + limit])

    return answer


def listed(peer: Peer) -> list[str]:
    return [one.study_instance_uid for one in WebArchive(link(peer)).studies(EVER, Deadline())]


@pytest.mark.parametrize(
    ("total", "most", "ignore_offset"),
    [(0, None, False), (7, 3, False), (10_000, None, False), (700, 700, True), (7, None, True), (1, 1, False)],
)
def test_every_page_is_read_and_each_study_counts_once(total: int, most: int | None, *, ignore_offset: bool) -> None:
    with http(paged(total, most, ignore_offset=ignore_offset)) as peer:
        found = listed(peer)
    assert len(found) == len(set(found)) == total


@pytest.mark.parametrize(
    "refused",
    [
        lambda query: int(query.get("limit", 0)) > 200,
        lambda query: int(query.get("limit", 0)) > 30,
        lambda query: int(query.get("limit", 0)) > 1,
        lambda query: "limit" in query,
        lambda query: "includefield" in query,
        lambda query: {"includefield", "limit"} & query.keys(),
    ],
)
def test_a_server_that_refuses_a_page_gets_a_smaller_question(refused: Refusal) -> None:
    with http(paged(47, None, refused=refused)) as peer:
        assert len(listed(peer)) == 47


@pytest.mark.parametrize("status", [400, 413, 414, 500, 501])
def test_a_server_that_fails_at_a_page_gets_a_smaller_question(status: int) -> None:
    refused: Refusal = lambda query: int(query.get("limit", 1000)) > 30  # noqa: E731 - typed
    with http(paged(47, None, refused=refused, status=status)) as peer:
        assert len(listed(peer)) == 47


@pytest.mark.parametrize("status", [400, 404, 416, 500])
@pytest.mark.parametrize("total", [100, 250])
def test_a_server_that_knows_no_offset_is_asked_for_everything(total: int, status: int) -> None:
    def refused(query: dict[str, str]) -> bool:
        return int(query.get("offset", 0)) >= (total if status in {404, 416} else 1)

    with http(paged(total, None, refused=refused, status=status)) as peer:
        assert len(listed(peer)) == total


STUDIES: list[dict[str, object]] = [{"0020000D": {"vr": "UI", "Value": [f"1.2.{number}"]}} for number in range(3)]
FORMS = {
    "parts in XML": (
        'multipart/related; type="application/dicom+xml"; boundary=edge',
        "".join(f"--edge\r\n\r\n{xml_of(study).decode()}\r\n" for study in STUDIES) + "--edge--\r\n",
    ),
    "a part in JSON": (
        'multipart/related; type="application/dicom+json"; boundary=edge',
        f"--edge\r\n\r\n{json.dumps(STUDIES)}\r\n--edge--\r\n",
    ),
    "no part": ('multipart/related; type="application/dicom+xml"; boundary=edge', "--edge--\r\n"),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("accepted", ["json", "xml"])
def test_a_search_is_understood_in_every_form_that_servers_answer(form: str, accepted: str) -> None:
    content_type, content = FORMS[form]

    def answer(request: BaseHTTPRequestHandler) -> None:
        status = 200 if accepted in request.headers["Accept"] else 406
        text_answer(status, content if status == 200 else "", content_type)(request)

    with http(answer) as peer:
        assert listed(peer) == ([] if form == "no part" else ["1.2.0", "1.2.1", "1.2.2"])


def test_a_character_that_is_no_utf_8_costs_no_match() -> None:
    content = b'[{"0020000D": {"vr": "UI", "Value": ["1.2.3"]}, "00081030": {"vr": "LO", "Value": ["gr\xf6\xdfer"]}}]'
    assert [text(dataset, "StudyInstanceUID") for dataset in datasets_of(content, "application/dicom+json")] == [
        "1.2.3"
    ]


@pytest.mark.parametrize("page", ["<html><body/></html>", "<!DOCTYPE html><html/>", "3", "no"])
def test_a_page_that_holds_no_data_set_is_no_answer_to_a_search(page: str) -> None:
    with http(text_answer(200, page, "text/html")) as peer, pytest.raises(ArchiveUnreachable, match="understood"):
        listed(peer)


@pytest.mark.parametrize("most", [None, 20])
def test_a_server_that_refuses_the_offset_behind_its_last_page_has_answered(most: int | None) -> None:
    with http(paged(13, most, refused=lambda query: "offset" in query)) as peer:
        assert len(listed(peer)) == 13


def test_a_server_that_ignores_limit_and_offset_is_asked_once_more_at_most() -> None:
    asked: list[str] = []
    answer = paged(100, 100, ignore_offset=True)
    with http(lambda request: (asked.append(request.path), answer(request))[-1]) as peer:
        assert len(listed(peer)) == 100
    assert len(asked) == 3


def test_a_server_that_refuses_every_question_is_an_error() -> None:
    with http(always(400, "no")) as peer, pytest.raises(ArchiveRefused):
        listed(peer)


# Documents that are not where they were sent


def instances_answer(*uids: str, series_status: int = 200) -> Answer:
    """Answer a search in a series with nothing and a status, and a search by SOP Instance UID with what is held."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        path, _, query = request.path.partition("?")
        if path.endswith("/dicom-web/instances"):
            matching = [uid for uid in uids if f"SOPInstanceUID={uid}" in query]
            said(request, 200, [{"00080018": {"vr": "UI", "Value": [uid]}} for uid in matching])
        else:
            said(request, series_status, [])

    return answer


@pytest.mark.parametrize("series_status", [200, 204, 404])
def test_an_instance_under_another_study_is_found_by_its_own_uid(series_status: int) -> None:
    moved, absent = instance_ref(a_file()), instance_ref(a_file())
    with http(instances_answer(moved.sop_instance_uid, series_status=series_status)) as peer:
        assert confirm_by_query(link(peer), [moved, absent]) == {moved.sop_instance_uid}


@pytest.mark.parametrize("status", [400, 404, 500, 501])
def test_an_archive_that_searches_in_one_series_at_a_time_lists_what_it_has(status: int) -> None:
    kept, absent = instance_ref(a_file()), instance_ref(a_file())

    def answer(request: BaseHTTPRequestHandler) -> None:
        if "/series/" not in request.path:
            said(request, status)
        elif kept.series_instance_uid in request.path:
            said(request, 200, [{"00080018": {"vr": "UI", "Value": [kept.sop_instance_uid]}}])
        else:
            said(request, 200, [])

    with http(answer) as peer:
        assert confirm_by_query(link(peer), [kept, absent]) == {kept.sop_instance_uid}


def test_an_archive_that_ignores_the_filter_confirms_nothing() -> None:
    other = {"00080018": {"vr": "UI", "Value": ["1.2.3"]}}

    def answer(request: BaseHTTPRequestHandler) -> None:
        said(request, 200, [] if "/series/" in request.path else [other] * 100)

    with http(answer) as peer:
        assert confirm_by_query(link(peer), [instance_ref(a_file())]) == frozenset()


# Credentials


def test_basic_and_bearer_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_USER", "ada")
    monkeypatch.setenv("A_PASSWORD", "pässwörd Ω")
    monkeypatch.setenv("A_TOKEN", "abc.def")
    seen = []

    def note(request: BaseHTTPRequestHandler) -> None:
        seen.append(request.headers["Authorization"])
        said(request, 200, {})

    with http(note) as peer:
        basic = peer.model_copy(update={"user_env": "A_USER", "password_env": "A_PASSWORD"})
        bearer = peer.model_copy(update={"token_env": "A_TOKEN"})
        for one in (peer, basic, bearer):
            send(link(one), [Outgoing.of(a_file())])
    assert seen[0] is None
    assert b64decode(seen[1].removeprefix("Basic ")).decode() == "ada:pässwörd Ω"
    assert seen[2] == "Bearer abc.def"


def test_a_credential_that_is_not_in_the_environment_is_a_configuration_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_TOKEN", raising=False)
    peer = web_peer("http://127.0.0.1:1/dicom-web").model_copy(update={"token_env": "NO_TOKEN"})
    with pytest.raises(ConfigError, match="NO_TOKEN"):
        credentials(peer)


def test_tls_is_trusted_by_the_configured_certificates_only(tmp_path: Path) -> None:
    both = certificate(tmp_path)
    with http(always(200, {}), both) as peer:
        (refused,) = send(link(peer), [Outgoing.of(a_file())])
        trusted = peer.model_copy(update={"ca_file": str(tmp_path / "certificate.pem")})
        (sent,) = send(link(trusted), [Outgoing.of(a_file())])
    assert isinstance(refused.error, ArchiveUnreachable)
    assert "ca_file" in str(refused.error)
    assert sent.error is None


@pytest.mark.parametrize(
    "address", ["ftp://host/x", "https://user:secret@host/x", "https://host/x?key=secret", "host/x", "https://"]
)
def test_an_address_with_a_secret_in_it_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="dicomweb"):
        web_peer(address)


def test_check_asks_a_web_archive_and_names_what_is_missing(
    archive: tuple[Orthanc, Peer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_TOKEN", raising=False)
    dead = web_peer(f"http://127.0.0.1:{free_port()}/dicom-web").model_copy(update={"name": "dead"})
    secret = archive[1].model_copy(update={"name": "secret", "token_env": "NO_TOKEN"})
    lines = check_lines(Settings(peers=(archive[1], web_peer(archive[1].dicomweb), dead, secret)))
    state = {what: (state, remedy) for what, state, remedy in lines if what.startswith("peer")}
    assert [one for one, _ in state.values()] == ["ready", "ready", "not ready", "not ready"]
    assert "NO_TOKEN" in state["peer secret"][1]


# The multipart message itself


@given(contents=st.lists(st.binary(max_size=200), max_size=4), size=st.integers(1, 90))
def test_parts_are_the_same_however_the_message_is_cut_into_blocks(contents: list[bytes], size: int) -> None:
    body = Body(tuple(contents), "b")
    whole = b"".join(body)
    assert len(whole) == len(body)
    assert boundary_of(body.content_type) == b"b"
    clean = not any(b"\r\n--b" in one for one in contents)
    blocks = (whole[at : at + size] for at in range(0, len(whole), size))
    if clean:
        assert [b"".join(part) for part in parts(blocks, b"b")] == contents


def test_a_part_that_nobody_reads_is_skipped() -> None:
    blocks = iter([b"preamble\r\n--b\r\n\r\none\r\n--b\r\nX: y\r\n\r\ntwo\r\n--b--"])
    assert len(list(parts(blocks, b"b"))) == 2


# The whole way


def test_the_node_delivers_by_stow_and_confirms_by_qido(archive: tuple[Orthanc, Peer], tmp_path: Path) -> None:
    server, peer = archive
    web = web_peer(peer.dicomweb)
    image = testing.noise(512, 512, seed=5, SeriesDescription="read", BodyPartExamined="TSPINE")
    paths = testing.write([image], tmp_path / "s", study="web")
    study = testing.uid("web")
    with running(configured(tmp_path / "node", peers=[web])) as node:
        store.send(Link(node.peer, "MODALITY"), [Outgoing.of(path) for path in paths])
        _, deliveries = node.read(study)
    assert {one.state for one in deliveries} == {DeliveryState.CONFIRMED}
    assert {one.proof for one in deliveries} == {"query"}
    assert server.instances_of(study).keys() == {one.document.ref.sop_instance_uid for one in deliveries}
