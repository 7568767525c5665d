"""Questions and answers between the node and a reader process: pickled objects, each behind its length."""

import io
import pickle
import select
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from io import BufferedRWPair
from typing import Final

_LENGTH: Final = struct.Struct(">Q")
_BLOCK_BYTES: Final = 1 << 20
# More than the documents of any study; the length of an answer is the word of the other process.
_MOST_BYTES: Final = 1 << 32
_PATIENCE_MS: Final = 200
# What `pickle` names as its errors on bytes that nobody pickled.
_UNPICKLING_ERRORS: Final = (
    *(pickle.UnpicklingError, AttributeError, EOFError, ImportError, LookupError),
    *(MemoryError, OverflowError, TypeError, ValueError, struct.error),
)


class NotAnAnswer(Exception):
    """The bytes of the other process hold no answer of the node's own types."""


@dataclass(frozen=True, slots=True)
class Failure:
    """An error on the way to the node: the name of its class, so that the node raises only classes of its own."""

    kind: str
    message: str
    is_built: bool
    """whether the handler was built before; if not, the process ends, so that a mended handler is imported anew"""


class Channel:
    """The node's end. A process that neither reads nor writes keeps the node waiting until a limit, and no longer."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        end.settimeout(0)

    def send(self, question: object, refuse_overdue: Callable[[], None]) -> None:
        """Send a question; `refuse_overdue` is called while the process reads nothing, and raises at a limit.

        Raises: OSError if the process ended; what `refuse_overdue` raises.
        """
        content = pickle.dumps(question)
        remainder = memoryview(_LENGTH.pack(len(content)) + content)
        while remainder:
            self._wait(select.POLLOUT, refuse_overdue)
            remainder = remainder[self._end.send(remainder) :]

    def receive(self, refuse_overdue: Callable[[], None], *, most_bytes: int = _MOST_BYTES) -> bytes:
        """Return the bytes of an answer; `refuse_overdue` is called while the answer is not whole.

        Raises: EOFError, OSError if the process ended; NotAnAnswer; what `refuse_overdue` raises.
        """
        (length,) = _LENGTH.unpack(self._received(_LENGTH.size, refuse_overdue))
        if length > most_bytes:
            raise NotAnAnswer(f"an answer of {length} bytes; {most_bytes} are taken at most")
        return self._received(length, refuse_overdue)

    def close(self) -> None:
        """Close the node's end."""
        self._end.close()

    def _received(self, length: int, refuse_overdue: Callable[[], None]) -> bytes:
        content = bytearray()
        while len(content) < length:
            self._wait(select.POLLIN, refuse_overdue)
            block = self._end.recv(min(length - len(content), _BLOCK_BYTES))
            if not block:
                raise EOFError
            content += block
        return bytes(content)

    def _wait(self, event: int, refuse_overdue: Callable[[], None]) -> None:
        """Wait until the socket takes or gives bytes."""
        poll = select.poll()
        poll.register(self._end, event)
        refuse_overdue()  # also where bytes never cease to come
        while not poll.poll(_PATIENCE_MS):
            refuse_overdue()


class _Pickler(pickle.Pickler):
    """Writes an enumeration by its value: Python 3.11.2 of Debian 12 writes `getattr`, which `_Unpickler` refuses."""

    def reducer_override(self, value: object) -> tuple[type[Enum], tuple[object]]:
        """Return how a value is built anew."""
        return (type(value), (value.value,)) if isinstance(value, Enum) else NotImplemented


class _Unpickler(pickle.Unpickler):
    """Builds the nouns of the node alone: another class would import the code of a handler into the node's process."""

    def find_class(self, module: str, name: str) -> object:
        """Return a class of the domain, or `Failure`."""
        if module.startswith("ainode.node.domain.") or (module, name) == (__name__, Failure.__name__):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name} is no noun of the node")


def answer_bytes(answer: object) -> bytes:
    """Return an answer as the bytes that `answer_in` takes."""
    file = io.BytesIO()
    _Pickler(file).dump(answer)
    return file.getvalue()


def answer_in(content: bytes) -> object:
    """Return the object in the bytes of an answer.

    Raises: NotAnAnswer that says why, without a value of the answer.
    """
    try:
        return _Unpickler(io.BytesIO(content)).load()
    except pickle.UnpicklingError as error:
        raise NotAnAnswer(str(error)) from error
    except _UNPICKLING_ERRORS as error:
        raise NotAnAnswer(type(error).__name__) from error


def question_from(file: BufferedRWPair) -> object:
    """Return the next question that the node sent to this process.

    Raises: EOFError if the node closed its end.
    """
    head = file.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        raise EOFError
    (length,) = _LENGTH.unpack(head)
    return pickle.loads(file.read(length))  # noqa: S301 - the node wrote it


def write_answer(file: BufferedRWPair, content: bytes) -> None:
    """Send the bytes of an answer to the node."""
    file.write(_LENGTH.pack(len(content)))
    file.write(content)
    file.flush()
