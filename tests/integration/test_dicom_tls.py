"""Associations over TLS, both ways: DCMTK and Orthanc as the others, and callers who know no manners."""

import contextlib
import logging
import os
import re
import socket
import ssl
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import pytest
from pydicom import dcmread
from pydicom.uid import generate_uid
from pynetdicom import AE
from support import Orthanc, a_file, free_port, orthanc, run, storescp
from support.certificates import Certificate, authority, fingerprint, issued, revocation_list
from support.node import configured, running
from support.servers import program
from support.waiting import until
from support.web_archives import http, said

from ainode.node import testing, tls
from ainode.node.archive import dimse, stow
from ainode.node.archive.dimse import Link
from ainode.node.archive.store import Outgoing, send
from ainode.node.archive.web import WebLink
from ainode.node.certificates import identity
from ainode.node.diagnosis.advice import problems
from ainode.node.diagnosis.checks import check_lines
from ainode.node.diagnosis.doctor import examine
from ainode.node.domain import DeliveryState
from ainode.node.errors import ArchiveUnreachable, ConfigError
from ainode.node.keeping.spool import Limits, Spool
from ainode.node.receiving.commitment_files import CommitmentFiles
from ainode.node.receiving.events import Event, InstanceStored
from ainode.node.receiving.listener import Receiver, listen
from ainode.node.receiving.negotiation import VERIFICATION, policy
from ainode.node.receiving.process import ReceiverProcess
from ainode.node.receiving.secure_channel import SecureChannel
from ainode.node.settings import NodeTable, Peer, PriorsTable, Settings

HERE = "127.0.0.1"


@dataclass(frozen=True)
class Keys:
    """Who is who: ours, the archive's or modality's, somebody's whom nobody knows, and two that hold no more."""

    ca: Certificate
    node: Certificate
    other: Certificate
    stranger: Certificate
    elsewhere: Certificate
    expired: Certificate
    revoked: Certificate
    crl: Path

    def tables(self, *, mutual: bool = False, **changed: object) -> NodeTable:
        """Return `[node]` with our certificate."""
        files = {"tls_certificate": self.node.path, "tls_key": self.node.key} | (
            {"tls_client_ca": self.ca.path} if mutual else {}
        )
        return NodeTable.model_validate({"min_free_bytes": 0} | files | changed)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    folder = tmp_path_factory.mktemp("keys")
    ca, unknown = authority(folder, "ca"), authority(folder, "unknown")
    elsewhere = issued(ca, "elsewhere", host="DNS:pacs.example")
    expired, revoked, crl = issued(ca, "expired", days=-1), issued(ca, "revoked"), folder / "crl.pem"
    crl.write_bytes(revocation_list(ca, revoked))
    stranger = issued(unknown, "stranger")
    return Keys(ca, issued(ca, "node"), issued(ca, "other"), stranger, elsewhere, expired, revoked, crl)


# Callers of the node


@dataclass
class Running:
    port: int
    receiver: Receiver
    events: list[Event]
    stopped: bool = False

    def stop(self) -> None:
        if not self.stopped:
            self.receiver.stop()
        self.stopped = True

    def stored(self) -> list[InstanceStored]:
        return [event for event in self.events if isinstance(event, InstanceStored)]


class Start(Protocol):
    """Starts a receiver with these peers."""

    def __call__(self, node: NodeTable, *peers: Peer) -> Running: ...


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    stops: list[Callable[[], None]] = []

    def start(node: NodeTable, *peers: Peer) -> Running:
        listener = listen(HERE, 0)
        spool, events = Spool(tmp_path / "spool", Limits(0, 1 << 40)), list[Event]()
        context = tls.context_of(node)
        assert context
        open_channel = partial(SecureChannel, context=context)
        receiver = Receiver(
            policy(Settings(node=node, peers=peers)),
            spool,
            events.append,
            commitments=CommitmentFiles(tmp_path / "commitments"),
            listener=listener,
            open_channel=open_channel,
        )
        port = listener.getsockname()[1]
        receiver.start()
        made = Running(port, receiver, events)
        stops.append(made.stop)
        return made

    yield start
    for stop in stops:
        stop()


def written(folder: Path, count: int = 3, rows: int = 64) -> list[Path]:
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{number}.dcm" for number in range(count)]
    for path in paths:
        path.write_bytes(a_file(rows=rows))
    return paths


