"""Dates and times of documents: on the clock of the source, of the configured zone, or of the process."""

from dataclasses import replace
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import pytest
from conformance.made import ALGORITHM, CONTEXT, EVERYTHING, a_result, source, sources_of
from pydicom import Dataset, dcmread
from support.judges import module_errors

from ainode.node import reports
from ainode.node.diagnosis.checks import check_lines
from ainode.node.domain import DocumentContext
from ainode.node.identity import configuration_hash, document_context
from ainode.node.routes import Route
from ainode.node.settings import NodeTable, Settings

ROUTE = Route("spine", "spine_radiograph")
RECEIVED = datetime(2026, 7, 1, 22, 31, tzinfo=UTC)
AFTER_MIDNIGHT = {"StudyDate": "20260702", "StudyTime": "003000", "SeriesDate": None, "ContentDate": None}


def in_zone(name: str, *, received: datetime = RECEIVED) -> DocumentContext:
    context = document_context(Settings(node=NodeTable(time_zone=name)), ROUTE, host="here", created=received)
    return replace(context, optional=EVERYTHING.optional)


def made(path: Path, context: DocumentContext) -> list[Dataset]:
    documents = reports.documents(a_result(path, boxes=1, algorithm=ALGORITHM), sources_of(path), context)
    for number, document in enumerate(documents):
        path.with_name(f"{number}.dcm").write_bytes(document.content)
        assert module_errors(path.with_name(f"{number}.dcm")) == []
    return [dcmread(BytesIO(document.content)) for document in documents]


def a_source(folder: Path, **elements: str | None) -> Path:
    image = dcmread(source(folder))
    for keyword, value in {**AFTER_MIDNIGHT, **elements}.items():
        image.pop(keyword, None)
        if value is not None:
            setattr(image, keyword, value)
    image.save_as(folder / "source.dcm")
    return folder / "source.dcm"


def clock(document: Dataset) -> tuple[str, str, str | None]:
    return document.SeriesDate, document.SeriesTime, document.get("TimezoneOffsetFromUTC")


def test_a_configured_zone_is_the_clock_and_its_offset_is_stated(tmp_path: Path) -> None:
    documents = made(a_source(tmp_path), in_zone("Europe/Berlin"))
    assert {clock(document) for document in documents} == {("20260702", "003100", "+0200")}
    assert {document.InstanceCreationTime for document in documents} == {"003100"}


def test_the_offset_of_the_source_wins_over_the_configured_zone(tmp_path: Path) -> None:
    documents = made(a_source(tmp_path, TimezoneOffsetFromUTC="-0500"), in_zone("Europe/Berlin"))
    assert {clock(document) for document in documents} == {("20260701", "173100", "-0500")}


@pytest.mark.parametrize("offset", ["CEST", "", "2", "+99"])
def test_an_offset_that_is_none_is_not_repeated(offset: str, tmp_path: Path) -> None:
    documents = made(a_source(tmp_path, TimezoneOffsetFromUTC=offset), in_zone("Europe/Berlin"))
    assert {clock(document)[2] for document in documents} == {"+0200"}


def test_an_offset_with_a_colon_is_written_as_the_standard_writes_it(tmp_path: Path) -> None:
    documents = made(a_source(tmp_path, TimezoneOffsetFromUTC="+02:00"), in_zone(""))
    assert {clock(document)[2] for document in documents} == {"+0200"}


def test_the_offset_is_that_of_the_study_whose_times_the_document_repeats(tmp_path: Path) -> None:
    winter = in_zone("Europe/Berlin", received=datetime(2026, 12, 1, 12, tzinfo=UTC))
    assert {clock(document) for document in made(a_source(tmp_path), winter)} == {("20261201", "140000", "+0200")}


def test_no_report_of_a_container_in_utc_is_dated_before_its_study(tmp_path: Path) -> None:
    context = replace(in_zone(""), created=RECEIVED)
    documents = made(a_source(tmp_path), context)
    assert {clock(document) for document in documents} == {("20260702", "003000", None)}
    assert not any("+" in str(document.ContributingEquipmentSequence[-1]) for document in documents)


@pytest.mark.parametrize(
    ("elements", "time"),
    [
        ({"StudyTime": ""}, "000000"),
        ({"StudyDate": "20260701", "AcquisitionDate": "20260702", "AcquisitionTime": "004500"}, "004500"),
    ],
    ids=["a study without a time", "an acquisition after midnight"],
)
def test_no_report_is_dated_before_a_day_that_its_image_states(
    elements: dict[str, str], time: str, tmp_path: Path
) -> None:
    documents = made(a_source(tmp_path, **elements), replace(CONTEXT, created=RECEIVED))
    assert {clock(document) for document in documents} == {("20260702", time, None)}


def test_a_study_dated_days_ahead_does_not_date_its_report(tmp_path: Path) -> None:
    documents = made(a_source(tmp_path, StudyDate="20990101"), replace(in_zone(""), created=RECEIVED))
    assert {clock(document) for document in documents} == {("20260701", "223100", None)}


def test_a_configured_zone_names_other_documents_and_none_changes_no_name() -> None:
    plain, berlin = (
        configuration_hash(Settings(node=NodeTable(time_zone=name)), ROUTE) for name in ("", "Europe/Berlin")
    )
    assert plain == configuration_hash(Settings(), ROUTE) != berlin


@pytest.mark.parametrize("name", ["Berlin", "Europe", "../etc/passwd", "+02:00", "CEST"])
def test_a_zone_that_is_none_is_refused_with_an_example(name: str) -> None:
    with pytest.raises(ValueError, match="Europe/Berlin"):
        NodeTable(time_zone=name)


def test_check_prints_the_clock_of_documents(tmp_path: Path) -> None:
    def line(name: str) -> str:
        node = NodeTable(data=tmp_path, time_zone=name)
        return next(
            remedy for part, state, remedy in check_lines(Settings(node=node)) if (part, state) == ("clock", "ready")
        )

    assert "+0545 of Asia/Kathmandu" in line("Asia/Kathmandu")
    assert "no offset" in line("")
    assert "[node] time_zone" in line("")
