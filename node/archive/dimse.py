"""Associations with an archive over DIMSE: a request has its own association, a failure becomes an `ArchiveError`.

`store.py`, `query.py`, `retrieve.py` and `commitment.py` send their requests through `Link`.
"""

import socket
import ssl
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass

from pydicom.uid import UID
from pynetdicom import AE, _config, evt
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import A_ASSOCIATE, SCP_SCU_RoleSelectionNegotiation
from pynetdicom.presentation import PresentationContext, build_context
from pynetdicom.transport import AddressInformation, AssociationSocket

from ainode.node import tls
from ainode.node.errors import ArchiveError, ArchiveRefused, ArchiveUnreachable, ConfigError, NotSent
from ainode.node.settings import Peer

# PS3.7 annex C, SOP Class Not Supported; the node also uses it if the peer accepted no presentation context.
SOP_CLASS_NOT_SUPPORTED = 0x0122

# PS3.6 table A-1, Verification SOP Class.
_VERIFICATION = "1.2.840.10008.1.1"
# PS3.8 9.3.4, (source, reason) of a rejected association: what the operator has to do.
_REMEDIES = {
    (1, 3): "add our AE title to the known peers of the archive",
    (1, 7): "correct `ae_title` of this [[peer]] in node.toml",
    (3, 1): "the peer is congested; try again later",
    (3, 2): "the peer has too many associations; try again later",
}


@dataclass(frozen=True, slots=True)
class Link:
    """A peer, the AE title that calls the peer, and the time limit of each answer."""

    peer: Peer
    local_ae_title: str
    timeout_s: float = 60.0

    @contextmanager
    def associate(
        self,
        contexts: Sequence[PresentationContext],
        *,
        roles: Sequence[SCP_SCU_RoleSelectionNegotiation] = (),
        handlers: Sequence[evt.EventHandlerType] = (),
    ) -> Iterator[Association]:
        """Open an association, over TLS if the peer has TLS; release it at the end, abort it if the body fails.

        Raises: NotSent without an association; ArchiveUnreachable if a file that the [[peer]] names cannot be used;
        ArchiveRefused if the peer accepts no presentation context; ConfigError if the [[peer]] has no address.
        """
        if not self.peer.speaks_dimse:
            raise ConfigError(f"peer {self.peer.name}: give its ae_title, host and port in node.toml")
        with tls.patience_with_files():
            tls_args = (tls.calling(self.peer), self.peer.host) if self.peer.tls else None
        # Otherwise pynetdicom logs every value of every query and answer.
        _config.LOG_REQUEST_IDENTIFIERS = _config.LOG_RESPONSE_IDENTIFIERS = False
        with closing(_Caller(self.local_ae_title)) as caller:
            caller.acse_timeout = caller.dimse_timeout = caller.connection_timeout = self.timeout_s
            caller.network_timeout = None  # each answer is waited for with the timeouts above
            try:
                association = caller.associate(
                    self.peer.host,
                    self.peer.port,
                    contexts=list(contexts),
                    ae_title=self.peer.ae_title,
                    ext_neg=list(roles),
                    tls_args=tls_args,
                    evt_handlers=[(evt.EVT_CONN_OPEN, _set_options, [self.timeout_s]), *handlers],
                )
            except OSError as error:
                message = f"{self.peer.name}: host {self.peer.host} cannot be resolved; correct it in node.toml"
                raise NotSent(message) from error
            if not association.is_established:
                raise self._association_error(association, caller.tls_failure)
            try:
                yield association
                association.release()
            finally:
                if association.is_established:
                    association.abort()

    def check(self, status: int | None, request: str, words: str = "") -> None:
        """Return if the status of the answer to a request is a success or a warning; `request` names it with its UID.

        `words` are the archive's own.

        Raises: ArchiveUnreachable without an answer, or if another attempt can help; ArchiveRefused otherwise.
        """
        if status is None:
            raise self.lost_association(request)
        error = error_type(status)
        if error is ArchiveUnreachable:
            message = f"{self.peer.name}: cannot take {request} now (status 0x{status:04X}); try again later"
            raise ArchiveUnreachable(message, comment=words)
        if error is ArchiveRefused:
            remedy = "enable the service at the peer, or see its log"
            message = f"{self.peer.name}: refused {request} with status 0x{status:04X}; {remedy}"
            raise ArchiveRefused(message, archive_status=status, comment=words)

    def lost_association(self, request: str) -> ArchiveUnreachable:
        """Return the error of an association that broke off during a request."""
        return ArchiveUnreachable(f"{self.peer.name}: the association was lost at {request}; try again later")

    def _association_error(self, association: Association, tls_failure: str) -> ArchiveError:
        """Return the error of an association that was not established."""
        name, answer = self.peer.name, _rejection(association)
        if answer is not None:
            remedy = _REMEDIES.get((answer.result_source or 0, answer.diagnostic or 0), "see the log of the peer")
            return NotSent(
                f"{name}: rejected our association as {self.local_ae_title} to {self.peer.ae_title}: "
                f"{answer.reason_str.lower()}; {remedy}"
            )
        if association.rejected_contexts:
            classes = dict.fromkeys(
                UID(context.abstract_syntax or "").name for context in association.rejected_contexts
            )
            names = ", ".join(classes)
            return ArchiveRefused(
                f"{name}: does not accept {names}; enable the service there, or change this [[peer]] in node.toml",
                archive_status=SOP_CLASS_NOT_SUPPORTED,
            )
        if tls_failure:
            return NotSent(
                f"{name}: no TLS with {self.peer.host}:{self.peer.port} ({tls_failure}); look at tls, ca_file and "
                "tls_certificate of this [[peer]], and at the log of the peer"
            )
        return NotSent(
            f"{name}: no association with {self.peer.ae_title} at {self.peer.host}:{self.peer.port}; "
            "check that the peer runs, and host, port and tls of this [[peer]] in node.toml"
        )


