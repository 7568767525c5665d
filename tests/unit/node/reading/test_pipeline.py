"""The story of one job: which study is older, and what is said of one that is not read."""

import os
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread
from support.handler import Obedient

from ainode.node import testing
from ainode.node.domain import (
    UID,
    DocumentContext,
    DocumentKind,
    File,
    Handler,
    OutOfScope,
    Reading,
    Request,
    Result,
    Selection,
    Study,
)
from ainode.node.encoding import headers
from ainode.node.errors import BrokenSeries
from ainode.node.identity import MODEL_NAME
from ainode.node.keeping.spool import content_sha256
from ainode.node.reading import pipeline
from ainode.node.reading.verification import verified

CONTEXT = DocumentContext(datetime(2026, 1, 1, tzinfo=UTC), UID("2.25.4"), "test", ("ainode 0",), "none")
NOTE = "Earlier studies: PACS has none that fits."


def a_file(folder: Path, study: str, **header: str) -> File:
    (path,) = testing.write([testing.noise(16, 16, seed=0, **header)], folder / study, study=study)
    return File(path, content_sha256(path))


def changed(file: File, elements: dict[str, Any]) -> File:
    dataset = dcmread(file.path)
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    dataset.save_as(file.path)
    return File(file.path, content_sha256(file.path))


def species(code: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code, "SCT", "species"
    return item


class Looking(Obedient):
    """Keeps the study that it was shown."""

    def __init__(self) -> None:
        self.seen: list[Study] = []

    def select(self, study: Study) -> Selection | OutOfScope:
        self.seen.append(study)
        return OutOfScope("seen", "seen")


def test_priors_of_one_day_are_ordered_by_their_time_and_those_of_one_time_always_alike(tmp_path: Path) -> None:
    times = {"late": "170000", "early": "080000.5", "noon": "120000", "also noon": "120000"}
    files = [a_file(tmp_path, study, StudyDate="20250705", StudyTime=time) for study, time in times.items()]
    last_year = a_file(tmp_path, "last year", StudyDate="20240101", StudyTime="230000")
    now = a_file(tmp_path, "now")
    handler = Looking()
    for priors in ((*files, last_year), (last_year, *reversed(files))):
        pipeline.read(Request(UID(testing.uid("now")), (now,), CONTEXT, priors=priors), handler)
    orders = [[prior.study_instance_uid for prior in study.priors] for study in handler.seen]
    noons = sorted(map(testing.uid, ("noon", "also noon")))
    assert orders == [[*map(testing.uid, ("last year", "early")), *noons, testing.uid("late")]] * 2


def test_a_study_that_is_not_read_says_how_its_priors_were_looked_for(tmp_path: Path) -> None:
    file = a_file(tmp_path, "now", SeriesDescription="decline")
    request = Request(UID(testing.uid("now")), (file,), CONTEXT, report_out_of_scope=True, notes=(NOTE,))
    reading = pipeline.read(request, Obedient())
    assert isinstance(reading.answer, OutOfScope)
    assert reading.answer.reason == f"this study asks to be declined. {NOTE}"
    assert NOTE in reading.summary
    (document,) = reading.documents
    assert NOTE.encode() in document.content


class Writing(Obedient):
    """Writes to a file of the study while the study is read, then answers, or fails on the bytes."""

    def __init__(self, change: Callable[[Path], object], *, fails: bool = False) -> None:
        self._change, self._fails = change, fails

    def read(self, selection: Selection) -> Result | OutOfScope:
        self._change(selection.instances[0].path)
        if self._fails:
            raise LookupError
        return super().read(selection)


def one_byte_changed(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last[0] ^ 1]))


def a_request(folder: Path) -> Request:
    path, *_ = testing.write([testing.noise(256, 512, BodyPartExamined="TSPINE")], folder / "now", study="now")
    uid = headers.instance(path, sha256="").ref.sop_instance_uid
    return Request(UID(testing.uid("now")), (File(path, content_sha256(path), uid),), CONTEXT)


def read_verified(request: Request, handler: Handler) -> Reading:
    with verified(request):
        return pipeline.read(request, handler)


@pytest.mark.parametrize(
    ("change", "reason"), [(one_byte_changed, "are not the bytes that were received"), (Path.unlink, "cannot be read")]
)
@pytest.mark.parametrize("fails", [False, True])
def test_bytes_that_change_during_the_reading_give_no_answer_and_are_the_reason(
    tmp_path: Path, change: Callable[[Path], object], reason: str, *, fails: bool
) -> None:
    request = a_request(tmp_path)
    with pytest.raises(BrokenSeries, match=f"instance {request.files[0].sop_instance_uid}.*{reason}.*send the study"):
        read_verified(request, Writing(change, fails=fails))


