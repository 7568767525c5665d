"""The copy of the trail on another machine: syslog over TLS (RFC 5425), in the order of the trail, at least once.

The files of the trail are the queue. RFC 5425 has no acknowledgment: a record counts as delivered when the connection
lives five seconds after it and the other side's kernel has taken every byte; what does not count is sent again.
"""

import errno
import fcntl
import logging
import socket
import ssl
import struct
import termios
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from ainode.node import tls
from ainode.node.audit.trail import Trail, lines, state
from ainode.node.disk import write_durably
from ainode.node.domain.pauses import back_off_s
from ainode.node.errors import ConfigError
from ainode.node.settings import Settings
from ainode.node.threads import WakeableThread

_log = logging.getLogger(__name__)
_POLL_S: Final = 1.0
_PROOF_S: Final = 5.0
_TIMEOUT_S: Final = 10.0
_STOP_S: Final = 3.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 60.0


@dataclass(frozen=True, slots=True, order=True)
class _Position:
    """How much of the trail was sent: the name of a file, and the bytes before this place of the file."""

    name: str = ""
    offset: int = 0


class Forwarder(WakeableThread):
    """A thread that sends what the trail has and a collector lacks; a collector that is away costs nothing else.

    A stop sends what the trail has if the collector is connected; the next start sends what is left.
    """

    def __init__(self, settings: Settings, worker: str = "") -> None:
        """Start no thread yet; of the trail of the node, or of a worker.

        Raises: ConfigError if a certificate of `[audit]` is missing, or is not what it should be.
        """
        super().__init__("audit forwarder", stop_s=_STOP_S)
        self._host, self._port = settings.audit.syslog_host, settings.audit.syslog_port
        self._table, self._folder = settings.audit, Trail.of(settings, worker).folder
        self._path, self._failures = self._folder / "forwarded", 0
        tls.collecting(self._table)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                with self._connected() as connection:
                    self._forward(connection)
            except (OSError, ConfigError) as error:
                if not self._failures:
                    reason = tls.failure_reason(error) if isinstance(error, OSError) else str(error)
                    sentence = "audit: the collector %s:%d gets no copy (%s); the trail keeps all for it"
                    _log.warning(sentence, self._host, self._port, reason, extra={"action": "audit_not_forwarded"})
                pause_s = back_off_s(self._failures, first_s=_FIRST_PAUSE_S, longest_s=_LONGEST_PAUSE_S)
                self._stopping.wait(pause_s)
                self._failures += 1

    def _connected(self) -> ssl.SSLSocket:
        """Return a connection; the files of the certificates are read anew.

        Raises: OSError, ConfigError.
        """
        context = tls.collecting(self._table)
        plain = socket.create_connection((self._host, self._port), _TIMEOUT_S)
        # A connection that nobody acknowledges ends, so that no record counts as delivered over it.
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(_TIMEOUT_S * 1000))
        return context.wrap_socket(plain, server_hostname=self._host)

    def _forward(self, connection: ssl.SSLSocket) -> None:
        """Send until the node stops.

        Raises: OSError if the connection is lost.
        """
        position = proven = unproven = self._delivered()
        since_s = time.monotonic()
        while not self._stopping.is_set():
            self._woken.clear()
            position = self._send(connection, position)
            if unproven == proven:
                unproven, since_s = position, time.monotonic()
            elif time.monotonic() - since_s >= _PROOF_S and _is_taken(connection):
                proven = self._note_delivered(unproven)
            self._woken.wait(_POLL_S)
            _refuse_closed(connection)
        self._send(connection, position)
        deadline_s = time.monotonic() + _POLL_S
        while not _is_taken(connection) and time.monotonic() < deadline_s:
            time.sleep(_POLL_S / 100)
        _refuse_closed(connection)  # a close with unread bytes would take back what the other side has not read
        connection.settimeout(_POLL_S)
        with suppress(OSError):
            connection.unwrap()

    def _send(self, connection: ssl.SSLSocket, position: _Position) -> _Position:
        """Send what the trail has after a position, and return the end of it.

        Raises: OSError.
        """
        for path, size in state(self._folder)[1].items():
            if path.name < position.name:
                continue
            offset = position.offset if path.name == position.name else 0
            for line in lines(path, offset, size):
                message = line.removesuffix(b"\n")
                connection.sendall(b"%d %b" % (len(message), message))
                offset += len(line)
            position = _Position(path.name, offset)
        return position

    def _delivered(self) -> _Position:
        """Return the position that an earlier connection proved."""
        try:
            name, offset = self._path.read_text(encoding="ascii").split()
            return _Position(name, int(offset))
        except (FileNotFoundError, ValueError):
            return _Position()

    def _note_delivered(self, position: _Position) -> _Position:
        """Keep a position for the next connection; a disk that is full means that records are sent again."""
        if self._failures:
            _log.info("audit: the collector gets its copy again", extra={"action": "audit_forwarded"})
        self._failures = 0
        with suppress(OSError):
            write_durably(self._path, f"{position.name} {position.offset}".encode(), mode=0o600)
        return position


def _is_taken(connection: ssl.SSLSocket) -> bool:
    """Return whether the other side's kernel has acknowledged every byte (tcp(7), SIOCOUTQ)."""
    (waiting_bytes,) = struct.unpack("i", fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, b"\0" * 4))
    return not waiting_bytes


def _refuse_closed(connection: ssl.SSLSocket) -> None:
    """Read what a collector says, which is nothing but TLS's own records.

    Raises: OSError if the collector closed the connection.
    """
    connection.settimeout(0)
    try:
        content = connection.recv(4096)
    except ssl.SSLWantReadError:
        return
    finally:
        connection.settimeout(_TIMEOUT_S)
    if not content:
        raise OSError(errno.ECONNRESET, "the collector closed the connection")