class _Caller(AE):
    """An application entity that closes its connection: pynetdicom leaves a failed or abandoned connection open."""

    _connection: socket.socket | None = None

    @property
    def tls_failure(self) -> str:
        """Return the reason why TLS failed, '' if TLS did not fail."""
        return self._connection.failure if isinstance(self._connection, tls.CallingSocket) else ""

    def close(self) -> None:
        """Close the connection, if there is a connection."""
        if self._connection is not None:
            self._connection.close()

    def _create_socket(
        self, assoc: Association, address: AddressInformation, tls_args: tuple[ssl.SSLContext, str] | None
    ) -> AssociationSocket:
        association_socket = super()._create_socket(assoc, address, None)
        if tls_args is not None and association_socket.socket is not None:
            # pynetdicom would wrap the socket when it connects, and then this class could not close the socket.
            context, host = tls_args
            association_socket.socket = context.wrap_socket(association_socket.socket, server_hostname=host)
        self._connection = association_socket.socket
        return association_socket


def error_type(status: int) -> type[ArchiveError] | None:
    """Return the type of the error that a DIMSE status stands for, None if the peer fulfilled the request.

    Source: PS3.4 table B.2-1, PS3.7 annex C. The peer already has a duplicate (0x0111) and keeps an object with a
    warning (0x0001, 0x0107, 0x0116, 0xBxxx). A lack of resources (0xA7xx, 0x0213) and a processing failure (0x0110) may
    pass. 0xA77x is how dcm4chee-arc refuses an object for good: rejected before, without a Patient ID.
    """
    if status in {0x0000, 0x0001, 0x0107, 0x0111, 0x0116} or status & 0xF000 == 0xB000:  # noqa: PLR2004
        return None
    if status in {0x0110, 0x0213} or (status & 0xFF00 == 0xA700 and status & 0xFFF0 != 0xA770):  # noqa: PLR2004
        return ArchiveUnreachable
    return ArchiveRefused


def echo(link: Link) -> None:
    """Verify the connection to the peer (C-ECHO).

    Raises: ArchiveUnreachable, ArchiveRefused.
    """
    with link.associate([build_context(_VERIFICATION)]) as association:
        link.check(association.send_c_echo().get("Status"), "C-ECHO")


def connection_of(association: Association) -> socket.socket:
    """Return the TCP connection under an association.

    Raises: OSError if the connection is closed.
    """
    if association.dul.socket is None or association.dul.socket.socket is None:
        raise ConnectionError("the connection is closed")
    return association.dul.socket.socket


def _rejection(association: Association) -> A_ASSOCIATE | None:
    """Return the A-ASSOCIATE-RJ of the peer, None if the peer did not reject.

    pynetdicom's thread that asks for the association looks whether there is a connection before the thread reads the
    answer. If the rejection came and the connection was closed by then, the answer is left unread.
    """
    answer = association.acceptor.primitive if association.is_rejected else association.dul.receive_pdu()
    return answer if isinstance(answer, A_ASSOCIATE) and answer.result else None


def _set_options(event: evt.Event, timeout_s: float) -> None:
    """Let a new connection send small messages at once, and end a send to a peer that reads nothing."""
    connection = connection_of(event.assoc)
    # Nagle's algorithm with delayed acknowledgments costs 40 ms a message: 20 objects/s instead of hundreds.
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.settimeout(timeout_s)
