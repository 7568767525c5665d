"""Which associations are open, and which callers were refused lately: kept in memory, for whoever looks."""

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final

from ainode.node.receiving.events import AssociationEnded, AssociationOpened, AssociationRefused, Event, InstanceStored

_MOST_REFUSALS: Final = 100


@dataclass(frozen=True, slots=True)
class OpenAssociation:
    """An association that stores."""

    calling_ae_title: str
    address: str
    since: datetime
    instance_count: int = 0
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Refusal:
    """A caller that was refused, and why."""

    event: AssociationRefused
    at: datetime


@dataclass(frozen=True, slots=True)
class Received:
    """What came over DICOM since the node started."""

    instance_count: int
    size_bytes: int


@dataclass(slots=True)
class Receptions:
    """Looks at each event on its way; several threads may call."""

    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _open: dict[str, OpenAssociation] = field(default_factory=dict)
    _received: Received = field(default_factory=lambda: Received(0, 0))
    _refusals: deque[Refusal] = field(default_factory=lambda: deque(maxlen=_MOST_REFUSALS))

    def watched(self, on_event: Callable[[Event], None]) -> Callable[[Event], None]:
        """Return a function that notes an event and hands the event on."""

        def put(event: Event) -> None:
            with self._lock:
                self._note(event)
            on_event(event)

        return put

    def open(self) -> tuple[OpenAssociation, ...]:
        """Return the open associations, the oldest first."""
        with self._lock:
            return tuple(self._open.values())

    def received(self) -> Received:
        """Return what came since the node started."""
        with self._lock:
            return self._received

    def refusals(self) -> tuple[Refusal, ...]:
        """Return the last refusals, the newest first."""
        with self._lock:
            return tuple(reversed(self._refusals))

    def _note(self, event: Event) -> None:
        match event:
            case AssociationOpened():
                opened = OpenAssociation(event.calling_ae_title, event.address, event.time)
                self._open[event.association] = opened
            case InstanceStored():
                total = self._received
                self._received = Received(total.instance_count + 1, total.size_bytes + event.size_bytes)
                entry = self._open.get(event.association)
                if entry is None:
                    return
                self._open[event.association] = replace(
                    entry, instance_count=entry.instance_count + 1, size_bytes=entry.size_bytes + event.size_bytes
                )
            case AssociationEnded():
                self._open.pop(event.association, None)
            case AssociationRefused():
                self._refusals.append(Refusal(event, self.clock()))
