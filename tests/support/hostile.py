"""Hostile callers, some hundred at once: each calls a port, does harm in its own way, and calls again once cut off.

All of them are coroutines of one thread, so that they cost the machine little. `python -m support.hostile PORT` runs
them beside another process, until the input ends.
"""

import argparse
import asyncio
import contextlib
import itertools
import ssl
import struct
import sys
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TypeAlias

from support.caller import CT, IMPLICIT, associate, data_set, store_request

DRIP_S = 1.0
REDIAL_S = 0.05
REQUEST = associate(((CT, IMPLICIT),), called="AINODE", calling="STRANGER")
ABORT = struct.pack(">BxII", 7, 4, 0)
GARBAGE = bytes(range(255, -1, -1)) * 16
HEADERS = b"POST /studies HTTP/1.1\r\nHost: node\r\nContent-Type: application/dicom\r\n"
BODY = HEADERS + b"Content-Length: 1000000\r\n\r\n" + bytes(100)


@dataclass(frozen=True)
class Line:
    """The connection of one hostile caller."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, content: bytes) -> None:
        self.writer.write(content)
        await self.writer.drain()

    async def drip(self, content: bytes) -> None:
        """Send one byte a second, without end."""
        for byte in itertools.chain(content, itertools.repeat(0)):
            await self.send(bytes((byte,)))
            await self.silence(DRIP_S)

    async def silence(self, seconds: float = 3600.0) -> None:
        """Send nothing until the node ends the connection, or for some seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while await self.reader.read(4096):
                    pass
                raise ConnectionResetError

    async def associate(self) -> None:
        """Open an association; a rejection ends the call."""
        await self.send(REQUEST)
        kind, length = struct.unpack(">BxI", await self.reader.readexactly(6))
        await self.reader.readexactly(length)
        if kind != 2:
            raise ConnectionResetError


Behavior: TypeAlias = Callable[[Line], Awaitable[None]]


def value_pdu(content: bytes, control: int) -> bytes:
    """Return a P-DATA-TF of one value."""
    value = struct.pack(">IBB", len(content) + 2, 1, control) + content
    return struct.pack(">BxI", 4, len(value)) + value


STORE = value_pdu(store_request(CT, "1.3.666"), 0x03)
DATA = value_pdu(data_set("1.3.666"), 0x02)


async def is_silent(line: Line) -> None:
    await line.silence()


async def drips_the_request(line: Line) -> None:
    await line.drip(REQUEST)


async def sends_half_a_request(line: Line) -> None:
    await line.send(REQUEST[: len(REQUEST) // 2])
    await line.silence()


async def sends_garbage(line: Line) -> None:
    await line.send(GARBAGE)
    await line.silence()


async def associates_and_is_silent(line: Line) -> None:
    await line.associate()
    await line.silence()


async def drips_data(line: Line) -> None:
    await line.associate()
    await line.send(STORE)
    await line.drip(DATA)


async def sends_half_a_pdu(line: Line) -> None:
    await line.associate()
    await line.send(STORE + DATA[: len(DATA) // 2])
    await line.silence()


async def aborts_in_data(line: Line) -> None:
    await line.associate()
    await line.send(STORE + value_pdu(data_set("1.3.666")[:5000], 0x00) + ABORT)
    await line.silence()


async def drips_headers(line: Line) -> None:
    await line.drip(HEADERS + b"X: ")


async def drips_a_body(line: Line) -> None:
    await line.send(BODY)
    await line.drip(b"")


DIMSE: Mapping[str, Behavior] = MappingProxyType(
    {
        "silent": is_silent,
        "drips a request": drips_the_request,
        "half a request": sends_half_a_request,
        "garbage": sends_garbage,
        "silent association": associates_and_is_silent,
        "drips data": drips_data,
        "half a PDU": sends_half_a_pdu,
        "aborts in data": aborts_in_data,
    }
)
HTTP: Mapping[str, Behavior] = MappingProxyType(
    {"silent": is_silent, "garbage": sends_garbage, "slow headers": drips_headers, "slow body": drips_a_body}
)


@dataclass
class Crowd:
    """What the hostile callers reached so far."""

    port: int
    tls: ssl.SSLContext | None
    count: int
    calls: Counter[str] = field(default_factory=Counter)
    """connections that were opened, by behavior"""
    connected: set[int] = field(default_factory=set)
    """callers that had a connection at least once"""
    all_connected: threading.Event = field(default_factory=threading.Event)

    def note(self, number: int, behavior: str) -> None:
        self.calls[behavior] += 1
        self.connected.add(number)
        if len(self.connected) == self.count:
            self.all_connected.set()


async def call_again_and_again(crowd: Crowd, number: int, behavior: str) -> None:
    """Call, misbehave, and call again a moment after the node has ended the connection."""
    act = (DIMSE | HTTP)[behavior]
    while True:
        with contextlib.suppress(OSError, EOFError):
            reader, writer = await asyncio.open_connection("127.0.0.1", crowd.port, ssl=crowd.tls)
            crowd.note(number, behavior)
            try:
                await act(Line(reader, writer))
            finally:
                writer.transport.abort()
        await asyncio.sleep(REDIAL_S)


@contextlib.contextmanager
def hostile_callers(
    port: int, behaviors: Sequence[str], *, count: int = 200, tls: ssl.SSLContext | None = None
) -> Iterator[Crowd]:
    """Let so many callers, who share the behaviors among them, call a port of this machine until the context ends."""
    crowd = Crowd(port, tls, count)
    loop = asyncio.new_event_loop()
    names = list(itertools.islice(itertools.cycle(behaviors), count))

    async def run() -> None:
        async with asyncio.TaskGroup() as group:
            for number, name in enumerate(names):
                group.create_task(call_again_and_again(crowd, number, name))

    task = loop.create_task(run())

    def serve() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            loop.run_until_complete(task)
        loop.close()

    thread = threading.Thread(target=serve, name="hostile callers", daemon=True)
    thread.start()
    try:
        assert crowd.all_connected.wait(240), f"{len(crowd.connected)} of {count} callers reached port {port}"
        yield crowd
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("--http", action="store_true")
    parser.add_argument("--count", type=int, default=200)
    options = parser.parse_args()
    with hostile_callers(options.port, list(HTTP if options.http else DIMSE), count=options.count) as crowd:
        begin = time.monotonic()
        sys.stdin.read()
        sys.stdout.write(f"{dict(crowd.calls)} in {time.monotonic() - begin:.0f} s\n")


if __name__ == "__main__":
    main()
