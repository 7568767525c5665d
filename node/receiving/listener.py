"""The listening side of the node: a thread per association, each a loop of request, disk, answer."""

import contextlib
import logging
import select
import socket
import threading
import uuid
from collections.abc import Callable
from datetime import UTC, datetime

from ainode.node.domain import UID
from ainode.node.errors import ConfigError
from ainode.node.keeping.spool import Spool
from ainode.node.receiving.command_set import response
from ainode.node.receiving.events import AssociationEnded, AssociationOpened, Event
from ainode.node.receiving.negotiation import Policy, answers, commitment_roles, refusal
from ainode.node.receiving.pdu import ContextResult, ProtocolViolation, Rejection, acceptance, proposal, rejection
from ainode.node.receiving.services import Services
from ainode.node.receiving.upper_layer import Association, AssociationLost, Channel, Opener, PresentationContext

_log = logging.getLogger(__name__)


def listen(bind: str, port: int) -> socket.socket:
    """Return a listening socket; 0 is any free port.

    Raises: ConfigError if the address or port cannot be had.
    """
    family = socket.AF_INET6 if ":" in bind else socket.AF_INET
    try:
        return socket.create_server((bind, port), family=family, backlog=128)
    except OSError as error:
        raise ConfigError(f"node.bind, node.port: cannot listen on {bind}:{port}: {error.strerror}") from error


class Receiver:
    """Accepts associations until it is stopped; `on_event` is called in their threads."""

    def __init__(
        self,
        policy: Policy,
        spool: Spool,
        on_event: Callable[[Event], None],
        *,
        listener: socket.socket,
        channel: Opener = Channel,
    ) -> None:
        """Start nothing yet."""
        self._policy, self._spool, self._on_event, self._listener = policy, spool, on_event, listener
        self._channel = channel
        self._places = threading.BoundedSemaphore(policy.max_associations)
        self._lock = threading.Lock()
        self._channels: dict[threading.Thread, Channel] = {}
        self._wake, self._waker = socket.socketpair()
        self._accepting = threading.Thread(target=self._accept, name="receiver", daemon=True)

    def start(self) -> None:
        """Remove what a crash left half received, and begin to accept."""
        self._spool.sweep()
        self._accepting.start()

    def stop(self) -> None:
        """Abort what is open, wait for it to end, close the listener; what was answered is kept."""
        self._waker.send(b"\0")
        self._accepting.join()
        with self._lock:
            open_ = dict(self._channels)
        for thread, channel in open_.items():
            channel.cut()
            thread.join()
        for one in (self._listener, self._wake, self._waker):
            one.close()

    def _accept(self) -> None:
        self._listener.setblocking(False)  # noqa: FBT003 - what socket calls it
        while self._wake not in select.select([self._listener, self._wake], [], [])[0]:
            # A caller that is gone again, or (out of file descriptors) has to try again.
            with contextlib.suppress(OSError):
                connection, address = self._listener.accept()
                self._begin(connection, str(address[0]))

    def _begin(self, connection: socket.socket, address: str) -> None:
        """Give the connection a thread; beyond twice the limit not even a rejection."""
        with self._lock:
            if len(self._channels) >= 2 * self._policy.max_associations:
                connection.close()
                return
            channel = self._channel(connection, timeout_s=self._policy.network_timeout_s)
            thread = threading.Thread(target=self._converse, args=(channel, address), daemon=True)
            self._channels[thread] = channel
        thread.start()

    def _converse(self, channel: Channel, address: str) -> None:
        """Serve one connection to its end, whatever it does."""
        try:
            channel.open()
            self._associate(channel, address)
        except AssociationLost as error:
            _log.info("association lost: %s", error, extra={"action": "association_lost", "address": address})
            channel.abort()
        except ProtocolViolation as error:
            _log.warning("association aborted: %s", error, extra={"action": "association_aborted", "address": address})
            channel.abort(error.reason)
        except Exception:  # noqa: BLE001 - the association's boundary: this one ends, the others do not
            _log.exception("association failed", extra={"action": "association_failed", "address": address})
            channel.abort()
        finally:
            channel.close()
            with self._lock:
                del self._channels[threading.current_thread()]

    def _associate(self, channel: Channel, address: str) -> None:
        """Negotiate, and serve what was accepted."""
        request = proposal(channel.associate_request())
        why = refusal(request, address, self._policy)
        if why is None and not self._places.acquire(blocking=False):
            why = Rejection.LOCAL_LIMIT_EXCEEDED
        if why is not None:
            _log.warning("association rejected: %s", why.name, extra={"action": "rejected", "address": address})
            channel.send(rejection(why))
            return
        try:
            contexts = answers(request.contexts, self._policy)
            roles = commitment_roles(request.roles)
            channel.send(acceptance(request, contexts, roles, max_pdu_bytes=self._policy.max_pdu_bytes))
            accepted = {
                one.identifier: PresentationContext(one.identifier, UID(one.abstract_syntax), UID(one.transfer_syntax))
                for one in contexts
                if one.result == ContextResult.ACCEPTED
            }
            association = Association(channel, accepted, max_pdu_bytes=self._policy.max_pdu_bytes)
            self._serve(association, request.calling_ae_title, address)
        finally:
            self._places.release()

    def _serve(self, association: Association, calling_ae_title: str, address: str) -> None:
        name = uuid.uuid4().hex
        services = Services(name, calling_ae_title, address, self._spool, self._on_event)
        self._on_event(AssociationOpened(name, calling_ae_title, address, datetime.now(UTC)))
        released = False
        try:
            for message in association.messages():
                answer = services.answer(message)
                if answer is not None:
                    association.respond(message, response(message.command, answer.status, answer.comment))
            released = True
        finally:
            self._on_event(AssociationEnded(name, datetime.now(UTC), released))
