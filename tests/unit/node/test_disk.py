"""Files that survive a crash: what is flushed, what a failed, a killed and a second writer leave."""

import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ainode.node.disk import part_folder, place_durably, remove_parts, write_durably
from ainode.node.domain import WeightsStatus
from ainode.node.keeping.spool import Limits, Spool
from ainode.node.reading.weights import WeightsEntry, WeightStore
from ainode.node.web.tokens import Tokens


@pytest.fixture
def flushed_paths(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Return the paths that are flushed from now on, by the name that the kernel has for the descriptor."""
    paths: list[Path] = []
    fsync = os.fsync

    def recorded_fsync(descriptor: int) -> None:
        fsync(descriptor)
        paths.append(Path(f"/proc/self/fd/{descriptor}").readlink())

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    return paths


@contextmanager
def no_room_beyond(size_bytes: int) -> Iterator[None]:
    """Let the kernel refuse every byte of a file beyond a size."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_file_is_flushed_and_so_is_the_name_of_every_folder_that_was_made_for_it(
    tmp_path: Path, flushed_paths: list[Path]
) -> None:
    write_durably(tmp_path / "documents" / "job" / "1.dcm", b"report")
    file, *folders = sorted(flushed_paths, key=lambda path: path.is_dir())
    assert file.parent == tmp_path / "documents" / "job"
    assert set(folders) == {tmp_path, tmp_path / "documents", tmp_path / "documents" / "job"}


def _token(folder: Path) -> Path:
    Tokens(folder / "data").add("orthanc")
    return folder / "data" / "tokens"


def _weights(folder: Path) -> Path:
    (folder / "source").write_bytes(b"weights")
    path = folder / "weights" / "own.safetensors"
    entry = WeightsEntry("own", path, "", 0, "none", "own", "1", WeightsStatus.SITE, "none")
    return WeightStore(folder / "weights").add(folder / "source", entry)


@pytest.mark.parametrize("write", [_token, _weights], ids=["tokens", "weights"])
def test_what_must_survive_is_flushed_with_its_name(
    write: Callable[[Path], Path], tmp_path: Path, flushed_paths: list[Path]
) -> None:
    path = write(tmp_path)
    assert path.parent in flushed_paths
    assert tmp_path in flushed_paths  # the folder is new
    assert any(flushed.name.startswith(path.name) for flushed in flushed_paths)


def test_the_folders_of_the_spool_survive_the_first_answer(tmp_path: Path, flushed_paths: list[Path]) -> None:
    """Otherwise the flushed name of the first instance could hang in a folder that a power cut takes."""
    Spool(tmp_path / "data" / "spool", Limits(0, 1))
    assert {tmp_path, tmp_path / "data", tmp_path / "data" / "spool"} <= set(flushed_paths)


def test_a_token_can_be_read_by_nobody_else(tmp_path: Path) -> None:
    assert _token(tmp_path).stat().st_mode & 0o777 == 0o600


def test_a_folder_is_flushed_with_its_files_before_it_gets_its_name(tmp_path: Path, flushed_paths: list[Path]) -> None:
    source, target = tmp_path / "tmp", tmp_path / "series" / "study" / "ct"
    source.mkdir()
    (source / "1.dcm").write_bytes(b"slice")
    (source / "models").mkdir()
    (source / "models" / "weights").write_bytes(b"weights")
    place_durably(source, target)
    assert (target / "1.dcm").read_bytes() == b"slice"
    for path in (
        source / "1.dcm",
        source / "models" / "weights",
        source / "models",
        source,
        tmp_path,
        tmp_path / "series",
        tmp_path / "series" / "study",
    ):
        assert path in flushed_paths


def test_a_write_that_fails_leaves_the_old_file_and_no_part(tmp_path: Path) -> None:
    path = tmp_path / "1.dcm"
    write_durably(path, b"old")
    with no_room_beyond(1000), pytest.raises(OSError, match="too large"):
        write_durably(path, bytes(100_000))
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("1.dcm", b"old")]


def test_of_several_writers_of_a_path_one_wins_and_none_fails(tmp_path: Path) -> None:
    """Paths that differ in their suffix alone count as well: the parts of all would have one name."""
    paths = [tmp_path / "1.dcm", tmp_path / "1.dcm", tmp_path / "1.json", tmp_path / "1"]
    failures: list[OSError] = []
    together = threading.Barrier(len(paths), timeout=30)

    def write(number: int) -> None:
        for _ in range(20):
            together.wait()
            try:
                write_durably(paths[number], bytes([number]) * 300_000)
            except OSError as error:
                failures.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(len(paths))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    contents = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert contents.keys() == {"1.dcm", "1.json", "1"}
    assert all(len(content) == 300_000 and len(set(content)) == 1 for content in contents.values())
    assert (contents["1.json"][0], contents["1"][0]) == (2, 3)


_WRITER = """
import sys
from pathlib import Path
from ainode.node.disk import part_folder
with part_folder(Path(sys.argv[1])) as folder:
    (folder / "1.dcm").touch()
    print(flush=True)
    sys.stdin.read()
"""


def test_the_part_of_a_killed_writer_is_removed_and_that_of_a_live_writer_stays(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", _WRITER, str(tmp_path / "weights")]
    writer = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert writer.stdout
    assert writer.stdin
    with writer.stdout, writer.stdin:
        writer.stdout.readline()
        with part_folder(tmp_path / "weights") as own:
            (tmp_path / "weights" / "1.part").touch()
            remove_parts(tmp_path, ("weights/*",))
            assert len(list((tmp_path / "weights").glob("*/1.dcm"))) == 1
            assert own.is_dir()
            writer.send_signal(signal.SIGKILL)
            writer.wait()
            remove_parts(tmp_path, ("weights/*",))
            assert list((tmp_path / "weights").iterdir()) == [own]
    assert not own.exists()
