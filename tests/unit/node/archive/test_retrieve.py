"""What a retrieval brings, from two associations at once, and onto a disk without room."""

import threading
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from pynetdicom import evt

from ainode.node.archive.retrieve import _ReceivedFiles
from ainode.node.archive.search import Deadline
from ainode.node.errors import OutOfResources


def stored(number: str) -> evt.Event:
    request = SimpleNamespace(
        AffectedSOPClassUID="1.2", AffectedSOPInstanceUID=f"1.{number}", DataSet=BytesIO(bytes(1 << 19))
    )
    context = SimpleNamespace(transfer_syntax="1.2.840.10008.1.2.1")
    return cast("evt.Event", SimpleNamespace(request=request, context=context))


def test_two_associations_at_once_lose_no_instance(tmp_path: Path) -> None:
    files = _ReceivedFiles(tmp_path, Deadline(), 0)
    statuses: list[int] = []

    def associated(number: int) -> None:
        statuses.extend(files.answer_store(stored(f"{number}.{instance}")) for instance in range(20))

    threads = [threading.Thread(target=associated, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [0x0000] * 40
    assert len(list(tmp_path.iterdir())) == 40


def test_an_instance_that_finds_no_room_ends_the_retrieval(tmp_path: Path) -> None:
    files = _ReceivedFiles(tmp_path, Deadline(), 1 << 60)
    assert files.answer_store(stored("1")) == 0xA700
    assert not list(tmp_path.iterdir())
    with pytest.raises(OutOfResources, match="min_free_bytes"):
        files.check_disk()
