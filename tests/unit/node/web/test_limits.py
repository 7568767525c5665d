"""The counts of callers and complaints, and the limits on a body that arrives."""

import asyncio
import logging
from selectors import DefaultSelector, SelectorKey

import anyio
import pytest
from support import installed

installed("fastapi", "uvicorn")

from starlette.exceptions import HTTPException  # noqa: E402
from starlette.types import Message  # noqa: E402

from ainode.node.web.limits import Body, Complaints, Tally  # noqa: E402


def test_ten_thousand_addresses_are_counted_in_the_memory_of_a_thousand() -> None:
    tally = Tally()
    for number in range(10_000):
        tally.count(f"address {number}")
    assert tally.count("address 0") == 2
    assert tally.count("address beyond") == 10_000 - 1_024 + 1


def test_the_addresses_of_one_network_of_ipv6_are_one_stranger() -> None:
    complaints = Complaints()
    assert [complaints.note("x", "x", f"2001:db8::{number}") for number in (1, 2)] == [1, 2]


def test_a_thousand_complaints_about_one_address_are_four_lines(caplog: pytest.LogCaptureFixture) -> None:
    complaints = Complaints()
    for _ in range(1_000):
        complaints.note("token_refused", "refused", "10.1.2.3")
    assert [record.getMessage() for record in caplog.records] == [
        f"refused (number {count} within a minute)" for count in (1, 10, 100, 1_000)
    ]
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


class AtOnce(DefaultSelector):
    """A selector that does not wait, and adds up for how long it was to wait."""

    total_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        self.total_s += timeout or 0.0
        return super().select(timeout and 0)


class Loop(asyncio.SelectorEventLoop):
    """A loop with a clock of its own, on which nothing but waiting takes time."""

    def __init__(self) -> None:
        self.waits = AtOnce()
        super().__init__(self.waits)

    def time(self) -> float:
        return self.waits.total_s


def received(pieces: list[bytes], *, pause_s: float, timeout_s: float, max_bytes: int) -> int:
    """Return how many bytes arrive of a body whose pieces come after a pause each."""
    pieces = list(pieces)

    async def receive() -> Message:
        await anyio.sleep(pause_s)
        return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}

    async def receive_all() -> int:
        body, size = Body(receive, timeout_s=timeout_s, max_bytes=max_bytes), 0
        more = True
        while more:
            message = await body.receive()
            size, more = size + len(message["body"]), message["more_body"]
        return size

    return anyio.run(receive_all, backend_options={"loop_factory": Loop})


def test_a_body_may_take_longer_than_the_time_limit_of_a_pause_if_its_rate_is_high_enough() -> None:
    assert received([bytes(1_000)] * 10, pause_s=0.02, timeout_s=0.1, max_bytes=10_000) == 10_000


@pytest.mark.parametrize(
    ("pieces", "pause_s", "max_bytes", "status"),
    [
        ([b"-"] * 100, 0.02, 1_000, 408),
        ([bytes(100_000)] * 2, 0.2, 1_000_000, 408),
        ([bytes(600)] * 2, 0.0, 1_000, 413),
    ],
)
def test_a_body_that_drips_pauses_or_is_too_long_ends(
    pieces: list[bytes], pause_s: float, max_bytes: int, status: int
) -> None:
    with pytest.raises(HTTPException) as caught:
        received(pieces, pause_s=pause_s, timeout_s=0.1, max_bytes=max_bytes)
    assert caught.value.status_code == status
