"""A channel under TLS; the receiver imports this module only if `[node]` has a certificate."""

import contextlib
import socket
import ssl

from ainode.node.certificates import identities
from ainode.node.receiving.upper_layer import AssociationLost, Channel
from ainode.node.tls import HANDSHAKE_S, failure_reason


class SecureChannel(Channel):
    """A channel with TLS. Python enforces its time limits, because OpenSSL does not see the kernel's.

    A read returns a TLS record and not a whole fragment. Only one thread may use an SSL object, so another thread ends
    the association by closing the connection below TLS.
    """

    def __init__(self, connection: socket.socket, *, timeout_s: float, context: ssl.SSLContext) -> None:
        """Wrap the connection; nothing is read yet."""
        super().__init__(connection, timeout_s=timeout_s)
        self._timeout_s = timeout_s
        self._tls_socket = self._socket = context.wrap_socket(
            connection, server_side=True, do_handshake_on_connect=False
        )

    def open(self) -> None:
        """Do the TLS handshake.

        Raises: AssociationLost if the caller speaks no TLS, has no valid certificate, or takes too long.
        """
        self._tls_socket.settimeout(min(HANDSHAKE_S, self._timeout_s))
        try:
            self._tls_socket.do_handshake()
        except OSError as error:
            self.interrupt()
            raise AssociationLost(f"no TLS with the caller: {failure_reason(error)}") from error
        self._tls_socket.settimeout(self._timeout_s)

    def identities(self) -> frozenset[str]:
        """Return the identities of the certificate that the handshake verified, none without such a certificate."""
        der = self._tls_socket.getpeercert(binary_form=True)
        return identities(self._tls_socket.getpeercert() or {}, der or b"")

    def interrupt(self) -> None:
        """End the connection from another thread, without an A-ABORT, which would have to pass through TLS."""
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self._tls_socket, socket.SHUT_RDWR)

    def close(self) -> None:
        """Send the closing alert (RFC 8446 6.1), wait for no answer, and close the connection."""
        with contextlib.suppress(OSError, ValueError):
            self._tls_socket.settimeout(0.0)
            self._tls_socket.unwrap()
        super().close()

    def _receive(self, buffer: memoryview) -> int:
        return self._tls_socket.recv_into(buffer)
