"""Hostile callers at the port of the receiver, and a sender among them who wants an instance taken."""

import ssl
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from support import run
from support.caller import Caller, data_set, status
from support.certificates import Certificate, authority, issued
from support.hostile import DIMSE, hostile_callers

from ainode.node import testing
from ainode.node.receiving.events import Event
from ainode.node.receiving.listener import listen
from ainode.node.receiving.process import ReceiverProcess
from ainode.node.settings import NodeTable, Settings

# Half of the minute that a silent caller may hold an association: on a busy machine, too.
LONGEST_ANSWER_S = 30.0


@dataclass(frozen=True)
class Child:
    process: ReceiverProcess
    port: int


@contextmanager
def child_process(folder: Path, **changed: object) -> Iterator[Child]:
    listener = listen("127.0.0.1", 0)
    node = NodeTable.model_validate({"data": folder, "min_free_bytes": 0} | changed)
    process = ReceiverProcess(Settings(node=node), listener=listener)
    events: list[Event] = []
    process.start(events.append)
    try:
        yield Child(process, listener.getsockname()[1])
    finally:
        process.stop()


@pytest.fixture
def child(tmp_path: Path) -> Iterator[Child]:
    with child_process(tmp_path) as child:
        yield child


def store_s(port: int, instance: str, tls: ssl.SSLContext | None = None) -> float:
    """Return how long a sender waits from its first call to the answer to its C-STORE.

    Whoever has stored nothing yet and is slow may lose its association to others, on a busy machine an honest sender,
    too. It calls again, as a PACS does.
    """
    begin = time.monotonic()
    while not is_stored(port, instance, tls):
        assert time.monotonic() - begin < 2 * LONGEST_ANSWER_S
    return time.monotonic() - begin


def is_stored(port: int, instance: str, tls: ssl.SSLContext | None) -> bool:
    """Store on an association; return False if the node ends it for others."""
    with suppress(ConnectionError), Caller(port, calling="SENDER", tls=tls) as sender:
        assert sender.kind == 2, f"rejected: {sender.answer!r}"
        assert status(sender.store(data_set(instance), instance=instance)) == 0
        return True
    return False


@pytest.mark.parametrize("behaviors", [tuple(DIMSE), *((name,) for name in DIMSE)], ids="-".join)
def test_a_c_store_among_200_hostile_callers_is_soon_answered(child: Child, behaviors: tuple[str, ...]) -> None:
    with Caller(child.port, calling="RESTING") as resting:
        assert status(resting.store(data_set("1.3.1"), instance="1.3.1")) == 0
        with hostile_callers(child.port, behaviors):
            durations_s = [store_s(child.port, f"1.3.{number}") for number in range(2, 9)]
            assert statistics.median(durations_s) < LONGEST_ANSWER_S
        # An association that rests between instances was not cut for anybody.
        assert status(resting.store(data_set("1.3.9"), instance="1.3.9")) == 0


def test_dcmtk_sends_a_study_among_200_hostile_callers(child: Child, tmp_path: Path) -> None:
    paths = testing.write((testing.noise(64, 64, seed=number) for number in range(5)), tmp_path / "in", study="s")
    begin = time.monotonic()
    with hostile_callers(child.port, tuple(DIMSE)):
        # A sender on a busy machine may lose its association before the first instance is stored, and calls again.
        while (sent := run("storescu", "-aec", "AINODE", "127.0.0.1", str(child.port), *map(str, paths))).returncode:
            assert time.monotonic() - begin < 2 * LONGEST_ANSWER_S, sent.stderr


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return issued(authority(tmp_path_factory.mktemp("keys"), "ca"), "node")


def test_a_c_store_over_tls_among_200_hostile_callers_is_soon_answered(
    tmp_path: Path, certificate: Certificate
) -> None:
    tls = ssl.create_default_context(cafile=certificate.path.with_name("ca.pem"))
    tls.check_hostname = False
    with child_process(tmp_path, tls_certificate=certificate.path, tls_key=certificate.key) as child:
        store_s(child.port, "1.3.1", tls)
        plain = hostile_callers(child.port, ("silent", "drips a request", "garbage"), count=100)
        with plain, hostile_callers(child.port, tuple(DIMSE), count=100, tls=tls):
            durations_s = [store_s(child.port, f"1.3.{number}", tls) for number in range(2, 9)]
    assert statistics.median(durations_s) < LONGEST_ANSWER_S


# Bounds on the whole


@pytest.mark.parametrize("is_tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("behavior", ["drips data", "half a PDU"])
def test_a_message_that_drips_ends_although_no_silence_is_too_long(
    tmp_path: Path, certificate: Certificate, behavior: str, *, is_tls: bool
) -> None:
    files = {"tls_certificate": certificate.path, "tls_key": certificate.key} if is_tls else {}
    tls = ssl.create_default_context(cafile=certificate.path.with_name("ca.pem")) if is_tls else None
    if tls:
        tls.check_hostname = False
    with child_process(tmp_path, network_timeout_s=1.5, **files) as child:
        begin = time.monotonic()
        with hostile_callers(child.port, [behavior], count=1, tls=tls) as crowd:
            while crowd.calls[behavior] < 2:
                assert time.monotonic() - begin < 60
                time.sleep(0.05)
