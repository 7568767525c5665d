"""Files of networks that do harm or answer nonsense: refused with words, or contained; the next study is read."""

import hashlib
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from support import hostile_models as hostile
from support.described import DESCRIPTION, DescribedNode, onnx_file, script_file, small_network, write_model
from torch import nn

from ainode.node import testing
from ainode.node.domain import OutOfScope, Result
from ainode.node.errors import NodeError, ReaderTimeout, WeightsError
from ainode.node.settings import ReaderTable

LIMITS = ReaderTable(time_limit_s=120, memory_limit_bytes=2 * 1024**3)


@pytest.fixture
def node(tmp_path: Path) -> DescribedNode:
    paths = testing.write([testing.noise(200, 160, BodyPartExamined="CHEST")], tmp_path / "study", study="study")
    return DescribedNode(tmp_path, paths)


def _described(node: DescribedNode, file: Path, kind: str, text: str = DESCRIPTION) -> None:
    write_model(node.folder / "models", "hostile", file, text, kind=kind)


@pytest.mark.parametrize(
    ("make", "kind", "words"),
    [
        (lambda f: hostile.external_file(f / "a.onnx", "../secret"), "onnx", r"takes data from '\.\./secret'"),
        (lambda f: hostile.external_file(f / "a.onnx", "/etc/passwd"), "onnx", "takes data from '/etc/passwd'"),
        (lambda f: hostile.external_file(f / "a.onnx", "model.toml"), "onnx", "list it below .*companions"),
        (lambda f: hostile.pickle_file(f / "a.onnx", f / "proof"), "onnx", "is no ONNX file, or cut short"),
        (lambda f: hostile.pickle_file(f / "a.pt", f / "proof"), "torchscript", "a pickled model is never opened here"),
        (lambda f: hostile.pickled_archive(f / "a.pt", f / "proof"), "torchscript", "torch cannot load it"),
        (lambda f: hostile.terabyte_file(f / "a.onnx", is_hidden=False), "onnx", "wants 1,024 GiB for one tensor"),
        (
            lambda f: hostile.nonsense_file(f / "a.onnx", classes=3),
            "onnx",
            "answers with 3 numbers, .* names 2 classes",
        ),
        (lambda f: hostile.bomb(f / "a.keras"), "keras", "grows to 128 MiB on unpacking"),
        (lambda f: hostile.lambda_file(f / "a.keras"), "keras", "holds .*Lambda.*, which is code or no layer of Keras"),
        (
            lambda f: onnx_file(small_network(channels=1), f / "a.onnx", (1, 1, 64, 48)),
            "onnx",
            "its input is .*1 x 64 x 48",
        ),
        (
            lambda f: onnx_file(small_network(), f / "a.onnx", (1, 3, 32, 32)),
            "onnx",
            "its input is 1 x 3 x 32 x 32; by .* it would be 1 x 3 x 64 x 48",
        ),
    ],
    ids=[
        "above",
        "absolute",
        "unlisted",
        "pickle",
        "pickle.pt",
        "archive",
        "terabyte",
        "classes",
        "bomb",
        "lambda",
        "channels",
        "size",
    ],
)
def test_a_hostile_file_is_refused_with_words_and_nothing_of_it_is_run(
    node: DescribedNode, make: Callable[[Path], Path], kind: str, words: str
) -> None:
    (node.folder / "secret").write_bytes(bytes(8))
    layout = 'channels = 3\nlayout = "channels_last"' if kind == "keras" else "channels = 3"
    _described(node, make(node.folder), kind, DESCRIPTION.replace("channels = 3", layout))
    with pytest.raises(WeightsError, match=words):
        node.answer("hostile")
    assert not (node.folder / "proof").exists()


def test_data_beside_an_onnx_file_are_read_where_the_description_lists_them(node: DescribedNode) -> None:
    file = hostile.external_file(node.folder / "a.onnx", "weights.bin")
    content = bytes(8)
    text = DESCRIPTION.replace(
        "[takes]",
        f'[[file.companions]]\npath = "weights.bin"\nsha256 = "{hashlib.sha256(content).hexdigest()}"\n\n[takes]',
    )
    _described(node, file, "onnx", text)
    (node.folder / "models" / "hostile" / "weights.bin").write_bytes(content)
    assert isinstance(node.answer("hostile"), Result)
    (node.folder / "models" / "hostile" / "weights.bin").write_bytes(bytes(7) + b"x")
    with pytest.raises(WeightsError, match=r"weights\.bin has sha256 .*, model\.toml says"):
        node.answer("hostile")


def test_an_answer_that_is_no_number_is_no_answer(node: DescribedNode) -> None:
    _described(node, hostile.nonsense_file(node.folder / "a.onnx"), "onnx")
    answer = node.answer("hostile")
    assert isinstance(answer, OutOfScope)
    assert (answer.code, "is no probability of 0 to 1" in answer.reason) == ("unusable-pixels", True)


class Endless(nn.Module):
    """Never answers."""

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Add for ever."""
        total = pictures.abs().sum()
        while bool(total >= 0):
            total = total + 1
        return total.reshape(1, 1)


def test_a_network_that_takes_all_memory_or_never_ends_is_ended_and_the_next_study_is_read(
    node: DescribedNode,
) -> None:
    _described(node, hostile.terabyte_file(node.folder / "a.onnx", is_hidden=True), "onnx")
    with pytest.raises(NodeError, match=r"hostile: the network cannot run|memory_limit_bytes"):
        node.read("hostile", LIMITS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch has deprecated its own script
        torch.jit.script(Endless()).save(str(node.folder / "b.pt"))
    _described(node, node.folder / "b.pt", "torchscript")
    with pytest.raises(ReaderTimeout, match="hostile was killed after 12 s"):
        node.read("hostile", LIMITS.model_copy(update={"time_limit_s": 12.0}))
    write_model(node.folder / "models", "good", script_file(small_network(), node.folder / "c.pt"), kind="torchscript")
    assert isinstance(node.read("good", LIMITS).answer, Result)
