"""What share of an image a bundle's preprocessing leaves in the input of its network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from monai.data.meta_tensor import MetaTensor
from monai.transforms.croppad.array import Crop, ResizeWithPadOrCrop
from monai.transforms.croppad.dictionary import Cropd, ResizeWithPadOrCropd
from monai.transforms.utility.array import Transpose
from monai.transforms.utility.dictionary import Transposed
from torch import Tensor

_CUTTING: Final = (Crop, Cropd, ResizeWithPadOrCrop, ResizeWithPadOrCropd)
# MONAI leaves the affine of an image as it was.
_UNPLACED: Final = (Transpose, Transposed)
# More voxels along an axis tell the share no better than by a hundredth.
_MOST_PLACES: Final = 128
_HALF_VOXEL, _ROUNDING = 0.5, 0.01


def seen_share(prepared: Tensor, image: MetaTensor, transforms: Sequence[object]) -> float:
    """Return the share of an image's voxels that lie in what transforms made of it; 1 if none of them cuts.

    It is not a number (NaN) where they cut, and nothing says where their result lies.
    Shapes: prepared (channel, x, y, z), image (x, y, z), each with its affine.
    """
    if not any(isinstance(transform, _CUTTING) for transform in transforms):
        return 1.0
    if not isinstance(prepared, MetaTensor) or any(isinstance(transform, _UNPLACED) for transform in transforms):
        return float("nan")
    to_input = np.linalg.inv(prepared.affine.cpu().numpy()) @ image.affine.cpu().numpy()
    # The first and the last voxel of each axis are among them: all of the image is seen if all of them are.
    along = (np.unique(np.linspace(0, size - 1, min(size, _MOST_PLACES)).round()) for size in image.shape)
    indices = np.stack(np.meshgrid(*along, indexing="ij")).reshape(3, -1)
    places = to_input[:3, :3] @ indices + to_input[:3, 3:]
    sizes = np.asarray(prepared.shape[1:])[:, np.newaxis]
    reach = _HALF_VOXEL + _ROUNDING
    return float(((places >= -reach) & (places <= sizes - 1 + reach)).all(axis=0).mean())
