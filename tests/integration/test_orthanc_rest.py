"""Documents into an Orthanc by its own REST interface: Debian's, and servers that answer as a test says."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from pydicom.uid import generate_uid
from support import Orthanc, a_file, free_port, instance_ref, orthanc
from support.node import RunningNode, configured, running
from support.web_archives import Answer, certificate, http, said

from ainode.node import testing
from ainode.node.archive import store
from ainode.node.archive.delivery import transport
from ainode.node.archive.dimse import Link
from ainode.node.archive.orthanc import Orthanc as OrthancSession
from ainode.node.archive.orthanc import confirm_by_query, send
from ainode.node.archive.store import Outgoing
from ainode.node.archive.web import ServerFailed, WebLink
from ainode.node.diagnosis.advice import advice, problems
from ainode.node.diagnosis.checks import check_lines
from ainode.node.diagnosis.doctor import examine
from ainode.node.domain import UID, DeliveryState
from ainode.node.errors import ArchiveRefused, ArchiveUnreachable, NotSent
from ainode.node.keeping.records import Delivery
from ainode.node.settings import NodeTable, Peer, Settings


def rest_peer(address: str, **keys: object) -> Peer:
    """Return a peer that is reached by Orthanc's REST interface alone."""
    return Peer.model_validate({"name": "rest", "deliver": "orthanc", "orthanc": address, **keys})


def peer_of(server: Orthanc, **keys: object) -> Peer:
    return rest_peer(f"http://127.0.0.1:{server.http_port}", **keys)


def link(peer: Peer, timeout_s: float = 30.0) -> WebLink:
    return WebLink(peer, timeout_s, 1 << 20)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    with orthanc(tmp_path_factory.mktemp("orthanc")) as server:
        yield server


# A real Orthanc


def test_documents_are_stored_byte_for_byte_and_found_again(archive: Orthanc, tmp_path: Path) -> None:
    study, rest = generate_uid(prefix=None), transport(peer_of(archive), "AINODE")
    contents = [a_file(study=study, series=f"{study}.1") for _ in range(3)]
    on_disk = tmp_path / "one.dcm"
    on_disk.write_bytes(contents[0])
    sent = rest.send([Outgoing.of(on_disk), *(Outgoing.of(one) for one in contents[1:])])
    assert [(one.status, one.error) for one in sent] == [(0, None)] * 3
    never_sent = instance_ref(a_file(study=study, series=f"{study}.1"))
    refs = [instance_ref(one) for one in contents]
    assert rest.confirm_by_query([*refs, never_sent]) == {one.sop_instance_uid for one in refs}
    stored = archive.instances_of(study)
    assert [archive.download(stored[one.sop_instance_uid]) for one in refs] == contents


def test_a_client_of_other_makers_finds_the_same_bytes_and_the_same_archive(archive: Orthanc) -> None:
    import orthanc_rest_client

    study = generate_uid(prefix=None)
    content = a_file(study=study, series=f"{study}.1")
    (outcome,) = send(link(peer_of(archive)), [Outgoing.of(content)])
    assert outcome.error is None
    client = orthanc_rest_client.Orthanc(peer_of(archive).orthanc, warn_insecure=False)
    (entry,) = client.find({"Level": "Instance", "Expand": True, "Query": {"StudyInstanceUID": study}})
    assert entry["MainDicomTags"]["SOPInstanceUID"] == outcome.sop_instance_uid
    assert b"".join(client.get_instance_file(entry["ID"])) == content
    with link(peer_of(archive)).session("GET /system") as session:
        assert OrthancSession(link(peer_of(archive)), session).version() == client.get_system()["Version"]


def test_what_is_there_already_is_delivered(archive: Orthanc) -> None:
    documents = [Outgoing.of(a_file(study=generate_uid(prefix=None)))]
    again = [send(link(peer_of(archive)), documents)[0] for _ in range(2)]
    assert [(one.status, one.error) for one in again] == [(0x0000, None), (0x0111, None)]


def test_a_refused_document_does_not_hold_the_others_back(archive: Orthanc) -> None:
    good = a_file(study=generate_uid(prefix=None))
    broken = Outgoing.of(a_file())
    cut = Outgoing(broken.sop_class_uid, broken.sop_instance_uid, broken.transfer_syntax_uid, b"DICM", 0)
    refused, sent = send(link(peer_of(archive)), [cut, Outgoing.of(good)])
    assert isinstance(refused.error, ArchiveRefused)
    assert (refused.status, refused.error.archive_status) == (400, 400)
    assert broken.sop_instance_uid in str(refused.error)
    assert (sent.status, sent.error) == (0, None)


