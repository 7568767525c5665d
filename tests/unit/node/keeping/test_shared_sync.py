"""A name counts as synced only by a sync that began after the name was there."""

import threading
from pathlib import Path

import pytest

from ainode.node.keeping.shared_sync import SharedSync


class Disk:
    """A disk whose syncs end when the test says so; each knows which names were there when it began."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.syncs: list[set[str]] = []
        self.begun, self.free = threading.Semaphore(0), threading.Semaphore(0)

    def sync(self) -> None:
        self.syncs.append({path.name for path in self.folder.iterdir()})
        self.begun.release()
        assert self.free.acquire(timeout=30)


def test_who_comes_while_syncs_run_waits_for_the_next_which_is_one_for_all(tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    names = SharedSync(disk.sync)
    early, late = [], []
    for name in ("first", "second"):
        (tmp_path / name).touch()
        early.append(names.request())
        assert disk.begun.acquire(timeout=30)
    for name in ("third", "fourth", "fifth"):
        (tmp_path / name).touch()
        late.append(names.request())
    disk.free.release()
    assert disk.begun.acquire(timeout=30)
    assert not any(future.done() for future in late)
    for _ in range(2):
        disk.free.release()
    for future in (*early, *late):
        future.result(30)
    assert disk.syncs == [{"first"}, {"first", "second"}, {"first", "second", "third", "fourth", "fifth"}]


@pytest.mark.parametrize("kind", [OSError, MemoryError])
def test_a_sync_that_fails_is_told_to_all_that_waited_for_it_and_to_nobody_else(kind: type[Exception]) -> None:
    errors: list[Exception | None] = [kind("no room"), kind("no room"), None]

    def sync() -> None:
        if error := errors.pop(0):
            raise error

    names = SharedSync(sync)
    for _ in range(2):  # as many as it has threads
        with pytest.raises(kind, match="no room"):
            names.request().result(30)
    names.request().result(30)
    assert not errors
