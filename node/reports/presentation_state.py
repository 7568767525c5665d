"""The findings' regions as Grayscale Softcopy Presentation States: lines and labels that a viewer can switch off."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
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
from ainode.node.reports.drawing import Box, ascii_text, label_box
from ainode.node.reports.source_header import (
    common_arguments,
    complete_document,
    copy_body_part,
    header_of,
    part10_bytes,
    reference_dataset,
)

_MODALITY_LUT, _RESCALE = "ModalityLUTSequence", ("RescaleIntercept", "RescaleSlope", "RescaleType")
_VOI_LUT, _WINDOW = "VOILUTSequence", ("WindowCenter", "WindowWidth", "WindowCenterWidthExplanation")
_WARNING = "AI, RESEARCH USE ONLY"
_CYAN = (80, 220, 255)  # as in the captures
# A label's height as share of the image, and its width per character as share of its height: viewers choose the font.
_HEIGHT, _WIDTH = 1 / 40, 0.6


@dataclass(frozen=True, slots=True)
class _Drawing:
    """What is drawn on one image: regions with their labels."""

    ref: InstanceRef
    header: Dataset
    marks: tuple[tuple[Region, str], ...]

    @property
    def image(self) -> Dataset:
        """Return the image as highdicom needs it, without its patient."""
        image = reference_dataset(self.ref)
        image.Rows, image.Columns, image.SamplesPerPixel = self.header.Rows, self.header.Columns, 1
        return image

    @property
    def group(self) -> str:
        """Return what the images of one presentation state have in common."""
        shape = ("Rows", "Columns", "PixelSpacing", "PhotometricInterpretation")
        shown = _chosen(self.header, (*shape, _MODALITY_LUT, *_RESCALE, _VOI_LUT, *_WINDOW, "VOILUTFunction"))
        return self.ref.series_instance_uid + shown.to_json()


def presentation_states(result: Result, sources: Mapping[UID, Path], context: DocumentContext) -> tuple[Document, ...]:
    """Return the regions of the findings on their images, one object for all that are shown alike; () without regions.

    Left out are color images, multi-frame images and those of earlier studies.

    Raises: ReportError if a source cannot be read; what pydicom and highdicom raise on its values is the caller's.
    Source: PS3.3 A.33.1, C.10.5 (Graphic Annotation: a point counts from the corner of the first pixel, as ours does).
    """
    groups: dict[str, list[_Drawing]] = {}
    for drawing in _drawings(result, sources):
        groups.setdefault(drawing.group, []).append(drawing)
    return tuple(_document(group, result, context, number=number) for number, group in enumerate(groups.values()))


def _drawings(result: Result, sources: Mapping[UID, Path]) -> Iterator[_Drawing]:
    """Yield each gray image with its regions, those of its captures too."""
    found: dict[InstanceRef, dict[tuple[Region, str], None]] = {}
    for finding in (*result.findings, *(one for capture in result.captures for one in capture.findings)):
        if finding.region and finding.region.image.study_instance_uid == result.study_instance_uid:
            found.setdefault(finding.region.image, {})[finding.region, ascii_text(finding.label)] = None
    for ref, marks in found.items():
        header = header_of(ref, sources)
        gray = str(header.get("PhotometricInterpretation", "")).startswith("MONOCHROME")
        if gray and int(header.get("NumberOfFrames") or 1) == 1:
            yield _Drawing(ref, header, tuple(marks))


def _document(drawings: Sequence[_Drawing], result: Result, context: DocumentContext, *, number: int) -> Document:
    first = drawings[0]
    digest = run_digest(result.evidence, context, algorithm=result.algorithm)
    layer = GraphicLayer("AI_FINDINGS", 1, "Research use only", CIELabColor.from_rgb(*_CYAN))
    made = GrayscaleSoftcopyPresentationState(
        referenced_images=[drawing.image for drawing in drawings],
        series_instance_uid=made_uid("presentation state series", digest, str(number)),
        series_number=context.series_number_base + 200 + number,
        sop_instance_uid=made_uid("presentation state", digest, str(number)),
        instance_number=1,
        content_label="AI_FINDINGS",
        graphic_annotations=[_annotation(drawing, layer) for drawing in drawings],
        graphic_layers=[layer],
        **common_arguments(result, first.header, context),
    )
    _show_as_source(made, first.header)
    _keep_shape(made.DisplayedAreaSelectionSequence[0], first.header)
    copy_body_part(made, first.header)
    complete_document(made, first.header, context)
    made.PresentationCreationDate, made.PresentationCreationTime = made.InstanceCreationDate, made.InstanceCreationTime
    ref = InstanceRef(
        result.study_instance_uid, UID(made.SeriesInstanceUID), UID(made.SOPClassUID), UID(made.SOPInstanceUID)
    )
    return Document(DocumentKind.PRESENTATION_STATE, ref, part10_bytes(made))


def _annotation(drawing: _Drawing, layer: GraphicLayer) -> GraphicAnnotation:
    """Return the regions cut to the image, a label at each, and the warning at the lower edge."""
    columns, rows = int(drawing.header.Columns), int(drawing.header.Rows)
    height = max(columns, rows) * _HEIGHT
    points = [np.clip(np.asarray(region.points, np.float64), 0, (columns, rows)) for region, _ in drawing.marks]
    boxes: list[Box] = [(*one.min(axis=0), *one.max(axis=0)) for one in points]
    foot = (0.0, rows - height, float(columns), float(rows))
    occupied, texts = [*boxes, foot], [_text(_WARNING, foot)]
    for (_, label), box in zip(drawing.marks, boxes, strict=True):
        if label:
            size = (min(len(label) * _WIDTH * height, columns), height)
            left, top, right, bottom = label_box(box, size, canvas=(columns, rows), occupied=occupied)
            occupied.append((left, top, min(right, columns), min(bottom, rows)))
            texts.append(_text(label, occupied[-1]))
    graphics = [
        GraphicObject(region.graphic_type.value, one, AnnotationUnitsValues.PIXEL)
        for (region, _), one in zip(drawing.marks, points, strict=True)
    ]
    return GraphicAnnotation([drawing.image], layer, graphic_objects=graphics, text_objects=texts)


def _text(value: str, place: Box) -> TextObject:
    return TextObject(
        value, AnnotationUnitsValues.PIXEL, bounding_box=place, text_justification=TextJustificationValues.LEFT
    )


def _show_as_source(made: Dataset, header: Dataset) -> None:
    """Show the image as its own header asks for: values, window, polarity.

    A presentation state replaces all of them, so what it does not say is lost (PS3.4 N.2).
    """
    made.update(_chosen(header, (_MODALITY_LUT,) if _MODALITY_LUT in header else _RESCALE))
    if "RescaleIntercept" in made and "RescaleType" not in made:
        # Absent in a CT means Hounsfield units (PS3.3 C.8.2.1); elsewhere nobody says.
        made.RescaleType = "HU" if header.get("Modality") == "CT" else "US"
    if voi := _voi(header):
        made.SoftcopyVOILUTSequence = [voi]
    made.PresentationLUTShape = "INVERSE" if header.PhotometricInterpretation == "MONOCHROME1" else "IDENTITY"


def _voi(header: Dataset) -> Dataset:
    """Return the first usable table, else window, as in the captures: a state has one (PS3.3 C.11.8)."""
    voi = Dataset()
    if (tables := header.get(_VOI_LUT)) and "LUTDescriptor" in tables[0] and "LUTData" in tables[0]:
        voi.VOILUTSequence = tables[:1]
        return voi
    for keyword in (*_WINDOW, "VOILUTFunction"):
        value = header.get(keyword)
        if value is not None:
            setattr(voi, keyword, value[0] if isinstance(value, MultiValue) else value)
    return voi if "WindowCenter" in voi and voi.get("WindowWidth", 0) >= 1 else Dataset()


def _chosen(header: Dataset, keywords: Iterable[str]) -> Dataset:
    """Return those of the elements that the header has."""
    chosen = Dataset()
    for keyword in keywords:
        if keyword in header:
            chosen.add(header[keyword])
    return chosen


def _keep_shape(area: Dataset, header: Dataset) -> None:
    """Say how wide and how high a pixel is."""
    spacings = [header.get(keyword) or () for keyword in ("PixelSpacing", "ImagerPixelSpacing")]
    if usable := [one for one in spacings if len(one) == 2 and min(one) > 0]:  # noqa: PLR2004 - row, column
        del area.PresentationPixelAspectRatio
        area.PresentationPixelSpacing = usable[0]
    elif ratio := header.get("PixelAspectRatio"):
        area.PresentationPixelAspectRatio = ratio
