"""The folders of programs: of one run each, and counted whole."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ainode.node.errors import HandlerError
from ainode.node.reading.confinement import drop_capabilities
from ainode.node.reading.held_folder import held_folder, remove_tree
from ainode.node.reading.program_limits import ProgramLimits, watch
from ainode.node.reading.workplace import Workplace, remove_left_workplaces, workplace


def test_a_folder_that_was_just_made_is_not_taken_for_one_that_is_left(tmp_path: Path) -> None:
    def take(_: int) -> None:
        folder, holder = held_folder(tmp_path)
        (folder / "in").mkdir()
        os.close(holder)

    with ThreadPoolExecutor(8) as pool:
        assert len([*pool.map(take, range(2000))]) == 2000


def test_what_a_killed_run_left_is_removed_and_what_a_running_one_has_stays() -> None:
    with workplace() as place:
        left, holder = held_folder(place.neighbors)  # held, as any other process may clean up here
        (left / "in").mkdir()
        (left / "in" / "image.dcm").write_bytes(b"image")
        os.close(holder)
        remove_left_workplaces()
        assert not left.exists()
        assert place.inputs.is_dir()


def test_what_a_program_adds_to_its_images_counts_as_written() -> None:
    with workplace() as place:
        image = place.inputs / "image.dcm"
        image.write_bytes(bytes(3 << 20))

        def has_ended() -> bool:
            image.write_bytes(b"1" * (6 << 20))
            return True

        watch(lambda: True, place, ProgramLimits(disk_bytes=1 << 20), lambda: 0)
        with pytest.raises(HandlerError, match="wrote more than 1048576 bytes"):
            watch(has_ended, place, ProgramLimits(disk_bytes=1 << 20), lambda: 0)


def test_what_lies_in_a_folder_that_the_node_cannot_list_is_not_left_uncounted(tmp_path: Path) -> None:
    for name in ("in", "out", "tmp"):
        (tmp_path / name).mkdir()
    (tmp_path / "tmp" / "hidden").mkdir(mode=0o300)

    def used_bytes() -> int:
        drop_capabilities()  # else root lists any folder
        return Workplace(tmp_path).used_bytes()

    with ThreadPoolExecutor(1) as pool, pytest.raises(HandlerError, match="a folder that the node cannot list"):
        pool.submit(used_bytes).result()


def test_folders_of_any_depth_and_mode_are_removed(tmp_path: Path) -> None:
    def removed() -> None:
        drop_capabilities()
        remove_tree(tmp_path / "left")

    (tmp_path / "left" / "hidden").mkdir(parents=True)
    (tmp_path / "left" / "hidden" / "file").touch()
    (tmp_path / "left" / "hidden").chmod(0o300)
    (tmp_path / "left" / "link").symlink_to(tmp_path)
    former = os.open(tmp_path / "left", os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d", dir_fd=former)
        inner = os.open("d", os.O_RDONLY, dir_fd=former)
        os.close(former)
        former = inner
    os.close(former)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(removed).result()
    assert not (tmp_path / "left").exists()
    assert tmp_path.exists()