def is_sent(receiver: Running, paths: list[Path], *options: str | Path) -> bool:
    """Whether DCMTK's storescu delivers the files."""
    before = len(receiver.stored())
    done = run("storescu", *options, "-aec", "AINODE", HERE, str(receiver.port), *paths)
    assert (done.returncode == 0) == (len(receiver.stored()) - before == len(paths)), done.stderr
    return done.returncode == 0


def showing(certificate: Certificate, keys: Keys) -> tuple[str | Path, ...]:
    return ("+tls", certificate.key, certificate.path, "+cf", keys.ca.path)


def as_other(keys: Keys) -> tuple[str | Path, ...]:
    return showing(keys.other, keys)


@pytest.mark.parametrize("caller", ["anonymous", "with a certificate"])
@pytest.mark.parametrize("profile", ["--profile-bcp195-nd", "--profile-bcp195-ex"])
def test_dcmtk_sends_over_tls_byte_for_byte(
    start: Start, keys: Keys, tmp_path: Path, *, caller: str, profile: str
) -> None:
    receiver, paths = start(keys.tables()), written(tmp_path / "in", rows=1024)
    options = ("+tla", "+cf", keys.ca.path) if caller == "anonymous" else as_other(keys)
    assert is_sent(receiver, paths, *options, profile)
    kept = {dcmread(one.path).SOPInstanceUID: one.path.read_bytes() for one in receiver.stored()}
    for path in paths:
        assert kept[dcmread(path).SOPInstanceUID][-(1 << 20) :] == path.read_bytes()[-(1 << 20) :]
    assert run("echoscu", *options, "-aec", "AINODE", HERE, str(receiver.port)).returncode == 0


