"""multipart/related (RFC 2046, 2387) as a stream: `parts` reads an answer, `Body` writes a request.

No more than one block of one part is in memory.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from email.message import Message
from io import BytesIO
from pathlib import Path

_BLOCK_BYTES = 65_536
# The limit of the preamble, and of the header lines of a part; real header lines have less than 200 bytes.
_MAX_HEAD_BYTES = 16_384


def boundary_of(content_type: str) -> bytes | None:
    """Return the boundary of a multipart Content-Type, None for any other Content-Type."""
    message = Message()
    message["Content-Type"] = content_type
    boundary = message.get_boundary()
    return boundary.encode("ascii", "replace") if boundary and message.get_content_maintype() == "multipart" else None


def parts(blocks: Iterable[bytes], boundary: bytes) -> Iterator[Iterator[bytes]]:
    """Yield the content of each part as blocks; the next part is reached even if the caller leaves blocks unread.

    Raises: as `entries`.
    """
    return (content for _, content in entries(blocks, boundary))


def entries(blocks: Iterable[bytes], boundary: bytes) -> Iterator[tuple[bytes, Iterator[bytes]]]:
    """Yield the header lines of each part, and its content as blocks, of which the caller may leave some unread.

    Raises: ValueError if the message ends before its last boundary, has no boundary, or has too long a preamble.
    """
    source = _Source(iter(blocks))
    delimiter = b"\r\n--" + boundary
    _head(source.until(delimiter))
    while source.peek(2) != b"--":
        head = _head(source.until(b"\r\n\r\n"))
        content = source.until(delimiter)
        yield head, content
        deque(content, maxlen=0)


@dataclass(slots=True)
class _Source:
    """The bytes of a message that are received and not yet read.

    The buffer starts with CRLF, since the first boundary may stand at the start of a message without its CRLF.
    """

    blocks: Iterator[bytes]
    buffer: bytearray = field(default_factory=lambda: bytearray(b"\r\n"))

    def receive(self) -> None:
        """Add the next block to the buffer.

        Raises: ValueError if there is no block left.
        """
        block = next(self.blocks, None)
        if block is None:
            raise ValueError("the message ends in the middle")
        self.buffer += block

    def peek(self, size: int) -> bytes:
        """Return the next bytes, and leave the bytes in the buffer."""
        while len(self.buffer) < size:
            self.receive()
        return bytes(self.buffer[:size])

    def until(self, delimiter: bytes) -> Iterator[bytes]:
        """Yield the bytes before the delimiter, and remove the delimiter."""
        while (index := self.buffer.find(delimiter)) < 0:
            content_bytes = len(self.buffer) - len(delimiter) + 1  # a delimiter may lie across two blocks
            if content_bytes > 0:
                yield bytes(self.buffer[:content_bytes])
                del self.buffer[:content_bytes]
            self.receive()
        if index:
            yield bytes(self.buffer[:index])
        del self.buffer[: index + len(delimiter)]


def _head(blocks: Iterator[bytes]) -> bytes:
    """Return what stands before the content of a part.

    Raises: ValueError if the bytes are too many.
    """
    head = bytearray()
    for block in blocks:
        head += block
        if len(head) > _MAX_HEAD_BYTES:
            raise ValueError("the preamble or the header lines of a part are too long")
    return bytes(head)


@dataclass(frozen=True, slots=True)
class Body:
    """The body of a request: each DICOM file is a part, and is read from the disk when the part is sent.

    The body has a length, since not every archive takes a chunked request.
    """

    contents: tuple[Path | bytes, ...] = field(repr=False)
    boundary: str

    @property
    def content_type(self) -> str:
        """Return the Content-Type of the request (PS3.18 8.6.1.2)."""
        return f'multipart/related; type="application/dicom"; boundary={self.boundary}'

    def __len__(self) -> int:
        sizes = (content.stat().st_size if isinstance(content, Path) else len(content) for content in self.contents)
        return len(self._head()) * len(self.contents) + sum(sizes) + len(self._tail())

    def __iter__(self) -> Iterator[bytes]:
        for content in self.contents:
            yield self._head()
            # The time limit of the connection holds for each block, so that bytes are sent in blocks too.
            with content.open("rb") if isinstance(content, Path) else BytesIO(content) as stream:
                while block := stream.read(_BLOCK_BYTES):
                    yield block
        yield self._tail()

    def _head(self) -> bytes:
        return f"\r\n--{self.boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode("ascii")

    def _tail(self) -> bytes:
        return f"\r\n--{self.boundary}--\r\n".encode("ascii")
