"""Attacks on the console of a whole node: `lost` counts what an upload left, `stuck` what was answered wrongly."""

import secrets
import signal
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

import psutil
from acceptance.faults.judgement import Row
from support.disks import SmallDisk, fillable_disk
from support.hostile_visits import HostileVisit
from support.node import RunningNode, configured, running
from support.postgresql import PostgreSQL, postgresql_server
from support.servers import free_port
from support.studies import stored, written

_PAGES: Final = tuple(
    f"/console/{page}" for page in ("", "unread", "routes", "models", "judgements", "trials", "system", "persons")
)
_UPLOADS: Final = ("trials/{}", "routes/test", "routes/change")
_MARK: Final = b"the pixels of a patient "
_CONNECTIONS: Final = 100
# A page of an idle node takes a tenth of a second.
_PAGE_S: Final = 5.0
_PART_BYTES: Final = 200_000
_WAIT_S: Final = 30.0
# So long after a question, the process that is to answer has got the question.
_ASKED_S: Final = 0.5


def console_rows(folder: Path) -> Iterator[Row]:
    """Yield a row for each attack."""
    with (
        fillable_disk(folder / "node" / "data", size_mib=64, names=5000) as disk,
        _console(folder / "node") as attacked,
    ):
        yield attacked.row("a full disk under uploads", lambda: attacked.fill(disk))
        yield attacked.row("a locked database under pages", attacked.lock)
        yield attacked.row("slow connections", attacked.crowd)
        yield attacked.row("rendering killed in a request", lambda: attacked.kill_rendering(folder / "sent"))
        yield attacked.row("kill in uploads", attacked.kill)
    with postgresql_server() as server, _console(folder / "other", server.create("console")) as attacked:
        yield attacked.row("database away under pages", lambda: attacked.take_away(server))


@contextmanager
def _console(folder: Path, database: str = "") -> Iterator["_Attacked"]:
    port = free_port()
    table = f'[database]\nurl = "{database}"' if database else ""
    node = replace(configured(folder, more=f"[web]\nenabled = true\nport = {port}\n{table}"), database=database)
    with running(node):
        yield _Attacked(node, port)


