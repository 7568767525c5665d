"""What a hostile archive may do to the node, its client: each call ends as an `ArchiveError`, soon and small."""

import shutil
import socket
import threading
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import date
from pathlib import Path

import pytest
from support import a_file, instance_ref
from support.web_archives import http, said, web_peer

from ainode.node.archive import orthanc, stow
from ainode.node.archive.dicomweb import WebArchive
from ainode.node.archive.paced import pool_classes
from ainode.node.archive.qido import confirm_by_query, instance_uids
from ainode.node.archive.search import Deadline, SeriesEntry, StudyQuery
from ainode.node.archive.store import Outgoing
from ainode.node.archive.web import WebLink
from ainode.node.domain import UID, Patient
from ainode.node.errors import ArchiveError, ArchiveUnreachable, OutOfResources
from ainode.node.settings import Peer

QUERY = StudyQuery(Patient("SECRET-7", "", "19500101"), date(2000, 1, 1), date(2026, 1, 1), ("CT",))
SERIES = SeriesEntry(UID("1.2.3"), UID("1.2.3.1"), "CT")
OK = b"HTTP/1.1 200 OK\r\n"
JSON = OK + b"Content-Type: application/dicom+json\r\n"
XML = OK + b"Content-Type: application/dicom+xml\r\n"
MULTIPART = OK + b'Content-Type: multipart/related; type="application/dicom"; boundary=b0\r\n'
# Of a list of empty objects in 50 MB; without a limit they take 1.2 GB.
MAX_BYTES = 300 << 20
Behavior = Callable[[socket.socket], None]


