"""What `ainode doctor` tries with a listener: a connection, and a message about nobody where somebody asks for one."""

import dataclasses
from collections.abc import Iterator
from datetime import datetime

from ainode.node.archive import mllp
from ainode.node.archive.mllp import MessageLink
from ainode.node.archive.store import Outgoing
from ainode.node.diagnosis.advice import NO, YES, Trial
from ainode.node.diagnosis.doctor_objects import PATIENT, trial_message
from ainode.node.domain import DocumentKind, MessageAddress
from ainode.node.errors import ArchiveError
from ainode.node.identity import message_address
from ainode.node.settings import Peer

_TRAINING = "T"
"""HL7 table 0103: training, and nothing to act on"""


def listener_trials(peer: Peer, *, token: str, now: datetime, with_message: bool) -> Iterator[Trial]:
    """Yield the outcome of a connection, and of a message of the processing id T; another `token` is another message.

    A listener may file what it gets: without `with_message` none is sent.
    """
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
