"""What the receiver tells the rest of the node, in the order in which it happened within an association."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeAlias

from ainode.node.domain import UID, InstanceRef


@dataclass(frozen=True, slots=True)
class AssociationOpened:
    """A caller was accepted; `association` names it in the events that follow."""

    association: str
    calling_ae_title: str
    address: str
    at: datetime


@dataclass(frozen=True, slots=True)
class InstanceStored:
    """An instance is on disk; its sender is answered next."""

    association: str
    path: Path
    ref: InstanceRef
    transfer_syntax_uid: UID
    size_bytes: int
    at: datetime


@dataclass(frozen=True, slots=True)
class AssociationEnded:
    """The association is over: released by the caller, or lost."""

    association: str
    at: datetime
    released: bool


@dataclass(frozen=True, slots=True)
class CommitmentRequested:
    """A sender asks whether we keep these (class, instance); our answer goes out on a new association."""

    calling_ae_title: str
    address: str
    transaction_uid: UID
    references: tuple[tuple[UID, UID], ...]


@dataclass(frozen=True, slots=True)
class CommitmentReported:
    """An archive says what it keeps of ours: instances, and instances with the failure reason."""

    transaction_uid: UID
    committed: tuple[UID, ...]
    failed: tuple[tuple[UID, int], ...]


Event: TypeAlias = AssociationOpened | InstanceStored | AssociationEnded | CommitmentRequested | CommitmentReported
