"""A channel under TLS; the receiver imports this module only if `[node]` has a certificate."""

import contextlib
import socket
import ssl
from typing import Final

from ainode.node.receiving.upper_layer import AssociationLost, Channel
from ainode.node.tls import HANDSHAKE_S, caller_identities, failure_reason

_NO_CERTIFICATE: Final = "PEER_DID_NOT_RETURN_A_CERTIFICATE"
_UNKNOWN_AUTHORITY: Final = "give the caller a certificate of an authority in tls_client_ca, or add its authority there"
# The X509_V_ERR of OpenSSL's x509_vfy.h.
_REMEDIES: Final = {
    2: _UNKNOWN_AUTHORITY,
    3: "add the revocation list of each authority in tls_client_ca to tls_crl",
    9: "set the clock of this machine, or of the authority",
    10: "renew the certificate of the caller",
    12: "put a new revocation list of the authority into the file that tls_crl names",
    18: _UNKNOWN_AUTHORITY,
    19: _UNKNOWN_AUTHORITY,
    20: _UNKNOWN_AUTHORITY,
    21: _UNKNOWN_AUTHORITY,
    23: "give the caller another certificate, if it may call",
}


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
            reason = self._cut_reason or failure_reason(error)
            raise AssociationLost(f"no TLS with the caller: {reason}{_remedy(error)}") from error
        self._tls_socket.settimeout(self._timeout_s)

    def identities(self) -> frozenset[str]:
        """Return the identities of the certificate that the handshake verified, none without such a certificate."""
        return caller_identities(self._tls_socket)

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


def _remedy(error: OSError) -> str:
    """Return what to do about a caller's certificate, '' if the certificate is not the reason."""
    if isinstance(error, ssl.SSLCertVerificationError):
        remedy = _REMEDIES.get(error.verify_code)
        return f"; {remedy}" if remedy else ""
    is_missing = isinstance(error, ssl.SSLError) and error.reason == _NO_CERTIFICATE
    return f"; {_UNKNOWN_AUTHORITY}" if is_missing else ""
