"""Who keeps a place, and who has to give it to somebody else."""

import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from support.waiting import until

from ainode.node.receiving import places as places_module
from ainode.node.receiving.places import MAX_OPENINGS, OPENING_S, PATIENCE_S, Place, Places, Stage, displaced
from ainode.node.receiving.upper_layer import AssociationLost, Channel


@dataclass
class Callers:
    """Connections to a listener, and the places of their callers."""

    places: Places
    listener: socket.socket
    sockets: list[socket.socket] = field(default_factory=list)

    def connect(self, *, age_s: float = 0.0, address: str = "10.0.0.1", patience_s: float = 60.0) -> Place:
        """Return the place of a new caller who came some time ago; the kernel is more patient than the channel."""
        self.sockets.append(socket.create_connection(self.listener.getsockname(), timeout=60))
        connection, _ = self.listener.accept()
        self.sockets.append(connection)
        channel = Channel(connection, timeout_s=60)
        channel._patience_s = channel._left_s = patience_s
        place = Place(channel, address, time.monotonic() - age_s)
        thread = threading.Thread(target=bool)
        thread.start()
        self.places.add(place, thread)
        return place

    def associate(self, *, idle_s: float = 0.0, has_stored: bool = False, is_between_messages: bool = True) -> Place:
        """Return the place of a caller with an association, for whom the node waits since some time."""
        place = self.connect()
        assert self.places.admit(place, place.address, 100)
        place.since_s -= idle_s
        place.has_stored = has_stored
        place.channel.waiting_since_s = time.monotonic() - idle_s
        place.channel.is_between_messages = is_between_messages
        return place


@pytest.fixture
def callers() -> Iterator[Callers]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        callers = Callers(Places(max_associations=2), listener)
        yield callers
        for connection in callers.sockets:
            connection.close()


def open_places(*ages: tuple[str, float]) -> list[Place]:
    left, right = socket.socket(), socket.socket()
    channel = Channel(left, timeout_s=1)
    right.close()
    left.close()
    return [Place(channel, address, -age_s) for address, age_s in ages]


def test_the_oldest_connection_of_the_busiest_address_makes_room() -> None:
    places = open_places(("10.0.0.1", 9), ("10.0.0.2", 2), ("10.0.0.2", 5), ("10.0.0.2", 1))
    assert displaced(places) is places[2]
    places[2].stage = Stage.QUEUED
    assert displaced(places) is places[1]


def test_the_addresses_of_one_ipv6_network_are_counted_together() -> None:
    places = open_places(("10.0.0.1", 9), ("2001:db8::1", 2), ("2001:db8::2", 5), ("::ffff:10.0.0.1", 8))
    assert displaced(places) is places[0]
    assert displaced(places[:3]) is places[2]


def test_beyond_the_places_a_new_connection_takes_that_of_a_silent_one(callers: Callers) -> None:
    sender = callers.connect(address="10.0.0.2", age_s=5)
    silent = [callers.connect() for _ in range(MAX_OPENINGS - 1)]
    assert all(place.stage == Stage.OPENING for place in (sender, *silent))
    callers.connect(address="10.0.0.3")
    assert [place.stage for place in silent[:2]] == [Stage.CUT, Stage.OPENING]
    assert sender.stage == Stage.OPENING


def test_who_opens_no_association_in_time_is_cut(callers: Callers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places_module, "_STANDSTILL_S", 3600.0)
    late, early = callers.connect(age_s=OPENING_S + 1), callers.connect()
    callers.places._earliest_s -= 100
    callers.places.watch()
    assert [late.stage, early.stage] == [Stage.CUT, Stage.OPENING]
    with pytest.raises(AssociationLost, match="opened no association within 10 s"):
        late.channel.associate_request()


def test_a_receiver_that_stood_still_blames_no_caller_for_the_time(callers: Callers) -> None:
    place = callers.connect(age_s=OPENING_S + 1)
    callers.places._watched_s -= OPENING_S
    callers.places.watch()
    assert place.stage == Stage.OPENING


IDLE = 2 * PATIENCE_S


