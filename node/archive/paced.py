"""Connections to an HTTP server with time limits on the whole: each step could take its own limit again and again."""

import io
import socket
import time
from contextlib import suppress
from functools import partial
from http.client import HTTPResponse
from typing import Any, Final

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool

from ainode.node.archive.search import Deadline

# Of a request that is sent: over TLS each record of 16 kB has a time limit of its own, and a delivery could take days.
_LOWEST_BYTES_PER_S: Final = 4_096


def pool_classes(timeout_s: float, deadline: Deadline | None) -> dict[str, Any]:
    """Return the classes of `PoolManager.pool_classes_by_scheme`; without a deadline an answer may take `timeout_s`."""
    response_class = staticmethod(partial(_Response, timeout_s, deadline))
    classes = {}
    for scheme, pool_class in (("http", HTTPConnectionPool), ("https", HTTPSConnectionPool)):
        attributes = {"response_class": response_class, "paced_timeout_s": timeout_s}
        connection_class = type("Connection", (_Sending, pool_class.ConnectionCls), attributes)
        classes[scheme] = type("Pool", (pool_class,), {"ConnectionCls": connection_class})
    return classes


class _Sending:
    """The part of a connection that sends a request."""

    paced_timeout_s: float
    _begin_s = 0.0
    _sent_bytes = 0

    def putrequest(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401 - as the base class
        """Begin a request, and its time."""
        self._begin_s, self._sent_bytes = time.monotonic(), 0
        return super().putrequest(*args, **options)  # type: ignore[misc] # of the class that is mixed in

    def send(self, data: Any) -> None:  # noqa: ANN401 - as the base class
        """Send a block of a request.

        Raises: TimeoutError if the server takes the request too slowly.
        """
        super().send(data)  # type: ignore[misc] # of the class that is mixed in
        self._sent_bytes += len(data)
        if time.monotonic() - self._begin_s > self.paced_timeout_s + self._sent_bytes / _LOWEST_BYTES_PER_S:
            raise TimeoutError("the server takes the request too slowly")


class _Response(HTTPResponse):
    """An answer, from its first byte to its last."""

    def __init__(
        self,
        timeout_s: float,
        deadline: Deadline | None,
        sock: socket.socket,
        *args: Any,  # noqa: ANN401 - as the base class
        **options: Any,  # noqa: ANN401 - as the base class
    ) -> None:
        super().__init__(sock, *args, **options)
        self.fp.close()
        self.fp = io.BufferedReader(_Receiving(sock, timeout_s, deadline))


class _Receiving(io.RawIOBase):
    """The bytes of a socket before a deadline; without a deadline the time begins with the first byte."""

    def __init__(self, sock: socket.socket, timeout_s: float, deadline: Deadline | None) -> None:
        self._socket, self._timeout_s, self._deadline = sock, timeout_s, deadline
        self._raw = sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int | None:  # noqa: ANN401 - as the base class
        """Read once.

        Raises: ArchiveUnreachable after the deadline.
        """
        self._socket.settimeout((self._deadline or Deadline()).remaining_s(self._timeout_s))
        # Where the server collects small pieces (Nagle), a body waits 40 ms for the delayed acknowledgment of its head.
        # The kernel forgets the option now and then (tcp(7)).
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        size = None
        with suppress(TimeoutError):
            size = self._raw.readinto(buffer)
        if size is None:
            (self._deadline or Deadline()).check()
            raise TimeoutError("the server pauses too long")
        self._deadline = self._deadline or Deadline.within(self._timeout_s)
        return size

    def close(self) -> None:
        """Let go of the socket."""
        self._raw.close()
        super().close()
