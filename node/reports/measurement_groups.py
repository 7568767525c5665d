"""The measurement groups of a finding: what was found, where, by which algorithm, how probable, and the verdict.

A finding without a region is a measurement group (TID 1501). A finding with a region is two groups with the same
tracking UID: the region (TID 1410), which viewers show as a box, and the measurements. Viewers do not show the box if
region and measurements are in the same group. What was measured on an outline is a group with the outline (TID 1411).
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from highdicom import sr
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import RE_VALID_UID

from ainode.node.domain import UID, Algorithm, Code, Finding, InstanceRef, Measurement, Outline, Presence, Region
from ainode.node.errors import ReportError
from ainode.node.identity import made_uid
from ainode.node.reports.limits import limits

# A coordinate may lie outside of its image by so much, because of rounding.
_SLACK_PIXELS = 0.5
# PS3.5 9.1.
_MAX_UID_LENGTH = 64
_PERCENT = Code("%", "UCUM", "Percent")
_THRESHOLD = Code("122411", "DCM", "Threshold Value")
# PS3.16 CID 240, which has 272519000 and not 2667000 for absent; CID 240 has no code for indeterminate.
PRESENCES = {
    Presence.PRESENT: codes.SCT.Present,
    Presence.ABSENT: codes.SCT.Absent,
    Presence.INDETERMINATE: codes.SCT.Indeterminate,
}

MeasurementGroup = (
    sr.MeasurementsAndQualitativeEvaluations
    | sr.PlanarROIMeasurementsAndQualitativeEvaluations
    | sr.VolumetricROIMeasurementsAndQualitativeEvaluations
)


@dataclass(frozen=True, slots=True)
class GroupContext:
    """Inputs that all measurement groups of a report need."""

    headers: Mapping[InstanceRef, Dataset]
    """headers of the images with regions, and at least the size of images that numbers are inferred from"""
    digest: str
    """digest of the reading, which tracking UIDs depend on"""
    algorithm: Algorithm
    regions: int
    """number of findings with a region in the report"""
    comprehensive_3d: bool
    """whether the report may have coordinates in the patient, as an outline is"""


def coded_concept(code: Code) -> sr.CodedConcept:
    """Return the domain's code as highdicom's concept."""
    return sr.CodedConcept(code.value, code.scheme, code.meaning)


def tracking_uid(finding: Finding, digest: str, number: int) -> UID:
    """Return the lesion's tracking UID; without a valid UID, one is made from the digest of the reading.

    `number` is the finding's index in the result. Report and segmentation of a reading name a lesion alike.
    """
    is_valid = re.fullmatch(RE_VALID_UID, finding.tracking_uid) and len(finding.tracking_uid) <= _MAX_UID_LENGTH
    return finding.tracking_uid if is_valid else made_uid("tracking", digest, str(number))


def _tracking_identifier(finding: Finding, context: GroupContext, number: int) -> sr.TrackingIdentifier:
    """Return name and UID of the lesion; the name has no verdict, which another reading of the lesion may change."""
    uid = tracking_uid(finding, context.digest, number)
    return sr.TrackingIdentifier(uid=uid, identifier=finding.tracking_identifier)


def _evaluations(finding: Finding) -> list[sr.QualitativeEvaluation]:
    """Return the presences of a finding, then its qualities."""
    presences = [(concept, sr.CodedConcept.from_code(PRESENCES[presence])) for concept, presence in finding.evaluations]
    qualities = [(concept, coded_concept(value)) for concept, value in finding.qualities]
    return [sr.QualitativeEvaluation(coded_concept(concept), value) for concept, value in (*presences, *qualities)]


def _source_images(images: Iterable[InstanceRef]) -> list[sr.SourceImageForMeasurementGroup]:
    return [sr.SourceImageForMeasurementGroup(ref.sop_class_uid, ref.sop_instance_uid) for ref in images]


def measurement_groups(finding: Finding, context: GroupContext, number: int) -> tuple[MeasurementGroup, ...]:
    """Return the measurement groups of a finding; `number` is the finding's index in the result.

    Raises: ReportError if a point of a region lies farther outside of the image than rounding explains.
    Source: PS3.16 TID 1410, 1411, 1501, 300, 4019.
    """
    shared_arguments: dict[str, Any] = {
        "tracking_identifier": _tracking_identifier(finding, context, number),
        "finding_type": coded_concept(finding.concept),
        "finding_sites": [_finding_site(finding)],
        "algorithm_id": _algorithm_identification(context.algorithm),
        "qualitative_evaluations": _evaluations(finding),
    }
    outline = finding.outline if context.comprehensive_3d else None
    of_images: list[sr.Measurement] = []
    of_outline: list[sr.Measurement] = []
    for measurement in with_threshold(finding):
        (of_outline if outline and measurement.of_outline else of_images).append(_measurement(measurement))
    groups = _image_groups(finding, context, shared_arguments | {"measurements": of_images})
    if outline is None or not of_outline:
        return groups
    surface = _volume_surface(outline)
    arguments = shared_arguments | {"measurements": of_outline, "referenced_volume_surface": surface}
    return (*groups, sr.VolumetricROIMeasurementsAndQualitativeEvaluations(**arguments))


def _image_groups(
    finding: Finding, context: GroupContext, arguments: Mapping[str, Any]
) -> tuple[MeasurementGroup, ...]:
    """Return the group of measurements, or the group of the region and, where anything is said, of measurements.

    If the finding's region is the only region of the document, a validator expects a region in every group, so the
    group of the measurements repeats the region.
    """
    if finding.region is None:
        for measurement in arguments["measurements"]:
            _infer_from_whole_image(measurement[0], context)
        return (_image_group(finding, arguments),)
    region = _image_region(finding.region, context.headers[finding.region.image])
    region_group = sr.PlanarROIMeasurementsAndQualitativeEvaluations(
        **{**arguments, "measurements": None}, referenced_region=region
    )
    if not arguments["measurements"] and not finding.evaluations:
        return (region_group,)
    if context.regions == 1:
        return region_group, sr.PlanarROIMeasurementsAndQualitativeEvaluations(**arguments, referenced_region=region)
    return region_group, _image_group(finding, arguments)


def _image_group(finding: Finding, arguments: Mapping[str, Any]) -> sr.MeasurementsAndQualitativeEvaluations:
    """Return the group of measurements, with the verdict as a comment.

    OHIF 3.13.2 shows of such a group its numbers and its comment, and neither tracking identifier nor evaluation.
    """
    images = _source_images(finding.evidence)
    group = sr.MeasurementsAndQualitativeEvaluations(**arguments, source_images=images)
    if finding.presence:
        comment = sr.TextContentItem(codes.DCM.Comment, finding.conclusion, sr.RelationshipTypeValues.CONTAINS)
        group[0].ContentSequence.append(comment)
    return group


def _finding_site(finding: Finding) -> sr.FindingSite:
    laterality = coded_concept(finding.laterality) if finding.laterality else None
    return sr.FindingSite(coded_concept(finding.site), laterality=laterality)


def _volume_surface(outline: Outline) -> sr.VolumeSurface:
    """Return an outline as polygons in the patient, with the series that the outline was found in."""
    contours = [np.array(contour, dtype=np.float64) for contour in outline.contours]
    source = sr.SourceSeriesForSegmentation(outline.series_instance_uid)
    return sr.VolumeSurface("POLYGON", contours, outline.frame_of_reference_uid, source_series=source)


def with_threshold(finding: Finding) -> Iterator[Measurement]:
    """Yield the measurements of a finding; the threshold follows the first one, the probability held against it."""
    yield from finding.measurements[:1]
    if finding.verdict:
        images = finding.measurements[0].inferred_from if finding.measurements else finding.evidence
        yield Measurement(_THRESHOLD, round(100 * finding.verdict.threshold, 4), _PERCENT, images)
    yield from finding.measurements[1:]


def _measurement(measurement: Measurement) -> sr.Measurement:
    """Return TID 300 of a measurement, with the images that the measurement was inferred from."""
    images = [
        sr.SourceImageForMeasurement(ref.sop_class_uid, ref.sop_instance_uid) for ref in measurement.inferred_from
    ]
    concept, unit = coded_concept(measurement.concept), coded_concept(measurement.unit)
    return sr.Measurement(concept, measurement.value, unit, referenced_images=images)


def _infer_from_whole_image(measurement: Dataset, context: GroupContext) -> None:
    """Replace the images that a measurement was inferred from by the borders of those images.

    OHIF 3.13.2 does not open a report that has a measurement group without coordinates: "Cannot read properties of
    undefined (reading 'ReferencedSOPSequence')". TID 320 allows either images or coordinates.
    """
    headers = {ref.sop_instance_uid: header for ref, header in context.headers.items()}
    images = [
        (image, headers.get(image.ReferencedSOPSequence[0].ReferencedSOPInstanceUID))
        for image in measurement.ContentSequence
    ]
    borders = [_image_border(image, header) for image, header in images if header is not None]
    if borders:
        measurement.ContentSequence = sr.ContentSequence(borders)


def _image_border(image: Dataset, header: Dataset) -> sr.ScoordContentItem:
    """Return the border of an image as SCOORD in place of the image's content item."""
    right, bottom = float(header.Columns), float(header.Rows)
    corners = np.array([(0, 0), (right, 0), (right, bottom), (0, bottom), (0, 0)])
    border = sr.ScoordContentItem(image.name, "POLYLINE", corners, relationship_type="INFERRED FROM")
    referenced = image.ReferencedSOPSequence[0]
    source = sr.SourceImageForRegion(referenced.ReferencedSOPClassUID, referenced.ReferencedSOPInstanceUID)
    border.ContentSequence = sr.ContentSequence([source])
    return border


