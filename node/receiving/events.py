"""The events that the receiver sends to the rest of the node; events of one association arrive in their order."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeAlias

from ainode.node.domain import UID, InstanceRef


@dataclass(frozen=True, slots=True)
class AssociationOpened:
    """The node accepted an association, which is about to store; `association` identifies it in later events."""

    association: str
    calling_ae_title: str
    address: str
    time: datetime


@dataclass(frozen=True, slots=True)
class InstanceStored:
    """An instance is on disk; the receiver sends Success after this event."""

    association: str
    path: Path
    ref: InstanceRef
    transfer_syntax_uid: UID
    size_bytes: int
    time: datetime


@dataclass(frozen=True, slots=True)
class ObjectRefused:
    """The node refused an object of an association; only the first refusal of an association is told."""

    association: str
    time: datetime


@dataclass(frozen=True, slots=True)
class AssociationEnded:
    """An association ended: the caller released the association, or the connection was lost."""

    association: str
    time: datetime
    is_released: bool


@dataclass(frozen=True, slots=True)
class CommitmentSaved:
    """A request or a report of storage commitment is on disk; the receiver sends Success after this event."""

    path: Path
    requestor: str
    """the AE title that gets the node's report; '' for the report of an archive"""


@dataclass(frozen=True, slots=True)
class AssociationRefused:
    """The node refused an association, or TLS failed before it; the AE titles are '' then, and may be anything else."""

    calling_ae_title: str
    called_ae_title: str
    address: str
    reason: str


Event: TypeAlias = (
    AssociationOpened | InstanceStored | ObjectRefused | AssociationEnded | CommitmentSaved | AssociationRefused
)
