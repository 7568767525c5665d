"""A copy of a file stands for no second class, and is never both learned from and judged on."""

from __future__ import annotations

from pathlib import Path

import pytest

from ainode.models.errors import ModelError
from ainode.models.training.copies import groups_with_copies


def files(folder: Path, *contents: str) -> list[Path]:
    paths = [folder / f"{number}.txt" for number in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_text(content, "utf-8")
    return paths


def test_groups_that_share_a_file_are_one_group_over_several_copies(tmp_path: Path) -> None:
    paths = files(tmp_path, "one", "two", "one", "six", "six", "four")
    groups = ("a", "b", "c", "c", "d", "e")
    assert groups_with_copies(paths, [1] * 6, groups) == ("a", "b", "a", "a", "a", "e")


def test_files_of_one_size_with_other_bytes_and_absent_files_are_no_copies(tmp_path: Path) -> None:
    paths = [*files(tmp_path, "one", "two"), tmp_path / "absent", tmp_path / "absent"]
    assert groups_with_copies(paths, [0, 1, 0, 1], "abcd") == tuple("abcd")


def test_a_file_of_two_classes_or_in_two_parts_is_refused_by_both_names(tmp_path: Path) -> None:
    paths = files(tmp_path, "one", "two", "one", "six", "six")
    with pytest.raises(ModelError, match=r"2\.txt and .*0\.txt are the same file, of two classes"):
        groups_with_copies(paths, [0, 0, 1, 0, 0], "abcde")
    parts = ("train", "train", "train", "train", "test")
    with pytest.raises(ModelError, match=r"4\.txt and .*3\.txt are the same file, in test and in train") as refusal:
        groups_with_copies(paths, [0] * 5, "abcde", parts)
    assert "0.txt" not in str(refusal.value)