@pytest.mark.parametrize("change", [one_byte_changed, Path.unlink, lambda path: path.write_bytes(b"")])
@pytest.mark.parametrize("part", ["files", "priors"])
def test_a_file_that_is_not_what_was_received_gives_no_answer(
    tmp_path: Path, change: Callable[[Path], object], part: str
) -> None:
    request = replace(a_request(tmp_path), priors=(a_file(tmp_path, "prior"),))
    (file,) = getattr(request, part)
    name = file.sop_instance_uid or headers.instance(file.path, sha256="").ref.sop_instance_uid
    change(file.path)
    with pytest.raises(BrokenSeries, match=rf"(instance {name}|file {file.path.name})\b"):
        read_verified(request, Obedient())


def test_an_instance_that_comes_once_more_during_the_reading_changes_nothing(tmp_path: Path) -> None:
    def sent_again(path: Path) -> None:
        copy = path.with_suffix(".again")
        copy.write_bytes(path.read_bytes())
        copy.rename(path)

    assert read_verified(a_request(tmp_path), Writing(sent_again)).documents


def test_the_error_of_a_handler_stands_where_the_bytes_are_those_received(tmp_path: Path) -> None:
    with pytest.raises(LookupError):
        read_verified(a_request(tmp_path), Writing(lambda _: None, fails=True))


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ({"QualityControlImage": "YES"}, "Quality Control Image (0028,0300) is YES"),
        ({"QualityControlImage": "BOTH"}, "Quality Control Image (0028,0300) is BOTH"),
        (
            {"PatientSpeciesDescription": "Canis lupus familiaris"},
            "Patient Species Description (0010,2201) names no human",
        ),
        (
            {"PatientSpeciesCodeSequence": [species("448771007")]},
            "Patient Species Code Sequence (0010,2202) names no human",
        ),
    ],
)
def test_no_handler_reads_a_phantom_or_an_animal(tmp_path: Path, header: dict[str, Any], words: str) -> None:
    file = changed(a_file(tmp_path, "now"), header)
    answer = pipeline.read(Request(UID(testing.uid("now")), (file,), CONTEXT), Obedient()).answer
    assert isinstance(answer, OutOfScope)
    assert words in answer.reason
    assert "Canis" not in answer.reason


@pytest.mark.parametrize(
    "header",
    [
        {"QualityControlImage": "NO", "PatientSpeciesDescription": ""},
        {"PatientSpeciesDescription": "Homo sapiens"},
        {"PatientSpeciesDescription": "Human, adult"},
        {"PatientSpeciesDescription": "person", "PatientSpeciesCodeSequence": [species("337915000")]},
    ],
)
def test_a_human_who_is_named_as_one_is_read(tmp_path: Path, header: dict[str, Any]) -> None:
    request = a_request(tmp_path)
    file = changed(request.files[0], header)
    assert isinstance(pipeline.read(replace(request, files=(file,)), Obedient()).answer, Result)


@pytest.mark.parametrize(("announced", "note"), [(80, "1 of 80 by Images in Acquisition"), (1, ""), (0, "")])
def test_a_report_says_that_images_of_an_acquisition_may_be_missing(tmp_path: Path, announced: int, note: str) -> None:
    request = a_request(tmp_path)
    file = changed(request.files[0], {"ImagesInAcquisition": announced})
    reading = pipeline.read(replace(request, files=(file,)), Obedient())
    assert isinstance(reading.answer, Result)
    notes = [text for name, text in reading.answer.algorithm.parameters if name == "images"]
    assert bool(notes) == bool(note)
    assert all(note in text for text in notes)
    report = next(item for item in reading.documents if item.kind is DocumentKind.STRUCTURED_REPORT)
    assert (b"Images in Acquisition" in report.content) == bool(note)


