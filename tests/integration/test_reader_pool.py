"""Two processes of one handler: two studies are read at a time, and what befalls one process leaves the other alone."""

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from support.faults import write_handler

from ainode.node import testing
from ainode.node.domain import UID, DocumentContext, File, Reading, Request, Result
from ainode.node.errors import ReaderDied, ReaderTimeout
from ainode.node.keeping.spool import content_sha256
from ainode.node.reading.pool import Pool
from ainode.node.reading.weights import ModelEnvironment, WeightStore
from ainode.node.settings import ReaderTable

CONTEXT = DocumentContext(datetime(2026, 1, 2, tzinfo=UTC), UID("2.25.1"), "test", ("ainode 0",), "00")
# Each of two studies goes on only once the other is being read, too.
MEETING = """
order = selection.instances[0].text("SeriesDescription")
folder = Path(__file__).parent
(folder / f"{order}.begun").touch()
while order != "alone" and len(list(folder.glob("*.begun"))) < 2:
    time.sleep(0.01)
"""
KILLED = f"""{MEETING}
if order == "first":
    (folder / "process").write_text(str(os.getpid()))
    (folder / "process").rename(folder / "first.process")
    os.kill(os.getpid(), signal.SIGKILL)
while order == "second" and not (folder / "first.process").exists():
    time.sleep(0.01)
while order == "second" and Path("/proc", (folder / "first.process").read_text()).exists():
    time.sleep(0.01)
"""
HUNG = f"""{MEETING}
if order == "first":
    time.sleep(3600)
"""


@pytest.fixture
def pool_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Pool]]:
    monkeypatch.syspath_prepend(tmp_path)
    pools: list[Pool] = []

    def pool_of(statements: str, *, time_limit_s: float = 120) -> Pool:
        name = write_handler(tmp_path, "meeting", read=statements)
        models = ModelEnvironment(WeightStore(tmp_path / "weights"), tmp_path)
        pools.append(Pool(name, models, ReaderTable(time_limit_s=time_limit_s, processes=2)))
        return pools[-1]

    yield pool_of
    for pool in pools:
        pool.kill_unless_reading()
    for name in [name for name in sys.modules if name.startswith("site_handlers")]:
        del sys.modules[name]


def asking(folder: Path, order: str) -> Request:
    image = testing.noise(256, 512, SeriesDescription=order, BodyPartExamined="TSPINE")
    (path,) = testing.write([image], folder / order, study=order)
    return Request(UID(testing.uid(order)), (File(path, content_sha256(path)),), CONTEXT)


def read_at_once(pool: Pool, folder: Path) -> list[Reading | Exception]:
    """Return what became of two studies that were handed to the pool at a time."""
    requests = [asking(folder, order) for order in ("first", "second")]
    with ThreadPoolExecutor(2) as threads:
        futures = [threads.submit(pool.read, request) for request in requests]
        errors = [future.exception() for future in futures]
    return [
        error if isinstance(error, Exception) else future.result()
        for error, future in zip(errors, futures, strict=True)
    ]


def is_read(outcome: object) -> bool:
    return isinstance(outcome, Reading) and isinstance(outcome.answer, Result)


def test_two_studies_are_read_at_a_time_and_a_lone_study_by_the_process_that_read_last(
    pool_of: Callable[..., Pool], tmp_path: Path
) -> None:
    pool = pool_of(MEETING)
    assert is_read(pool.read(asking(tmp_path, "alone")))
    assert [state.memory_bytes > 0 for state in pool.states()] == [True, False]
    (tmp_path / "site_handlers" / "alone.begun").unlink()
    assert all(map(is_read, read_at_once(pool, tmp_path)))
    assert [state.memory_bytes > 0 for state in pool.states()] == [True, True]


def test_a_process_that_is_killed_takes_no_other_reading_along(pool_of: Callable[..., Pool], tmp_path: Path) -> None:
    pool = pool_of(KILLED)
    first, second = read_at_once(pool, tmp_path)
    assert isinstance(first, ReaderDied)
    assert is_read(second)
    assert is_read(pool.read(asking(tmp_path, "alone")))


def test_the_time_limit_of_one_process_leaves_the_other_alone(pool_of: Callable[..., Pool], tmp_path: Path) -> None:
    pool = pool_of(HUNG, time_limit_s=20)
    first, second = read_at_once(pool, tmp_path)
    assert isinstance(first, ReaderTimeout)
    assert is_read(second)
    assert is_read(pool.read(asking(tmp_path, "alone")))


@pytest.mark.parametrize("has_read", [True, False])
def test_a_process_that_has_read_a_study_stays_for_the_next_after_its_preparation_and_another_ends(
    pool_of: Callable[..., Pool], tmp_path: Path, *, has_read: bool
) -> None:
    pool = pool_of(MEETING)
    if has_read:
        pool.read(asking(tmp_path, "alone"))
    pool.prepare(lambda: False)
    assert [state.memory_bytes > 0 for state in pool.states()].count(True) == int(has_read)
