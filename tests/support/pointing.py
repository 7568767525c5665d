"""A report of somebody else that points at a place in a CT: TID 1500 in Comprehensive 3D SR, by plain pydicom."""

from collections.abc import Sequence
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

Position = tuple[float, float, float]


def _code(value: str, scheme: str, meaning: str) -> list[Dataset]:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return [item]


def _item(kind: str, name: tuple[str, str, str] | None = None, relation: str = "CONTAINS") -> Dataset:
    item = Dataset()
    item.RelationshipType, item.ValueType = relation, kind
    if name:
        item.ConceptNameCodeSequence = _code(*name)
    return item


def _container(name: tuple[str, str, str], *children: Dataset) -> Dataset:
    item = _item("CONTAINER", name)
    item.ContinuityOfContent, item.ContentSequence = "SEPARATE", list(children)
    return item


def _group(position_mm: Position, frame: str, number: int) -> Dataset:
    identifier = _item("TEXT", ("112039", "DCM", "Tracking Identifier"), "HAS OBS CONTEXT")
    identifier.TextValue = f"nodule {number}"
    tracking = _item("UIDREF", ("112040", "DCM", "Tracking Unique Identifier"), "HAS OBS CONTEXT")
    tracking.UID = generate_uid(entropy_srcs=[frame, str(number)])
    finding = _item("CODE", ("121071", "DCM", "Finding"))
    finding.ConceptCodeSequence = _code("27925004", "SCT", "Nodule")
    region = _item("SCOORD3D", ("111030", "DCM", "Image Region"))
    region.GraphicType, region.GraphicData = "POINT", list(position_mm)
    region.ReferencedFrameOfReferenceUID = frame
    return _container(("125007", "DCM", "Measurement Group"), identifier, tracking, finding, region)


def pointing_report(image: Path, positions_mm: Sequence[Position], path: Path) -> Path:
    """Write a report on the study of `image` with a point for each position, in LPS mm."""
    source = dcmread(image, stop_before_pixels=True)
    report = Dataset()
    report.file_meta = FileMetaDataset()
    report.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    report.SOPClassUID = "1.2.840.10008.5.1.4.1.1.88.34"
    report.SOPInstanceUID = generate_uid(entropy_srcs=[source.StudyInstanceUID, repr(positions_mm)])
    report.SeriesInstanceUID = generate_uid(entropy_srcs=[source.StudyInstanceUID, "report"])
    for keyword in ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyDate"):
        setattr(report, keyword, source.get(keyword, ""))
    for keyword in ("StudyTime", "AccessionNumber", "StudyID", "ReferringPhysicianName"):
        setattr(report, keyword, source.get(keyword, ""))
    report.Modality, report.SeriesNumber, report.InstanceNumber = "SR", 50, 1
    report.Manufacturer, report.CompletionFlag, report.VerificationFlag = "somebody else", "COMPLETE", "UNVERIFIED"
    report.ContentDate, report.ContentTime = "20260101", "120000"
    frame = str(source.FrameOfReferenceUID)
    groups = [_group(position, frame, number) for number, position in enumerate(positions_mm, start=1)]
    root = _container(
        ("126000", "DCM", "Imaging Measurement Report"),
        _container(("126010", "DCM", "Imaging Measurements"), *groups),
    )
    for element in root:
        if element.keyword != "RelationshipType":
            report.add(element)
    report.save_as(path, enforce_file_format=True)
    return path
