"""What a network marked on the pixels of images, in the node's words: sizes, borders, pictures, a segmentation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ainode.handlers import (
    NOT_RULED_OUT,
    PERCENT,
    VOLUME,
    Mask,
    OutlinedPiece,
    content_label,
    label_map,
    outline_of,
    outlined_piece,
)
from ainode.node.domain import (
    Capture,
    Code,
    Finding,
    Instance,
    Measurement,
    Outline,
    Segment,
    Segmented,
    Window,
)
from ainode.node.imaging.geometry import Stack
from ainode.node.imaging.pixel_shape import height_per_width, pixel_width
from ainode.node.imaging.slice_order import slice_number

Labels = NDArray[np.uint8]

_ML = Code("ml", "UCUM", "ml")
_AREA, _SHARE = Code("42798000", "SCT", "Area"), Code("image-share", "99AINODE", "Share of the image")
# Of what is marked in several pieces: Area is that of the outlined piece (PS3.16 TID 1410).
_ALL_AREA = Code("area-of-pieces", "99AINODE", "Area of all pieces on the image")
_ALL_SHARE = Code("share-of-pieces", "99AINODE", "Share of the image of all pieces")
_CM2 = Code("cm2", "UCUM", "cm2")
_MM3_PER_ML, _MM2_PER_CM2 = 1000.0, 100.0
_MOST_CAPTURES = 8
# Of a projection the pixels are those of the detector: nothing says how large the patient is there.
_PROJECTIONS = frozenset({"CR", "DX", "MG", "RF", "XA", "IO", "PX", "RG"})


@dataclass(frozen=True, slots=True)
class SegmentClass:
    """What a label is of."""

    name: str
    code: Code
    category: Code
    site: Code
    is_candidate: bool = False
    """whether it is a lesion that the network marked: its presence is not certain"""


@dataclass(frozen=True)
class MarkedImages:
    """Labels on the pixels of images: 0 is nothing, 1 the first class.

    With a stack the images are its slices, in its order, and sizes are volumes; else each image stands for itself.
    Shapes: labels (rows, columns) for each image.
    """

    instances: tuple[Instance, ...]
    labels: Sequence[Labels]
    classes: tuple[SegmentClass, ...]
    stack: Stack | None = None
    window: Window | None = None
    """the gray values that pictures show"""
    seen: Sequence[str] = ()
    """what share of each image was seen, in words, '' where it is the whole; of a stack a single text for the volume"""

    @cached_property
    def marks(self) -> tuple["Mark", ...]:
        """Return what is marked: of a stack a mark for each class, else for each class on each image."""
        marks = []
        for label, item in enumerate(self.classes, start=1):
            masks = {number: labels == label for number, labels in enumerate(self.labels) if (labels == label).any()}
            groups = ([masks] if masks else []) if self.stack else [{number: mask} for number, mask in masks.items()]
            marks += [Mark(self, item, group) for group in groups]
        return tuple(marks)

    def findings(self) -> tuple[Finding, ...]:
        """Return a finding for each mark."""
        return tuple(mark.finding for mark in self.marks)

    def captures(self, title: str) -> tuple[Capture, ...]:
        """Return the image of each mark on which it is largest; of many marks the largest ones."""
        largest = sorted(self.marks, key=lambda mark: mark.pixel_count, reverse=True)[:_MOST_CAPTURES]
        return tuple(mark.capture(title) for mark in largest)

    def key_images(self) -> tuple[Instance, ...]:
        """Return the image of each mark on which it is largest, each once."""
        return tuple(dict.fromkeys(mark.image for mark in self.marks))

    def scores(self) -> Mapping[str, float]:
        """Return the size of each mark by name, to the last digit."""
        sizes = ((mark.name, *mark.size) for mark in self.marks)
        return {f"{name} {unit.value}": value for name, _, value, unit in sizes}

    def summary(self) -> str:
        """Return what was measured, in a sentence."""
        return ", ".join(f"{mark.name} {mark.size_text}" for mark in self.marks)

    def segmented(self, name: str) -> Segmented:
        """Return the labels of the images that have one, for a segmentation object of the model `name`."""
        of_finding = {mark.item.name: mark.name for mark in self.marks} if self.stack else {}
        segments = (Segment(c.name, c.category, c.code, finding=of_finding.get(c.name, "")) for c in self.classes)
        maps = (
            label_map(instance.ref, labels)
            for instance, labels in zip(self.instances, self.labels, strict=True)
            if labels.any()
        )
        distance_mm = self.stack.spacing_mm[0] if self.stack else None
        return Segmented(content_label(name), tuple(segments), tuple(maps), distance_mm)


@dataclass(frozen=True)
class Mark:
    """One class where it is marked: on the slices of a stack, or on one image."""

    whole: MarkedImages
    item: SegmentClass
    masks: Mapping[int, Mask]
    """by the number of the image; none is empty"""

    @property
    def name(self) -> str:
        """Return the name of the class, with the number of the image where each image stands for itself."""
        if self.whole.stack or len(self.whole.instances) == 1:
            return self.item.name
        return f"image {self.key + 1} {self.item.name}"

    @cached_property
    def key(self) -> int:
        """Return the number of the image with most marked pixels."""
        return max(self.masks, key=lambda number: int(self.masks[number].sum()))

    @property
    def image(self) -> Instance:
        """Return the image with most marked pixels."""
        return self.whole.instances[self.key]

    @cached_property
    def pixel_count(self) -> int:
        """Return the number of marked pixels."""
        return sum(int(mask.sum()) for mask in self.masks.values())

    @cached_property
    def size(self) -> tuple[Code, float, Code]:
        """Return what is measured, the value and the unit: a volume; of an image an area, or a share of the image."""
        if stack := self.whole.stack:
            return VOLUME, self.pixel_count * float(np.prod(stack.spacing_mm)) / _MM3_PER_ML, _ML
        return self._sizes_on_image[0]

    @cached_property
    def _sizes_on_image(self) -> tuple[tuple[Code, float, Code], ...]:
        """Return the size of all that is marked on the image, and of several pieces that of the outlined one."""
        (concept, of_all), pixel_size, unit = self._measure
        count = int(self.masks[self.key].sum())
        if self._piece.count == 1:
            return ((concept, count * pixel_size, unit),)
        return (of_all, count * pixel_size, unit), (concept, int(self._piece.mask.sum()) * pixel_size, unit)

    @property
    def _measure(self) -> tuple[tuple[Code, Code], float, Code]:
        """Return what is measured on the image, of a piece and of all, the size of a pixel and the unit."""
        areas = (_AREA, _ALL_AREA)
        if self.whole.stack:
            _, row_mm, column_mm = self.whole.stack.spacing_mm
            return areas, row_mm * column_mm / _MM2_PER_CM2, _CM2
        width = pixel_width(self.image.header)
        if width and width.keyword == "PixelSpacing" and self.image.text("Modality") not in _PROJECTIONS:
            return areas, width.millimeters**2 * height_per_width(self.image.header) / _MM2_PER_CM2, _CM2
        return (_SHARE, _ALL_SHARE), 100 / self.masks[self.key].size, PERCENT

    @cached_property
    def _piece(self) -> OutlinedPiece:
        return outlined_piece(self.image.ref, self.masks[self.key])

    @property
    def _measurements(self) -> tuple[Measurement, ...]:
        """Return the size; of a stack the volume, and the sizes on the slice where it is largest."""
        images = (self.image.ref,)
        place = self._place if self.whole.stack else ""  # the name of the finding says which image it is
        sizes = [
            Measurement(concept, _three_figures(value), unit, images, place=place)
            for concept, value, unit in self._sizes_on_image
        ]
        if self.whole.stack is None:
            return tuple(sizes)
        concept, value, unit = self.size
        has_outline = self._outline is not None
        return Measurement(concept, _three_figures(value), unit, images, of_outline=has_outline), *sizes

    @property
    def size_text(self) -> str:
        """Return the size in words."""
        _, value, unit = self.size
        return f"{_three_figures(value):g} {unit.value}"

    @cached_property
    def finding(self) -> Finding:
        """Return the finding with its size and its border; what was not marked is not said to be absent."""
        count = self._piece.count
        rest = f" in all; here the largest of {count} pieces" if count > 1 else ""
        return Finding(
            tracking_identifier=self.name,
            concept=self.item.code,
            site=self.item.site,
            measurements=self._measurements,
            evidence=(self.image.ref,),
            region=self._piece.region,
            label=f"{self.item.name} {self.size_text}{rest}",
            outline=self._outline,
            qualities=self._piece.qualities(is_candidate=self.item.is_candidate),
            is_candidate=self.item.is_candidate,
        )

    def capture(self, title: str) -> Capture:
        """Return the image with most marked pixels, and the border there."""
        return Capture(
            image=self.image.ref,
            title=f"{title}, {self.item.name}, {self._place}",
            captions=tuple(filter(None, (NOT_RULED_OUT if self.item.is_candidate else "", self._seen))),
            findings=(self.finding,),
            subject=self.finding,
            window=self.whole.window,
        )

    @property
    def _place(self) -> str:
        """Return the image with most marked pixels, as a person counts them."""
        slices = self.whole.stack
        return (
            f"slice {slice_number(slices, self.key)} of {len(slices.instances)}" if slices else f"image {self.key + 1}"
        )

    @property
    def _seen(self) -> str:
        """Return what share of the images was seen, in words; of a stack that of the volume."""
        return self.whole.seen[0 if self.whole.stack else self.key] if self.whole.seen else ""

    @cached_property
    def _outline(self) -> Outline | None:
        return outline_of(self.whole.stack, self.masks) if self.whole.stack else None


def _three_figures(value: float) -> float:
    """Return a size as it is told: no way of marking pixels knows more than three figures."""
    return float(f"{value:.3g}")
