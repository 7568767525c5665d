"""The places of the receiver: who has a connection, who has an association, and whom the node cuts for somebody else.

A caller who misuses a place loses the place to the next caller, so that no number of bad callers keeps a good one out.
The rules look at what a caller does, and not at who the caller claims to be: hostile callers may share the address of a
sender.
"""

import math
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from ipaddress import IPv6Address, IPv6Network
from operator import itemgetter
from typing import Final

from ainode.node.receiving.upper_layer import Channel

# A caller sends its A-ASSOCIATE-RQ at once; a TLS handshake over a slow line takes two or three seconds.
OPENING_S: Final = 10.0
# A connection before its association costs a thread that waits, some 50 kB.
MAX_OPENINGS: Final = 256
# How long a caller waits for an association, and another may be idle meanwhile. Both are shorter the more callers wait.
PATIENCE_S: Final = 5.0
# A sender on an ISDN line with two channels has so much; who has stored nothing and is slower makes room for others.
_BRISK_BYTES_PER_S: Final = 16_000
# The receiver stood still for this long, as in a suspended container: no caller is to blame for the time.
_STANDSTILL_S: Final = 2.0
_SHORTEST_WAIT_S: Final = 0.01
# A sender begins its first message within a round trip, and a busy machine takes some 20 ms until the sender runs.
_LEAST_PATIENCE_S: Final = 0.05
# A node that stops ends an association that has been silent for so long between two messages.
_RESTING_S: Final = 2.0
_DRAIN_LOOK_S: Final = 0.1
# RFC 4291 2.5.1: the interface identifier has 64 bits.
_HOST_PREFIX: Final = 64


class Stage(Enum):
    """How far a connection is."""

    OPENING = auto()
    QUEUED = auto()
    ASSOCIATED = auto()
    CUT = auto()


@dataclass(eq=False, slots=True)
class Place:
    """A connection, and what its caller has done with it."""

    channel: Channel
    address: str
    since_s: float
    """when the stage began, by the monotonic clock"""
    stage: Stage = Stage.OPENING
    calling_ae_title: str = ""
    """of the caller, empty before an association is proposed"""
    caller: str = ""
    """whose associations are counted together"""
    has_stored: bool = False
    network: str = field(init=False)
    """whose connections are counted together"""
    turn: threading.Condition = field(default_factory=threading.Condition)
    """wakes the thread of a caller who waits for an association"""

    def __post_init__(self) -> None:
        """Tell the network from the address."""
        self.network = network_of(self.address)

    def arrears_s(self, now_s: float) -> float:
        """Return how long an association has used its slot in vain; nothing, or less, if the association uses it well.

        An association that has stored something may rest between messages, and is in arrears only within a message.
        """
        waited_s = now_s - self.channel.waiting_since_s
        if waited_s == -math.inf:
            return 0.0
        if not self.has_stored:
            age_s = now_s - self.since_s
            silence_s, received_bytes = self.channel.reception()
            return max(min(silence_s, age_s), age_s - received_bytes / _BRISK_BYTES_PER_S)
        return waited_s if not self.channel.is_between_messages and waited_s > PATIENCE_S else 0.0

    def fault(self, now_s: float, earliest_s: float) -> str:
        """Return why the connection has to end now, '' if it may stay; no wait counts from before `earliest_s`."""
        if self.stage == Stage.OPENING and now_s - max(self.since_s, earliest_s) > OPENING_S:
            return f"the caller opened no association within {OPENING_S:.0f} s"
        waited_s = now_s - max(self.channel.waiting_since_s, earliest_s)
        if self.stage != Stage.CUT and waited_s > self.channel.longest_wait_s:
            return "the peer was slower than node.network_timeout_s and the lowest rate allow"
        return ""


def network_of(address: str) -> str:
    """Return an IPv4 address as it is, and of an IPv6 address its network of 64 bits, all of which a host may use."""
    if ":" not in address:
        return address
    parsed = IPv6Address(address.partition("%")[0])
    return str(parsed.ipv4_mapped or IPv6Network((parsed, _HOST_PREFIX), strict=False))


def displaced(openings: list[Place]) -> Place:
    """Return the connection that makes room for a new one: the oldest of the address, or network, with most of them.

    A caller who has requested an association, and waits for a slot, goes only where there is no other.
    """
    counts = Counter(place.network for place in openings)
    return max(openings, key=lambda place: (counts[place.network], place.stage == Stage.OPENING, -place.since_s))


