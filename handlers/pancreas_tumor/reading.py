"""The regions of one abdomen in the node's words, on the slices' own pixels."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ainode.handlers import (
    ABNORMAL_STRUCTURE,
    LONG_AXIS,
    MM,
    NOT_RULED_OUT,
    Mask,
    label_map,
    outline_of,
    outlined_piece,
    saliency,
    voxels_under,
)
from ainode.node.domain import (
    Capture,
    Code,
    Finding,
    InstanceRef,
    Measurement,
    Outline,
    Segment,
    Segmented,
    Window,
)
from ainode.node.imaging.ct_parts import CtPart

if TYPE_CHECKING:
    from ainode.models.pancreas_tumor.model import Prediction
    from ainode.models.pancreas_tumor.regions import Region as MarkedRegion

NO_PROBABILITY = "Learned from patients who all have a tumor: it cannot tell whether there is one"
NEOPLASM = Code("108369006", "SCT", "Neoplasm")
_PANCREAS = Code("15776009", "SCT", "Pancreas")
# In HU: soft tissue.
_WINDOW = Window(60.0, 360.0)


@dataclass(frozen=True)
class Reading:
    """What the model marked in one abdomen, the surest region first."""

    part: CtPart
    prediction: "Prediction"

    @cached_property
    def regions(self) -> tuple["MarkedOnSlices", ...]:
        """Return the regions with their names."""
        marked = enumerate(self.prediction.regions, start=1)
        return tuple(MarkedOnSlices(self.part, self.prediction, region, f"region {n}") for n, region in marked)

    @property
    def key_images(self) -> tuple[InstanceRef, ...]:
        """Return the slice of each region where the region is longest, each once."""
        return tuple(dict.fromkeys(region.image for region in self.regions))

    @property
    def slices_text(self) -> str:
        """Return which slices were read, for a report."""
        z, y, x = self.part.volume.spacing_mm
        group = self.prediction.group
        means = "" if group == 1 else f", read as means of {group}"
        return f"{len(self.part.slices.instances)} of {z:.2f} mm{means}, pixels {y:.2f} x {x:.2f} mm"

    def scores(self) -> Mapping[str, float]:
        """Return every number of each region by name."""
        values: dict[str, float] = {}
        for region in self.regions:
            values[f"{region.name} longest axis in mm"] = round(region.long_axis_mm, 1)
            values[f"{region.name} highest value of the network, no probability of disease"] = region.marked.peak
        return values

    def segmented(self) -> Segmented:
        """Return the regions on the pixels of the slices that hold one."""
        names = [region.name for region in self.regions]
        segments = tuple(Segment(name, ABNORMAL_STRUCTURE, NEOPLASM, finding=name) for name in names)
        labels: dict[int, NDArray[np.uint8]] = {}
        for label, region in enumerate(self.regions, start=1):
            for number, mask in region.masks.items():
                on_slice = labels.setdefault(number, np.zeros(mask.shape, np.uint8))
                on_slice[mask & (on_slice == 0)] = label
        instances = self.part.slices.instances
        maps = (label_map(instances[number].ref, values) for number, values in sorted(labels.items()))
        return Segmented("PANCREAS_REGIONS", segments, tuple(maps), self.part.slices.spacing_mm[0])


@dataclass(frozen=True)
class MarkedOnSlices:
    """One region on the slices of the part, counted as the stack counts them."""

    part: CtPart
    prediction: "Prediction"
    marked: "MarkedRegion"
    name: str

    @property
    def image(self) -> InstanceRef:
        """Return the slice where the region is longest."""
        return self.part.slices.instances[self._key_number].ref

    @cached_property
    def long_axis_mm(self) -> float:
        """Return the longest axis on the slice where the region is longest."""
        return self.prediction.long_axis_mm(self.marked)

    @cached_property
    def masks(self) -> Mapping[int, Mask]:
        """Return the region on the pixels of each slice that holds a pixel of it, by the slice's number."""
        numbers = {z: self._number(z) for z in self.prediction.slices_of(self.marked)}
        masks = {number: self._acquired(z, self.prediction.mask_on(self.marked, z)) for z, number in numbers.items()}
        return {number: np.asarray(mask, np.bool_) for number, mask in masks.items() if mask.any()}

    def finding(self) -> Finding:
        """Return the candidate with its longest axis; it has no verdict, for there is no probability."""
        axis = Measurement(LONG_AXIS, round(self.long_axis_mm), MM, (self.image,), of_outline=self._outline is not None)
        # The axis runs through all pieces that the region has on the slice.
        piece = outlined_piece(self.image, self.masks[self._key_number])
        return Finding(
            tracking_identifier=self.name,
            concept=NEOPLASM,
            site=_PANCREAS,
            measurements=(axis,),
            evidence=(self.image,),
            region=piece.region,
            label=f"{self.name}: {self.long_axis_mm:.0f} mm",
            outline=self._outline,
            qualities=piece.qualities(is_candidate=True),
            is_candidate=True,
        )

    def capture(self) -> Capture:
        """Return the slice where the region is longest, with its outline and what the network answered around it."""
        finding, number, z = self.finding(), self._key_number, self.prediction.key_slice(self.marked)
        count = len(self.masks)
        return Capture(
            image=self.image,
            title=f"Pancreas, {self.name}, slice {self.part.number(number)} of {self.part.whole_count}",
            captions=(
                f"Longest axis {self.long_axis_mm:.0f} mm; marked on {count} slices by the node's search",
                f"{NO_PROBABILITY}; {NOT_RULED_OUT}",
            ),
            saliency=saliency(self._acquired(z, self.prediction.probabilities_on(z))),
            findings=(finding,),
            subject=finding,
            inset=finding,
            window=_WINDOW,
        )

    @property
    def _key_number(self) -> int:
        return self._number(self.prediction.key_slice(self.marked))

    def _number(self, z: int) -> int:
        """Return the number in the stack of a slice of the volume, which counts from the feet."""
        return round(self.part.slices.pixel(self.part.volume.position((z, 0, 0)))[0])

    def _acquired(self, z: int, values: NDArray[np.generic]) -> NDArray[np.float32]:
        """Return values on a slice of the volume on the pixels of its instance."""
        _, y, x = np.rint(voxels_under(self.part.slices, self._number(z), self.part.volume)).astype(int)
        return np.asarray(values[y, x], np.float32)

    @cached_property
    def _outline(self) -> Outline | None:
        return outline_of(self.part.slices, self.masks)
