"""A table or JSON that cannot be understood is refused in one line with the name of the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from ainode.models.errors import ModelError
from ainode.models.training.choice import choice_beside
from ainode.models.training.experiment import finished_weights
from ainode.models.training.manifests import gray_picture, manifest_rows, rows_of_part
from ainode.models.training.text_files import table_rows


def a_table(folder: Path, content: str, encoding: str = "utf-8") -> Path:
    (folder / "manifest.csv").write_text(content, encoding)
    return folder / "manifest.csv"


def test_a_table_is_read_with_the_mark_of_a_spreadsheet_and_capitals_in_its_columns(tmp_path: Path) -> None:
    (row,) = table_rows(a_table(tmp_path, "File, Label ,note\na.png,1\n", "utf-8-sig"), ("file", "label"))
    assert row == {"file": "a.png", "label": "1", "note": ""}


@pytest.mark.parametrize(
    ("content", "encoding", "reason"),
    [
        ("file,label\nMüller.png,1\n", "latin-1", r"manifest\.csv: not in UTF-8"),
        ("file,label\na.png,1\n", "utf-16", r"manifest\.csv: not in UTF-8"),
        ("a,b\n1,2\n", "utf-8", r"manifest\.csv: no column file, label; there are a, b"),
        ("file;label\na.png;1\n", "utf-8", r"manifest\.csv: no column file, label; there are file;label"),
        ("", "utf-8", r"manifest\.csv: no column file, label; there are none"),
        ("file,label,Label\na.png,1,0\n", "utf-8", r"manifest\.csv: more than one column label"),
        ("file,label\na.png,0,1\n", "utf-8", r"manifest\.csv, line 2: more entries than the 2 columns"),
    ],
)
def test_a_table_that_is_not_understood_is_refused_in_one_line(
    tmp_path: Path, content: str, encoding: str, reason: str
) -> None:
    with pytest.raises(ModelError, match=reason) as refusal:
        list(table_rows(a_table(tmp_path, content, encoding), ("file", "label")))
    assert "\n" not in str(refusal.value)


def test_a_column_that_is_read_later_and_missing_is_named_with_its_table(tmp_path: Path) -> None:
    _, (row,) = rows_of_part(a_table(tmp_path, "file,split,group\na.png,train,p\n").parent, "pictures", "train")
    with pytest.raises(ModelError, match=r"manifest\.csv: no column mask; there are file, split, group"):
        row["mask"]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("b.png,Train,q", r"line 3: file 'b\.png', split 'Train'; split is train or test"),
        (",train,q", "line 3: file ''"),
        ("b.png,test,p", "line 3: the group p is in two parts"),
    ],
)
def test_a_row_of_a_manifest_that_would_be_left_out_without_a_word_is_refused(
    tmp_path: Path, row: str, reason: str
) -> None:
    a_table(tmp_path, f"file,split,group\na.png,train,p\n{row}\n")
    with pytest.raises(ModelError, match=reason):
        manifest_rows(tmp_path, "pictures", ("group",))


def test_a_picture_of_a_manifest_that_is_absent_or_damaged_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"a\.png: not there"):
        gray_picture(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(ModelError, match=r"a\.png: no picture that can be decoded"):
        gray_picture(tmp_path / "a.png")


@pytest.mark.parametrize("content", ["{", "[1]", '"\\ud800'])
def test_damaged_notes_of_a_training_are_refused_by_name(tmp_path: Path, content: str) -> None:
    for name in ("choice.json", "weights.json"):
        (tmp_path / name).write_text(content, "utf-8")
    with pytest.raises(ModelError, match=r"choice\.json"):
        choice_beside([tmp_path / "a.safetensors"])
    with pytest.raises(ModelError, match=r"weights\.json"):
        finished_weights(tmp_path)
