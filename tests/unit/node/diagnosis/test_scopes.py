"""What a route takes and its described model never reads is said before a study comes."""

from pathlib import Path

import pytest
from support.described import DESCRIPTION, write_model

from ainode.node.diagnosis.scopes import unread_words
from ainode.node.routes import Route


@pytest.mark.parametrize(
    ("modality", "body_part", "words"),
    [
        ((), ("CHEST", "ABDOMEN"), "it takes ABDOMEN, which its model refuses: [takes] of bright has DX and CHEST"),
        (("CT",), ("head",), "it takes CT, head, which its model refuses: [takes] of bright has DX and CHEST"),
        (("DX",), ("LUNG", "CHESTABDOMEN", "WHOLEBODY"), ""),
        ((), (), ""),
    ],
)
def test_a_part_or_modality_that_a_model_never_reads_is_named(
    tmp_path: Path, modality: tuple[str, ...], body_part: tuple[str, ...], words: str
) -> None:
    (tmp_path / "net.onnx").touch()
    write_model(tmp_path, "bright", tmp_path / "net.onnx")
    route = Route(name="bright", handler="bright", modality=modality, body_part=body_part)
    assert unread_words(route, tmp_path) == words


def test_a_model_of_a_smaller_part_may_read_what_a_larger_part_is_of(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").touch()
    write_model(tmp_path, "bright", tmp_path / "net.onnx", DESCRIPTION.replace('"CHEST"', '"LUNG"'))
    assert unread_words(Route(name="bright", handler="bright", body_part=("CHEST",)), tmp_path) == ""
    assert "ABDOMEN" in unread_words(Route(name="bright", handler="bright", body_part=("ABDOMEN",)), tmp_path)
