"""TLS under a DICOM association and under HTTP: contexts made of PEM files.

PS3.15 B.12, the BCP 195 RFC 8996, 9325 profile, for both sides: TLS 1.2 or later, the suites that RFC 9325 recommends,
no renegotiation, no compression. Who calls checks the other's certificate and name; who is called does so where a CA is
given. Revocation lists are checked for every certificate of a chain.
"""

import base64
import logging
import os
import select
import ssl
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from ainode.node.certificates import identities, next_update, valid_until
from ainode.node.errors import ArchiveUnreachable, ConfigError

if TYPE_CHECKING:
    from ainode.node.settings import AuditTable, NodeTable, Peer, Subscription, WebTable

# Of a whole handshake: a caller that connects and says nothing is gone after this.
HANDSHAKE_S: Final = 10.0
# How long a thread that receives keeps the others from sending.
_TURN_S: Final = 0.05
# RFC 9325 4.2: the suites of TLS 1.2 with an ephemeral key on an elliptic curve and AES-GCM; 4.5: 112 bits of security,
# which is RSA with 2048 bits. OpenSSL adds the three suites of TLS 1.3.
_SUITES: Final = "@SECLEVEL=2:ECDHE+AESGCM"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ServerFiles:
    """What `[node]` or `[web]` names; small and picklable, which a context is not."""

    certificate: Path
    key: Path
    client_ca: Path | None = None
    revocation_lists: tuple[Path, ...] = ()

    @property
    def paths(self) -> tuple[Path, ...]:
        """Return all files."""
        return tuple(filter(None, (self.certificate, self.key, self.client_ca, *self.revocation_lists)))


def server_files(table: "NodeTable | WebTable") -> ServerFiles | None:
    """Return the files of `[node]` or `[web]`, None where callers come without TLS."""
    if table.tls_certificate is None or table.tls_key is None:
        return None
    callers = getattr(table, "tls_client_ca", None), getattr(table, "tls_crl", ())
    return ServerFiles(table.tls_certificate, table.tls_key, *callers)


def context_of(node: "NodeTable") -> ssl.SSLContext | None:
    """Return the context of who calls us, None where associations come without TLS.

    Raises: ConfigError if a file is missing, or is not what it should be.
    """
    files = server_files(node)
    return accepting(files) if files else None


def accepting(files: ServerFiles, table: str = "[node]") -> ssl.SSLContext:
    """Return the context of who is called; `table` of node.toml names the files.

    A connection gets the files as they are when it arrives: a changed file needs no restart.

    Raises: ConfigError if a file is missing, or is not what it should be.
    """
    return _Renewing(files, table)


def calling(peer: "Peer") -> ssl.SSLContext:
    """Return the context of who calls this peer.

    Raises: ConfigError if a file is missing, or is not what it should be.
    """
    return _calling(peer, f"peer {peer.name}:")


def collecting(table: "AuditTable") -> ssl.SSLContext:
    """Return the context of who calls the syslog collector of `[audit]`.

    Raises: ConfigError if a file is missing, or is not what it should be.
    """
    return _calling(table, "[audit]")


def notifying(subscription: "Subscription") -> ssl.SSLContext:
    """Return the context of who sends notifications of this subscription.

    Raises: ConfigError if a file is missing, or is not what it should be.
    """
    context = _calling(subscription, f"notification {subscription.name}:")
    context.sslsocket_class = ssl.SSLSocket  # no two threads use it
    return context


def _calling(table: "Peer | AuditTable | Subscription", whose: str) -> ssl.SSLContext:
    with _errors_naming(f"{whose} ca_file", table.ca_file):
        context = ssl.create_default_context(cafile=table.ca_file or None)
    _profile(context)
    _check_revocation(context, f"{whose} crl_files", table.crl_files)
    context.sslsocket_class = CallingSocket
    if table.tls_certificate:
        _present(context, whose, table.tls_certificate, table.tls_key)
    return context


def calling_web(peer: "Peer") -> ssl.SSLContext:
    """Return the context of who calls the web service of this peer; `requests` adds the files of `client_files`.

    Raises: ConfigError if a revocation list is missing, or is not what it should be.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _profile(context)
    _check_revocation(context, f"peer {peer.name}: crl_files", peer.crl_files)
    return context


def client_files(peer: "Peer") -> tuple[str | bool, tuple[str, str] | None]:
    """Return what `requests` calls `verify` and `cert`.

    Raises: ConfigError if a file is missing.
    """
    with _errors_naming(
        f"peer {peer.name}: ca_file, tls_certificate, tls_key", peer.ca_file, peer.tls_certificate, peer.tls_key
    ):
        return peer.ca_file or True, (peer.tls_certificate, peer.tls_key) if peer.tls_certificate else None


@contextmanager
def patience_with_files() -> Iterator[None]:
    """Let a call to a peer be tried again if a file of the peer is broken: the file was sound when the node started.

    Raises: ArchiveUnreachable.
    """
    try:
        yield
    except ConfigError as error:
        raise ArchiveUnreachable(str(error)) from error


def caller_identities(connection: object) -> frozenset[str]:
    """Return the identities of the certificate that a caller showed and a handshake verified, none without one."""
    if not isinstance(connection, ssl.SSLSocket):
        return frozenset()
    return identities(connection.getpeercert() or {}, connection.getpeercert(binary_form=True) or b"")


def expiry(certificate: str | Path) -> datetime:
    """Return until when the first certificate of a PEM file is valid: the others are of its authorities.

    Raises: ConfigError if the file cannot be read, or holds no certificate.
    """
    with _errors_naming("tls_certificate", certificate):
        return valid_until(next(_blocks(Path(certificate), "CERTIFICATE"), b""))


def list_expiry(revocation_lists: str | Path) -> datetime | None:
    """Return until when all revocation lists of a PEM file are in force, None if none of them says.

    Raises: ConfigError if the file cannot be read, or holds what is no list.
    """
    with _errors_naming("tls_crl", revocation_lists):
        return min(filter(None, map(next_update, _blocks(Path(revocation_lists), "X509 CRL"))), default=None)


def _blocks(path: Path, kind: str) -> Iterator[bytes]:
    """Yield the content of each block of a kind in a PEM file (RFC 7468)."""
    for part in path.read_text(encoding="utf-8", errors="replace").split(f"-----BEGIN {kind}-----")[1:]:
        yield base64.b64decode(part.partition(f"-----END {kind}-----")[0])


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


class ChannelSocket(CallingSocket):
    """A socket on which one thread waits for what may never come, and others send meanwhile."""

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        """Receive as the base class does; nobody waits for the other side while it is this thread's turn."""
        while True:
            if not self.pending():
                waiting = select.poll()
                waiting.register(self, select.POLLIN)
                waiting.poll()
            with self._noted(), self._turn:
                # What came may be of TLS itself (RFC 8446 4.6), and no byte of the other side follows.
                self.settimeout(_TURN_S)
                try:
                    return ssl.SSLSocket.recv(self, buflen, flags)
                except TimeoutError:
                    continue
                finally:
                    self.settimeout(None)


