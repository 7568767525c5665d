"""Hostile callers at the port of the receiver, and a sender among them who wants an instance taken."""

import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.caller import Caller, data_set, status
from support.hostile import DIMSE, hostile_callers

from ainode.node.receiving.events import Event
from ainode.node.receiving.listener import listen
from ainode.node.receiving.process import ReceiverProcess
from ainode.node.settings import NodeTable, Settings

# What the node promises a sender among 200 hostile callers.
LONGEST_ANSWER_S = 1.0


@dataclass(frozen=True)
class Child:
    process: ReceiverProcess
    port: int


@pytest.fixture
def child(tmp_path: Path) -> Iterator[Child]:
    listener = listen("127.0.0.1", 0)
    process = ReceiverProcess(Settings(node=NodeTable(data=tmp_path, min_free_bytes=0)), listener=listener)
    events: list[Event] = []
    process.start(events.append)
    yield Child(process, listener.getsockname()[1])
    process.stop()


def store_s(port: int, instance: str) -> float:
    """Return how long a sender waits from the call to the answer to its C-STORE."""
    begin = time.monotonic()
    with Caller(port, calling="SENDER") as sender:
        assert sender.kind == 2, f"rejected: {sender.answer!r}"
        assert status(sender.store(data_set(instance), instance=instance)) == 0
        return time.monotonic() - begin


@pytest.mark.parametrize("behaviors", [tuple(DIMSE), *((name,) for name in DIMSE)], ids="-".join)
def test_a_c_store_among_200_hostile_callers_is_answered_within_a_second(
    child: Child, behaviors: tuple[str, ...]
) -> None:
    store_s(child.port, "1.3.1")
    with hostile_callers(child.port, behaviors):
        durations_s = [store_s(child.port, f"1.3.{number}") for number in range(2, 9)]
    assert statistics.median(durations_s) < LONGEST_ANSWER_S
