"""The outputs of a TorchScript archive are those that a description names, whatever order the archive has."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

from ainode.models.described.network import NetworkFile, opened
from ainode.models.errors import CheckpointRefused
from ainode.models.running.runtime import Execution

_SHAPE = (1, 1, 4, 4)


class _Found(NamedTuple):
    boxes: torch.Tensor
    labels: torch.Tensor
    scores: torch.Tensor


class _Plain(torch.nn.Module):
    """Answers as torchvision's detectors order their answers, in a plain tuple."""

    def forward(self, picture: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return boxes, labels and scores."""
        nothing = 0 * picture.mean()
        return torch.zeros(1, 4) + nothing, torch.ones(1) + nothing, torch.full((1,), 0.6) + nothing


class _Named(torch.nn.Module):
    """Answers the same in a tuple that names its fields."""

    def forward(self, picture: torch.Tensor) -> _Found:
        """Return boxes, labels and scores."""
        nothing = 0 * picture.mean()
        return _Found(torch.zeros(1, 4) + nothing, torch.ones(1) + nothing, torch.full((1,), 0.6) + nothing)


def _scores_and_labels(folder: Path, module: torch.nn.Module, names: tuple[str, ...]) -> list[float]:
    path = folder / "net.pt"
    torch.jit.script(module).save(str(path))
    network = opened(NetworkFile(path, "torchscript", _SHAPE, names), Execution(folder))
    _, scores, labels = network(np.zeros(_SHAPE, np.float32))
    return [float(scores[0]), float(labels[0])]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch has deprecated its own script
def test_a_plain_tuple_is_read_by_places_and_never_by_names_that_it_does_not_have(tmp_path: Path) -> None:
    with pytest.raises(CheckpointRefused, match="no output 'boxes'; it has 0, 1, 2; a tuple has no names"):
        _scores_and_labels(tmp_path, _Plain(), ("boxes", "scores", "labels"))
    assert _scores_and_labels(tmp_path, _Plain(), ("0", "2", "1")) == pytest.approx([0.6, 1])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_fields_of_a_named_tuple_are_its_outputs(tmp_path: Path) -> None:
    assert _scores_and_labels(tmp_path, _Named(), ("boxes", "scores", "labels")) == pytest.approx([0.6, 1])


class _Detector(torch.nn.Module):
    """Answers as a scripted detector of torchvision: with its losses, and a dictionary for each image."""

    def forward(self, picture: torch.Tensor) -> tuple[dict[str, torch.Tensor], list[dict[str, torch.Tensor]]]:
        """Return boxes, labels and scores."""
        nothing = 0 * picture.mean()
        losses: dict[str, torch.Tensor] = {}
        boxes, labels = torch.zeros(1, 4) + nothing, torch.ones(1) + nothing
        return losses, [{"boxes": boxes, "labels": labels, "scores": torch.full((1,), 0.6) + nothing}]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_scripted_detector_of_torchvision_is_read_without_its_losses(tmp_path: Path) -> None:
    assert _scores_and_labels(tmp_path, _Detector(), ("boxes", "scores", "labels")) == pytest.approx([0.6, 1])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(("module", "names"), [(_Plain, "0, 1, 2"), (_Named, "boxes, labels, scores")])
def test_of_several_outputs_none_is_read_where_none_is_named(
    tmp_path: Path, module: Callable[[], torch.nn.Module], names: str
) -> None:
    with pytest.raises(CheckpointRefused, match=rf"net\.pt: has 3 outputs, {names}; write the one to read"):
        _scores_and_labels(tmp_path, module(), ())
