"""The regions of findings as Grayscale Softcopy Presentation States: a viewer can hide their lines and labels."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from highdicom.color import CIELabColor
from highdicom.pr import (
    AnnotationUnitsValues,
    GraphicAnnotation,
    GraphicLayer,
    GraphicObject,
    GrayscaleSoftcopyPresentationState,
    TextJustificationValues,
    TextObject,
)
from pydicom import Dataset
from pydicom.multival import MultiValue

from ainode.node.domain import UID, Document, DocumentContext, DocumentKind, InstanceRef, Region, Result
from ainode.node.identity import made_uid, run_digest
from ainode.node.reports.labels import Box, ascii_text, label_box
from ainode.node.reports.macros import valid_text
from ainode.node.reports.requests import copy_requests
from ainode.node.reports.series import series_number
from ainode.node.reports.source_header import (
    common_arguments,
    complete_document,
    copy_body_part,
    encoded_document,
    header_of,
    reference_dataset,
)

_MODALITY_LUT, _RESCALE = "ModalityLUTSequence", ("RescaleIntercept", "RescaleSlope")
_VOI_LUT, _WINDOW = "VOILUTSequence", ("WindowCenter", "WindowWidth", "WindowCenterWidthExplanation")
_WARNING = "AI, RESEARCH USE ONLY"
_CYAN = (80, 220, 255)  # the color of regions in captures
# The height of a label as share of the image's longer side, and the width of a character as share of that height. The
# viewer chooses the font, so both are estimates.
_LABEL_HEIGHT, _CHARACTER_WIDTH = 1 / 40, 0.6


@dataclass(frozen=True, slots=True)
class _AnnotatedImage:
    """An image with the regions to draw on the image and their labels."""

    ref: InstanceRef
    header: Dataset
    labeled_regions: tuple[tuple[Region, str], ...]

    @property
    def reference(self) -> Dataset:
        """Return the data set by which highdicom refers to the image; the data set has no patient."""
        reference = reference_dataset(self.ref)
        reference.Rows, reference.Columns, reference.SamplesPerPixel = self.header.Rows, self.header.Columns, 1
        return reference

    @property
    def state_key(self) -> str:
        """Return the series, the side and the display elements, which all images of a presentation state share."""
        shared = ("Rows", "Columns", "PixelSpacing", "PhotometricInterpretation", "Laterality", "ImageLaterality")
        display = _elements(
            self.header, (*shared, _MODALITY_LUT, *_RESCALE, "RescaleType", _VOI_LUT, *_WINDOW, "VOILUTFunction")
        )
        return self.ref.series_instance_uid + display.to_json()


def presentation_states(result: Result, sources: Mapping[UID, Path], context: DocumentContext) -> tuple[Document, ...]:
    """Return presentation states with the regions of all findings; images of a series that display alike share a state.

    Color images, multi-frame images and images of earlier studies are left out. No region gives no state.

    Raises: ReportError if a source cannot be read; what pydicom and highdicom raise on odd values is passed on.
    Source: PS3.3 A.33.1, C.10.5 (Graphic Annotation: (0, 0) is the corner of the first pixel, as in `domain`).
    """
    groups: dict[str, list[_AnnotatedImage]] = {}
    for image in _annotated_images(result, sources):
        groups.setdefault(image.state_key, []).append(image)
    return tuple(_document(group, result, context, number=number) for number, group in enumerate(groups.values()))


def _annotated_images(result: Result, sources: Mapping[UID, Path]) -> Iterator[_AnnotatedImage]:
    """Yield each single-frame gray image with the regions of the result's findings and of its captures' findings."""
    # The keys of the inner dict are an ordered set: a finding of a capture is a finding of the result too.
    regions_by_image: dict[InstanceRef, dict[tuple[Region, str], None]] = {}
    for finding in chain(result.findings, *(capture.findings for capture in result.captures)):
        if finding.region and finding.region.image.study_instance_uid == result.study_instance_uid:
            regions_by_image.setdefault(finding.region.image, {})[finding.region, ascii_text(finding.label)] = None
    for ref, labeled_regions in regions_by_image.items():
        header = header_of(ref, sources)
        is_gray = str(header.get("PhotometricInterpretation", "")).startswith("MONOCHROME")
        if is_gray and int(header.get("NumberOfFrames") or 1) == 1:
            yield _AnnotatedImage(ref, header, tuple(labeled_regions))


def _document(images: Sequence[_AnnotatedImage], result: Result, context: DocumentContext, *, number: int) -> Document:
    """Return the presentation state of images that share a state key; `number` counts the states of the result."""
    first = images[0]
    digest = run_digest(result.evidence, context, algorithm=result.algorithm)
    layer = GraphicLayer("AI_FINDINGS", 1, "Research use only", CIELabColor.from_rgb(*_CYAN))
    state = GrayscaleSoftcopyPresentationState(
        referenced_images=[image.reference for image in images],
        series_instance_uid=made_uid("presentation state series", digest, str(number)),
        series_number=series_number(DocumentKind.PRESENTATION_STATE, digest, context, number),
        sop_instance_uid=made_uid("presentation state", digest, str(number)),
        instance_number=1,
        content_label="AI_FINDINGS",
        graphic_annotations=[_annotation(image, layer) for image in images],
        graphic_layers=[layer],
        **common_arguments(result, first.header, context),
    )
    _copy_display(state, first.header)
    _copy_pixel_shape(state.DisplayedAreaSelectionSequence[0], first.header)
    copy_body_part(state, first.header)
    complete_document(state, first.header, context, result.algorithm)
    copy_requests(state, first.header)
    state.PresentationCreationDate, state.PresentationCreationTime = (
        state.InstanceCreationDate,
        state.InstanceCreationTime,
    )
    return encoded_document(DocumentKind.PRESENTATION_STATE, state)


def _annotation(image: _AnnotatedImage, layer: GraphicLayer) -> GraphicAnnotation:
    """Return the regions cut to the image, a label at each region, and the warning at the lower edge."""
    columns, rows = int(image.header.Columns), int(image.header.Rows)
    height = max(columns, rows) * _LABEL_HEIGHT
    regions = [region for region, _ in image.labeled_regions]
    points = [np.clip(np.asarray(region.points, np.float64), 0, (columns, rows)) for region in regions]
    boxes: list[Box] = [(*corners.min(axis=0), *corners.max(axis=0)) for corners in points]
    warning_box = (0.0, rows - height, float(columns), float(rows))
    occupied, texts = [*boxes, warning_box], [_text_object(_WARNING, warning_box)]
    for (_, label), box in zip(image.labeled_regions, boxes, strict=True):
        if label:
            size = (min(len(label) * _CHARACTER_WIDTH * height, columns), height)
            left, top, right, bottom = label_box(box, size, canvas=(columns, rows), occupied=occupied)
            occupied.append((left, top, min(right, columns), min(bottom, rows)))
            texts.append(_text_object(label, occupied[-1]))
    graphics = [
        GraphicObject(region.graphic_type.value, corners, AnnotationUnitsValues.PIXEL)
        for region, corners in zip(regions, points, strict=True)
    ]
    return GraphicAnnotation([image.reference], layer, graphic_objects=graphics, text_objects=texts)


def _text_object(text: str, box: Box) -> TextObject:
    return TextObject(
        text, AnnotationUnitsValues.PIXEL, bounding_box=box, text_justification=TextJustificationValues.LEFT
    )


def _copy_display(state: Dataset, header: Dataset) -> None:
    """Copy modality transform, window and polarity of the image.

    A viewer ignores those of the image when it applies a presentation state (PS3.4 N.2).
    """
    if tables := header.get(_MODALITY_LUT):
        state.ModalityLUTSequence = tables
    elif any(keyword in header for keyword in _RESCALE):
        # A state has all three (PS3.3 C.11.1); captures take 1 and 0 for what is absent, too (`imaging.pixels`).
        state.RescaleSlope = valid_text(header, "RescaleSlope") or 1
        state.RescaleIntercept = valid_text(header, "RescaleIntercept") or 0
        # A CT without Rescale Type is in Hounsfield units (PS3.3 C.8.2.1); any other modality is unspecified.
        state.RescaleType = valid_text(header, "RescaleType") or ("HU" if header.get("Modality") == "CT" else "US")
    if voi_lut := _voi_lut(header):
        state.SoftcopyVOILUTSequence = [voi_lut]
    state.PresentationLUTShape = "INVERSE" if header.PhotometricInterpretation == "MONOCHROME1" else "IDENTITY"


def _voi_lut(header: Dataset) -> Dataset:
    """Return the image's first VOI LUT, else its first window, else nothing: a state has one (PS3.3 C.11.8).

    Captures choose in the same order (`imaging.pixels`).
    """
    voi_lut = Dataset()
    if (tables := header.get(_VOI_LUT)) and "LUTDescriptor" in tables[0] and "LUTData" in tables[0]:
        voi_lut.VOILUTSequence = tables[:1]
        return voi_lut
    for keyword in (*_WINDOW, "VOILUTFunction"):
        value = header.get(keyword)
        if value is not None:
            setattr(voi_lut, keyword, value[0] if isinstance(value, MultiValue) else value)
    if not valid_text(voi_lut, "WindowCenterWidthExplanation"):
        voi_lut.pop("WindowCenterWidthExplanation", None)
    return voi_lut if "WindowCenter" in voi_lut and voi_lut.get("WindowWidth", 0) >= 1 else Dataset()


def _elements(header: Dataset, keywords: Iterable[str]) -> Dataset:
    """Return the elements of these keywords that the header has."""
    elements = Dataset()
    for keyword in keywords:
        if keyword in header:
            elements.add(header[keyword])
    return elements


def _copy_pixel_shape(area: Dataset, header: Dataset) -> None:
    """Copy the width and height of a pixel into the displayed area."""
    if spacing := header.get("PixelSpacing") or header.get("ImagerPixelSpacing"):
        del area.PresentationPixelAspectRatio
        area.PresentationPixelSpacing = spacing
    elif ratio := header.get("PixelAspectRatio"):
        area.PresentationPixelAspectRatio = ratio