@pytest.mark.parametrize(
    ("header", "note"),
    [
        ({"BurnedInAnnotation": "YES"}, "Burned In Annotation (0028,0301) is YES"),
        ({"BurnedInAnnotation": "NO"}, ""),
        ({"LossyImageCompression": "01", "LossyImageCompressionRatio": 30}, "with loss, by up to 30 to 1"),
        ({"LossyImageCompression": "01", "LossyImageCompressionRatio": [4, 20]}, "with loss, by up to 20 to 1"),
        ({"LossyImageCompression": "01"}, "by a ratio that no header states"),
        ({"LossyImageCompression": "01", "LossyImageCompressionRatio": 8}, ""),
        ({"LossyImageCompression": "00"}, ""),
        ({"Modality": "CT", "LossyImageCompression": "01", "LossyImageCompressionRatio": 12}, "by up to 12 to 1"),
        ({"Modality": "CT", "MultienergyCTAcquisition": "YES"}, "nothing says of which energies the image is"),
        ({"Modality": "CT", "MultienergyCTAcquisition": "YES", "ImageType": ["DERIVED", "PRIMARY", "VMI 70KEV"]}, ""),
        ({"Modality": "CT", "MultienergyCTAcquisition": "NO"}, ""),
        ({"Modality": "CT", "PatientPosition": "HFP"}, "Patient Position (0018,5100) is prone or on a side"),
        ({"Modality": "CT", "PatientPosition": "FFDL"}, "Patient Position (0018,5100) is prone or on a side"),
        ({"Modality": "CT", "PatientPosition": "FFS"}, ""),
    ],
    ids=str,
)
def test_a_report_says_what_in_the_images_may_change_the_answer(
    tmp_path: Path, header: dict[str, Any], note: str
) -> None:
    request = a_request(tmp_path)
    file = changed(request.files[0], header)
    reading = pipeline.read(replace(request, files=(file,)), Obedient())
    assert isinstance(reading.answer, Result)
    names = ("writing in the image", "compression", "energies", "patient position")
    notes = [text for name, text in reading.answer.algorithm.parameters if name in names]
    assert len(notes) == bool(note)
    assert all(note in text and "(1 of 1 images read)" in text for text in notes)
    report = next(item for item in reading.documents if item.kind is DocumentKind.STRUCTURED_REPORT)
    assert note.encode() in report.content


class Partly(Obedient):
    """Selects the images of the most rows."""

    def select(self, study: Study) -> Selection | OutOfScope:
        (series,) = study.series
        rows = max(instance.text("Rows") for instance in series.instances)
        chosen = tuple(instance for instance in series.instances if instance.text("Rows") == rows)
        return Selection(study.study_instance_uid, (replace(series, instances=chosen),))


@pytest.mark.parametrize(
    ("others", "note"),
    [
        ([], ""),
        ([{"Rows": 128}, {"Rows": 128}], "2 of 5 images of series {uid} are left out: "),
        ([{"Rows": 128, "Modality": "CT", "ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}], ""),
        ([{"Rows": 128, "ManufacturerModelName": MODEL_NAME}], ""),
    ],
    ids=["nothing", "images", "a localizer", "a picture of this node"],
)
def test_a_report_counts_the_images_of_a_series_that_were_left_out(
    tmp_path: Path, others: list[dict[str, Any]], note: str
) -> None:
    images = [testing.noise(256, 512, seed=seed, BodyPartExamined="TSPINE") for seed in range(3)]
    images += [testing.noise(other["Rows"], 512, seed=9 + number) for number, other in enumerate(others)]
    files = [File(path, content_sha256(path)) for path in testing.write(images, tmp_path, study="now")]
    uid = headers.instance(files[0].path, sha256="").ref.series_instance_uid
    for number, other in enumerate(others, start=3):
        files[number] = changed(files[number], {**other, "SeriesInstanceUID": uid})
    reading = pipeline.read(Request(UID(testing.uid("now")), tuple(files), CONTEXT), Partly())
    assert isinstance(reading.answer, Result)
    text = dict(reading.answer.algorithm.parameters).get("left out", "")
    assert text.startswith(note.format(uid=uid))
    assert ("Rows is 256 and 128" in text) is bool(note)
    report = next(item for item in reading.documents if item.kind is DocumentKind.STRUCTURED_REPORT)
    assert (b"are left out" in report.content) is bool(note)


@pytest.mark.parametrize("description", ["read", "decline"])
def test_a_report_and_a_refusal_say_that_names_under_one_patient_id_have_no_word_in_common(
    tmp_path: Path, description: str
) -> None:
    images = [testing.noise(256, 512, seed=seed, SeriesDescription=description) for seed in range(2)]
    paths = testing.write(images, tmp_path, study="now")
    files = [
        changed(File(path, ""), {"PatientID": "ID", "PatientName": name})
        for path, name in zip(paths, ("Alpha^Anna", "Gamma^Berta"), strict=True)
    ]
    request = Request(UID(testing.uid("now")), tuple(files), CONTEXT, report_out_of_scope=True)
    reading = pipeline.read(request, Obedient())
    assert isinstance(reading.answer, Result) is (description == "read")
    report = next(item for item in reading.documents if item.kind is DocumentKind.STRUCTURED_REPORT)
    assert b"Patient's Name (0010,0010) in this study have no word in common" in report.content
    assert "Gamma" not in reading.summary
