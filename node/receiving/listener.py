"""The receiver of associations: each association has a thread that reads a request, stores it and answers it."""

import errno
import logging
import select
import socket
import threading
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from ainode.node.domain import UID
from ainode.node.errors import ConfigError
from ainode.node.keeping.spool import Spool
from ainode.node.receiving.allowances import Allowances
from ainode.node.receiving.command_set import CommandField, Tag, response
from ainode.node.receiving.commitment_files import CommitmentFiles
from ainode.node.receiving.events import AssociationEnded, AssociationOpened, AssociationRefused, Event, ObjectRefused
from ainode.node.receiving.negotiation import Policy, answers, certificate_fault, commitment_roles, refusal
from ainode.node.receiving.pdu import (
    ContextResult,
    Proposal,
    ProtocolViolation,
    Rejection,
    acceptance,
    proposal,
    rejection,
)
from ainode.node.receiving.places import MAX_OPENINGS, Place, Places
from ainode.node.receiving.pulse import ACCEPTED, ENDED, OTHER, STATUSES
from ainode.node.receiving.services import Services
from ainode.node.receiving.sparse_log import SparseLog
from ainode.node.receiving.upper_layer import (
    Association,
    AssociationLost,
    Channel,
    Message,
    Opener,
    PresentationContext,
)

_log = logging.getLogger(__name__)
# The accepting thread shows at least so often that the thread runs, and looks at the connections.
_BEAT_S: Final = 0.5
# As many callers wait in the kernel as have places before their associations.
_BACKLOG: Final = MAX_OPENINGS
_SHORTAGE_PAUSE_S: Final = 0.1
# Refused instances of one address, for one reason, that are logged one by one in ten seconds: enough to see the kind.
_REFUSALS: Final = 20
# accept(2): the process or the system has no room for a further connection, which waits in the kernel meanwhile.
_SHORTAGES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
# accept(2): the listener itself is no use any more. Any other error is an error of the new connection.
_LISTENER_ERRORS: Final = frozenset({errno.EBADF, errno.EINVAL, errno.ENOTSOCK})


