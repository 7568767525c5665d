"""Objects of a program that refer to images, held against those that were read."""

import io
from collections.abc import Callable
from pathlib import Path

import highdicom
import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from support.programs import CONTEXT, ct

from ainode.node import testing
from ainode.node.domain import Algorithm, Attachment, Code, Document, Instance, Result, WeightsStatus
from ainode.node.encoding import headers
from ainode.node.errors import HandlerError
from ainode.node.reading.attachments import KINDS, attached_documents

SC, SEG, GSPS, SR = (KINDS[kind][0] for kind in ("SC", "SEG", "GSPS", "SR"))
RTSTRUCT, KEY_OBJECTS = "1.2.840.10008.5.1.4.1.1.481.3", "1.2.840.10008.5.1.4.1.1.88.59"
ALL_KINDS = (*KINDS, RTSTRUCT, KEY_OBJECTS)
PROCEDURE = Code("363679005", "SCT", "Imaging procedure")
ELSEWHERE = "1.2.826.0.1.3680043.8.498.1"


@pytest.fixture
def images(tmp_path: Path) -> tuple[Instance, ...]:
    """Return three slices of a CT that name the image on which they were planned."""
    paths = testing.write(ct(), tmp_path, study="referred")
    for path in paths:
        image = dcmread(path)
        image.ReferencedImageSequence = [_item(ReferencedSOPInstanceUID=f"{ELSEWHERE}.7")]
        image.save_as(path)
    return tuple(headers.instance(path, sha256="") for path in paths)


def _item(**values: object) -> Dataset:
    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return item


def _image(uid: str) -> Dataset:
    return _item(ReferencedSOPClassUID="1.2.840.10008.5.1.4.1.1.2", ReferencedSOPInstanceUID=uid)


def an_object(images: tuple[Instance, ...], kind: str = SC, **values: object) -> Dataset:
    """Return a new object of the study and patient of the images."""
    image = dcmread(images[0].path, stop_before_pixels=True)
    dataset = _item(SOPClassUID=kind, SOPInstanceUID=generate_uid(), SeriesInstanceUID=generate_uid())
    for keyword in ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyInstanceUID"):
        setattr(dataset, keyword, image[keyword].value)
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return dataset


def attached(images: tuple[Instance, ...], *objects: Dataset) -> tuple[Document, ...]:
    attachments = []
    for dataset in objects:
        file = io.BytesIO()
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.save_as(file, enforce_file_format=True)
        attachments.append(Attachment(file.getvalue(), ALL_KINDS))
    result = Result(
        *(images[0].ref.study_instance_uid, Algorithm("tool", "1", "", WeightsStatus.SITE), "Tool", PROCEDURE),
        *((), (), (), ()),
        attachments=tuple(attachments),
    )
    return attached_documents(result, images, CONTEXT)


def segmentation(images: tuple[Instance, ...], change: Callable[[int, Dataset], None]) -> Dataset:
    """Return a segmentation by highdicom of the images, each changed before by its number."""
    sources = [dcmread(image.path) for image in images]
    for number, source in enumerate(sources):
        change(number, source)
    algorithm = highdicom.AlgorithmIdentificationSequence("x", codes.cid7162.ArtificialIntelligence, "1")
    segment = highdicom.seg.SegmentDescription(
        *(1, "lung", codes.SCT.AnatomicalStructure, codes.SCT.Lung),
        *(highdicom.seg.SegmentAlgorithmTypeValues.AUTOMATIC, algorithm),
    )
    mask = np.zeros((len(sources), 64, 64), np.uint8)
    mask[:, 20:40, 20:40] = 1
    return highdicom.seg.Segmentation(
        *(sources, mask, highdicom.seg.SegmentationTypeValues.BINARY, [segment]),
        *(generate_uid(), 5, generate_uid(), 1, "m", "m", "1", "1"),
    )


def _as_it_is(_: int, __: Dataset) -> None:
    pass


def _another_image(number: int, source: Dataset) -> None:
    if not number:
        source.SOPInstanceUID = f"{ELSEWHERE}.1"


def _another_series(_: int, source: Dataset) -> None:
    source.SeriesInstanceUID = f"{ELSEWHERE}.2"


def _another_frame(_: int, source: Dataset) -> None:
    source.FrameOfReferenceUID = f"{ELSEWHERE}.3"


def test_a_segmentation_of_the_images_leaves_with_its_references(images: tuple[Instance, ...]) -> None:
    (document,) = attached(images, segmentation(images, _as_it_is))
    left = dcmread(io.BytesIO(document.content))
    references = left.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    assert {item.ReferencedSOPInstanceUID for item in references} == {image.ref.sop_instance_uid for image in images}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_another_image, "of 3 SOP Instance UIDs to which it refers, 1 in ReferencedInstanceSequence are none of the"),
        (_another_series, "its ReferencedInstanceSequence names an image in a series that is not the image's own"),
        (_another_frame, "its FrameOfReferenceUID names a Frame of Reference that is none of the images'"),
    ],
)
def test_a_segmentation_that_is_of_the_images_in_part_is_refused_with_its_class_and_without_a_uid(
    images: tuple[Instance, ...], change: Callable[[int, Dataset], None], reason: str
) -> None:
    with pytest.raises(HandlerError, match=f"it is of SOP Class Segmentation Storage, and .*{reason}") as refusal:
        attached(images, segmentation(images, change))
    assert ELSEWHERE not in str(refusal.value)


