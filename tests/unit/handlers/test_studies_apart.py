"""A site's TorchScript that counts what it saw answers each study as if it were the first, by every handler."""

from pathlib import Path

import pytest
import torch
from support.described import BOXES, DESCRIPTION, DescribedNode, write_model
from torch import Tensor, nn

from ainode.node import testing
from ainode.node.domain import Result
from ainode.node.encoding import headers
from ainode.node.reading import pipeline, registry

_SITE = 'site = ["816094009", "SCT", "Chest"]\n'
_LUNG = 'name = "lung"\ncode = ["39607008", "SCT", "Lung"]\n'
_HEAD = BOXES[: BOXES.index("[output]")]
_MASKS = f'[output]\nmasks = "channels"\nactivation = "none"\n{_SITE}[[output.segments]]\n{_LUNG}value = 0\n'
_POINTS = f'[output]\nform = "heatmaps"\n{_SITE}[[output.points]]\n{_LUNG}'
_PLACES = BOXES.replace('"boxes"', '"0"').replace('"scores"', '"1"').replace('"labels"', '"2"')


class _OnlyTheFirst(nn.Module):
    """Answers the first image that it ever saw, and any other one with no number."""

    count: list[int]

    def __init__(self, answer: Tensor) -> None:
        super().__init__()
        self.count = [0]
        self.answer = answer

    def forward(self, picture: Tensor) -> Tensor:
        self.count.append(1)
        known = 1.0 if len(self.count) == 2 else float("nan")
        return self.answer * known + 0 * picture.mean()


class _Boxes(_OnlyTheFirst):
    """Answers so with a box, its score and its label."""

    def forward(self, picture: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # type: ignore[override]
        self.count.append(1)
        known = 1.0 if len(self.count) == 2 else float("nan")
        return self.answer * known + 0 * picture.mean(), torch.full((1,), 0.9), torch.ones(1)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch has deprecated its own script
@pytest.mark.parametrize(
    ("text", "module"),
    [
        (DESCRIPTION.replace("[output]", "[output]\nsaliency = false"), _OnlyTheFirst(torch.tensor([[0.0, 1.0]]))),
        (_HEAD.replace('"detect"', '"segment"') + _MASKS, _OnlyTheFirst(torch.full((1, 1, 64, 48), 0.9))),
        (_HEAD.replace('"detect"', '"landmarks"') + _POINTS, _OnlyTheFirst(torch.rand(1, 1, 64, 48))),
        (_PLACES, _Boxes(torch.tensor([[10.0, 10.0, 20.0, 20.0]]))),
    ],
    ids=["classify", "segment", "landmarks", "detect"],
)
def test_a_study_is_answered_as_if_it_were_the_first(tmp_path: Path, text: str, module: nn.Module) -> None:
    torch.jit.script(module).save(str(tmp_path / "net.pt"))  # type: ignore[no-untyped-call]
    write_model(tmp_path / "models", "counts", tmp_path / "net.pt", text, kind="torchscript")
    handler = registry.handler("counts", DescribedNode(tmp_path, ()).environment)
    for name in ("first", "second"):
        image = testing.noise(64, 48, BodyPartExamined="CHEST")
        (path,) = testing.write([image], tmp_path / name, study=name)
        assert isinstance(pipeline.answer_of(headers.study([headers.instance(path, sha256="")]), handler), Result)