def listen(bind: str, port: int) -> socket.socket:
    """Return a listening socket; port 0 means any free port.

    Raises: ConfigError if the address and port cannot be bound.
    """
    family = socket.AF_INET6 if ":" in bind else socket.AF_INET
    try:
        return socket.create_server((bind, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise ConfigError(f"node.bind, node.port: cannot listen on {bind}:{port}: {error.strerror}") from error


def _ignore_beat(_shortage: int, /) -> None:
    """Do nothing."""


def _ignore_count(_name: str, /) -> None:
    """Do nothing."""


class Receiver:
    """Accepts associations until `stop`; the thread of an association calls `on_event`."""

    def __init__(
        self,
        policy: Policy,
        spool: Spool,
        on_event: Callable[[Event], None],
        *,
        commitments: CommitmentFiles,
        listener: socket.socket,
        open_channel: Opener = Channel,
    ) -> None:
        """Keep the arguments; `start` starts the threads."""
        self._policy, self._spool, self._on_event, self._listener = policy, spool, on_event, listener
        self._commitments, self._open_channel = commitments, open_channel
        self._places = Places(policy.max_associations)
        self._sparse_log = SparseLog(_log)
        self._refusals = SparseLog(_log, first_lines=_REFUSALS)
        self._stopping = threading.Event()
        self._allowances = Allowances(self._stopping.wait)
        self._stop_reader, self._stop_writer = socket.socketpair()
        self._accept_thread = threading.Thread(target=self._accept, name="receiver", daemon=True)

    def start(
        self, on_beat: Callable[[int], None] = _ignore_beat, count: Callable[[str], None] = _ignore_count
    ) -> None:
        """Remove the files that a crash left incomplete, and begin to accept associations.

        The accepting thread calls `on_beat` at least every half second, with the errno of what it lacks, or 0. The
        thread of an association calls `count` with a name of `pulse.COUNTED`.
        """
        self._on_beat, self._count = on_beat, count
        self._spool.sweep()
        self._accept_thread.start()

    def is_alive(self) -> bool:
        """Return whether the accepting thread runs."""
        return self._accept_thread.is_alive()

    def change(self, policy: Policy) -> None:
        """Judge callers by another policy from now on; open associations go on, and the number of places stays."""
        self._policy = policy

    def stop(self, within_s: float = 0.0, hurries: Callable[[], bool] = lambda: False) -> None:
        """Refuse callers, let associations in use go on for so long, abort what is left, wait for their threads.

        `hurries` is asked while they go on, and ends that. Answered instances stay on disk.
        """
        self._stop_writer.send(b"\0")
        self._accept_thread.join()
        self._listener.close()  # other receivers may go on to listen at the socket
        self._places.drain(within_s, hurries)
        self._stopping.set()
        self._places.close()
        for open_socket in (self._stop_reader, self._stop_writer):
            open_socket.close()

    def _accept(self) -> None:
        self._listener.setblocking(False)  # noqa: FBT003 - the signature of socket
        sources = self._listener, self._stop_reader
        last_look_s = time.monotonic()
        while self._stop_reader not in (ready := select.select(sources, (), (), _BEAT_S)[0]):
            try:
                shortage = self._accept_connection() if self._listener in ready else 0
            except OSError as error:
                # The node closes the socket of its receivers once it has asked them to stop.
                if select.select((self._stop_reader,), (), (), _BEAT_S)[0]:
                    return
                _log.error("cannot accept: %s", error.strerror, extra={"action": "listener_broken"})
                return
            self._on_beat(shortage)
            if time.monotonic() - last_look_s >= _BEAT_S:
                last_look_s = time.monotonic()
                self._places.watch()
                self._sparse_log.flush()
                self._refusals.flush()
            # The listener stays ready during a shortage.
            if shortage and select.select((self._stop_reader,), (), (), _SHORTAGE_PAUSE_S)[0]:
                return

    def _accept_connection(self) -> int:
        """Accept a connection; return 0, or the errno of what the process lacks.

        Raises: OSError if the listener accepts no more.
        """
        try:
            connection, address = self._listener.accept()
        except OSError as error:
            if error.errno in _LISTENER_ERRORS:
                raise
            return error.errno if error.errno in _SHORTAGES else 0
        try:
            self._start_thread(connection, str(address[0]))
        except OSError:  # the caller has closed the connection
            connection.close()
        except RuntimeError:  # no room for a thread
            connection.close()
            return errno.EAGAIN
        return 0

    def _start_thread(self, connection: socket.socket, address: str) -> None:
        """Serve the connection in a thread.

        Raises: OSError; RuntimeError if no thread can be started.
        """
        channel = self._open_channel(connection, timeout_s=self._policy.network_timeout_s)
        place = Place(channel, address, time.monotonic())
        thread = threading.Thread(target=self._serve_connection, args=(place,), daemon=True)
        self._places.add(place, thread)
        try:
            thread.start()
        except RuntimeError:
            self._places.remove(place)
            raise

    def _serve_connection(self, place: Place) -> None:
        """Serve one connection to its end; an error ends this association and no other."""
        channel, address, is_open = place.channel, place.address, False
        try:
            channel.open()
            is_open = True
            self._associate(place)
        except AssociationLost as error:
            text, reason = f"association lost: {error}", str(error)
            about = {"action": "association_lost", "reason": reason, "calling_ae_title": place.calling_ae_title}
            if self._sparse_log.write(logging.INFO, text, address=address, **about) and not is_open:
                self._on_event(AssociationRefused("", "", address, reason))
            channel.abort()
        except ProtocolViolation as error:
            about = {"action": "association_aborted", "calling_ae_title": place.calling_ae_title}
            self._sparse_log.write(logging.WARNING, f"association aborted: {error}", address=address, **about)
            channel.abort(error.reason)
        except Exception:  # noqa: BLE001 - the boundary of an association: no error may end another association
            _log.exception("association failed", extra={"action": "association_failed", "address": address})
            channel.abort()
        finally:
            channel.close()
            self._places.remove(place)

    def _associate(self, place: Place) -> None:
        """Negotiate the association, and serve its accepted presentation contexts."""
        channel = place.channel
        request = proposal(channel.associate_request())
        place.calling_ae_title = request.calling_ae_title
        reason = refusal(request, place.address, self._policy)
        fault = certificate_fault(request.calling_ae_title, channel.identities(), self._policy.certificates)
        if reason is None and fault:
            reason = Rejection.CALLING_AE_TITLE_NOT_RECOGNIZED
        if reason is None and not self._is_admitted(place, request.calling_ae_title):
            reason = Rejection.LOCAL_LIMIT_EXCEEDED
        if reason is not None:
            self._reject(place, request, reason, fault)
            return
        contexts = answers(request.contexts, self._policy)
        roles = commitment_roles(request.roles)
        channel.send(acceptance(request, contexts, roles, max_pdu_bytes=self._policy.max_pdu_bytes))
        accepted = {
            context.identifier: PresentationContext(
                context.identifier, UID(context.abstract_syntax), UID(context.transfer_syntax)
            )
            for context in contexts
            if context.result == ContextResult.ACCEPTED
        }
        association = Association(channel, accepted, max_pdu_bytes=self._policy.max_pdu_bytes)
        self._serve(association, place, request.calling_ae_title)

    def _is_admitted(self, place: Place, calling_ae_title: str) -> bool:
        caller, limits = self._policy.caller(calling_ae_title, place.network)
        return self._places.admit(place, caller, limits.max_associations)

    def _reject(self, place: Place, request: Proposal, reason: Rejection, fault: str) -> None:
        self._count(reason.name)
        titles = f"of {request.calling_ae_title!r} to {request.called_ae_title!r}"
        cause = f"{reason.name}{fault and f': {fault}'}"
        is_written = self._sparse_log.write(
            logging.WARNING,
            f"association {titles} rejected: {cause}",
            action="rejected",
            address=place.address,
            reason=cause,
        )
        if is_written:
            callers = request.calling_ae_title, request.called_ae_title
            self._on_event(AssociationRefused(*callers, place.address, cause))
        place.channel.send(rejection(reason))

    def _serve(self, association: Association, place: Place, calling_ae_title: str) -> None:
        name = uuid.uuid4().hex
        opened = AssociationOpened(name, calling_ae_title, place.address, datetime.now(UTC))
        report = _Report(opened, self._on_event)
        is_peer = calling_ae_title in self._policy.peers
        stores = self._spool, self._commitments
        allowance = self._allowances.of_caller(*self._policy.caller(calling_ae_title, place.network))
        services = Services(
            name, calling_ae_title, is_peer, *stores, report.put, self._refusals, place.address, allowance
        )
        is_released = False
        self._count(ACCEPTED)
        try:
            for message in association.messages():
                answer = services.answer(message)
                if answer is not None:
                    self._count_answer(message, answer.status)
                    place.has_stored = report.has_stored
                    association.respond(message, response(message.command, answer.status, answer.comment))
            is_released = True
        finally:
            self._count(ENDED)
            report.end(is_released=is_released)

    def _count_answer(self, message: Message, status: int) -> None:
        if message.command.number(Tag.COMMAND_FIELD) == CommandField.C_STORE:
            name = f"{status:04X}"
            self._count(name if name in STATUSES else OTHER)


class _Report:
    """The events of one association; an association that brings nothing to the node has none."""

    def __init__(self, opened: AssociationOpened, on_event: Callable[[Event], None]) -> None:
        self._opened, self._on_event = opened, on_event
        self._is_begun = self._has_refused = self.has_stored = False

    def put(self, event: Event) -> None:
        """Report an event, and before the first that the association was opened; of many refusals only the first."""
        if not isinstance(event, ObjectRefused):
            self.has_stored = True
        elif self._has_refused:
            return
        else:
            self._has_refused = True
        if not self._is_begun:
            self._is_begun = True
            self._on_event(self._opened)
        self._on_event(event)

    def end(self, *, is_released: bool) -> None:
        """Report the end of an association that was reported."""
        if self._is_begun:
            self._on_event(AssociationEnded(self._opened.association, datetime.now(UTC), is_released))
