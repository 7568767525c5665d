"""A TCP proxy that knows where a PDU begins and ends (PS3.8 9.3.1), and does harm there."""

import contextlib
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Self

from support.servers import free_port

_HEADER: Final = struct.Struct(">BxI")
_P_DATA: Final = 4
_TIMEOUT_S: Final = 30.0


class Side(StrEnum):
    """Who speaks."""

    CALLER = "caller"
    CALLED = "called"


class Harm(StrEnum):
    """What happens to a connection at a PDU."""

    CUT_BEFORE = "cut before"
    CUT_INSIDE = "cut inside"
    CUT_BEHIND = "cut behind"
    STALL = "stall"
    """half of the PDU, then nothing more until `Proxy.calm`"""
    DUPLICATE = "duplicate"
    REPLAY = "replay"
    """all bytes of the caller again, on a second connection"""
    WRONG_TYPE = "wrong type"
    WRONG_LENGTH = "wrong length"
    WRONG_CONTEXT = "wrong context"
    SILENCE = "silence"
    """the connection is accepted, and nothing is ever said"""


@dataclass(frozen=True, slots=True)
class Fault:
    """One harm to one connection: at the PDU of that number of that side."""

    harm: Harm
    side: Side = Side.CALLER
    number: int = 0


@dataclass
class _Connection:
    """A caller, whom the caller reaches, and the harm that is done."""

    caller: socket.socket
    called: socket.socket
    fault: Fault | None
    heard: bytearray = field(default_factory=bytearray)
    """the bytes of the caller, where they are to be replayed"""

    def close(self, *, abruptly: bool = False) -> None:
        """Close both ends; abruptly, the ends get a reset (RST) and lose what they have not read."""
        for end in (self.caller, self.called):
            with contextlib.suppress(OSError):
                if abruptly:
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                end.shutdown(socket.SHUT_RDWR)
            end.close()


class Proxy:
    """Passes PDUs between callers and a port; the next connections suffer the `faults`, one each."""

    def __init__(self, target_port: int) -> None:
        self.target_port, self.port = target_port, free_port()
        self.faults: deque[Fault] = deque()
        self.delay_s = 0.0
        """before each PDU"""
        self.times = 0
        """how many connections suffered a fault"""
        self._calm = threading.Event()
        self._connections: list[_Connection] = []
        self._listener: socket.socket | None = None

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        self.calm()

    def open(self) -> None:
        """Accept callers."""
        listener = socket.create_server(("127.0.0.1", self.port), backlog=64)
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def close(self) -> None:
        """Refuse callers, and cut those that are connected."""
        if self._listener:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        for connection in tuple(self._connections):
            connection.close(abruptly=True)

    def calm(self) -> None:
        """End every stall and silence, and forget the faults that nobody suffered yet."""
        self.faults.clear()
        self._calm.set()
        self._calm = threading.Event()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                caller, _ = listener.accept()
            except OSError:
                return
            fault = self._next_fault()
            threading.Thread(target=self._serve, args=(caller, fault), daemon=True).start()

    def _next_fault(self) -> Fault | None:
        if not self.faults:
            return None
        self.times += 1
        return self.faults.popleft()

    def _serve(self, caller: socket.socket, fault: Fault | None) -> None:
        if fault and fault.harm is Harm.SILENCE:
            with caller:
                self._calm.wait()
            return
        try:
            called = socket.create_connection(("127.0.0.1", self.target_port), _TIMEOUT_S)
        except OSError:
            caller.close()
            return
        for end in (caller, called):
            end.settimeout(None)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = _Connection(caller, called, fault)
        self._connections.append(connection)
        back = threading.Thread(target=self._pass, args=(connection, Side.CALLED), daemon=True)
        back.start()
        self._pass(connection, Side.CALLER)
        back.join()
        connection.close()
        self._connections.remove(connection)
        if fault and fault.harm is Harm.REPLAY:
            self._replay(bytes(connection.heard))

    def _pass(self, connection: _Connection, side: Side) -> None:
        """Pass what a side says, PDU by PDU, until the side or the harm ends it."""
        source, target = connection.caller, connection.called
        if side is Side.CALLED:
            source, target = target, source
        fault = connection.fault
        with contextlib.suppress(OSError):
            for number, pdu in enumerate(_pdus(source)):
                time.sleep(self.delay_s)
                if side is Side.CALLER and fault and fault.harm is Harm.REPLAY:
                    connection.heard += pdu
                if fault and (fault.side, fault.number) == (side, number):
                    self._harm(connection, target, pdu, fault.harm)
                else:
                    target.sendall(pdu)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    def _harm(self, connection: _Connection, target: socket.socket, pdu: bytes, harm: Harm) -> None:
        match harm:
            case Harm.CUT_BEFORE:
                connection.close(abruptly=True)
            case Harm.CUT_INSIDE:
                target.sendall(pdu[: len(pdu) // 2])
                connection.close()
            case Harm.CUT_BEHIND:
                target.sendall(pdu)
                connection.close(abruptly=True)
            case Harm.STALL:
                target.sendall(pdu[: len(pdu) // 2])
                self._calm.wait()
                connection.close(abruptly=True)
            case Harm.DUPLICATE:
                target.sendall(pdu + pdu)
            case _:
                target.sendall(_corrupted(pdu, harm))

    def _replay(self, content: bytes) -> None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.target_port), _TIMEOUT_S) as end:
            end.sendall(content)
            end.shutdown(socket.SHUT_WR)
            while end.recv(1 << 16):
                pass


def _pdus(source: socket.socket) -> Iterator[bytes]:
    """Yield each PDU, header included; what is cut off in the middle is lost."""
    while header := _exactly(source, _HEADER.size):
        _, length = _HEADER.unpack(header)
        body = _exactly(source, length)
        if len(body) < length:
            return
        yield header + body


def _exactly(source: socket.socket, count: int) -> bytes:
    """Return that many bytes, fewer where the source ended."""
    content = bytearray()
    while len(content) < count:
        block = source.recv(count - len(content))
        if not block:
            break
        content += block
    return bytes(content)


def _corrupted(pdu: bytes, harm: Harm) -> bytes:
    """Return a PDU whose envelope is wrong; DICOM protects no byte of a data set, which TCP's checksum does."""
    kind, length = _HEADER.unpack_from(pdu)
    if harm is Harm.WRONG_TYPE:
        return b"\xee" + pdu[1:]
    if harm is Harm.WRONG_CONTEXT and kind == _P_DATA:
        return pdu[:10] + b"\xfe" + pdu[11:]
    return _HEADER.pack(kind, length // 2 + 1) + pdu[_HEADER.size :]


@contextmanager
def proxies(*ports: int) -> Iterator[tuple[Proxy, ...]]:
    """Run a proxy before each port."""
    with contextlib.ExitStack() as stack:
        yield tuple(stack.enter_context(Proxy(port)) for port in ports)
