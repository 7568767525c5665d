"""TLS under a DICOM association, of both sides: contexts made of PEM files.

PS3.15 B.12, the BCP 195 RFC 8996, 9325 profile: TLS 1.2 or later, the cipher suites of Python's own choice (forward
secrecy in all of them). Who calls checks the other's certificate and name; who is called does so where a CA is given.
"""

import os
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from ainode.node.errors import ConfigError

if TYPE_CHECKING:
    from ainode.node.settings import NodeTable, Peer

# Of a whole handshake: a caller that connects and says nothing is gone after this.
HANDSHAKE_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class ServerFiles:
    """What `[node]` or `[web]` names; small and picklable, which a context is not."""

    certificate: Path
    key: Path
    client_ca: Path | None = None


def server_files(node: "NodeTable") -> ServerFiles | None:
    """Return the files of `[node]`, None where associations come without TLS."""
    if node.tls_certificate is None or node.tls_key is None:
        return None
    return ServerFiles(node.tls_certificate, node.tls_key, node.tls_client_ca)


def context_of(node: "NodeTable") -> ssl.SSLContext | None:
    """Return the context of who calls us, None where associations come without TLS.

    Raises: ConfigError if a file is missing, or is not what it should be.
    """
    files = server_files(node)
    return accepting(files) if files else None


def accepting(files: ServerFiles, table: str = "[node]") -> ssl.SSLContext:
    """Return the context of who is called; `table` of node.toml names the files.

    Raises: ConfigError if a file is missing, or is not what it should be.
    """
    context = _Accepting(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    _present(context, table, files.certificate, files.key)
    if files.client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        with _errors_naming(f"{table} tls_client_ca", files.client_ca):
            context.load_verify_locations(files.client_ca)
    return context


def calling(peer: "Peer") -> ssl.SSLContext:
    """Return the context of who calls this peer.

    Raises: ConfigError if a file is missing, or is not what it should be.
    """
    with _errors_naming(f"peer {peer.name}: ca_file", peer.ca_file):
        context = ssl.create_default_context(cafile=peer.ca_file or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.sslsocket_class = CallingSocket
    if peer.tls_certificate:
        _present(context, f"peer {peer.name}:", peer.tls_certificate, peer.tls_key)
    return context


def client_files(peer: "Peer") -> tuple[str | bool, tuple[str, str] | None]:
    """Return what `requests` calls `verify` and `cert`.

    Raises: ConfigError if a file is missing.
    """
    with _errors_naming(
        f"peer {peer.name}: ca_file, tls_certificate, tls_key", peer.ca_file, peer.tls_certificate, peer.tls_key
    ):
        return peer.ca_file or True, (peer.tls_certificate, peer.tls_key) if peer.tls_certificate else None


def failure_reason(error: OSError) -> str:
    """Return the reason of a TLS failure in the library's words, which hold nothing of a certificate."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate is not trusted: {error.verify_message}"
    if isinstance(error, TimeoutError):
        return "it took too long"
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.replace("_", " ").lower()
    return error.strerror or type(error).__name__


class CallingSocket(ssl.SSLSocket):
    """A TLS socket that keeps the reason of a failure and lets two threads use the socket.

    pynetdicom only logs the failure. `archive/store.py` writes in a thread of its own while the association's thread
    reads; OpenSSL forbids that.
    """

    failure = ""
    _turn: threading.Lock

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:  # noqa: ANN401 - as the base class
        """Make one; Python's ssl calls no `__init__`."""
        sock = super().__new__(cls, *args, **kwargs)
        sock._turn = threading.Lock()
        return sock

    def connect(self, addr: Any) -> None:  # noqa: ANN401 - as the base class
        """Connect and shake hands."""
        with self._noted():
            super().connect(addr)

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        """Receive as the base class does."""
        with self._noted(), self._turn:
            return super().recv(buflen, flags)

    def send(self, data: Any, flags: int = 0) -> int:  # noqa: ANN401 - as the base class
        """Send as the base class does; its `sendall` goes through here."""
        with self._noted(), self._turn:
            return super().send(data, flags)

    @contextmanager
    def _noted(self) -> Iterator[None]:
        try:
            yield
        except ssl.SSLError as error:
            self.failure = failure_reason(error)
            raise


class _Accepting(ssl.SSLContext):
    """Bounds a handshake that pynetdicom makes in the one thread that accepts."""

    def wrap_socket(self, sock: Any, *args: Any, **kwargs: Any) -> ssl.SSLSocket:  # noqa: ANN401 - as the base class
        sock.settimeout(HANDSHAKE_S)
        wrapped = super().wrap_socket(sock, *args, **kwargs)
        wrapped.settimeout(None)
        return wrapped


def _present(context: ssl.SSLContext, whose: str, certificate: str | Path, key: str | Path) -> None:
    """Load our own certificate; a key with a passphrase is refused, where OpenSSL would ask the terminal."""
    with _errors_naming(f"{whose} tls_certificate, tls_key", certificate, key):
        context.load_cert_chain(certificate, key, password="")


@contextmanager
def _errors_naming(setting: str, *paths: str | Path) -> Iterator[None]:
    """Translate the errors of these files into errors that name their setting."""
    missing = [str(path) for path in paths if path and not os.access(path, os.R_OK)]
    if missing:
        raise ConfigError(
            f"{setting}: {', '.join(missing)} cannot be read; correct the path, or the rights of the file"
        )
    try:
        yield
    except (OSError, ValueError) as error:
        raise ConfigError(f"{setting}: not what is needed ({error}); give PEM without a passphrase") from error
