"""A connected socket under TLS, in place of a bare `Channel`; imported only where `[node]` has a certificate."""

import contextlib
import socket
import ssl

from ainode.node.receiving.upper_layer import AssociationLost, Channel
from ainode.node.tls import HANDSHAKE_S, failure_reason


class SecureChannel(Channel):
    """Python's time limits instead of the kernel's, which OpenSSL does not see, and records instead of fragments.

    An SSL object is of one thread: whoever ends the association from another one closes the connection under it.
    """

    def __init__(self, connection: socket.socket, *, timeout_s: float, context: ssl.SSLContext) -> None:
        """Wrap the connection; nothing is read yet."""
        super().__init__(connection, timeout_s=timeout_s)
        self._timeout_s = timeout_s
        self._secured = self._socket = context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)

    def open(self) -> None:
        """Shake hands.

        Raises: AssociationLost if the caller speaks no TLS, shows no good certificate, or takes too long.
        """
        self._secured.settimeout(min(HANDSHAKE_S, self._timeout_s))
        try:
            self._secured.do_handshake()
        except OSError as error:
            self.cut()
            raise AssociationLost(f"no TLS with the caller: {failure_reason(error)}") from error
        self._secured.settimeout(self._timeout_s)

    def cut(self) -> None:
        """End the connection from another thread: without an A-ABORT, which would have to pass through TLS."""
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self._secured, socket.SHUT_RDWR)

    def close(self) -> None:
        """Say that nothing follows (RFC 8446 6.1), wait for no answer, and close."""
        with contextlib.suppress(OSError, ValueError):
            self._secured.settimeout(0.0)
            self._secured.unwrap()
        super().close()

    def _receive(self, into: memoryview) -> int:
        return self._secured.recv_into(into)
