"""The series of the documents: a number of their own, and a description that keeps version and warning."""

from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest
from conformance.made import ALGORITHM, CONTEXT, EVERYTHING, a_result, source, sources_of
from conformance.test_segmentations import LABELMAP, a_map, looked, slices
from pydicom import Dataset, dcmread
from support import instance_ref, judges
from support.judges import module_errors

from ainode.node import reports
from ainode.node.domain import Document, DocumentContext, OutOfScope, Result

INT32 = 2**31 - 1


def headers_of(documents: tuple[Document, ...]) -> list[Dataset]:
    return [dcmread(BytesIO(document.content), stop_before_pixels=True) for document in documents]


def made(path: Path, *, result: Result | None = None, context: DocumentContext = EVERYTHING) -> list[Dataset]:
    return headers_of(reports.documents(result or a_result(path, boxes=1), sources_of(path), context))


def numbers(headers: list[Dataset]) -> dict[str, int]:
    """Return the Series Number of each series."""
    return {header.SeriesInstanceUID: int(header.SeriesNumber) for header in headers}


def test_series_of_every_kind_model_and_supersession_have_a_number_of_their_own(tmp_path: Path) -> None:
    path = source(tmp_path)
    successor = replace(EVERYTHING, predecessors=(instance_ref(path),))
    route = replace(EVERYTHING, configuration_hash="another route")
    algorithms = [replace(ALGORITHM, name=f"model {number}") for number in range(3)]
    by_series: dict[str, int] = {}
    for context in (EVERYTHING, successor, route):
        for algorithm in algorithms:
            result = a_result(path, boxes=1, algorithm=algorithm)
            by_series |= numbers(made(path, result=result, context=context))
        reasons = (OutOfScope(words, "no-spine", (instance_ref(path),)) for words in ("no spine", "no spine at all"))
        for reason in reasons:
            by_series |= numbers(headers_of(reports.documents_out_of_scope(reason, sources_of(path), context)))
    assert len(by_series) == 3 * (3 * 3 + 2)
    assert len(set(by_series.values())) == len(by_series)
    assert all(0 < number <= INT32 for number in by_series.values())


def test_a_fractional_segmentation_and_a_label_map_do_not_share_a_number(tmp_path: Path) -> None:
    paths = slices(tmp_path / "study", 2)
    context = replace(EVERYTHING, optional=(*EVERYTHING.optional, LABELMAP))
    headers = headers_of(reports.documents(*looked({path: a_map(0) for path in paths}), context))
    assert len(set(numbers(headers).values())) == len(numbers(headers)) == 4