def test_a_document_that_a_filter_rejects_is_refused_though_the_answer_is_ok(tmp_path: Path) -> None:
    script = tmp_path / "filter.lua"
    script.write_text("function ReceivedInstanceFilter(dicom, origin) return false end", encoding="ascii")
    with orthanc(tmp_path / "archive", LuaScripts=[str(script)]) as server:
        (sent,) = send(link(peer_of(server)), [Outgoing.of(a_file())])
    assert isinstance(sent.error, ArchiveRefused)
    assert "FilteredOut" in str(sent.error)


def test_a_full_orthanc_is_tried_again(tmp_path: Path) -> None:
    with orthanc(tmp_path, MaximumStorageSize=1) as server:
        (sent,) = send(link(peer_of(server)), [Outgoing.of(a_file(rows=1024))])
    assert isinstance(sent.error, ArchiveUnreachable)


def test_a_password_is_asked_for_and_a_wrong_one_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_USER", "ada")
    monkeypatch.setenv("A_PASSWORD", "right")
    keys = {"user_env": "A_USER", "password_env": "A_PASSWORD"}
    document = Outgoing.of(a_file())
    reference = instance_ref(document.content)
    with orthanc(tmp_path, AuthenticationEnabled=True, RegisteredUsers={"ada": "right"}) as server:
        peer = peer_of(server, **keys)
        assert send(link(peer), [document])[0].error is None
        assert confirm_by_query(link(peer), [reference]) == {reference.sop_instance_uid}
        monkeypatch.setenv("A_PASSWORD", "wrong")
        for refused in (peer, peer_of(server)):
            (sent,) = send(link(refused), [document])
            assert isinstance(sent.error, ArchiveUnreachable)
            assert "user_env" in str(sent.error)
            with pytest.raises(ArchiveUnreachable, match="user_env"):
                confirm_by_query(link(refused), [reference])
        lines = {what: remedy for what, _, remedy in check_lines(Settings(peers=(peer,)))}
        assert "user_env" in lines["peer rest"]


def test_hundreds_of_objects_pass_in_the_memory_of_one_block(archive: Orthanc, tmp_path: Path) -> None:
    for number in range(40):
        (tmp_path / f"{number}.dcm").write_bytes(a_file(study=generate_uid(prefix=None), rows=1024))
    documents = [Outgoing.of(path) for path in tmp_path.iterdir()]
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = most_resident_kib()
    assert not [one for one in send(link(peer_of(archive), 60.0), documents) if one.error]
    # 80 MiB went through
    assert most_resident_kib() - before < 10 * 1024


def most_resident_kib() -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if "VmHWM" in line)


# Slow, broken, absent, another server


@contextmanager
def serving(answer: Answer, both: Path | None = None) -> Iterator[Peer]:
    with http(answer, both) as peer:
        yield rest_peer(peer.dicomweb.replace("dicom-web", "orthanc"))


def always(status: int, body: object = None) -> Answer:
    return lambda request: said(request, status, body)


STORED = {"Status": "Success", "ID": "x"}


def test_nobody_there_is_tried_again() -> None:
    peer = rest_peer(f"http://127.0.0.1:{free_port()}")
    sent = send(link(peer), [Outgoing.of(a_file()) for _ in range(2)])
    assert {type(one.error) for one in sent} == {NotSent}
    with pytest.raises(ArchiveUnreachable):
        confirm_by_query(link(peer), [instance_ref(a_file())])


def test_an_orthanc_that_never_answers_is_asked_once_and_the_rest_is_left_to_a_retry() -> None:
    hang, asked = threading.Event(), []

    def silent(request: BaseHTTPRequestHandler) -> None:
        asked.append(request.path)
        hang.wait(120)

    with serving(silent) as peer:
        started = time.monotonic()
        sent = send(link(peer, 0.5), [Outgoing.of(a_file()) for _ in range(3)])
        hang.set()
    assert time.monotonic() - started < 60
    assert asked == ["/orthanc/instances"]
    assert {type(one.error) for one in sent} == {ArchiveUnreachable}


def test_each_document_has_an_outcome_of_its_own() -> None:
    answers = iter([(200, STORED), (500, None), (200, {"Status": "Failure"}), (413, None), (200, STORED)])
    with serving(lambda request: said(request, *next(answers))) as peer:
        sent = send(link(peer), [Outgoing.of(a_file()) for _ in range(5)])
    assert [one.status for one in sent] == [0, 500, 0x0110, 413, 0]
    errors = [type(one.error) if one.error else None for one in sent]
    assert errors == [None, ServerFailed, ArchiveUnreachable, ArchiveRefused, None]


@pytest.mark.parametrize("body", [None, [], {}, "<html>", [STORED], {"Version": 3}])
def test_an_answer_that_no_orthanc_gives_is_not_believed(body: object) -> None:
    with serving(always(200, body)) as peer:
        (sent,) = send(link(peer), [Outgoing.of(a_file())])
        assert isinstance(sent.error, ArchiveUnreachable)
    with serving(always(200, body or {"a": 1})) as peer, pytest.raises(ArchiveUnreachable):
        confirm_by_query(link(peer), [instance_ref(a_file())])