def _image_region(region: Region, header: Dataset) -> sr.ImageRegion:
    """Return the region as SCOORD, cut to the image.

    Raises: ReportError if a point lies farther outside of the image than rounding explains.
    """
    points = np.array(region.points, dtype=np.float64)
    size = np.array((header.Columns, header.Rows))
    if (points < -_SLACK_PIXELS).any() or (points > size + _SLACK_PIXELS).any():
        raise ReportError(
            f"instance {region.image.sop_instance_uid}: a region at {region.points} lies outside its "
            f"{header.Columns} x {header.Rows} pixels; the handler must cut it to the image",
        )
    frames = [region.frame] if region.frame else None
    source = sr.SourceImageForRegion(region.image.sop_class_uid, region.image.sop_instance_uid, frames)
    return sr.ImageRegion(region.graphic_type.value, points.clip(0, size), source)


def _algorithm_identification(algorithm: Algorithm) -> sr.AlgorithmIdentification:
    """Return TID 4019; the manufacturer is in the device observer."""
    parameters = (
        *(f"{name}={value}" for name, value in algorithm.parameters),
        f"weights sha256={algorithm.weights_sha256}",
        f"weights status={algorithm.weights_status}",
        *(f"{name.lower()}={text}" for name, text in limits(algorithm)),
        "research use only",
    )
    return sr.AlgorithmIdentification(algorithm.name, algorithm.version, parameters)