def _uid_item(code: str, uid: str) -> dict[str, object]:
    name = _item(CodeValue=code, CodingSchemeDesignator="DCM", CodeMeaning="concept")
    item = _item(ValueType="UIDREF", UID=uid, ConceptNameCodeSequence=[name])
    return {"ContentSequence": [_item(ContentSequence=[item])]}


@pytest.mark.parametrize(
    ("kind", "values", "reason"),
    [
        (SC, {"SourceImageSequence": [_image(ELSEWHERE)]}, "1 in SourceImageSequence"),
        (SC, {"FrameOfReferenceUID": ELSEWHERE}, "its FrameOfReferenceUID"),
        (SC, {"SourceImageSequence": [_item(MultiFrameSourceSOPInstanceUID=ELSEWHERE)]}, "1 in SourceImageSequence"),
        (SR, {"ContentSequence": [_item(ReferencedSOPSequence=[_image(ELSEWHERE)])]}, "1 in ReferencedSOPSequence"),
        (SR, {"ContentSequence": [_item(ReferencedFrameOfReferenceUID=ELSEWHERE)]}, "its ReferencedFrameOfReference"),
        (SR, _uid_item("112002", ELSEWHERE), "its ContentSequence names a series"),
        (SR, _uid_item("121232", ELSEWHERE), "its ContentSequence names a series"),
        (SR, _uid_item("112227", ELSEWHERE), "its ContentSequence names a Frame of Reference"),
        (SR, _uid_item("110180", ELSEWHERE), "its StudyInstanceUID is not that of the images"),
        (GSPS, {"ReferencedSeriesSequence": [_item(ReferencedImageSequence=[_image(ELSEWHERE)])]}, "1 in Referenced"),
        (GSPS, {}, "Presentation State Storage, and refers to no image, which its kind has to"),
        (SEG, {}, "Segmentation Storage, and refers to no image, which its kind has to"),
        (KEY_OBJECTS, {}, "refers to no image, which its kind has to"),
        (RTSTRUCT, {}, "no image and no Frame of Reference, one of which its kind has to"),
        (
            RTSTRUCT,
            {"StructureSetROISequence": [_item(ReferencedFrameOfReferenceUID=ELSEWHERE)]},
            "its ReferencedFrameOfReferenceUID names a Frame of Reference",
        ),
        (
            RTSTRUCT,
            {"RTReferencedStudySequence": [_item(ReferencedSOPInstanceUID=ELSEWHERE)]},
            "its RTReferencedStudySequence is not that of the images: it is of another patient or study",
        ),
    ],
)
def test_an_object_that_refers_to_what_no_image_is_or_to_nothing_where_it_has_to_is_refused(
    images: tuple[Instance, ...], kind: str, values: dict[str, object], reason: str
) -> None:
    with pytest.raises(HandlerError, match=reason):
        attached(images, an_object(images, kind, **values))


def test_an_outline_may_refer_to_study_series_image_and_frame_of_reference(images: tuple[Instance, ...]) -> None:
    frame = str(dcmread(images[0].path).FrameOfReferenceUID)
    series = _item(
        SeriesInstanceUID=images[0].ref.series_instance_uid,
        ContourImageSequence=[_image(images[1].ref.sop_instance_uid)],
    )
    study = _item(ReferencedSOPInstanceUID=images[0].ref.study_instance_uid, RTReferencedSeriesSequence=[series])
    frames = [_item(FrameOfReferenceUID=frame, RTReferencedStudySequence=[study])]
    outlines = an_object(images, RTSTRUCT, ReferencedFrameOfReferenceSequence=frames)
    assert len(attached(images, outlines)) == 1


def test_an_object_may_refer_to_what_an_image_refers_to_and_to_another_object_of_its_answer(
    images: tuple[Instance, ...],
) -> None:
    picture = an_object(images, SC, ReferencedImageSequence=[_image(f"{ELSEWHERE}.7")])
    drawn_on = _item(
        SeriesInstanceUID=picture.SeriesInstanceUID, ReferencedImageSequence=[_image(picture.SOPInstanceUID)]
    )
    state = an_object(images, GSPS, ReferencedSeriesSequence=[drawn_on])
    assert len(attached(images, state, picture)) == 2
    with pytest.raises(HandlerError, match="Presentation State Storage, and of 1 SOP Instance UIDs"):
        attached(images, state)
