"""The two languages of listeners for tests that hold for both: HL7 v2 over MLLP, and FHIR R4 transactions."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache

from ainode.node.archive import fhir, mllp
from ainode.node.archive.fhir import FhirLink
from ainode.node.archive.mllp import MessageLink
from ainode.node.archive.oauth2 import Tokens
from ainode.node.archive.store import Outgoing, SendOutcome
from ainode.node.diagnosis.doctor_objects import trial_message, trial_transaction
from ainode.node.domain import Document, DocumentKind
from ainode.node.identity import message_address, server_address
from ainode.node.settings import Hl7Table, Peer, ResourcesTable
from support.fhir import Wrong, serving
from support.listener import Listener, listening
from support.servers import free_port

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def his(port: int, *, answer_s: float = 20, **values: object) -> Peer:
    """Return a RIS that takes HL7 at a port of this machine."""
    table = Hl7Table(receiving_application="RIS", answer_s=answer_s)
    return Peer(name="his", host="127.0.0.1", port=port, deliver="hl7", hl7=table, **values)  # type: ignore[arg-type]


def ehr(base: str, *, answer_s: float = 20, **values: object) -> Peer:
    """Return an EHR that takes FHIR at an address."""
    table = ResourcesTable(answer_s=answer_s, members="components")
    return Peer(name="ehr", deliver="fhir", fhir=base, resources=table, **values)  # type: ignore[arg-type]


@cache
def message(number: int = 1) -> Document:
    """Return an HL7 message of nobody."""
    return trial_message(message_address(his(1)), str(number), NOW)


@cache
def transaction(number: int = 1) -> Document:
    """Return a FHIR transaction of nobody."""
    return trial_transaction(server_address(ehr("http://127.0.0.1:1/fhir")), str(number), NOW)


def sendable(document: Document) -> Outgoing:
    """Return a message as it is sent."""
    return Outgoing.message(document.ref.sop_instance_uid, document.content)


def sent_hl7(peer: Peer, documents: Sequence[Outgoing]) -> tuple[SendOutcome, ...]:
    """Send HL7 messages."""
    return mllp.send(MessageLink(peer), documents)


def sent_fhir(peer: Peer, documents: Sequence[Outgoing]) -> tuple[SendOutcome, ...]:
    """Send FHIR transactions, with no token of before."""
    return fhir.send(FhirLink(peer, Tokens()), documents)


@dataclass(frozen=True)
class Language:
    """How a listener of a language is made, and the words by which the one of the tests answers."""

    kind: DocumentKind
    document: Callable[[int], Document]
    speaking: Callable[[Sequence[str]], AbstractContextManager[tuple[Peer, list[bytes]]]]
    """runs a listener that answers so; yields it as a peer, and what arrives"""
    absent: Callable[[], Peer]
    """returns a listener at whose port nobody is"""
    sent: Callable[[Peer, Sequence[Outgoing]], tuple[SendOutcome, ...]]
    taken: str
    refused: str
    later: str
    """what is tried again"""
    refusal: str
    """what the node says of a refusal"""
    trials: int
    """how many questions the doctor asks without a message"""

    def __str__(self) -> str:
        """Return the name by which pytest lists it."""
        return self.kind.value


@contextmanager
def _speaking_hl7(answers: Sequence[str]) -> Iterator[tuple[Peer, list[bytes]]]:
    listener = Listener(list(answers))
    with listening(listener) as port:
        yield his(port), listener.messages


@contextmanager
def _speaking_fhir(answers: Sequence[str]) -> Iterator[tuple[Peer, list[bytes]]]:
    server = Wrong(list(answers))
    with serving(server) as base:
        yield ehr(base), server.transactions


def _absent_his() -> Peer:
    return his(free_port())


def _absent_ehr() -> Peer:
    return ehr(f"http://127.0.0.1:{free_port()}/fhir")


HL7 = Language(
    DocumentKind.MESSAGE, message, _speaking_hl7, _absent_his, sent_hl7, "AA", "AR 200", "AE", "refused message", 1
)
FHIR = Language(
    DocumentKind.BUNDLE, transaction, _speaking_fhir, _absent_ehr, sent_fhir, "done", "422", "503",
    "refused the transaction", 2,
)  # fmt: skip
