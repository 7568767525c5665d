"""What the node asks of other systems, and where it sends, in the words of the audit trail."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import Final
from urllib.parse import urlsplit

from ainode.node.archive.store import SendOutcome
from ainode.node.audit.messages import (
    DESTINATION,
    SOURCE,
    Message,
    Participant,
    queried,
    study_subject,
    told,
    transferred,
)
from ainode.node.settings import Peer

# PS3.6 table A-1, Study Root Query/Retrieve Information Model - FIND.
_STUDY_ROOT_FIND: Final = "1.2.840.10008.5.1.4.1.2.2.1"


def participant_of(peer: Peer, *, is_source: bool = False) -> Participant:
    """Return a peer as the source of what it sends, or as the destination of what it gets."""
    return Participant(peer.name, peer.ae_title, peer.host, SOURCE if is_source else DESTINATION)


def query_of(peer: Peer, *, by_web: bool = False) -> Message:
    """Return the message about a query to a peer, by C-FIND or by QIDO-RS."""
    return queried(participant_of(peer), peer.dicomweb if by_web else _STUDY_ROOT_FIND)


def transfers_to(peer: Peer, outcomes: Iterable[tuple[str, str, SendOutcome]]) -> Iterator[Message]:
    """Yield a message for what a peer took of each study, and one for each reason of what the peer did not take.

    `outcomes` has study, SOP class and answer of each instance. What a listener takes is an export, and no transfer of
    instances.
    """
    counts: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for uid, sop_class, outcome in outcomes:
        status = "none" if outcome.status is None else f"0x{outcome.status:04X}"
        failure = f"{type(outcome.error).__name__}, status {status}" if outcome.error else ""
        counts[uid, failure][sop_class] += 1
    node = Participant(role=SOURCE, is_requestor=True)
    for (uid, failure), sop_classes in counts.items():
        if peer.is_listener:
            yield told(peer.name, _host_of(peer), study_subject(uid, {}, {"deliver": peer.deliver}), failure)
            continue
        yield transferred(node, participant_of(peer), study_subject(uid, sop_classes), failure)


def _host_of(peer: Peer) -> str:
    return peer.host or urlsplit(peer.fhir).hostname or ""
