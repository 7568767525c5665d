import random
from pathlib import Path

import pytest
from support.disks import failing_disk

from ainode.node.encoding.file_content import FileContent


def test_every_part_of_a_file_is_that_of_its_bytes(tmp_path: Path) -> None:
    chance = random.Random(1)
    path, content = tmp_path / "file", chance.randbytes(40_000)
    path.write_bytes(content)
    with path.open("rb") as file:
        parts = FileContent(file.fileno())
        assert len(parts) == len(content)
        for _ in range(3000):
            begin = chance.randrange(42_000)
            end = max(0, begin + chance.choice([-30, 0, 1, 8, 1024, 8192, 8193, 50_000]))
            assert parts[begin:end] == content[begin:end]
        assert parts[:] == content
        assert parts[:140] == content[:140]


def test_a_file_that_is_cut_off_while_it_is_read_ends_and_costs_no_process(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(100_000))
    with path.open("rb") as file:
        content = FileContent(file.fileno())
        path.write_bytes(bytes(10))
        assert content[50_000:50_100] == b""
        assert content[0:20_000] == bytes(10)


def test_a_sector_that_the_disk_cannot_read_raises_and_costs_no_process(tmp_path: Path) -> None:
    with failing_disk(tmp_path / "disk") as disk:
        path = disk.folder / "file"
        path.write_bytes(bytes(200_000))
        with path.open("rb") as file:
            disk.fail(path)
            with pytest.raises(OSError, match="Input/output error"):
                FileContent(file.fileno())[0:100]
