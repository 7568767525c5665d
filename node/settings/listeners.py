"""`[peer.hl7]` of node.toml: how the messages for a listener are written."""

from typing import Annotated, Final, Literal

from pydantic import StringConstraints

from ainode.node.settings.frozen import Frozen
from ainode.node.settings.values import PRINTED, Seconds

# HL7 2.5.1, 2.A.33: the first component of an HD is a name of 20 characters.
_Application = Annotated[str, StringConstraints(strip_whitespace=True, max_length=20, pattern=PRINTED)]
_SENDER: Final = "AINODE"


class Hl7Table(Frozen):
    """`[peer.hl7]`: names, character set and patience of a listener for HL7 v2.5.1 messages over MLLP."""

    sending_application: _Application = _SENDER
    sending_facility: _Application = ""
    receiving_application: _Application = ""
    receiving_facility: _Application = ""
    character_set: Literal[
        "ASCII",
        "8859/1",
        "8859/2",
        "8859/3",
        "8859/4",
        "8859/5",
        "8859/6",
        "8859/7",
        "8859/8",
        "8859/9",
        "8859/15",
        "UNICODE UTF-8",
    ] = "UNICODE UTF-8"
    """of the listener, in the words of HL7 table 0211; what the set lacks is escaped"""
    processing_id: Literal["P", "T", "D"] = "P"
    result_status: Literal["R", "P", "F"] = "R"
    """what a message calls a result that nobody verified: stored, not yet verified; preliminary; final"""
    answer_s: Seconds = 30.0
    """how long the node waits for the connection, and for the acknowledgment of a message"""
