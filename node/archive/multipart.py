"""multipart/related (RFC 2046, 2387) as a stream: the parts of an answer one after another, the parts of a request.

Nothing here holds more than one block of one part.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from email.message import Message
from io import BytesIO
from pathlib import Path

_BLOCK_BYTES = 65_536
# Of the header lines before a part; real ones are below 200 bytes.
_HEAD_BYTES = 16_384


def boundary_of(content_type: str) -> bytes | None:
    """Return the boundary of a multipart Content-Type, None for another one."""
    message = Message()
    message["Content-Type"] = content_type
    boundary = message.get_boundary()
    return boundary.encode("ascii", "replace") if boundary and message.get_content_maintype() == "multipart" else None


def parts(blocks: Iterable[bytes], boundary: bytes) -> Iterator[Iterator[bytes]]:
    """Yield each part's content as blocks; a part that is not read to its end is skipped when the next is asked for.

    Raises: ValueError if the message ends before its last boundary, or is none.
    """
    source = _Source(iter(blocks))
    delimiter = b"\r\n--" + boundary
    _drain(source.until(delimiter))
    while source.beginning(2) != b"--":
        head = 0
        for block in source.until(b"\r\n\r\n"):
            head += len(block)
            if head > _HEAD_BYTES:
                raise ValueError("the header lines of a part are too long")
        content = source.until(delimiter)
        yield content
        _drain(content)


@dataclass(slots=True)
class _Source:
    """What was received and not yet read; the first boundary may stand at the very beginning, without its CRLF."""

    blocks: Iterator[bytes]
    buffer: bytearray = field(default_factory=lambda: bytearray(b"\r\n"))

    def more(self) -> None:
        block = next(self.blocks, None)
        if block is None:
            raise ValueError("the message ends in the middle")
        self.buffer += block

    def beginning(self, size: int) -> bytes:
        while len(self.buffer) < size:
            self.more()
        return bytes(self.buffer[:size])

    def until(self, delimiter: bytes) -> Iterator[bytes]:
        """Yield what stands before the delimiter, and go behind it."""
        while (at := self.buffer.find(delimiter)) < 0:
            safe = len(self.buffer) - len(delimiter) + 1  # a delimiter may lie across two blocks
            if safe > 0:
                yield bytes(self.buffer[:safe])
                del self.buffer[:safe]
            self.more()
        if at:
            yield bytes(self.buffer[:at])
        del self.buffer[: at + len(delimiter)]


def _drain(blocks: Iterator[bytes]) -> None:
    for _ in blocks:
        pass


@dataclass(frozen=True, slots=True)
class Body:
    """The body of a request: DICOM files as parts, read from the disk when they are sent; its length is known before.

    A length instead of chunks: not every archive takes a chunked request.
    """

    contents: tuple[Path | bytes, ...] = field(repr=False)
    boundary: str

    @property
    def content_type(self) -> str:
        """Return the media type that goes with it (PS3.18 8.6.1.2)."""
        return f'multipart/related; type="application/dicom"; boundary={self.boundary}'

    def __len__(self) -> int:
        frame = len(self._head()) * len(self.contents) + len(self._tail())
        return frame + sum(one.stat().st_size if isinstance(one, Path) else len(one) for one in self.contents)

    def __iter__(self) -> Iterator[bytes]:
        for content in self.contents:
            yield self._head()
            # in blocks, of bytes too: each has the connection's time limit for itself
            with content.open("rb") if isinstance(content, Path) else BytesIO(content) as stream:
                while block := stream.read(_BLOCK_BYTES):
                    yield block
        yield self._tail()

    def _head(self) -> bytes:
        return f"\r\n--{self.boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode("ascii")

    def _tail(self) -> bytes:
        return f"\r\n--{self.boundary}--\r\n".encode("ascii")
