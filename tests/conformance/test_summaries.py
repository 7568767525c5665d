"""The summary of a result: one picture, first in the series of captures, with the verdicts and the captures."""

from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from conformance.made import CONTEXT, a_finding, a_result, source, sources_of
from pydicom import Dataset, dcmread
from support import instance_ref
from support.judges import module_errors, set_errors

from ainode.node import reports
from ainode.node.domain import Result, Verdict
from ainode.node.reports.summary import MAX_PICTURES, shown_captures, summary_picture
from ainode.node.reports.words import VERDICT_COLORS

STUDY = "2.25.77"


def a_study(folder: Path, count: int, *probabilities: float, **header: object) -> tuple[Result, list[Path]]:
    """Return a result with a capture and a finding of each of `count` images; a probability is held against 0.5."""
    paths = []
    for number in range(count):
        (folder / str(number)).mkdir()
        paths.append(source(folder / str(number), StudyInstanceUID=STUDY, **header))
    images = [instance_ref(path) for path in paths]
    chances = probabilities or (0.9,) * count
    findings = tuple(
        replace(a_finding(number, image), tracking_identifier=f"image {number}", verdict=Verdict.of(chance, 0.5))
        for number, (image, chance) in enumerate(zip(images, chances, strict=True), start=1)
    )
    (capture,) = a_result(paths[0]).captures
    captures = tuple(
        replace(capture, image=finding.evidence[0], findings=(), subject=finding, title=finding.tracking_identifier)
        for finding in findings
    )
    result = replace(a_result(paths[0]), findings=findings, captures=captures)
    return replace(result, evidence=tuple(images), key_images=tuple(images)), paths


def captures_of(result: Result, paths: list[Path]) -> list[Dataset]:
    documents = reports.documents(result, sources_of(*paths), CONTEXT)
    return [dcmread(BytesIO(document.content)) for document in documents[:-1]]


def test_two_captures_have_a_summary_that_a_viewer_shows_first(tmp_path: Path) -> None:
    summary, *captures = captures_of(*a_study(tmp_path, 2))
    assert [data_set.InstanceNumber for data_set in (summary, *captures)] == [1, 2, 3]
    assert len({data_set.SeriesInstanceUID for data_set in (summary, *captures)}) == 1
    assert "Summary" in summary.DerivationDescription


def test_a_lone_capture_is_the_summary_of_itself(tmp_path: Path) -> None:
    (capture,) = captures_of(*a_study(tmp_path, 1))
    assert (capture.InstanceNumber, capture.get("DerivationDescription", "").startswith("Source image")) == (1, True)


def test_a_summary_names_the_images_that_it_shows_and_has_no_place_of_its_own(tmp_path: Path) -> None:
    result, paths = a_study(tmp_path, 3)
    summary = captures_of(result, paths)[0]
    shown = [item.ReferencedSOPInstanceUID for item in summary.SourceImageSequence]
    assert shown == [ref.sop_instance_uid for ref in result.evidence]
    assert {item.SpatialLocationsPreserved for item in summary.SourceImageSequence} == {"NO"}
    listed = [item.ReferencedSOPInstanceUID for each in summary.ReferencedSeriesSequence for item in each[0x0008114A]]
    assert listed == shown
    assert not {"PixelSpacing", "ImagePositionPatient", "FrameOfReferenceUID"} & set(summary.dir())


def test_the_judges_find_no_error_in_a_summary(tmp_path: Path) -> None:
    result, paths = a_study(tmp_path, 2, PixelSpacing=[0.2, 0.2])
    written = []
    for number, document in enumerate(reports.documents(result, sources_of(*paths), CONTEXT)):
        written.append(tmp_path / f"{number}.dcm")
        written[-1].write_bytes(document.content)
    assert module_errors(written[0]) == []
    assert set_errors(written, paths) == []


def test_a_rerun_repeats_the_bytes_of_the_summary(tmp_path: Path) -> None:
    result, paths = a_study(tmp_path, 2)
    first, second = (reports.documents(result, sources_of(*paths), CONTEXT)[0] for _ in range(2))
    assert first == second


@pytest.mark.parametrize(("features", "stated"), [(("YES", "NO"), "YES"), (("NO", "NO"), "NO"), (("NO", ""), None)])
def test_a_summary_shows_a_face_where_a_picture_in_it_does(
    features: tuple[str, str], stated: str | None, tmp_path: Path
) -> None:
    result, paths = a_study(tmp_path, 2)
    for path, feature in zip(paths, features, strict=True):
        data_set = dcmread(path)
        data_set.RecognizableVisualFeatures = feature
        data_set.save_as(path)
    assert captures_of(result, paths)[0].get("RecognizableVisualFeatures") == stated


def test_of_many_captures_the_summary_shows_those_of_the_strongest_verdicts(tmp_path: Path) -> None:
    result, _ = a_study(tmp_path, 8, 0.1, 0.9, 0.1, 0.9, 0.1, 0.1, 0.1, 0.9)
    shown = shown_captures(result.captures)
    assert shown == (0, 1, 2, 3, 4, 7)
    assert len(shown) == MAX_PICTURES


def test_a_summary_says_every_verdict_in_its_color(tmp_path: Path) -> None:
    result, paths = a_study(tmp_path, 2, 0.9, 0.1)
    pixels = captures_of(result, paths)[0].pixel_array
    for verdict in (finding.verdict for finding in result.findings):
        assert verdict
        assert (pixels == VERDICT_COLORS[verdict.presence]).all(axis=-1).sum() > 100


def test_each_further_verdict_makes_a_summary_higher(tmp_path: Path) -> None:
    result, _ = a_study(tmp_path, 2)
    picture = np.zeros((300, 300, 3), np.uint8)
    pictures = [(number, capture, picture) for number, capture in enumerate(result.captures, start=2)]
    both, first = (
        summary_picture(answer, pictures, date="2026-01-01")
        for answer in (result, replace(result, findings=result.findings[:1]))
    )
    assert both.shape[0] - first.shape[0] > 40