class _Renewing(ssl.SSLContext):
    """Opens each connection with the files as they are now, or, where they are broken, as they last were not.

    Whoever accepts connections holds this context: `receiving`, pynetdicom and asyncio, each in one thread.
    """

    def __new__(cls, files: ServerFiles, table: str) -> Self:
        """Make one; its own protocol is not used."""
        context = super().__new__(cls, ssl.PROTOCOL_TLS_SERVER)
        context._files, context._table = files, table
        context._state, context._context = _state(files), _server_context(files, table)
        return context

    _files: ServerFiles
    _table: str
    _state: object
    _context: ssl.SSLContext

    def wrap_socket(self, sock: Any, *args: Any, **kwargs: Any) -> ssl.SSLSocket:  # noqa: ANN401 - as the base class
        """Bound the handshake, too, which pynetdicom makes in the one thread that accepts."""
        sock.settimeout(HANDSHAKE_S)
        wrapped = self._renewed().wrap_socket(sock, *args, **kwargs)
        wrapped.settimeout(None)
        return wrapped

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:  # noqa: ANN401 - as the base class
        """Wrap as the base class does; asyncio calls this."""
        return self._renewed().wrap_bio(*args, **kwargs)

    def _renewed(self) -> ssl.SSLContext:
        """Return the context of the files as they are; say once of a change whether it could be taken up."""
        state = _state(self._files)
        if state != self._state:
            self._state = state
            try:
                self._context = _server_context(self._files, self._table)
            except ConfigError as error:
                message = "changed TLS files cannot be used, and callers are served with those before: %s"
                _log.error(message, error, extra={"action": "tls_files_broken"})
            else:
                _log.info("%s: changed TLS files taken up", self._table, extra={"action": "tls_files_renewed"})
        return self._context


def _state(files: ServerFiles) -> tuple[tuple[int, int, int] | None, ...]:
    """Return what changes with a file, or with the rights of a file; None is a file that cannot be seen."""
    return tuple(map(_stamp, files.paths))


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_ctime_ns, status.st_size


def _server_context(files: ServerFiles, table: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _profile(context)
    _present(context, table, files.certificate, files.key)
    if files.client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        # A resumed session is not verified again. Without tickets TLS 1.3 resumes none; TLS 1.2 resumes those of this
        # very context, which a changed file ends.
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0
        with _errors_naming(f"{table} tls_client_ca", files.client_ca):
            context.load_verify_locations(files.client_ca)
        _check_revocation(context, f"{table} tls_crl", files.revocation_lists)
    return context


def _profile(context: ssl.SSLContext) -> None:
    """Restrict a context to the profile of the module."""
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Python 3.13 asks for all of RFC 5280, and a hospital's own authority often leaves out the key identifier.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.set_ciphers(_SUITES)


def _check_revocation(context: ssl.SSLContext, setting: str, paths: Iterable[str | Path]) -> None:
    """Look for each certificate of a chain in these lists; a chain without a list, or with an old list, is refused."""
    for path in paths:
        lists = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        with _errors_naming(setting, path, need="a revocation list as PEM (openssl crl -inform DER -in FILE)"):
            lists.load_verify_locations(path)
            if lists.cert_store_stats()["x509"]:
                raise ConfigError(f"{setting}: {path} holds a certificate, which would be trusted; leave lists alone")
            context.load_verify_locations(path)
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN


def _present(context: ssl.SSLContext, whose: str, certificate: str | Path, key: str | Path) -> None:
    """Load our own certificate; a key with a passphrase is refused, where OpenSSL would ask the terminal."""
    with _errors_naming(f"{whose} tls_certificate, tls_key", certificate, key):
        context.load_cert_chain(certificate, key, password="")


@contextmanager
def _errors_naming(setting: str, *paths: str | Path, need: str = "PEM without a passphrase") -> Iterator[None]:
    """Translate the errors of these files into errors that name their setting."""
    try:
        missing = [str(path) for path in paths if path and not os.access(path, os.R_OK)]
        if not missing:
            yield
    except (OSError, ValueError) as error:
        raise ConfigError(f"{setting}: not what is needed ({error}); give {need}") from error
    if missing:
        raise ConfigError(
            f"{setting}: {', '.join(missing)} cannot be read; correct the path, or the rights of the file"
        )
