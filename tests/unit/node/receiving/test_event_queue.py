import threading
import time

from support.waiting import until

from ainode.node.receiving.event_queue import EventQueue


def full_queue() -> "EventQueue[int]":
    events = EventQueue[int](2)
    events.put(1)
    events.put(2)
    return events


def started(events: "EventQueue[int]", event: int) -> threading.Thread:
    thread = threading.Thread(target=events.put, args=(event,), daemon=True)
    thread.start()
    return thread


def test_whoever_puts_into_a_full_queue_waits_until_there_is_room() -> None:
    events = full_queue()
    thread = started(events, 3)
    thread.join(0.2)
    assert thread.is_alive()
    assert len(events) == 2
    assert events.take(1) == [1]
    thread.join(60)
    assert not thread.is_alive()
    assert events.take(10) == [2, 3]


def test_a_closed_queue_lets_go_whoever_waits_and_drops_what_is_put() -> None:
    events = full_queue()
    threads = [started(events, number) for number in (3, 4)]
    events.close()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    events.put(5)
    assert events.take(10) == [1, 2]
    assert events.take(10, timeout_s=0) == []


def test_whoever_waits_for_an_event_is_woken_without_one_and_the_next_event_is_waited_for() -> None:
    events = EventQueue[int](2)
    batches: list[list[int]] = []
    thread = threading.Thread(target=lambda: [batches.append(events.take(1)) for _ in range(2)], daemon=True)
    thread.start()
    events.wake()
    until(lambda: batches == [[]])
    events.put(1)
    thread.join(60)
    assert batches == [[], [1]]


def test_an_event_ages_from_when_it_is_put_until_it_is_finished() -> None:
    events = full_queue()
    put_at = time.monotonic()
    assert events.take(1) == [1]
    assert events.take(1) == [2]
    while time.monotonic() < put_at + 0.05:
        pass
    third_put_at = time.monotonic()
    events.put(3)
    assert events.age_s() >= 0.05
    events.done()
    age_s = events.age_s()
    assert age_s <= time.monotonic() - third_put_at
    events.take(1)
    events.done()
    assert not events.age_s()
