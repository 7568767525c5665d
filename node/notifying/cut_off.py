"""An end for who drips: a byte now and then keeps no connection open beyond its limit."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Protocol


class Connected(Protocol):
    """What has a socket while it is connected: connections of `http.client` and of `smtplib`."""

    sock: socket.socket | None


@contextmanager
def cut_off(connection: Connected, limit_s: float) -> Iterator[None]:
    """Shut the socket of a connection down if the body is not left within the limit."""

    def shut() -> None:
        with suppress(OSError, AttributeError):
            connection.sock.shutdown(socket.SHUT_RDWR)  # type: ignore[union-attr]

    timer = threading.Timer(limit_s, shut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
