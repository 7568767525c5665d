"""What of an answer no segmentation object can have: the report says so, whichever handler marked it."""

from dataclasses import replace
from pathlib import Path

import pytest
from conformance.made import CONTEXT, source
from conformance.test_segmentations import SIDE, a_map, looked, slices
from pydicom import dcmread

from ainode.node.domain import (
    Code,
    Document,
    DocumentKind,
    File,
    LabelMap,
    Request,
    Result,
    Segment,
    Segmented,
    Selection,
    Study,
)
from ainode.node.keeping.spool import content_sha256
from ainode.node.reading import pipeline

FRACTIONAL = DocumentKind.SEGMENTATION_FRACTIONAL
BONE = Segment("bone", Code("123037004", "SCT", "Anatomical Structure"), Code("272673000", "SCT", "Bone"))


class Marking:
    """Answers every study with one result."""

    def __init__(self, result: Result) -> None:
        self._result = result

    def select(self, study: Study) -> Selection:
        return Selection(study.study_instance_uid, study.series)

    def read(self, _: Selection) -> Result:
        return self._result

    def weights(self) -> tuple[str, ...]:
        return ()


def read(paths: list[Path], *, outlines: bool, kinds: tuple[DocumentKind, ...]) -> tuple[str, tuple[Document, ...]]:
    """Return what the report says of a segmentation, '' if nothing, and the documents."""
    result, _ = looked({path: a_map(number) for number, path in enumerate(paths)})
    if outlines:
        plane = bytes([1]) * (SIDE * SIDE)
        maps = tuple(LabelMap(ref, SIDE, SIDE, plane) for ref in result.evidence)
        captures = tuple(replace(capture, saliency=None) for capture in result.captures)
        result = replace(result, captures=captures, segmented=Segmented("BONE", (BONE,), maps))
    files = tuple(File(path, content_sha256(path)) for path in paths)
    context = replace(CONTEXT, optional=kinds)
    reading = pipeline.read(Request(result.study_instance_uid, files, context), Marking(result))
    assert isinstance(reading.answer, Result)
    return dict(reading.answer.algorithm.parameters).get("segmentation object", ""), reading.documents


@pytest.mark.parametrize("outlines", [True, False], ids=["outlines", "saliency"])
def test_the_report_of_a_ct_without_frame_of_reference_says_why_no_segmentation_comes(
    tmp_path: Path, *, outlines: bool
) -> None:
    paths = slices(tmp_path / "study", 3)
    said, documents = read(paths, outlines=outlines, kinds=(FRACTIONAL,))
    assert said == ""
    assert FRACTIONAL in {document.kind for document in documents}
    for path in paths:
        image = dcmread(path)
        del image.FrameOfReferenceUID
        image.save_as(path)
    said, documents = read(paths, outlines=outlines, kinds=(FRACTIONAL,))
    assert said == "none, for the images have no Frame of Reference UID"
    assert FRACTIONAL not in {document.kind for document in documents}
    (report,) = (document for document in documents if document.kind is DocumentKind.STRUCTURED_REPORT)
    assert said.encode() in report.content


def test_images_without_a_place_are_counted_and_the_report_is_the_same_whoever_asks(tmp_path: Path) -> None:
    paths = slices(tmp_path / "study", 3)
    image = dcmread(paths[1])
    del image.ImagePositionPatient
    image.save_as(paths[1])
    for kinds in ((), (FRACTIONAL,)):
        for outlines in (True, False):
            said, _ = read(paths, outlines=outlines, kinds=kinds)
            assert said == "none, for 1 of 3 images have no place in the patient"


@pytest.mark.parametrize(
    ("outlines", "words"), [(True, "none, for the images have no place in the patient"), (False, "")]
)
def test_of_a_radiograph_an_outline_is_told_and_saliency_is_not(tmp_path: Path, words: str, *, outlines: bool) -> None:
    said, _ = read([source(tmp_path)], outlines=outlines, kinds=(FRACTIONAL,))
    assert said == words
