"""Inputs of networks that take whole numbers: an image of 0 to 255 comes to them as it is, one of 0 to 1 not at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ainode.models.described.network import NetworkFile
from ainode.models.errors import CheckpointRefused

Array = NDArray[np.float32]

_TYPES: Final[Mapping[str, type[np.integer[Any]]]] = {
    "u8": np.uint8,
    "i8": np.int8,
    "u16": np.uint16,
    "i16": np.int16,
    "i32": np.int32,
    "i64": np.int64,
}
_FRACTIONS: Final = frozenset({"f16", "bf16", "f32", "f64"})
# An image of 8 bits: between fewer whole numbers grays are lost that a viewer shows.
_FEWEST_GRAYS: Final = 255


@dataclass(frozen=True, slots=True)
class WholeNumbers:
    """The whole numbers that an input takes, the least and the highest."""

    file_name: str
    type_name: str
    least: int
    most: int

    def of(self, inputs: Array) -> Array:
        """Return the nearest whole numbers, in f32.

        Raises: CheckpointRefused if one is beyond what the input takes: it would come out at the other end.
        """
        whole = np.rint(inputs)
        if whole.min() < self.least or whole.max() > self.most:
            raise CheckpointRefused(
                f"{self.file_name}: its input takes whole numbers of {self.least} to {self.most} ({self.type_name}), "
                f"and the image has {whole.min():g} to {whole.max():g}; export the network with an input of f32"
            )
        return np.asarray(whole, np.float32)


def whole_numbers(type_name: str, file: NetworkFile) -> WholeNumbers | None:
    """Return the whole numbers that an input of a type takes, such as u8; None of a type that takes fractions.

    Raises: CheckpointRefused if an image, as it is described, does not come to at least as many grays as 8 bits have.
    """
    if type_name in _FRACTIONS:
        return None
    if type_name not in _TYPES or file.grays < _FEWEST_GRAYS:
        raise CheckpointRefused(
            f"{file.path.name}: its input takes whole numbers ({type_name}), and by [input] of model.toml too few lie "
            f"between black and white ({file.grays:.3g}, {_FEWEST_GRAYS} are needed): nothing of the image would be "
            "left; scale = 255 where it was trained so, or export the network with an input of f32"
        )
    limits = np.iinfo(_TYPES[type_name])
    return WholeNumbers(file.path.name, type_name, int(limits.min), int(limits.max))
