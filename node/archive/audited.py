"""What the node asks of other systems, and where it sends, in the words of the audit trail."""

from typing import Final

from ainode.node.audit.messages import DESTINATION, SOURCE, Message, Participant, queried
from ainode.node.settings import Peer

# PS3.6 table A-1, Study Root Query/Retrieve Information Model - FIND.
_STUDY_ROOT_FIND: Final = "1.2.840.10008.5.1.4.1.2.2.1"


def participant_of(peer: Peer, *, is_source: bool = False) -> Participant:
    """Return a peer as the source of what it sends, or as the destination of what it gets."""
    return Participant(peer.name, peer.ae_title, peer.host, SOURCE if is_source else DESTINATION)


def query_of(peer: Peer, *, by_web: bool = False) -> Message:
    """Return the message about a query to a peer, by C-FIND or by QIDO-RS."""
    return queried(participant_of(peer), peer.dicomweb if by_web else _STUDY_ROOT_FIND)
