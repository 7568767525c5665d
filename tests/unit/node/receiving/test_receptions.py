"""Who stores just now, and who was refused, as the node remembers it."""

from datetime import UTC, datetime
from pathlib import Path

from ainode.node.domain import UID, InstanceRef
from ainode.node.receiving.events import AssociationEnded, AssociationOpened, AssociationRefused, Event, InstanceStored
from ainode.node.receiving.receptions import Receptions

NOW = datetime(2026, 1, 2, tzinfo=UTC)
REF = InstanceRef(UID("1"), UID("1.1"), UID("1.2"), UID("1.3"))


def test_an_open_association_counts_what_it_brought_until_it_ends_and_every_event_goes_on() -> None:
    receptions, events = Receptions(), list[Event]()
    put = receptions.watched(events.append)
    put(AssociationOpened("1", "CT1", "10.0.0.1", NOW))
    put(InstanceStored("1", Path("x"), REF, UID("1.2"), 100, NOW))
    put(InstanceStored("of a killed receiver", Path("x"), REF, UID("1.2"), 100, NOW))
    (entry,) = receptions.open()
    assert (entry.calling_ae_title, entry.instance_count, entry.size_bytes) == ("CT1", 1, 100)
    put(AssociationEnded("1", NOW, is_released=True))
    assert receptions.open() == ()
    assert len(events) == 4


def test_the_newest_refusals_stay_and_strangers_fill_no_memory() -> None:
    receptions = Receptions()
    put = receptions.watched(lambda _: None)
    for number in range(1_000):
        put(AssociationRefused(str(number), "AINODE", "10.0.0.1", "no"))
    refusals = receptions.refusals()
    assert len(refusals) == 100
    assert refusals[0].event.calling_ae_title == "999"
