"""What the receiver counts in the memory that it shares with the node."""

import threading

from ainode.node.receiving.pulse import ACCEPTED, COUNTED, OTHER, Pulse


def test_each_name_is_counted_apart_and_read_by_whoever_maps_the_memory() -> None:
    pulse = Pulse.create()
    reader = Pulse(pulse.descriptor)
    for number, name in enumerate(COUNTED):
        for _ in range(number):
            pulse.count(name)
    assert reader.counts() == {name: number for number, name in enumerate(COUNTED)}
    pulse.beat(7)
    assert reader.shortage() == 7
    assert reader.counts()[OTHER] == len(COUNTED) - 1
    reader._memory.close()
    pulse.close()


def test_no_count_of_threads_is_lost() -> None:
    pulse = Pulse.create()

    def count() -> None:
        for _ in range(2_000):
            pulse.count(ACCEPTED)

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert pulse.counts()[ACCEPTED] == 16_000
    pulse.close()