class _Attacked:
    """A node with a person in its console; every attack counts what is left and what is answered wrongly."""

    def __init__(self, node: RunningNode, port: int) -> None:
        self._node, self._port, self._visit = node, port, HostileVisit(node, port)
        self._stuck, self._lost = 0, 0

    def row(self, name: str, attack: Callable[[], float]) -> Row:
        """Make an attack, which returns how long the recovery took."""
        self._stuck, self._lost = 0, 0
        recovery_s = attack()
        assert self._node.process
        died = self._node.process.poll() is not None
        return Row(f"console: {name}", 1, lost=self._lost, stuck=self._stuck, died=died, recovery_s=recovery_s)

    def fill(self, disk: SmallDisk) -> float:
        """Upload on a full disk."""
        disk.fill_bytes()
        self._expect(507, [self._upload(path) for path in _UPLOADS])
        self._expect_pages(200)
        disk.make_room()
        self._lost += len(self._files())
        return self._until(lambda: self._upload(_UPLOADS[0]) == 303)

    def lock(self) -> float:
        """Look at pages, and change something, while another program holds the database."""
        path = self._node.folder / "data" / "catalog.sqlite"
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("BEGIN EXCLUSIVE")
            self._expect_pages(200)
            self._expect(503, [self._add("late")])
            connection.execute("ROLLBACK")
        return self._until(lambda: self._add("late") == 200)

    def take_away(self, server: PostgreSQL) -> float:
        """Look at pages while the database is stopped."""
        server.stop()
        self._expect_pages(503)
        server.start()
        return self._until(lambda: self._status("/console/") == 200)

    def crowd(self) -> float:
        """Look at pages beside connections that send a byte and wait."""
        with ExitStack() as stack:
            for number in range(_CONNECTIONS):
                connection = stack.enter_context(socket.create_connection(("127.0.0.1", self._port), timeout=_WAIT_S))
                connection.sendall(b"POST /console/login HTTP/1.1\r\n"[: 1 + number % 28])
            begin = time.monotonic()
            self._expect_pages(200)
            seconds = time.monotonic() - begin
            self._stuck += seconds > _PAGE_S
            return seconds

    def kill_rendering(self, folder: Path) -> float:
        """Kill the process that decodes pictures while a picture is asked for."""
        study = written(folder, "pictured")
        assert stored(self._node, study) == [0]
        header = f"/console/studies/{study.uid}/metadata"
        self._until(lambda: self._status(header) == 200)
        (process,) = self._children("console.rendering")
        process.suspend()
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(self._visit.call, "GET", header)
            asked_s = time.monotonic()
            self._until(lambda: time.monotonic() - asked_s > _ASKED_S)
            process.send_signal(signal.SIGKILL)
            self._stuck += "ended the process that decodes pictures" not in answer.result(_WAIT_S).text
        return self._until(lambda: self._status(header) == 200)

    def kill(self) -> float:
        """Kill the node while uploads come in; start it again with the web interface, and once more without."""
        self._kill_in_uploads()
        recovery_s = self._node.start()
        self._lost += len(self._files())
        self._expect_pages(200)
        self._kill_in_uploads()
        text = self._node.config.read_text()
        self._node.config.write_text(text.replace("[web]\nenabled = true", "[web]\nenabled = false"))
        recovery_s = max(recovery_s, self._node.start())
        self._lost += len(self._files())
        return recovery_s

    def _kill_in_uploads(self) -> None:
        with ExitStack() as stack:
            for path in _UPLOADS:
                self._begin_upload(stack, path)
            self._until(lambda: len(self._files()) >= len(_UPLOADS))
            self._node.kill()

    def _begin_upload(self, stack: ExitStack, path: str) -> None:
        """Send a part of an upload."""
        cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in self._visit.session.cookies)
        lines = (
            f"POST /console/{path.format(secrets.token_hex(16))} HTTP/1.1",
            "Host: 127.0.0.1",
            f"Cookie: {cookies}",
            "Content-Type: multipart/form-data; boundary=b",
            "Content-Length: 9000000",
            '\r\n--b\r\nContent-Disposition: form-data; name="files"; filename="a.dcm"\r\n\r\n',
        )
        connection = stack.enter_context(socket.create_connection(("127.0.0.1", self._port), timeout=_WAIT_S))
        connection.sendall("\r\n".join(lines).encode() + _MARK * (_PART_BYTES // len(_MARK)))

    def _files(self) -> list[Path]:
        """Return the files below the data folder that hold the mark of an upload."""
        paths = (path for path in (self._node.folder / "data").rglob("*") if path.is_file())
        return [path for path in paths if _MARK in path.read_bytes()]

    def _upload(self, path: str) -> int:
        token = self._visit.csrf("/console/password")
        form = [("csrf", (None, token)), ("files", ("a.dcm", _MARK * 4))]
        return self._visit.call("POST", f"/console/{path.format(secrets.token_hex(16))}", files=form).status_code

    def _add(self, name: str) -> int:
        """Add a person; return the status of the answer."""
        fields = {"csrf": self._visit.csrf("/console/password"), "name": name, "role": "viewer"}
        return self._visit.call("POST", "/console/persons", data=fields).status_code

    def _status(self, path: str) -> int:
        return self._visit.call("GET", path).status_code

    def _expect_pages(self, status: int) -> None:
        self._expect(status, [self._status(page) for page in _PAGES])

    def _expect(self, status: int, answers: Sequence[int]) -> None:
        self._stuck += sum(answer != status for answer in answers)

    def _children(self, module: str) -> list[psutil.Process]:
        """Return the processes of the node that serve a module."""
        assert self._node.process
        children = psutil.Process(self._node.process.pid).children(recursive=True)
        return [child for child in children if module in " ".join(child.cmdline())]

    def _until(self, is_so: Callable[[], bool]) -> float:
        """Wait until something holds; return the seconds."""
        begin = time.monotonic()
        self._node.until(is_so, within_s=_WAIT_S)
        return time.monotonic() - begin
