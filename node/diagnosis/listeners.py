"""What `ainode doctor` tries with a listener: whether it is there, and a message about nobody where somebody asks."""

import dataclasses
from collections.abc import Iterator
from datetime import datetime

from ainode.node.archive import fhir, mllp
from ainode.node.archive.fhir import FhirLink
from ainode.node.archive.mllp import MessageLink
from ainode.node.archive.store import Outgoing
from ainode.node.diagnosis.advice import NO, YES, Trial
from ainode.node.diagnosis.doctor_objects import PATIENT, trial_message, trial_transaction
from ainode.node.domain import DocumentKind, MessageAddress
from ainode.node.errors import ArchiveError, ArchiveUnreachable
from ainode.node.identity import message_address, server_address
from ainode.node.reports.resources import IDENTIFIER_ALONE
from ainode.node.settings import Peer

_TRAINING = "T"
"""HL7 table 0103: training, and nothing to act on"""
_CAPABILITIES = "CapabilityStatement"


def listener_trials(peer: Peer, *, token: str, now: datetime, with_message: bool) -> Iterator[Trial]:
    """Yield whether a listener is there, and what it says to a message of nobody; another `token` is another message.

    A listener may file what it gets: without `with_message` none is sent.
    """
    if peer.deliver == "fhir":
        yield from _server_trials(FhirLink(peer), token, now, with_message=with_message)
        return
    link = MessageLink(peer)
    try:
        mllp.connect(link)
    except ArchiveError as error:
        yield Trial("connection", NO, str(error), is_answered=False)
        return
    yield Trial("connection", YES, "over TLS" if peer.tls else "without TLS")
    if with_message:
        address = dataclasses.replace(message_address(peer), processing_id=_TRAINING)
        yield _message_trial(link, address, token, now)


def _message_trial(link: MessageLink, address: MessageAddress, token: str, now: datetime) -> Trial:
    document = trial_message(address, token, now)
    (answer,) = mllp.send(link, [Outgoing.message(document.ref.sop_instance_uid, document.content)])
    words = f'; says "{answer.comment}"' if answer.comment else ""
    if answer.error:
        return Trial(DocumentKind.MESSAGE, NO, f"{answer.error}{words}")
    return Trial(DocumentKind.MESSAGE, YES, f"acknowledged; of patient {PATIENT}, processing id {_TRAINING}{words}")


def _server_trials(link: FhirLink, token: str, now: datetime, *, with_message: bool) -> Iterator[Trial]:
    try:
        statement = fhir.capabilities(link)
    except ArchiveError as error:
        yield Trial(_CAPABILITIES, NO, str(error), is_answered=not isinstance(error, ArchiveUnreachable))
        return
    yield Trial(_CAPABILITIES, YES, f"FHIR {statement['fhirVersion']}")
    if fhir.offers_transactions(statement):
        yield Trial("interaction transaction", YES)
    else:
        yield Trial("interaction transaction", NO, "the CapabilityStatement does not name it; let the server take it")
    if with_message:
        yield _transaction_trial(link, token, now)


def _transaction_trial(link: FhirLink, token: str, now: datetime) -> Trial:
    address = dataclasses.replace(server_address(link.peer), patient=IDENTIFIER_ALONE, is_test=True)
    document = trial_transaction(address, token, now)
    (answer,) = fhir.send(link, [Outgoing.message(document.ref.sop_instance_uid, document.content)])
    words = f'; says "{answer.comment}"' if answer.comment else ""
    if answer.error:
        return Trial(DocumentKind.BUNDLE, NO, f"{answer.error}{words}")
    return Trial(DocumentKind.BUNDLE, YES, f"done; resources about patient {PATIENT}, marked HTEST: delete them there")
