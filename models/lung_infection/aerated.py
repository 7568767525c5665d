"""Where lung can be, by Hounsfield units: air inside of the body, and what such air closes around."""

from __future__ import annotations

from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ainode.models.lung_infection.preprocess import SIDE, Slice, squared
from ainode.models.lung_infection.sides import Mask

_AERATED_HU = -500.0
# In pixels of the picture, about 1.4 mm: a windpipe and gas of the bowel are smaller than a lung.
_LEAST = 150
# A consolidation, a vessel or the hilum between two pieces of aerated lung is narrower than twice this.
_REACH = 20.0


def possible_lung(hounsfield: Slice) -> Mask:
    """Return where lung can be on a slice: aerated pixels that the body encloses, and what lies between them.

    Shapes: (rows, columns) in, (256, 256) out, the picture's grid.
    Units: Hounsfield units.
    """
    resized = cast("Any", cv2.resize(squared(hounsfield), (SIDE, SIDE), interpolation=cv2.INTER_AREA))
    labels, _ = cast("tuple[NDArray[Any], int]", ndimage.label(resized < _AERATED_HU))
    is_lung = np.bincount(labels.ravel()) >= _LEAST
    border = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    is_lung[border] = False
    is_lung[0] = False
    aerated = is_lung[labels]
    if not aerated.any():
        return np.asarray(aerated, np.bool_)
    padded = np.pad(aerated, int(_REACH) + 1)
    wide = ndimage.distance_transform_edt(~padded) <= _REACH
    closed = ndimage.distance_transform_edt(wide) > _REACH
    margin = int(_REACH) + 1
    return np.asarray((closed | padded)[margin:-margin, margin:-margin], np.bool_)