@pytest.mark.parametrize(
    ("has_stored", "is_between_messages"), [(False, True), (False, False), (True, False)], ids=["idle", "stuck", "late"]
)
def test_who_uses_an_association_in_vain_gives_it_to_the_next_caller(
    callers: Callers, *, has_stored: bool, is_between_messages: bool
) -> None:
    bad = callers.associate(idle_s=IDLE, has_stored=has_stored, is_between_messages=is_between_messages)
    good = callers.associate(idle_s=IDLE, has_stored=True)
    begin = time.monotonic()
    assert callers.places.admit(callers.connect(), "10.0.0.2", 100)
    assert time.monotonic() - begin < PATIENCE_S
    assert [bad.stage, good.stage] == [Stage.CUT, Stage.ASSOCIATED]


def test_a_sender_that_rests_between_instances_is_not_cut_and_the_next_caller_is_refused_at_once(
    callers: Callers,
) -> None:
    resting = [callers.associate(idle_s=50, has_stored=True) for _ in range(2)]
    begin = time.monotonic()
    assert not callers.places.admit(callers.connect(), "10.0.0.2", 100)
    assert time.monotonic() - begin < PATIENCE_S
    assert all(place.stage == Stage.ASSOCIATED for place in resting)


def test_a_caller_at_its_own_limit_takes_the_place_of_nobody_else(callers: Callers) -> None:
    own = callers.associate(has_stored=True)
    other = callers.associate(idle_s=IDLE)
    other.caller = "10.0.0.9"
    assert not callers.places.admit(callers.connect(), own.caller, 1)
    assert other.stage == Stage.ASSOCIATED


def test_an_association_that_ends_is_that_of_who_waits_for_it(
    callers: Callers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places_module, "PATIENCE_S", 3600.0)
    first, _ = callers.associate(), callers.associate()
    waiting = callers.connect()
    answers: list[bool] = []
    thread = threading.Thread(target=lambda: answers.append(callers.places.admit(waiting, "10.0.0.2", 100)))
    thread.start()
    until(lambda: waiting.stage == Stage.QUEUED)
    callers.places.remove(first)
    thread.join(60)
    assert answers == [True]


def test_the_more_callers_wait_the_less_an_association_may_be_idle(
    callers: Callers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places_module, "PATIENCE_S", 3600.0)
    for _ in range(2):
        callers.associate(idle_s=3600.0 / 10)
    waiting = [callers.connect() for _ in range(20)]
    threads = [
        threading.Thread(target=callers.places.admit, args=(place, place.address, 100), daemon=True)
        for place in waiting
    ]
    for thread in threads:
        thread.start()
    until(lambda: sum(place.stage == Stage.ASSOCIATED for place in waiting) >= 2)
    callers.places.close()
    for thread in threads:
        thread.join()


# How long a peer may take


def test_a_peer_that_reads_the_answer_at_a_drip_is_cut(callers: Callers) -> None:
    place = callers.connect(patience_s=0.5)
    peer = callers.sockets[-2]
    errors: list[AssociationLost] = []

    def send() -> None:
        try:
            place.channel.send(bytes(100 << 20))
        except AssociationLost as error:
            errors.append(error)

    thread = threading.Thread(target=send)
    thread.start()
    begin = time.monotonic()
    while thread.is_alive():
        peer.recv(1 << 16)
        callers.places.watch()
        assert time.monotonic() - begin < 60
        thread.join(0.1)
    assert "slower than node.network_timeout_s" in str(errors[0])


@pytest.mark.parametrize(("step", "pause_s", "is_cut"), [(1, 0.05, True), (400, 0.05, False)])
def test_a_drip_ends_and_a_slow_line_does_not(callers: Callers, *, step: int, pause_s: float, is_cut: bool) -> None:
    """The slow line takes longer than the patience in all; a machine that stands still for two seconds cuts nobody."""
    place = callers.connect(patience_s=2.0)
    peer = callers.sockets[-2]
    results: list[object] = []

    def read() -> None:
        try:
            for _ in range(30):
                place.channel.read(memoryview(bytearray(800)))
            results.append("whole")
        except AssociationLost as error:
            results.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    begin = time.monotonic()
    while thread.is_alive():
        peer.send(bytes(step))
        callers.places.watch()
        assert time.monotonic() - begin < 60
        thread.join(pause_s)
    assert isinstance(results[0], AssociationLost) == is_cut