@pytest.mark.parametrize(
    ("status", "error", "word"),
    [
        (503, ArchiveUnreachable, "try again"),
        (507, ArchiveUnreachable, "try again"),
        (401, ArchiveUnreachable, "token_env"),
        (403, ArchiveUnreachable, "rights"),
        (404, ArchiveUnreachable, "address"),
        (302, ArchiveUnreachable, "redirects"),
        (400, ArchiveRefused, "log"),
    ],
)
def test_each_http_status_says_whether_to_try_again_and_what_to_do(status: int, error: type, word: str) -> None:
    with serving(lambda request: said(request, status, Location="/other")) as peer:
        (sent,) = send(link(peer), [Outgoing.of(a_file())])
        with pytest.raises(error, match=word):
            confirm_by_query(link(peer), [instance_ref(a_file())])
    assert isinstance(sent.error, error)
    assert word in str(sent.error)


def test_a_bearer_token_and_tls_work_as_for_dicomweb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_TOKEN", "abc.def")
    seen = []

    def note(request: BaseHTTPRequestHandler) -> None:
        seen.append(request.headers["Authorization"])
        said(request, 200, STORED)

    with serving(note, certificate(tmp_path)) as peer:
        (refused,) = send(link(peer), [Outgoing.of(a_file())])
        trusted = {"ca_file": str(tmp_path / "certificate.pem"), "token_env": "A_TOKEN"}
        (sent,) = send(link(peer.model_copy(update=trusted)), [Outgoing.of(a_file())])
    assert "ca_file" in str(refused.error)
    assert (sent.error, seen) == (None, ["Bearer abc.def"])


# What else knows of it


@pytest.mark.parametrize(
    ("keys", "word"),
    [
        ({"deliver": "orthanc"}, "give `orthanc`"),
        ({"deliver": "orthanc", "orthanc": "http://host:8042", "confirm": "commitment"}, "ae_title"),
        ({"deliver": "orthanc", "orthanc": "http://a:b@host:8042"}, "orthanc"),
    ],
)
def test_a_peer_without_what_it_needs_is_refused(keys: dict[str, str], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        Peer.model_validate({"name": "rest", **keys})


def test_check_and_doctor_know_it_and_the_doctor_leaves_nothing_behind(archive: Orthanc) -> None:
    study = generate_uid(prefix=None)
    send(link(peer_of(archive)), [Outgoing.of(a_file(study=study))])
    before = archive.call("GET", "/studies")
    settings = Settings(node=NodeTable(port=free_port()), peers=(peer_of(archive),))
    assert ("peer rest", "ready", "") in list(check_lines(settings))
    found = examine(settings.peers[0], settings, token="x" * 3, now=datetime(2026, 2, 1, 12, 30, tzinfo=UTC))
    assert {trial.outcome for trial in found.trials} == {"yes"}
    said = advice(found)
    assert (said["deliver"], said["sr"], said["confirm"]) == ("orthanc", "3d", "query")
    assert problems(found) == ()
    assert archive.call("GET", "/studies") == before


def test_check_says_that_an_address_is_no_orthancs() -> None:
    with serving(always(200, {"server": "another"})) as peer:
        lines = {what: (state, remedy) for what, state, remedy in check_lines(Settings(peers=(peer,)))}
    assert lines["peer rest"][0] == "not ready"
    assert "cannot be understood" in lines["peer rest"][1]


# The whole way


def test_the_node_delivers_by_rest_once_a_stopped_orthanc_is_back(tmp_path: Path) -> None:
    http_port, port = free_port(), free_port()
    image = testing.noise(512, 512, seed=5, SeriesDescription="read", BodyPartExamined="TSPINE")
    paths = testing.write([image], tmp_path / "s", study="rest")
    study = testing.uid("rest")
    peer = rest_peer(f"http://127.0.0.1:{http_port}")
    with running(configured(tmp_path / "node", peers=[peer], more="[delivery]\nfirst_wait_s = 0.2")) as node:
        store.send(Link(node.peer, "MODALITY"), [Outgoing.of(path) for path in paths])
        node.until(lambda: any("try again" in one.error for one in of_study(node, study)), within_s=120)
        with orthanc(tmp_path / "archive", port=port, http_port=http_port) as server:
            _, deliveries = node.read(study)
            held = server.instances_of(study)
    assert {(one.state, one.proof) for one in deliveries} == {(DeliveryState.CONFIRMED, "query")}
    assert held.keys() == {one.document.ref.sop_instance_uid for one in deliveries}


def of_study(node: RunningNode, study: str) -> tuple[Delivery, ...]:
    return tuple(one for job in node.ledger.jobs(study=UID(study)) for one in node.ledger.deliveries(job.id))
