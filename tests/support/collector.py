"""A syslog collector over TLS that takes messages apart as RFC 5425 4.3 says, without the node's own code."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable
from typing import Self

from support.certificates import Certificate
from support.servers import free_port
from support.waiting import until


class Collector:
    """Accepts connections on a port of loopback until it is closed; a caller needs a certificate of the authority."""

    def __init__(self, authority: Certificate, certificate: Certificate, port: int | None = None) -> None:
        self.port = port or free_port()
        self.messages: list[bytes] = []
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate.path, certificate.key)
        self._context.load_verify_locations(authority.path)
        self._context.verify_mode = ssl.CERT_REQUIRED
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._listener.settimeout(0.05)
        self._is_open = True
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._is_open = False
        self._thread.join()
        self._listener.close()

    def until(self, true: Callable[[], bool]) -> None:
        """Wait until something holds."""
        until(true, shown=lambda: f"{len(self.messages)} messages")

    def _accept(self) -> None:
        while self._is_open:
            with contextlib.suppress(OSError):  # no caller, or one who has no certificate, or leaves
                plain, _ = self._listener.accept()
                plain.settimeout(60)
                with self._context.wrap_socket(plain, server_side=True) as connection:
                    connection.settimeout(0.05)
                    self._take(connection)

    def _take(self, connection: ssl.SSLSocket) -> None:
        content = b""
        while self._is_open:
            try:
                received = connection.recv(65536)
            except TimeoutError:
                continue
            except OSError:
                return
            if not received:
                return
            content += received
            # MSG-LEN SP SYSLOG-MSG; no zero stands first.
            while (end := content.find(b" ")) > 0 and len(content) > end + int(content[:end]):
                assert content[:end].isdigit()
                assert not content.startswith(b"0")
                length = end + 1 + int(content[:end])
                self.messages.append(content[end + 1 : length])
                content = content[length:]
