"""Orthanc and DCMTK as the tests start them; a missing program is a skip that names it."""

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cache
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import pytest

from ainode.node.settings import Peer

_READY_S = 120.0
_STOP_S = 20.0
# Linux gives out 32768 and above (net.ipv4.ip_local_port_range).
_PORTS = range(15_000, 30_000)
_own_ports: set[int] = set()
"""those that this process locked: its own locks do not hold it back"""


def program(name: str) -> Path:
    """Return Debian's program of that name (the virtual environment has others of the same name), or skip."""
    found = shutil.which(name, path="/usr/bin:/usr/sbin:/usr/local/bin:/usr/local/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed")
    return Path(found)


def run(name: str, *arguments: str | Path, nodelay: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a program to its end (DCMTK with TCP_NODELAY, unless told) and return what it said."""
    environment = {**os.environ, "TCP_NODELAY": "1"} if nodelay else None
    command = [program(name), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)


def free_port() -> int:
    """Return a random port of the loopback interface that nobody uses, and that no other test gets.

    The port lies below the range from which the kernel gives ports to outgoing connections, so that the kernel gives
    it to nobody between this answer and its use.
    """
    while True:
        port = secrets.choice(_PORTS)
        if port not in _own_ports and _is_reserved(port):
            _own_ports.add(port)
            with socket.socket() as listener, contextlib.suppress(OSError):
                listener.bind(("127.0.0.1", port))
                return port


@cache
def _reservations() -> int:
    """Return the descriptor of the file in which all test processes of this user reserve ports."""
    path = f"/tmp/ainode-tests-ports.{os.geteuid()}"  # noqa: S108 - TMPDIR differs between runs on one machine
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _is_reserved(port: int) -> bool:
    """Lock the byte of a port until this process ends; return whether no other process has locked the byte.

    A port is often asked for long before something listens there, and many a port stays closed, as that of a peer
    that is away. Without the lock, another process of the tests could get the same port meanwhile.
    """
    reservations = _reservations()
    try:
        fcntl.lockf(reservations, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except (BlockingIOError, PermissionError):  # either, by POSIX
        return False
    return True


@dataclass(frozen=True, slots=True)
class Orthanc:
    """A running Orthanc."""

    port: int
    http_port: int
    process_id: int

    @property
    def peer(self) -> Peer:
        """Return it as a configured peer."""
        return Peer(name="orthanc", ae_title="ORTHANC", host="127.0.0.1", port=self.port)

    def stop(self) -> None:
        """Let it write what it holds, and end: two to five seconds, for a test that starts it again in its folder."""
        os.kill(self.process_id, signal.SIGTERM)
        os.waitid(os.P_PID, self.process_id, os.WEXITED | os.WNOWAIT)

    def instances_of(self, study_instance_uid: str) -> dict[str, str]:
        """Return SOP Instance UID to Orthanc's own identifier, for every instance of a study."""
        query = {"Level": "Instance", "Query": {"StudyInstanceUID": study_instance_uid}, "Expand": True}
        found = json.loads(self.call("POST", "/tools/find", json.dumps(query).encode()))
        return {one["MainDicomTags"]["SOPInstanceUID"]: one["ID"] for one in found}

    def download(self, identifier: str) -> bytes:
        """Return the file of an instance, by Orthanc's own identifier."""
        return self.call("GET", f"/instances/{identifier}/file")

    def call(self, method: str, path: str, body: bytes | None = None) -> bytes:
        """Return the body of one REST answer."""
        connection = HTTPConnection("127.0.0.1", self.http_port, timeout=120)
        try:
            connection.request(method, path, body)
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        assert answer.status == 200, f"{method} {path}: {answer.status} {content[:200]!r}"
        return content


@contextmanager
def orthanc(
    folder: Path,
    *,
    modalities: Mapping[str, tuple[str, int]] | None = None,
    port: int | None = None,
    http_port: int | None = None,
    **options: object,
) -> Iterator[Orthanc]:
    """Run an Orthanc that knows `modalities` (AE title and port on loopback); `options` go into its configuration.

    The same folder and port again are the same archive, restarted; it must have been stopped by `stop`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    dicom_port, http_port = port or free_port(), http_port or free_port()
    configuration = {
        "Name": "test",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "DicomAet": "ORTHANC",
        "DicomPort": dicom_port,
        "HttpPort": http_port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomAlwaysAllowEcho": True,
        "DicomAlwaysAllowFind": True,
        "DicomAlwaysAllowStore": True,
        "DicomCheckCalledAet": True,
        "StableAge": 1,
        "DicomModalities": {name: [ae, "127.0.0.1", at] for name, (ae, at) in (modalities or {}).items()},
        **options,
    }
    (folder / "orthanc.json").write_text(json.dumps(configuration), encoding="utf-8")
    log = folder / "orthanc.log"
    # Nobody needs what it would write before a quiet end, which takes it seconds.
    with _running([program("Orthanc"), folder / "orthanc.json"], log, end=signal.SIGKILL) as process:
        server = Orthanc(dicom_port, http_port, process.pid)
        _wait(lambda: _answers(server), process, log)
        yield server


@dataclass(frozen=True, slots=True)
class Storescp:
    """A running DCMTK storescp and the folder it writes to."""

    port: int
    folder: Path

    @property
    def peer(self) -> Peer:
        """Return it as a configured peer."""
        return Peer(name="storescp", ae_title="STORESCP", host="127.0.0.1", port=self.port)

    def files(self) -> tuple[Path, ...]:
        """Return what arrived."""
        return tuple(sorted(self.folder.iterdir()))


@contextmanager
def storescp(folder: Path, *options: str | Path, port: int | None = None) -> Iterator[Storescp]:
    """Run DCMTK's storescp, which writes bit for bit what it gets (+B)."""
    received = folder / "received"
    received.mkdir(parents=True, exist_ok=True)
    server = Storescp(port or free_port(), received)
    log = folder / "storescp.log"
    command = [program("storescp"), "+B", "-od", received, *options, str(server.port)]
    with _running(command, log) as process:
        _wait(lambda: _listens(server.port), process, log)
        yield server


@contextmanager
def dcmqrscp(folder: Path, known: Mapping[str, int]) -> Iterator[Peer]:
    """Run DCMTK's small archive, which knows AE titles with a port on loopback; yield it as a peer."""
    port = free_port()
    (folder / "database").mkdir(parents=True)
    hosts = "".join(f"{name} = ({name}, 127.0.0.1, {at})\n" for name, at in known.items())
    (folder / "dcmqrscp.cfg").write_text(
        f"NetworkTCPPort = {port}\nMaxPDUSize = 16384\nMaxAssociations = 4\nHostTable BEGIN\n{hosts}HostTable END\n"
        f"VendorTable BEGIN\nVendorTable END\n"
        f"AETable BEGIN\nQR {folder / 'database'} RW (10, 100mb) ANY\nAETable END\n",
        encoding="ascii",
    )
    log = folder / "dcmqrscp.log"
    with _running([program("dcmqrscp"), "-c", folder / "dcmqrscp.cfg"], log) as process:
        _wait(lambda: _listens(port), process, log)
        yield Peer(name="dcmqrscp", ae_title="QR", host="127.0.0.1", port=port)


@contextmanager
def _running(
    command: list[str | Path], log: Path, *, end: signal.Signals = signal.SIGTERM
) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("ab") as output:
        environment = {**os.environ, "TCP_NODELAY": "1"}
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
    try:
        yield process
    finally:
        process.send_signal(end)
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    limit = time.monotonic() + _READY_S
    while not ready():
        if process.poll() is not None or time.monotonic() > limit:
            pytest.fail(f"the server did not start: {log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.02)


def _listens(port: int) -> bool:
    """Tell whether somebody listens, without connecting: storescp would count that as an association."""
    listening = Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()
    return any(line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "0A" for line in listening[1:])


def _answers(server: Orthanc) -> bool:
    """Tell whether it serves, be it that it asks for a password."""
    with closing(HTTPConnection("127.0.0.1", server.http_port, timeout=30)) as connection:
        try:
            connection.request("GET", "/system")
            return connection.getresponse().status in {200, 401}
        except (OSError, HTTPException):
            return False
