"""A stack of slices as the input of a site's network, and the network's places back on the slices' own pixels."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ainode.handlers import voxels_under
from ainode.handlers.described.description import Input
from ainode.handlers.described.pictures import in_input, is_inverted, shown_values, without_padding
from ainode.models.described.grids import GridPlacement, grid_placement
from ainode.models.described.placement import Placement
from ainode.models.described.scaling import Scaling
from ainode.models.errors import UniformPicture, UnusablePicture
from ainode.node.domain import Instance
from ainode.node.imaging.geometry import Stack, Volume, volume
from ainode.node.imaging.pixels import image_values

# The sides to which rows and columns of a slice run where a person looks at it, by the axis across the slices.
_PLANES = {0: "SPL", 1: "PIL", 2: "LIP"}
_NAMES = {0: "axial", 1: "coronal", 2: "sagittal"}
_SIDES = {"S": "S or I", "I": "S or I", "P": "P or A", "A": "P or A", "L": "L or R", "R": "L or R"}


@dataclass(frozen=True)
class Scan:
    """A stack with its values."""

    slices: Stack

    @property
    def volume(self) -> Volume:
        """Return the values of the stack, its axes to the head, the back and the left; padding is as dark as it gets.

        Raises: BrokenSeries if a slice cannot be decoded; as `is_inverted`.
        """
        return self._volume_and_padding[0]

    @property
    def is_padding(self) -> NDArray[np.bool_]:
        """Return which voxels of the volume are padding, and count in no percentile, mean or deviation."""
        return self._volume_and_padding[1]

    @cached_property
    def _volume_and_padding(self) -> tuple[Volume, NDArray[np.bool_]]:
        image = volume(self.slices, image_values)
        values, is_padding = without_padding(image.values, is_inverted=self.is_inverted)
        return replace(image, values=values), is_padding

    def refuse_empty(self) -> None:
        """Return if a slice has several values.

        Raises: BrokenSeries if a slice cannot be decoded; UnusablePicture.
        """
        slices = np.moveaxis(self.volume.values, self.across, 0)
        if all(values.min() == values.max() for values in slices):
            raise UnusablePicture("all pixels of each slice have one value; images that show something are read")

    @cached_property
    def is_inverted(self) -> bool:
        """Return whether high values of the slices are dark.

        Raises: UnusablePicture if those of some slices are.
        """
        kinds = {is_inverted(instance) for instance in self.slices.instances}
        if len(kinds) > 1:
            raise UnusablePicture(
                "high values are dark on some slices (MONOCHROME1), bright on others; one way is read"
            )
        return True in kinds

    @property
    def across(self) -> int:
        """Return the axis of the volume that runs across the slices."""
        return int(np.argmax(np.abs(np.asarray(self.volume.axes) @ np.asarray(self.slices.normal))))

    def placement(self, network_input: Input) -> GridPlacement:
        """Return where the volume lies in the input of a network of three dimensions."""
        return grid_placement(
            self.volume.values.shape,
            self.volume.spacing_mm,
            network_input.orientation or "SPL",
            target_mm=network_input.spacing_mm,
            size=network_input.size,
            fit=network_input.fit,
        )

    def planes(self, network_input: Input) -> GridPlacement:
        """Return the slices as pictures: across the slices first, then rows and columns as the input wants them.

        Raises: UnusablePicture if the slices lie across another direction than the input's orientation wants.
        """
        across = _PLANES[self.across]
        sides = network_input.orientation
        if sides and {_SIDES[side] for side in sides} != {_SIDES[side] for side in across[1:]}:
            raise UnusablePicture(
                f"rows and columns run to {' and '.join(sides)} in the input; the slices are {_NAMES[self.across]}, "
                f"whose rows and columns run to {_SIDES[across[1]]} and {_SIDES[across[2]]}"
            )
        orientation = f"{across[0]}{sides or across[1:]}"
        return grid_placement(self.volume.values.shape, self.volume.spacing_mm, orientation)

    def on_slices(self, values: NDArray[np.generic]) -> NDArray[np.generic]:
        """Return values on the voxels of the volume on the pixels of the slices.

        Shapes: (Z, Y, X) in; (slices, rows, columns) out.
        """
        return np.stack([self.on_slice(values, number) for number in range(len(self.slices.instances))])

    def on_slice(self, values: NDArray[np.generic], number: int) -> NDArray[np.generic]:
        """Return values on the voxels of the volume on the pixels of one slice, by its number in the stack."""
        z, y, x = np.rint(voxels_under(self.slices, number, self.volume)).astype(int)
        return np.asarray(values[z, y, x])

    def number_of(self, index: tuple[float, float, float]) -> int:
        """Return the number in the stack of the slice that holds a voxel of the volume."""
        number = round(self.slices.pixel(self.volume.position(index))[0])
        return min(max(number, 0), len(self.slices.instances) - 1)

    @property
    def middle(self) -> Instance:
        """Return the slice in the middle of the stack."""
        return self.slices.instances[len(self.slices.instances) // 2]


def prepared_volume(scan: Scan, network_input: Input) -> tuple[NDArray[np.float32], GridPlacement]:
    """Return a scan as a network of three dimensions takes it, and where the scan lies in it.

    White is high, also where the slices say MONOCHROME1.
    Raises: BrokenSeries if a slice cannot be decoded; UnusablePicture if its voxels have one value, or high values
    are dark and the scaling cannot turn them.
    """
    scan.refuse_empty()
    placement = scan.placement(network_input)
    own = scan.volume.values
    whole = shown_values(own, scan.is_padding)
    unit = network_input.scaling.unit(placement.sampled(own), whole, is_inverted=scan.is_inverted)
    unit = np.where(placement.outside(), np.float32(0), unit)
    planes = network_input.scaling.normalized(np.repeat(unit[np.newaxis], network_input.channels, axis=0))
    return np.ascontiguousarray(
        (np.moveaxis(planes, 0, -1) if network_input.is_channels_last else planes)[None]
    ), placement


def prepared_planes(
    scan: Scan, network_input: Input
) -> tuple[Iterator[tuple[NDArray[np.float32], Placement]], GridPlacement]:
    """Return each slice as a network of pictures takes it, with its place; and where the slices lie in the volume.

    Each slice is scaled by itself; a slice of one value, such as an empty one, is 0 where the scaling needs several.
    White is high, also where the slices say MONOCHROME1.
    Raises: BrokenSeries if a slice cannot be decoded; UnusablePicture if all slices have one value, or high values are
    dark and the scaling cannot turn them.
    """
    scan.refuse_empty()
    turned = scan.planes(network_input)
    _, rows, columns = (scan.volume.spacing_mm[axis] for axis in turned.order)
    planes = turned.sampled(scan.volume.values)
    is_padded = scan.is_padding.any()
    paddings = (
        turned.sampled(scan.is_padding.astype(np.float32)) > 0 if is_padded else np.zeros((len(planes), 1, 1), bool)
    )
    units = (
        _unit_plane(plane, shown_values(plane, is_padding), network_input.scaling, is_inverted=scan.is_inverted)
        for plane, is_padding in zip(planes, paddings, strict=True)
    )
    pictures = (in_input(unit, network_input, rows / columns, (rows, columns)) for unit in units)
    return pictures, turned


def _unit_plane(
    plane: NDArray[np.float32], whole: NDArray[np.float32], scaling: Scaling, *, is_inverted: bool
) -> NDArray[np.float32]:
    """Return a slice by a scaling, whose statistics are those of `whole`, the slice without its padding."""
    try:
        return scaling.unit(plane, whole, is_inverted=is_inverted)
    except UniformPicture:  # an empty slice of a stack that is not empty
        return np.zeros_like(plane)
