"""Makes torchvision importable beside a torch that torchvision was not compiled for.

The registry's torchvision next to a CPU-only torch has no compiled operators, and its import
ends with "operator torchvision::nms does not exist". timm and ultralytics import torchvision,
so call `ensure_nms` before their import.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

_NAMESPACE = "torchvision"

# torchvision registers fake kernels for these two operators, whether the operators exist or not.
_OPERATORS = ("nms", "qnms")


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Return the indices that greedy non-maximum suppression keeps, best score first.

    Shapes: boxes (n, 4) as x0, y0, x1, y1; scores (n,); out (k,) int64.
    Source: the contract of torchvision.ops.nms (a box whose IoU is strictly above the threshold is dropped).
    """
    order = scores.argsort(descending=True, stable=True)
    ordered = boxes[order].to(torch.float32)
    area = (ordered[:, 2] - ordered[:, 0]) * (ordered[:, 3] - ordered[:, 1])
    dropped = torch.zeros(len(order), dtype=torch.bool, device=boxes.device)
    selected: list[int] = []
    for index in range(len(order)):
        if dropped[index]:
            continue
        selected.append(index)
        low = torch.maximum(ordered[index, :2], ordered[index + 1 :, :2])
        high = torch.minimum(ordered[index, 2:], ordered[index + 1 :, 2:])
        overlap = (high - low).clamp(min=0).prod(dim=1)
        union = area[index] + area[index + 1 :] - overlap
        dropped[index + 1 :] |= overlap > iou_threshold * union
    return order[torch.as_tensor(selected, dtype=torch.int64, device=boxes.device)]


def ensure_nms() -> bool:
    """Make `torchvision.ops.nms` work; return whether this function had to define the operator.

    torchvision's own compiled library is tried first: defining the operator before a working library is loaded
    would make the library's own registration fail.
    """
    if _is_registered() or _compiled_library_loads():
        return False
    # A collected library object unregisters its operators, so torch keeps a reference to the object.
    library = torch.library.Library(_NAMESPACE, "FRAGMENT")  # type: ignore[no-untyped-call]
    for name in _OPERATORS:
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")  # type: ignore[no-untyped-call]
        library.impl(name, nms, "CompositeExplicitAutograd")  # type: ignore[no-untyped-call]
    torch._ainode_nms_library = library  # type: ignore[attr-defined]  # noqa: SLF001
    _lift_the_guard()
    return True


def _lift_the_guard() -> None:
    """Let `torchvision.ops.nms` run: it checks for all compiled operators, and only its own is defined."""
    if find_spec(_NAMESPACE) is None:
        return
    boxes = import_module("torchvision.ops.boxes")
    boxes._assert_has_ops = lambda: None  # type: ignore[attr-defined]  # noqa: SLF001


def _is_registered() -> bool:
    """Return whether torch has the operator torchvision::nms."""
    try:
        return bool(torch.ops.torchvision.nms)
    except (AttributeError, RuntimeError):
        return False


def _compiled_library_loads() -> bool:
    """Return whether torchvision's compiled library loads and registers the operator."""
    spec = find_spec(_NAMESPACE)
    if spec is None or spec.origin is None:
        return False
    for library in sorted(Path(spec.origin).parent.glob("_C*.so")):
        try:
            torch.ops.load_library(library)  # type: ignore[no-untyped-call]
        except (OSError, RuntimeError):
            return False
        return _is_registered()
    return False
