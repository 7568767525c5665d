"""Where a cell of a network's map looks: the middle of its receptive field, beside the middle of the cell.

For a kernel of 3 and a stride of 2, TensorFlow's "same" padding adds a row below and a column on the right, PyTorch's
usual padding of 1 adds them on all sides: the first looks further down and to the right than the cell lies, the second
further up and to the left. Trained kernels take back a part of the shift, so the shift is measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional

_PICTURES = 3
# Parts of a picture's side on which gray varies, and by how much of the range: as much as in pictures of patients.
_TEXTURE = ((32, 0.16), (8, 0.08), (1, 0.03))
_GRAY = 0.45
_SEED = 0


def field_shift(features_of: Callable[[Tensor], Tensor], side: int, brightest: float) -> Tensor:
    """Return how far the receptive field of a cell lies below, and right of, the cell, in cells.

    The field is where the square of the gradient lies, on pictures of smooth noise, for the cells in the middle: the
    pictures' edges cut the fields of the other cells.

    Shapes: `features_of` turns (1, side, side, 3) in 0 to `brightest` into (1, channels, h, w); out (2,).
    Source: Luo et al., Understanding the Effective Receptive Field, NeurIPS 2016.
    """
    random = torch.Generator().manual_seed(_SEED)
    pictures = (brightest * _picture(side, random) for _ in range(_PICTURES))
    shifts = [shift for picture in pictures for shift in _shifts(features_of, picture, random)]
    return torch.stack(shifts).mean(dim=0) if shifts else torch.zeros(2)


def _shifts(features_of: Callable[[Tensor], Tensor], picture: Tensor, random: torch.Generator) -> Iterator[Tensor]:
    """Yield the shift of each cell in the middle of a map, where the cell sees anything of the picture."""
    pixels = picture.clone().requires_grad_()
    features = features_of(pixels)
    cells = torch.tensor(features.shape[2:])
    signs = torch.randn(features.shape[1], generator=random)
    for row, column in _middles(*features.shape[2:]):
        (slope,) = torch.autograd.grad((signs * features[0, :, row, column]).sum(), pixels, retain_graph=True)
        energy = slope[0].square().sum(dim=-1)
        if energy.sum() > 0:
            yield _centroid(energy) * cells - torch.tensor([row + 0.5, column + 0.5])


def _middles(rows: int, columns: int) -> Iterator[tuple[int, int]]:
    """Yield the cell in the middle of a map, or the cells around the middle."""
    for row in sorted({(rows - 1) // 2, rows // 2}):
        for column in sorted({(columns - 1) // 2, columns // 2}):
            yield row, column


def _centroid(energy: Tensor) -> Tensor:
    """Return the center of mass, down and to the right, in parts of the picture."""
    axes = [(torch.arange(count) + 0.5) / count for count in energy.shape]
    shares = energy / energy.sum()
    return torch.stack([(shares.sum(dim=1) * axes[0]).sum(), (shares.sum(dim=0) * axes[1]).sum()])


def _picture(side: int, random: torch.Generator) -> Tensor:
    """Return a gray picture of smooth noise, (1, side, side, 3), 0 to 1."""
    gray = torch.full((1, 1, side, side), _GRAY)
    for part, amplitude in _TEXTURE:
        cells = max(2, side // part)
        noise = torch.randn(1, 1, cells, cells, generator=random)
        gray = gray + amplitude * functional.interpolate(noise, (side, side), mode="bicubic", align_corners=False)
    return gray.clamp(0, 1)[0, 0, :, :, None].expand(1, side, side, 3)
