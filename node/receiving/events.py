"""The events that the receiver sends to the rest of the node; events of one association arrive in their order."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeAlias

from ainode.node.domain import UID, InstanceRef


@dataclass(frozen=True, slots=True)
class AssociationOpened:
    """The node accepted an association; `association` identifies the association in later events."""

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
class AssociationEnded:
    """An association ended: the caller released the association, or the connection was lost."""

    association: str
    time: datetime
    is_released: bool


@dataclass(frozen=True, slots=True)
class CommitmentRequested:
    """A sender requests storage commitment for (class, instance) pairs; the node reports on a new association."""

    calling_ae_title: str
    address: str
    transaction_uid: UID
    references: tuple[tuple[UID, UID], ...]


@dataclass(frozen=True, slots=True)
class CommitmentReported:
    """An archive reports which of the node's instances it committed, and which failed with a failure reason."""

    transaction_uid: UID
    committed: tuple[UID, ...]
    failed: tuple[tuple[UID, int], ...]


Event: TypeAlias = AssociationOpened | InstanceStored | AssociationEnded | CommitmentRequested | CommitmentReported