def test_who_speaks_no_tls_is_refused_with_a_log_line_and_the_node_goes_on(
    start: Start, keys: Keys, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    receiver, paths = start(keys.tables()), written(tmp_path / "in")
    assert not is_sent(receiver, paths)
    with socket.create_connection((HERE, receiver.port), 60) as caller:
        caller.sendall(b"GET / HTTP/1.1\r\n\r\n" + os.urandom(1000))
        assert closed(caller)
    assert is_sent(receiver, paths, *as_other(keys))
    lines = refusals(caplog, count=2)
    assert all("no TLS with the caller" in one for one in lines)
    assert not [one for one in caplog.records if one.exc_info]


def closed(caller: socket.socket) -> bool:
    try:
        while caller.recv(4096):
            pass
    except ConnectionError:
        pass
    return True


def test_a_caller_who_does_not_trust_us_sends_nothing(start: Start, keys: Keys, tmp_path: Path) -> None:
    receiver, paths = start(keys.tables()), written(tmp_path / "in")
    assert not is_sent(receiver, paths, "+tla", "+cf", keys.stranger.path)
    assert is_sent(receiver, paths, *as_other(keys))


def refusals(caplog: pytest.LogCaptureFixture, action: str = "association_lost", *, count: int = 1) -> list[str]:
    """Return the lines of refusals, of which there are `count`: a caller may hear of a refusal before the log does."""

    def lines() -> list[str]:
        return [record.getMessage() for record in caplog.records if getattr(record, "action", "") == action]

    until(lambda: len(lines()) >= count, shown=lines)
    assert len(lines()) == count
    return lines()


def test_with_a_client_ca_only_a_valid_certificate_is_let_in_and_the_log_says_what_is_wrong_with_the_others(
    start: Start, keys: Keys, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    receiver, paths = start(keys.tables(mutual=True, tls_crl=[keys.crl])), written(tmp_path / "in", 1)
    for options, reason, remedy in (
        (("+tla", "+cf", keys.ca.path), "peer did not return a certificate", "give the caller a certificate"),
        (showing(keys.expired, keys), "certificate has expired", "renew the certificate of the caller"),
        (showing(keys.revoked, keys), "certificate revoked", "another certificate"),
        (showing(keys.stranger, keys), "unable to get local issuer certificate", "tls_client_ca"),
        ((), "wrong version number", ""),
    ):
        caplog.clear()
        assert not is_sent(receiver, paths, *options)
        assert is_sent(receiver, paths, *as_other(keys))
        (line,) = refusals(caplog)
        assert reason in line
        assert remedy in line
        assert not [name for name in ("expired.pem", "CN=", "stranger") if name in line]


def test_a_revocation_list_that_has_expired_or_is_another_authoritys_refuses_every_caller_and_says_so(
    start: Start, keys: Keys, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    crl, paths = tmp_path / "crl.pem", written(tmp_path / "in", 1)
    crl.write_bytes(revocation_list(keys.ca, is_expired=True))
    receiver = start(keys.tables(mutual=True, tls_crl=[crl]))
    assert not is_sent(receiver, paths, *as_other(keys))
    crl.write_bytes(revocation_list(authority(tmp_path, "third")))
    assert not is_sent(receiver, paths, *as_other(keys))
    crl.write_bytes(revocation_list(keys.ca))
    assert is_sent(receiver, paths, *as_other(keys))
    expired, without = refusals(caplog, count=2)
    assert "CRL has expired" in expired
    assert "put a new revocation list" in expired
    assert "unable to get certificate CRL" in without
    assert "add the revocation list of each authority" in without


def test_a_changed_file_is_taken_up_for_the_next_caller_while_an_open_association_goes_on(
    start: Start, keys: Keys, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    certificate, key, crl = tmp_path / "node.pem", tmp_path / "node.key", tmp_path / "crl.pem"
    new, paths = issued(keys.ca, "new"), written(tmp_path / "in", 1)
    certificate.write_bytes(keys.node.path.read_bytes())
    key.write_bytes(keys.node.key.read_bytes())
    crl.write_bytes(revocation_list(keys.ca))
    receiver = start(keys.tables(mutual=True, tls_certificate=certificate, tls_key=key, tls_crl=[crl]))
    context = ssl.create_default_context(cafile=str(keys.ca.path))
    context.load_cert_chain(keys.other.path, keys.other.key)
    entity = AE("STORESCU")
    entity.add_requested_context(VERIFICATION)
    association = entity.associate(HERE, receiver.port, ae_title="AINODE", tls_args=(context, HERE))
    assert shown(receiver, context) == pem_der(keys.node)
    certificate.write_bytes(new.path.read_bytes())  # the key comes later: until then it belongs to another certificate
    for _ in range(3):
        assert is_sent(receiver, paths, *as_other(keys))
    assert shown(receiver, context) == pem_der(keys.node)
    key.write_bytes(new.key.read_bytes())
    assert shown(receiver, context) == pem_der(new)
    crl.write_bytes(revocation_list(keys.ca, keys.other))
    assert not is_sent(receiver, paths, *as_other(keys))
    assert association.send_c_echo().Status == 0
    association.release()
    (broken,) = refusals(caplog, "tls_files_broken")
    assert broken.startswith("changed TLS files cannot be used")
    assert "[node] tls_certificate, tls_key" in broken
    refusals(caplog, "tls_files_renewed", count=2)
    key.chmod(0o400)  # as where the node could not read the file before
    shown(receiver, context)
    refusals(caplog, "tls_files_renewed", count=3)


def shown(receiver: Running, context: ssl.SSLContext) -> bytes | None:
    """Return the certificate that the node shows."""
    with (
        socket.create_connection((HERE, receiver.port), 60) as connection,
        context.wrap_socket(connection, server_hostname=HERE) as caller,
    ):
        return caller.getpeercert(binary_form=True)


def pem_der(certificate: Certificate) -> bytes:
    return ssl.PEM_cert_to_DER_cert(certificate.path.read_text())


def test_a_session_of_before_admits_nobody_whom_the_new_revocation_list_names(
    start: Start, keys: Keys, tmp_path: Path
) -> None:
    crl = tmp_path / "crl.pem"
    crl.write_bytes(revocation_list(keys.ca))
    receiver = start(keys.tables(mutual=True, tls_crl=[crl]))
    context = ssl.create_default_context(cafile=str(keys.ca.path))
    context.load_cert_chain(keys.other.path, keys.other.key)
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # there the client learns of a refusal within the handshake
    with context.wrap_socket(socket.create_connection((HERE, receiver.port), 60), server_hostname=HERE) as caller:
        session = caller.session
    crl.write_bytes(revocation_list(keys.ca, keys.other))
    with (
        socket.create_connection((HERE, receiver.port), 60) as connection,
        pytest.raises(ssl.SSLError, match=r"REVOKED"),
    ):
        context.wrap_socket(connection, server_hostname=HERE, session=session).close()


def s_client(text: str, *options: str) -> str:
    """Return what `openssl s_client` prints when it is given this text."""
    command = [program("openssl"), "s_client", *options]
    ended = subprocess.run(
        command, input=text, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120, check=False
    )
    return ended.stdout


@pytest.mark.parametrize(
    ("suite", "is_taken"),
    [
        ("ECDHE-RSA-AES128-GCM-SHA256", True),
        ("ECDHE-RSA-AES256-GCM-SHA384", True),
        ("ECDHE-RSA-AES128-SHA256", False),
        ("DHE-RSA-AES128-GCM-SHA256", False),
        ("AES128-GCM-SHA256", False),
        ("AES128-SHA", False),
        ("ECDHE-RSA-NULL-SHA", False),
        ("AECDH-AES128-SHA", False),
    ],
)
def test_tls_1_2_has_the_suites_that_rfc_9325_recommends_and_no_other(
    start: Start, keys: Keys, suite: str, *, is_taken: bool
) -> None:
    to = ("-connect", f"{HERE}:{start(keys.tables()).port}", "-tls1_2", "-cipher", f"{suite}:@SECLEVEL=0")
    assert (f"Cipher is {suite}" in s_client("", *to)) == is_taken


def test_nothing_is_renegotiated_and_nothing_compressed(start: Start, keys: Keys) -> None:
    session = s_client("R\n", "-connect", f"{HERE}:{start(keys.tables()).port}", "-tls1_2", "-comp")
    assert "Compression: NONE" in session
    assert "RENEGOTIATING" in session
    assert "no renegotiation" in session


def test_a_bound_certificate_is_refused_under_another_ae_title_and_the_log_says_why(
    start: Start, keys: Keys, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ct = Peer(name="ct", ae_title="CT1", calling_certificates=(fingerprint(keys.other),))
    mr = Peer(name="mr", ae_title="MR1", calling_certificates=("mr1.example", "node"))
    receiver, paths = start(keys.tables(mutual=True), ct, mr), written(tmp_path / "in")
    assert is_sent(receiver, paths, *as_other(keys), "-aet", "CT1")
    for ae_title, owner in (("MR1", "belongs to 'CT1'"), ("STORESCU", "belongs to 'CT1'")):
        caplog.clear()
        to = ("-aet", ae_title, "-aec", "AINODE", HERE, str(receiver.port))
        refused = run("echoscu", *as_other(keys), *to)
        assert "Reason: Calling AE Title Not Recognized" in refused.stderr
        assert "Result: Rejected Permanent, Source: Service User" in refused.stderr
        (line,) = (record for record in caplog.records if getattr(record, "action", "") == "rejected")
        for words in (f"'{ae_title}'", owner, identity(fingerprint(keys.other)), "calling_certificates"):
            assert words in line.getMessage()
        assert getattr(line, "address", "") == HERE
    as_node = ("+tls", keys.node.key, keys.node.path, "+cf", keys.ca.path)
    assert is_sent(receiver, paths, *as_node, "-aet", "MR1")  # by Common Name
    assert not is_sent(receiver, paths, *as_node, "-aet", "CT1")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
def test_older_than_tls_1_2_is_refused(start: Start, keys: Keys, version: ssl.TLSVersion) -> None:
    context = ssl.create_default_context(cafile=str(keys.ca.path))
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    with socket.create_connection((HERE, start(keys.tables()).port), 60) as caller:
        try:
            context.wrap_socket(caller, server_hostname=HERE).close()
        except ssl.SSLError:
            assert version == ssl.TLSVersion.TLSv1_1
        else:
            assert version != ssl.TLSVersion.TLSv1_1


def test_callers_that_are_silent_or_drip_in_the_handshake_hold_no_association_and_are_gone_at_the_time_limit(
    start: Start, keys: Keys, tmp_path: Path
) -> None:
    receiver = start(keys.tables(network_timeout_s=4.0, max_associations=1))
    paths = written(tmp_path / "in")
    silent = [socket.create_connection((HERE, receiver.port), 60) for _ in range(8)]
    begin_s = time.monotonic()
    silent[0].sendall(struct.pack(">BHH", 22, 0x0301, 512))  # a handshake that begins and never goes on
    with ThreadPoolExecutor(1) as thread:
        dripping = thread.submit(drip, socket.create_connection((HERE, receiver.port), 60))
        assert is_sent(receiver, paths, *as_other(keys))
        for caller in silent:
            assert closed(caller)
            caller.close()
        assert dripping.result() < 45  # the whole handshake takes more than 51 s
    assert time.monotonic() - begin_s < 60


def drip(caller: socket.socket) -> float:
    """Send a handshake of 512 bytes, one byte every tenth of a second; return the seconds until the node hangs up."""
    begin_s = time.monotonic()
    with caller, contextlib.suppress(ConnectionError):
        caller.settimeout(0.1)
        for byte in struct.pack(">BHHBxH", 22, 0x0301, 512, 1, 508) + bytes(504):
            caller.sendall(bytes([byte]))
            with contextlib.suppress(TimeoutError):
                if not caller.recv(1):
                    break
    return time.monotonic() - begin_s


def test_an_association_that_falls_silent_is_ended_at_the_time_limit(start: Start, keys: Keys) -> None:
    receiver = start(keys.tables(network_timeout_s=2.0))
    with secured(receiver, keys) as caller:
        started = time.monotonic()
        caller.sendall(b"\x01\x00")
        assert closed(caller)
        assert 0.3 < time.monotonic() - started < 40


def secured(receiver: Running, keys: Keys) -> ssl.SSLSocket:
    context = ssl.create_default_context(cafile=str(keys.ca.path))
    connection = socket.create_connection((HERE, receiver.port), 60)
    return context.wrap_socket(connection, server_hostname=HERE, suppress_ragged_eofs=True)


def test_stopping_ends_open_connections_at_once(start: Start, keys: Keys) -> None:
    receiver = start(keys.tables())
    with secured(receiver, keys) as idle, socket.create_connection((HERE, receiver.port), 60) as silent:
        until(lambda: len(receiver.receiver._places._threads) == 2)
        started = time.monotonic()
        receiver.stop()
        assert time.monotonic() - started < 40
        assert closed(idle)
        assert closed(silent)


def test_a_large_object_passes_in_the_memory_of_one_buffer(keys: Keys, tmp_path: Path) -> None:
    listener = listen(HERE, 0)
    process = ReceiverProcess(Settings(node=keys.tables(data=tmp_path / "data")), listener=listener)
    events: list[Event] = []
    process.start(events.append)
    to = ("-aec", "AINODE", HERE, str(listener.getsockname()[1]))
    try:
        for number, rows in enumerate((64, 8192)):
            done = run("storescu", *as_other(keys), *to, *written(tmp_path / str(number), 1, rows))
            assert done.returncode == 0, done.stderr
            (resident,) = (line for line in status(process.pid) if line.startswith("VmHWM"))
            # 24 MB without TLS, libssl and libcrypto with their certificates beside it; the object has 128 MiB
            assert int(resident.split()[1]) < 40 * 1024
    finally:
        process.stop()
    assert sum(isinstance(event, InstanceStored) for event in events) == 2


def status(process_id: int) -> list[str]:
    return Path(f"/proc/{process_id}/status").read_text(encoding="ascii").splitlines()


# What [node] says


def test_a_certificate_that_cannot_be_used_is_an_error_of_the_configuration(keys: Keys, tmp_path: Path) -> None:
    locked = tmp_path / "locked.key"
    command = ("openssl", "pkey", "-in", keys.node.key, "-aes128", "-passout", "pass:word", "-out", locked)
    assert run(*command).returncode == 0
    der = tmp_path / "crl.der"
    assert run("openssl", "crl", "-in", keys.crl, "-outform", "DER", "-out", der).returncode == 0
    for key, path, word in (
        ("tls_certificate", tmp_path / "absent.pem", "absent.pem cannot be read"),
        ("tls_key", keys.other.key, "tls_key"),
        ("tls_key", locked, "without a passphrase"),
        ("tls_client_ca", keys.node.key, "tls_client_ca"),
        ("tls_crl", (tmp_path / "absent.crl",), "tls_crl: .*absent.crl cannot be read; correct the path"),
        ("tls_crl", (keys.ca.path,), "tls_crl: .*holds a certificate, which would be trusted"),
        ("tls_crl", (der,), "tls_crl: .*openssl crl -inform DER"),
    ):
        settings = Settings(node=keys.tables(mutual=True).model_copy(update={"data": tmp_path, key: path}))
        listener = listen(HERE, 0)
        with listener, pytest.raises(ConfigError, match=word):
            ReceiverProcess(settings, listener=listener)
        ((_, state, remedy),) = (line for line in check_lines(settings) if line[0] == "[node] TLS")
        assert state == "not ready"
        assert re.search(word, remedy)


def test_the_check_tells_of_a_certificate_or_a_list_that_has_expired_or_soon_does(keys: Keys, tmp_path: Path) -> None:
    fresh = issued(keys.ca, "fresh", days=31)
    old = tmp_path / "old.crl"
    old.write_bytes(revocation_list(keys.ca) + revocation_list(keys.ca, is_expired=True))
    for certificate, lists, state, words in (
        (fresh, (keys.crl,), "ready", ""),
        (keys.node, (), "ready", "node.pem expires on "),
        (keys.expired, (), "not ready", "expired.pem expired on "),
        (fresh, (old,), "not ready", "old.crl expired on 2020-02-01 00:00 UTC"),
    ):
        files = {"tls_certificate": certificate.path, "tls_key": certificate.key}
        node = keys.tables(mutual=True, data=tmp_path, tls_crl=lists, **files)
        crl_files = tuple(map(str, lists))
        peer = caller_of(1, keys, crl_files=crl_files, **{name: str(path) for name, path in files.items()}).peer
        lines = {name: (state, words) for name, state, words in check_lines(Settings(node=node, peers=(peer,)))}
        assert lines["[node] TLS"][0] == state
        assert words in lines["[node] TLS"][1]
        assert lines.get("peer pacs TLS", ("ready", "")) == lines["[node] TLS"]


@pytest.mark.parametrize(
    "half", [{"tls_certificate": "a"}, {"tls_key": "a"}, {"tls_client_ca": "a"}, {"tls_client_ca": "a", "tls_key": "b"}]
)
def test_half_a_certificate_is_refused(half: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="tls_certificate and tls_key"):
        NodeTable.model_validate(half)


# The node as the caller


def caller_of(port: int, keys: Keys, **changed: object) -> Link:
    known = {"name": "pacs", "ae_title": "PACS", "host": HERE, "port": port, "tls": True, "ca_file": str(keys.ca.path)}
    return Link(Peer.model_validate(known | changed), "AINODE", 5.0)


def with_certificate(keys: Keys) -> dict[str, str]:
    return {"tls_certificate": str(keys.node.path), "tls_key": str(keys.node.key)}


def server_options(keys: Keys) -> tuple[str | Path, ...]:
    return ("+tls", keys.other.key, keys.other.path, "+cf", keys.ca.path)


def test_documents_go_to_dcmtk_over_tls_byte_for_byte(keys: Keys, tmp_path: Path) -> None:
    contents = [a_file(rows=512) for _ in range(20)]
    with storescp(tmp_path, *server_options(keys), "-ic") as server:
        link = caller_of(server.port, keys)
        dimse.echo(link)
        sent = send(link, [Outgoing.of(one) for one in contents])
    assert [(one.status, one.error) for one in sent] == [(0, None)] * 20
    received = {path.read_bytes()[-(1 << 19) :] for path in server.files()}
    assert received == {one[-(1 << 19) :] for one in contents}
    assert len(server.files()) == 20


def test_an_authority_without_a_key_identifier_is_trusted_on_each_python(
    keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strict_since_python_3_13 = ssl.create_default_context(cafile=str(keys.ca.path))
    strict_since_python_3_13.verify_flags |= ssl.VERIFY_X509_STRICT
    monkeypatch.setattr(ssl, "create_default_context", lambda **_: strict_since_python_3_13)
    with storescp(tmp_path, *server_options(keys), "-ic") as server:
        dimse.echo(caller_of(server.port, keys))


def test_a_server_that_aborts_while_we_send_leaves_the_documents_to_a_retry(keys: Keys, tmp_path: Path) -> None:
    documents = [Outgoing.of(a_file(rows=2048)) for _ in range(3)]
    with storescp(tmp_path, *server_options(keys), "-ic", "--abort-during") as server:
        sent = send(caller_of(server.port, keys), documents)
    assert {type(one.error) for one in sent} == {ArchiveUnreachable}


def test_a_server_that_asks_for_our_certificate_gets_it_and_without_one_it_is_said(keys: Keys, tmp_path: Path) -> None:
    document = Outgoing.of(a_file())
    with storescp(tmp_path, *server_options(keys)) as server:
        (refused,) = send(caller_of(server.port, keys), [document])
        (sent,) = send(caller_of(server.port, keys, **with_certificate(keys)), [document])
    assert isinstance(refused.error, ArchiveUnreachable)
    assert "tls_certificate" in str(refused.error)
    assert sent.error is None


def test_a_server_of_another_authority_or_another_name_is_not_sent_to(keys: Keys, tmp_path: Path) -> None:
    document = Outgoing.of(a_file())
    for number, (theirs, word) in enumerate(((keys.stranger, "not trusted"), (keys.elsewhere, "IP address mismatch"))):
        with storescp(tmp_path / str(number), "+tls", theirs.key, theirs.path, "-ic") as server:
            (refused,) = send(caller_of(server.port, keys), [document])
        assert isinstance(refused.error, ArchiveUnreachable)
        assert word in str(refused.error)
        assert "ca_file" in str(refused.error)
        assert server.files() == ()


def test_a_server_whose_certificate_was_revoked_is_not_sent_to(keys: Keys, tmp_path: Path) -> None:
    document, lists = Outgoing.of(a_file()), {"crl_files": [str(keys.crl)]}
    with storescp(tmp_path, *showing(keys.revoked, keys), "-ic") as server:
        (sent,) = send(caller_of(server.port, keys), [document])
        (refused,) = send(caller_of(server.port, keys, **lists), [document])
    assert sent.error is None
    assert "certificate revoked" in str(refused.error)
    with storescp(tmp_path / "other", *server_options(keys), "-ic") as server:
        (sent,) = send(caller_of(server.port, keys, **lists), [document])
    assert sent.error is None
    for number, certificate in enumerate((keys.revoked, keys.other)):
        both = tmp_path / f"{number}.pem"
        both.write_bytes(certificate.key.read_bytes() + certificate.path.read_bytes())
        with http(lambda request: said(request, 200, {}), both) as peer:
            trusting = peer.model_copy(update={"ca_file": str(keys.ca.path), "crl_files": (str(keys.crl),)})
            (answer,) = stow.send(WebLink(trusting, 5.0), [document])
        assert (answer.error is None) == (certificate is keys.other)


def test_tls_on_one_side_only_is_no_association(keys: Keys, tmp_path: Path) -> None:
    document = Outgoing.of(a_file())
    with storescp(tmp_path / "plain") as server:
        (refused,) = send(caller_of(server.port, keys), [document])
    assert isinstance(refused.error, ArchiveUnreachable)
    with storescp(tmp_path / "tls", *server_options(keys), "-ic") as server:
        (refused,) = send(caller_of(server.port, keys, tls=False, ca_file=""), [document])
    assert isinstance(refused.error, ArchiveUnreachable)


def test_a_file_of_a_peer_that_cannot_be_used_is_named_and_the_call_tried_again(keys: Keys, tmp_path: Path) -> None:
    absent = {"ca_file": str(tmp_path / "absent.pem")}
    with pytest.raises(ArchiveUnreachable, match=r"pacs: ca_file: .*absent\.pem cannot be read"):
        dimse.echo(caller_of(1, keys, **absent))
    between = with_certificate(keys) | {"tls_key": str(keys.other.key)}  # the certificate is new, the key is not yet
    (refused,) = send(caller_of(1, keys, **between), [Outgoing.of(a_file())])
    assert isinstance(refused.error, ArchiveUnreachable)
    assert "key values mismatch" in str(refused.error)
    with pytest.raises(ValueError, match="tls_certificate and tls_key"):
        caller_of(1, keys, tls_key="b")


def test_no_connection_is_left_behind(keys: Keys, tmp_path: Path) -> None:
    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    document = Outgoing.of(a_file())
    with storescp(tmp_path, *server_options(keys), "-ic") as server:
        send(caller_of(server.port, keys), [document])
        before = descriptors()
        for known in (keys.ca, keys.stranger):
            for _ in range(5):
                send(caller_of(server.port, keys, ca_file=str(known.path)), [document])
        assert descriptors() == before


def test_a_web_service_that_asks_for_our_certificate_gets_it(keys: Keys, tmp_path: Path) -> None:
    both = tmp_path / "both.pem"
    both.write_bytes(keys.other.key.read_bytes() + keys.other.path.read_bytes())
    document = Outgoing.of(a_file())
    with http(lambda request: said(request, 200, {}), both, client_ca=keys.ca.path) as peer:
        trusting = peer.model_copy(update={"ca_file": str(keys.ca.path)})
        (refused,) = stow.send(WebLink(trusting, 5.0), [document])
        (sent,) = stow.send(WebLink(trusting.model_copy(update=with_certificate(keys)), 5.0), [document])
        absent = trusting.model_copy(update={"ca_file": str(tmp_path / "absent.pem")})
        (waiting,) = stow.send(WebLink(absent, 5.0), [document])
    assert isinstance(waiting.error, ArchiveUnreachable)
    assert "absent.pem cannot be read" in str(waiting.error)
    assert isinstance(refused.error, ArchiveUnreachable)
    assert sent.error is None


# A real archive, both ways


def test_an_orthanc_over_tls_can_everything(keys: Keys, tmp_path: Path) -> None:
    """Store, commitment whose report calls us, C-FIND, C-GET, and a C-MOVE to a port of ours."""
    our_port, move_port = free_port(), free_port()
    modalities = {
        name: {"AET": ae_title, "Host": HERE, "Port": port, "UseDicomTls": True}
        for name, ae_title, port in (("node", "AINODE", our_port), ("priors", "AINODE_PRIORS", move_port))
    }
    options = tls_options(keys) | {
        "DicomAlwaysAllowGet": True,
        "DicomAlwaysAllowMove": True,
        "DicomModalities": modalities,
    }
    node = keys.tables(mutual=True, port=our_port)
    settings = Settings(node=node, priors=PriorsTable(move_port=move_port))
    with orthanc(tmp_path, **options) as server:
        peer = over_tls(server, keys)
        found = examine(peer, settings, token=generate_uid(), now=datetime(2026, 2, 1, 12, 30, tzinfo=UTC))
    for what in ("store CT Image", "storage commitment", "C-FIND", "C-GET", "C-MOVE", "removed again"):
        assert found.works(what), found.trials
    assert ("C-ECHO", "over TLS") in [(trial.name, trial.detail) for trial in found.trials]
    assert problems(found) == ()


def tls_options(keys: Keys) -> dict[str, Any]:
    return {
        "DicomTlsEnabled": True,
        "DicomTlsCertificate": str(keys.other.path),
        "DicomTlsPrivateKey": str(keys.other.key),
        "DicomTlsTrustedCertificates": str(keys.ca.path),
    }


def over_tls(server: Orthanc, keys: Keys) -> Peer:
    known = server.peer.model_dump() | with_certificate(keys)
    rest = f"http://{HERE}:{server.http_port}"
    return Peer.model_validate(known | {"tls": True, "ca_file": str(keys.ca.path), "orthanc": rest})


def test_a_node_whose_every_association_is_over_tls_reads_and_delivers(
    keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key, path in (("CERTIFICATE", keys.node.path), ("KEY", keys.node.key), ("CLIENT_CA", keys.ca.path)):
        monkeypatch.setenv(f"AINODE_NODE__TLS_{key}", str(path))
    image = testing.noise(512, 512, seed=5, SeriesDescription="read", BodyPartExamined="TSPINE")
    paths = testing.write([image], tmp_path / "study", study="tls")
    with orthanc(tmp_path / "archive", **tls_options(keys)) as server:
        node = configured(tmp_path / "node", peers=[over_tls(server, keys)])
        with running(node):
            to = ("-aec", "AINODE", HERE, str(node.port))
            assert run("storescu", *to, *paths).returncode != 0
            assert run("storescu", *as_other(keys), *to, *paths).returncode == 0
            _, deliveries = node.read(testing.uid("tls"))
        held = server.instances_of(testing.uid("tls"))
    assert {(one.state, one.proof) for one in deliveries} == {(DeliveryState.CONFIRMED, "query")}
    assert held.keys() == {one.document.ref.sop_instance_uid for one in deliveries}