@contextmanager
def archive(behavior: Behavior) -> Iterator[str]:
    """Run a server that answers each request by the behavior; yield its address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()

        def answer(line: socket.socket) -> None:
            with line, suppress(OSError):
                line.recv(1 << 20)
                behavior(line)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def dripping(begin: bytes, drop: bytes = b"a") -> Behavior:
    """Send the beginning, then a drop now and then, without end."""

    def behavior(line: socket.socket) -> None:
        line.sendall(begin)
        while True:
            line.sendall(drop)
            time.sleep(0.1)

    return behavior


def endless(begin: bytes, piece: bytes) -> Behavior:
    def behavior(line: socket.socket) -> None:
        line.sendall(begin)
        while True:
            line.sendall(piece)

    return behavior


def whole(head: bytes, body: bytes = b"", length: int | None = None) -> Behavior:
    size = len(body) if length is None else length
    return lambda line: line.sendall(head + b"Content-Length: %d\r\n\r\n" % size + body)


def packed(times: int, content: bytes = bytes(200 << 20)) -> bytes:
    for _ in range(times):
        packer = zlib.compressobj(wbits=31)
        content = packer.compress(content) + packer.flush()
    return content


CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
ANSWERS: dict[str, Behavior] = {
    "a dripping status": dripping(b"HTTP/1.1 200 "),
    "a dripping header": dripping(OK + b"X: "),
    "continue without end": endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "continue that drips": dripping(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "a dripping size of a chunk": dripping(JSON + CHUNKED, b"0"),
    "a dripping extension of a chunk": dripping(JSON + CHUNKED + b"5;"),
    "a dripping trailer": dripping(JSON + CHUNKED + b"0\r\nX: "),
    "a dripping body": dripping(JSON + b"\r\n"),
    "a body without end": endless(JSON + b"\r\n", b" " * 65_536),
    "chunks without end": endless(JSON + CHUNKED, b"10000\r\n" + b" " * 65_536 + b"\r\n"),
    "headers without end": endless(OK, b"X: a\r\n"),
    "a header of 1 MB": endless(OK + b"X: ", b"a" * 65_536),
    "no HTTP": whole(b"SSH-2.0-OpenSSH\r\n"),
    "gzip of 200 MB": whole(JSON + b"Content-Encoding: gzip\r\n", packed(1)),
    "gzip in gzip": whole(JSON + b"Content-Encoding: gzip, gzip\r\n", packed(2)),
    "more encodings than sense": whole(JSON + b"Content-Encoding: " + b"gzip," * 200 + b"gzip\r\n", b"a"),
    "a longer length than body": whole(JSON, b"[]", length=100),
    "a negative length": whole(JSON, b"[", length=-1),
    "nested JSON": whole(JSON, b"[" * 200_000),
    "nested JSON objects": whole(JSON, b'{"a":' * 10_000 + b"1" + b"}" * 10_000),
    "a number of 10,000 digits": whole(JSON, b'{"00080020": {"Value": [' + b"9" * 10_000 + b"]}}"),
    "17 million empty objects": whole(JSON, b"[" + b"{}," * (17 << 20) + b"{}]"),
    "nested XML": whole(XML, nested := b"<DicomAttribute><Item>" * 50_000),
    "closed nested XML": whole(
        XML, b"<NativeDicomModel>" + nested + b"</Item></DicomAttribute>" * 50_000 + b"</NativeDicomModel>"
    ),
    "17 million empty elements": whole(XML, b"<NativeDicomModel>" + b"<a/>" * (15 << 20) + b"</NativeDicomModel>"),
    "entities": whole(XML, b'<!DOCTYPE a [<!ENTITY b "bbbbbbbb">]><NativeDicomModel>&b;</NativeDicomModel>'),
    "parts without end": endless(MULTIPART + b"\r\n", b"--b0\r\n\r\n{}\r\n"),
}


def link(address: str, timeout_s: float = 30.0) -> WebLink:
    return WebLink(web_peer(f"{address}/dicom-web"), timeout_s)


@pytest.mark.parametrize("answer", ANSWERS)
def test_a_search_at_a_hostile_archive_ends_soon_and_in_bounded_memory(answer: str) -> None:
    is_endless = "drip" in answer or "without end" in answer
    with archive(ANSWERS[answer]) as address:
        begin = time.monotonic()
        web = WebArchive(link(address, 1.0))
        tracemalloc.start()
        try:
            with pytest.raises(ArchiveError) as caught:
                list(web.studies(QUERY, Deadline.within(1.0 if is_endless else 60.0)))
            peak_bytes = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert "SECRET" not in str(caught.value)
    assert peak_bytes < MAX_BYTES
    assert time.monotonic() - begin < 60


def test_an_archive_that_takes_a_request_in_drops_is_left() -> None:
    connection = pool_classes(0.1, None)["http"].ConnectionCls("archive")
    connection.sock, archive_socket = socket.socketpair()
    connection.putrequest("POST", "/studies")

    def send_drops() -> None:
        begin = time.monotonic()
        while time.monotonic() - begin < 60:
            connection.send(b"-")
            time.sleep(0.02)

    with archive_socket, closing(connection), pytest.raises(TimeoutError, match="too slowly"):
        send_drops()


ORTHANC_ANSWERS = {name: ANSWERS[name] for name in ("a body without end", "nested JSON", "17 million empty objects")}


@pytest.mark.parametrize("answer", ORTHANC_ANSWERS)
def test_the_list_of_a_hostile_orthanc_is_bounded_although_its_files_are_not(answer: str) -> None:
    with archive(ORTHANC_ANSWERS[answer]) as address:
        rest = WebLink(Peer(name="rest", deliver="orthanc", orthanc=address), 1.0)
        tracemalloc.start()
        try:
            with pytest.raises(ArchiveUnreachable), orthanc.pull_session(rest) as session:
                session.instances(UID("1.2.3"))
            peak_bytes = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak_bytes < MAX_BYTES


# Where an archive points


@contextmanager
def trap() -> Iterator[tuple[str, list[bytes]]]:
    """Run a server that nobody may ever call; yield its address and what callers sent."""
    requests: list[bytes] = []

    def note(line: socket.socket) -> None:
        requests.append(b"called")
        line.sendall(JSON + b"Content-Length: 2\r\n\r\n[]")

    with archive(note) as address:
        yield address, requests


def test_no_redirect_is_followed_and_none_is_read_without_end() -> None:
    with trap() as (inside, requests):
        redirect = b"HTTP/1.1 302 Found\r\nLocation: %s/admin\r\n\r\n" % inside.encode()
        with archive(endless(redirect, b" " * 65_536)) as address:
            tracemalloc.start()
            for call in (
                lambda: list(WebArchive(link(address)).studies(QUERY, Deadline.within(60.0))),
                lambda: WebArchive(link(address)).fetch(SERIES, Path("/nonexistent"), Deadline.within(60.0)),
            ):
                with pytest.raises(ArchiveUnreachable, match="redirects"):
                    call()
            peak_bytes = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
    assert requests == []
    assert peak_bytes < 2 << 20


def test_no_address_in_an_answer_is_called() -> None:
    content = a_file()
    document = Outgoing.of(content)
    with trap() as (inside, requests):
        url = {"vr": "UR", "Value": [f"{inside}/studies/1/series/2/instances/3"]}
        item = {"00081155": {"vr": "UI", "Value": ["9.9"]}, "00081190": url}
        answer = {
            "00081190": url,
            "00081199": {"vr": "SQ", "Value": [item]},
            "0020000D": {"vr": "UI", "Value": ["1.2"]},
        }
        with http(lambda request: said(request, 200, [answer])) as peer:
            web = WebLink(peer, 30.0)
            (outcome,) = stow.send(web, [document])
            assert list(WebArchive(web).studies(QUERY, Deadline.within(60.0)))
            confirm_by_query(web, [instance_ref(content)])
    assert outcome.status is None
    assert requests == []


def test_the_path_of_an_orthanc_names_no_other_server() -> None:
    with trap() as (inside, requests):
        entry = {"Type": "Study", "Path": f"@{inside.removeprefix('http://')}/studies/1", "ID": "1"}
        with http(lambda request: said(request, 200, [entry])) as peer:
            rest = Peer(name="rest", deliver="orthanc", orthanc=peer.dicomweb.removesuffix("/dicom-web"))
            with pytest.raises(ArchiveUnreachable), orthanc.pull_session(WebLink(rest, 30.0)) as session:
                session.remove(UID("1.2.3"))
    assert requests == []


# Answers that have the form of an answer


def test_a_failure_reason_of_ten_thousand_digits_is_a_failure() -> None:
    document = Outgoing.of(a_file())
    reason = {"vr": "US", "Value": ["9" * 10_000]}
    item = {"00081155": {"vr": "UI", "Value": [document.sop_instance_uid]}, "00081197": reason}
    answer = {"00081198": {"vr": "SQ", "Value": [item]}}
    with http(lambda request: said(request, 409, answer)) as peer:
        (outcome,) = stow.send(WebLink(peer, 30.0), [document])
    assert isinstance(outcome.error, ArchiveError)


@pytest.mark.parametrize("count", ["9" * 10_000, "-1", "\u0663", [], {"a": 1}, 1e308])
def test_a_hostile_number_of_instances_is_no_number(count: object) -> None:
    series = {"0020000E": {"vr": "UI", "Value": ["1.2.3.1"]}, "00201209": {"vr": "IS", "Value": [count]}}
    with http(lambda request: said(request, 200, [series])) as peer:
        (entry,) = WebArchive(WebLink(peer, 30.0)).series(UID("1.2.3"), Deadline.within(60.0))
    assert entry.instance_count is None


def test_pages_that_bring_a_single_new_match_each_do_not_go_on_without_end() -> None:
    pages = []

    def page(request: object) -> None:
        pages.append(1)
        number = len(pages)
        uids = [f"1.2.{number + 100 if index == 0 else index}" for index in range(100)]
        said(request, 200, [{"00080018": {"vr": "UI", "Value": [uid]}} for uid in uids])  # type: ignore[arg-type]

    with http(page) as peer, pytest.raises(ArchiveUnreachable, match="repeats itself"):
        list(instance_uids(WebLink(peer, 30.0), UID("1.2.3")))
    assert len(pages) < 20


SERIES_ANSWERS: dict[str, Behavior] = {
    "a file without end": endless(MULTIPART + b"\r\n--b0\r\n\r\n", bytes(1 << 20)),
    "files without end": endless(MULTIPART + b"\r\n", b"--b0\r\n\r\nDICM\r\n"),
    "a preamble without end": endless(MULTIPART + b"\r\n", bytes(1 << 20)),
    "header lines without end": endless(MULTIPART + b"\r\n--b0\r\n", b"X: a\r\n" * 1_000),
    "gzip": endless(MULTIPART + b"Content-Encoding: gzip\r\n\r\n", packed(1)),
}


@pytest.mark.parametrize("answer", SERIES_ANSWERS)
def test_a_series_without_end_fills_no_disk(answer: str, tmp_path: Path) -> None:
    min_free_bytes = shutil.disk_usage(tmp_path).free - (256 << 20)
    with archive(SERIES_ANSWERS[answer]) as address, pytest.raises((ArchiveError, OutOfResources)):
        WebArchive(link(address, 1.0), min_free_bytes=min_free_bytes).fetch(SERIES, tmp_path, Deadline.within(1.5))
    sizes = [path.stat().st_size for path in tmp_path.iterdir()]
    assert sum(sizes) <= 512 << 20
    assert len(sizes) <= 100_000
