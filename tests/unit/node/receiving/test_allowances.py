"""What a caller may send a minute."""

import threading
import time

import pytest

from ainode.node.receiving import allowances
from ainode.node.receiving.allowances import Allowances, CallerLimits

PIECE = memoryview(bytes(1000))


class Waits:
    """Waits that take no time, and their sum."""

    def __init__(self) -> None:
        self.total_s = 0.0

    def __call__(self, seconds: float) -> None:
        self.total_s += seconds


def send(
    limits: CallerLimits, instances: int, pieces: int, *, callers: tuple[str, ...] = ("CT1@10.0.0.1",)
) -> list[float]:
    """Return how long each caller has waited in all."""
    totals = []
    for caller in callers:
        waits = Waits()
        allowance = Allowances(waits).of_caller(caller, limits)
        assert allowance
        for _ in range(instances):
            assert list(allowance.paced(iter([PIECE] * pieces))) == [PIECE] * pieces
        totals.append(waits.total_s)
    return totals


def test_instances_beyond_the_rate_wait_until_a_minute_gives_room() -> None:
    assert send(CallerLimits(1, max_instances_per_minute=60), 60, 1) == [0]
    begin_s = time.monotonic()
    (total_s,) = send(CallerLimits(1, max_instances_per_minute=60), 62, 1)
    assert is_wait_for_one_and_two_seconds(total_s, time.monotonic() - begin_s)


def is_wait_for_one_and_two_seconds(total_s: float, elapsed_s: float) -> bool:
    """Return whether two waits, which take no time here so that the second counts both, are less by what elapsed."""
    return 3 - 2 * elapsed_s - 0.001 < total_s < 3 + 0.001


def test_bytes_beyond_the_rate_wait_within_an_instance() -> None:
    assert send(CallerLimits(1, max_bytes_per_minute=60_000), 1, 60) == [0]
    begin_s = time.monotonic()
    (total_s,) = send(CallerLimits(1, max_bytes_per_minute=60_000), 1, 62)
    assert is_wait_for_one_and_two_seconds(total_s, time.monotonic() - begin_s)


def test_the_associations_of_a_caller_share_an_allowance_and_callers_do_not() -> None:
    callers = Allowances(Waits())
    limits = CallerLimits(1, max_bytes_per_minute=1)
    assert callers.of_caller("CT1@10.0.0.1", limits) is callers.of_caller("CT1@10.0.0.1", limits)
    assert callers.of_caller("CT1@10.0.0.1", limits) is not callers.of_caller("10.0.0.1", limits)


def test_who_has_no_rate_has_no_allowance_to_look_at() -> None:
    assert Allowances(Waits()).of_caller("CT1@10.0.0.1", CallerLimits(1)) is None


def test_idle_callers_are_forgotten_beyond_a_thousand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allowances, "_MINUTE_S", -1.0)
    callers, limits = Allowances(Waits()), CallerLimits(1, max_bytes_per_minute=1)
    for number in range(3000):
        callers.of_caller(f"10.0.{number // 256}.{number % 256}", limits)
    assert len(callers._allowances) <= 1000


def test_a_receiver_that_stops_waits_for_no_allowance() -> None:
    stopping = threading.Event()
    allowance = Allowances(stopping.wait).of_caller("10.0.0.1", CallerLimits(1, max_bytes_per_minute=1))
    assert allowance
    thread = threading.Thread(target=lambda: list(allowance.paced(iter([PIECE]))))
    thread.start()
    stopping.set()
    thread.join(60)
    assert not thread.is_alive()
