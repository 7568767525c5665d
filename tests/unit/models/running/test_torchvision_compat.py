"""Our non-maximum suppression is torchvision's, and torchvision imports beside a CPU torch."""

from __future__ import annotations

import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch

from ainode.models.running.torchvision_compat import ensure_nms, nms


def _boxes(seed: int, n: int) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    corners = torch.rand(n, 2, generator=random) * 60
    sizes = 5 + torch.rand(n, 2, generator=random) * 30
    return torch.cat([corners, corners + sizes], dim=1), torch.rand(n, generator=random)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7])
def test_it_keeps_what_opencv_keeps(seed: int, threshold: float) -> None:
    boxes, scores = _boxes(seed, 60)
    as_opencv_wants = torch.cat([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], dim=1).double().tolist()
    reference = np.asarray(cv2.dnn.NMSBoxes(as_opencv_wants, scores.tolist(), 0.0, threshold)).reshape(-1)
    assert nms(boxes, scores, threshold).tolist() == reference.tolist()


def test_nothing_in_is_nothing_out() -> None:
    assert nms(torch.empty(0, 4), torch.empty(0), 0.5).tolist() == []


def test_torchvisions_own_function_answers_as_ours() -> None:
    ensure_nms()
    import torchvision

    boxes, scores = _boxes(9, 40)
    assert torchvision.ops.nms(boxes, scores, 0.5).tolist() == nms(boxes, scores, 0.5).tolist()


def test_a_fresh_process_can_import_timm_and_asking_twice_does_no_harm() -> None:
    code = "from ainode.models.running.torchvision_compat import ensure_nms as e; e(); assert not e(); import timm"
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)
