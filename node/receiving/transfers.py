"""What associations brought, and which were refused, for the audit trail: one record per association and study."""

import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from ainode.node.audit.messages import DESTINATION, SOURCE, Message, Participant, refused, study_subject, transferred
from ainode.node.domain import UID, InstanceRef
from ainode.node.receiving.events import AssociationEnded, AssociationOpened, AssociationRefused, Event, InstanceStored

# An association with more studies, or of more kinds of instances, has several records: it takes no memory without end.
_MAX_COUNTS: Final = 1000
Other = TypeVar("Other")


@dataclass(slots=True)
class _Association:
    """The sender, and the number of its instances of each study and SOP class since its last record."""

    sender: Participant
    counts: defaultdict[UID, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    kinds: int = 0


class Transfers(Generic[Other]):
    """Looks at each event before the intake gets the event, of whatever kind; several threads may call."""

    def __init__(self, record: Callable[[Message], None], on_event: Callable[[Event | Other], None]) -> None:
        """Record by `record`, and hand events on to `on_event`, except those that are for the trail alone."""
        self._record, self._on_event = record, on_event
        self._lock = threading.Lock()
        self._associations: dict[str, _Association] = {}

    def put(self, event: Event | Other) -> None:
        """Take an event, and hand it on."""
        match event:
            case AssociationRefused():
                title = event.calling_ae_title
                caller = Participant(title or event.address, title, event.address)
                called = f"; called {event.called_ae_title}" if event.called_ae_title else ""
                self._record(refused(caller, f"{event.reason}{called}"))
                return
            case InstanceStored():
                self._count(event)
            case AssociationOpened():
                title, address = event.calling_ae_title, event.address
                sender = Participant(title, title, address, SOURCE, is_requestor=True)
                with self._lock:
                    self._associations[event.association] = _Association(sender)
            case AssociationEnded():
                with self._lock:
                    association = self._associations.pop(event.association, None)
                if association:
                    self._write(association)
        self._on_event(event)

    def flush(self) -> None:
        """Record what open associations brought until now; the next program of this process counts the rest."""
        with self._lock:
            associations, self._associations = tuple(self._associations.values()), {}
        for association in associations:
            self._write(association)

    def recovered(self, instances: Iterable[tuple[str, InstanceRef]]) -> None:
        """Record instances, by sender, that came before the node was killed, which may have recorded some of them."""
        counts: defaultdict[tuple[str, UID], Counter[str]] = defaultdict(Counter)
        for title, ref in instances:
            counts[title, ref.study_instance_uid][ref.sop_class_uid] += 1
        for (title, uid), sop_classes in counts.items():
            sender = Participant(title, title, role=SOURCE, is_requestor=True)
            subject = study_subject(uid, sop_classes, {"recovered": "the node was killed before the study was routed"})
            self._record(transferred(sender, Participant(role=DESTINATION), subject))

    def _count(self, event: InstanceStored) -> None:
        with self._lock:
            association = self._associations.get(event.association)
            if association is None:
                return
            counts = association.counts[event.ref.study_instance_uid]
            counts[event.ref.sop_class_uid] += 1
            association.kinds += counts[event.ref.sop_class_uid] == 1
            if association.kinds < _MAX_COUNTS:
                return
            self._associations[event.association] = _Association(association.sender)
        self._write(association)

    def _write(self, association: _Association) -> None:
        node = Participant(role=DESTINATION)
        for uid, counts in association.counts.items():
            self._record(transferred(association.sender, node, study_subject(uid, counts)))