class Places:
    """All places; several threads call."""

    def __init__(self, max_associations: int) -> None:
        """Begin with no connection."""
        self._max_associations = max_associations
        self._lock = threading.Lock()
        self._threads: dict[Place, threading.Thread] = {}
        self._queue: deque[Place] = deque()
        self._watched_s = self._earliest_s = time.monotonic()

    def add(self, place: Place, thread: threading.Thread) -> None:
        """Take a new connection; where all places are taken, the connection takes the place of another."""
        with self._lock:
            openings = [other for other in self._threads if other.stage in (Stage.OPENING, Stage.QUEUED)]
            if len(openings) >= MAX_OPENINGS:
                _cut(displaced(openings), "other callers need the place of a connection without association")
            self._threads[place] = thread

    def remove(self, place: Place) -> None:
        """Give the place of a connection that has ended to the next caller."""
        with self._lock:
            self._threads.pop(place, None)
            self._wake_next()

    def drain(self, within_s: float, hurries: Callable[[], bool]) -> None:
        """Return when no association is in use any more, after `within_s`, or once it `hurries`.

        An association is in use unless it was released, or has rested between messages for two seconds. The accepting
        thread has ended, so that slow peers are watched here.
        """
        end_s = time.monotonic() + within_s
        while time.monotonic() < end_s and not hurries() and self._is_in_use():
            self.watch()
            time.sleep(_DRAIN_LOOK_S)

    def _is_in_use(self) -> bool:
        now_s = time.monotonic()
        with self._lock:
            return any(
                place.stage == Stage.ASSOCIATED
                and not (place.channel.is_between_messages and now_s - place.channel.waiting_since_s > _RESTING_S)
                for place in self._threads
            )

    def close(self) -> None:
        """Cut every connection, and wait for their threads."""
        with self._lock:
            threads = tuple(self._threads.values())
            for place in self._threads:
                _cut(place, "the node stops")
        for thread in threads:
            thread.join()

    def admit(self, place: Place, caller: str, max_associations: int) -> bool:
        """Return whether a caller gets an association, of which the caller has so many at most.

        The caller waits for a moment if one of the associations is about to lose its slot.
        """
        with self._lock:
            place.stage, place.caller, place.turn = Stage.QUEUED, caller, threading.Condition(self._lock)
            self._queue.append(place)
            self._wake_next()  # the patience with idle associations has become shorter
            try:
                is_admitted = self._make_room(place, max_associations)
            finally:
                self._queue.remove(place)
                self._wake_next()
            if is_admitted:
                place.stage, place.since_s = Stage.ASSOCIATED, time.monotonic()
            return is_admitted

    def _make_room(self, place: Place, max_associations: int) -> bool:
        """Wait until a slot is free or can be taken from somebody; return whether that happened in time."""
        end_s = time.monotonic() + PATIENCE_S
        while place.stage == Stage.QUEUED and (now_s := time.monotonic()) < end_s:
            if self._queue[0] is not place:
                place.turn.wait(end_s - now_s)
                continue
            rivals = self._rivals(place.caller, max_associations)
            if not rivals:
                return True
            arrears_s, worst = max(((rival.arrears_s(now_s), rival) for rival in rivals), key=itemgetter(0))
            patience_s = max(PATIENCE_S / len(self._queue), _LEAST_PATIENCE_S)
            if arrears_s >= patience_s:
                _cut(worst, "other callers need the association, which has stored nothing or is stuck in a message")
                return True
            if arrears_s <= 0:
                return False
            place.turn.wait(max(patience_s - arrears_s, _SHORTEST_WAIT_S))
        return False

    def _rivals(self, caller: str, max_associations: int) -> list[Place]:
        """Return the associations of which one has to end before the caller gets an association, if any has to."""
        associated = [place for place in self._threads if place.stage == Stage.ASSOCIATED]
        own = [place for place in associated if place.caller == caller]
        if len(own) >= max_associations:
            return own
        return associated if len(associated) >= self._max_associations else []

    def _wake_next(self) -> None:
        if self._queue:
            self._queue[0].turn.notify()

    def watch(self) -> None:
        """Cut the connections whose peers take too long."""
        now_s = time.monotonic()
        if now_s - self._watched_s > _STANDSTILL_S:
            self._earliest_s = now_s
        self._watched_s = now_s
        with self._lock:
            for place in self._threads:
                if reason := place.fault(now_s, self._earliest_s):
                    _cut(place, reason)


def _cut(place: Place, reason: str) -> None:
    """End a connection, whose place is free at once; a caller who waits for an association is woken."""
    if place.stage == Stage.QUEUED:
        place.turn.notify()
    place.stage = Stage.CUT
    place.channel.cut(reason)