def test_the_numbers_of_a_reading_end_alike_and_begin_with_the_kind(tmp_path: Path) -> None:
    endings = {number % 10**7 for number in numbers(made(source(tmp_path))).values()}
    beginnings = {header.Modality: int(header.SeriesNumber) // 10**7 for header in made(source(tmp_path))}
    assert len(endings) == 1
    assert beginnings == {"SR": 90, "OT": 91, "PR": 92}


def test_a_number_of_the_source_is_never_taken_and_no_uid_changes_for_that(tmp_path: Path) -> None:
    path = source(tmp_path)
    free = made(path)
    taken = frozenset(numbers(free).values())
    for _ in range(3):
        others = made(path, context=replace(EVERYTHING, source_series_numbers=taken))
        assert taken.isdisjoint(numbers(others).values())
        assert [other.SOPInstanceUID for other in others] == [header.SOPInstanceUID for header in free]
        taken |= frozenset(numbers(others).values())


APART = {
    "the left and the right hand": ({"ImageLaterality": "L"}, {"ImageLaterality": "R"}, 2),
    "two time zones": ({"TimezoneOffsetFromUTC": "+0100"}, {"TimezoneOffsetFromUTC": "+0200"}, 2),
    "a time zone and none": ({"TimezoneOffsetFromUTC": "+0100"}, {}, 2),
    "two times after the clock of the node": ({"ContentTime": "070000"}, {"ContentTime": "070130"}, 1),
    "two accession numbers": ({"AccessionNumber": "1"}, {"AccessionNumber": "2"}, 2),
}


@pytest.mark.parametrize(("left", "right", "series"), APART.values(), ids=APART)
def test_no_series_of_captures_contradicts_itself(
    left: dict[str, str], right: dict[str, str], series: int, tmp_path: Path
) -> None:
    paths = []
    for number, elements in enumerate((left, right)):
        (folder := tmp_path / str(number)).mkdir()
        common = {"StudyInstanceUID": "2.25.1", "BodyPartExamined": "HAND", "ContentDate": "20260304"}
        paths.append(source(folder, **common, **elements))
    first, second = (a_result(path, boxes=1) for path in paths)
    captures, evidence = first.captures + second.captures, first.evidence + second.evidence
    findings = first.findings + second.findings
    both = replace(first, captures=captures, evidence=evidence, findings=findings, key_images=evidence)
    documents = [document for document in reports.documents(both, sources_of(*paths), CONTEXT) if document.kind == "sc"]
    written = [tmp_path / f"{document.ref.sop_instance_uid}.dcm" for document in documents]
    for path, document in zip(written, documents, strict=True):
        path.write_bytes(document.content)
    by_series: dict[str, list[Path]] = {}
    for path, document in zip(written, documents, strict=True):
        by_series.setdefault(document.ref.series_instance_uid, []).append(path)
    assert len(by_series) == series
    assert len(documents) == 3
    for of_series in by_series.values():
        headers = [dcmread(path, stop_before_pixels=True) for path in of_series]
        assert judges.set_errors(of_series, []) == []
        assert len({(str(header.get("TimezoneOffsetFromUTC")), header.SeriesTime) for header in headers}) == 1


def test_a_presentation_state_is_of_one_side_of_the_patient(tmp_path: Path) -> None:
    paths = []
    for number, side in enumerate("LR"):
        (folder := tmp_path / side).mkdir()
        common = {"StudyInstanceUID": "2.25.1", "SeriesInstanceUID": "2.25.2", "BodyPartExamined": "HAND"}
        paths.append(source(folder, SOPInstanceUID=f"2.25.3{number}", ImageLaterality=side, **common))
    first, second = (a_result(path, boxes=1) for path in paths)
    evidence = first.evidence + second.evidence
    both = replace(first, findings=first.findings + second.findings, captures=(), evidence=evidence)
    headers = headers_of(reports.documents(both, sources_of(*paths), EVERYTHING))
    assert [header.Laterality for header in headers if header.Modality == "PR"] == ["L", "R"]


@pytest.mark.parametrize(
    ("title", "version"),
    [
        ("Quantitative vertebral compression fracture triage of radiographs", "1.0.0"),
        ("Wirbelsäule in zwei Ebenen, Höhenminderung der Wirbelkörper und Größe", "1.0.0"),
        ("T" * 200, "2026.11.28+build.0123456789abcdef0123456789abcdef0123456789abcdef"),
        ("Spine\\Hip\r\nradiograph", "1.0"),
        ("", "1.0"),
    ],
    ids=["65 characters", "umlauts", "long version", "not of an LO", "empty"],
)
def test_a_description_keeps_version_and_warning_whatever_the_title(title: str, version: str, tmp_path: Path) -> None:
    path = source(tmp_path)
    algorithm = replace(ALGORITHM, version=version)
    result = replace(a_result(path, boxes=1, algorithm=algorithm), title=title)
    documents = reports.documents(result, sources_of(path), EVERYTHING)
    (tmp_path / "document.dcm").write_bytes(documents[-1].content)
    assert module_errors(tmp_path / "document.dcm") == []
    for header in headers_of(documents):
        description = header.SeriesDescription
        assert isinstance(description, str)
        assert description.startswith("AI")
        assert description.endswith(" (RUO)")
        assert f" {version[:20]}" in description
        assert len(description) <= 64


def test_a_short_title_is_not_changed(tmp_path: Path) -> None:
    assert {header.SeriesDescription for header in made(source(tmp_path))} == {"AI Spine radiograph 1.0.0 (RUO)"}


def test_a_long_name_of_a_model_leaves_room_for_its_version(tmp_path: Path) -> None:
    path = source(tmp_path)
    algorithm = replace(ALGORITHM, name="vertebral_compression_fractures_of_lateral_radiographs_of_the_spine")
    for header in made(path, result=a_result(path, boxes=1, algorithm=algorithm)):
        assert [version[-6:] for version in header.SoftwareVersions[1:2]] == [" 1.0.0"]
        assert all(len(version) <= 64 for version in header.SoftwareVersions)


def test_every_document_of_two_versions_names_the_version_that_answered(tmp_path: Path) -> None:
    """A shadow route beside a live one: what either wrote is told apart by every document alone."""
    path = source(tmp_path)
    for version in ("2.4.0", "2.5.0"):
        result = a_result(path, boxes=1, algorithm=replace(ALGORITHM, version=version))
        documents = reports.documents(result, sources_of(path), EVERYTHING)
        for header in headers_of(documents):
            assert header.SoftwareVersions[1] == f"spine_radiograph {version}"
            assert f" {version} (RUO)" in header.SeriesDescription
        report = str(dcmread(BytesIO(documents[-1].content)).ContentSequence)
        assert f"'{version}'" in report
        assert f"spine_radiograph {version}" in reports.report_text(result)
        assert f'"version": "{version}"' in reports.result_json(result, EVERYTHING)


@pytest.mark.parametrize(("stated", "expected"), [("YES", "YES"), ("NO", "NO"), (None, None), ("", None), ("N", None)])
def test_a_capture_says_of_recognizable_features_what_its_source_says(
    stated: str | None, expected: str | None, tmp_path: Path
) -> None:
    path = source(tmp_path)
    image = dcmread(path)
    if stated is not None:
        image.RecognizableVisualFeatures = stated
    image.save_as(path)
    capture = made(path, context=CONTEXT)[0]
    assert capture.get("RecognizableVisualFeatures") == expected
