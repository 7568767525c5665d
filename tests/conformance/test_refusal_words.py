"""A refusal names a series as people do; its UID stands where programs look."""

import json
from dataclasses import replace
from pathlib import Path

from conformance.made import CONTEXT
from conformance.test_messages import address
from conformance.test_segmentations import slices
from pydicom import dcmread

from ainode.node import reports
from ainode.node.domain import DocumentKind, File, OutOfScope, Request, Selection, Study
from ainode.node.encoding import headers
from ainode.node.imaging.naming import with_names
from ainode.node.keeping.spool import content_sha256
from ainode.node.reading import pipeline
from ainode.node.reports.answers import answer_of

REASON = "series {}: its slices are 7.0 mm apart, as of instance {}; at most 5.5 mm are read"
WORDS = (
    "series 4 (CT, 3 images): its slices are 7.0 mm apart, as of instance number 12 in series 4 (CT, 3 images); at "
    "most 5.5 mm are read"
)


class Refusing:
    """Refuses every study by the UID of its series and of its first image."""

    def select(self, study: Study) -> OutOfScope:
        (series,) = study.series
        image = series.instances[0].ref.sop_instance_uid
        return OutOfScope(REASON.format(series.series_instance_uid, image), "too-coarse")

    def read(self, _: Selection) -> OutOfScope:
        raise NotImplementedError

    def weights(self) -> tuple[str, ...]:
        return ()


def numbered(folder: Path) -> list[Path]:
    """Write three slices of series 4, numbered from 12, whose description names a person."""
    paths = slices(folder, 3)
    for number, path in enumerate(paths, start=12):
        image = dcmread(path)
        image.SeriesNumber, image.InstanceNumber, image.SeriesDescription = 4, number, "chest of Mustermann"
        image.save_as(path)
    return paths


def test_report_message_and_text_of_a_refusal_name_the_series_by_its_number(tmp_path: Path) -> None:
    paths = numbered(tmp_path)
    files = tuple(File(path, content_sha256(path)) for path in paths)
    uid = headers.instance(paths[0], sha256="").ref.study_instance_uid
    request = Request(uid, files, replace(CONTEXT, messages=(address(),)), report_out_of_scope=True)
    reading = pipeline.read(request, Refusing())
    assert isinstance(reading.answer, OutOfScope)
    series = str(dcmread(paths[0]).SeriesInstanceUID)
    assert reading.answer.reason.startswith(f"series {series}: ")
    assert reading.answer.told == WORDS
    kept = json.loads(reading.summary)["out_of_scope"]
    assert (kept["reason"], kept["words"]) == (reading.answer.reason, WORDS)
    assert f"Reason: {WORDS}" in reports.report_text(answer_of(reading.summary))
    documents = {document.kind: document.content for document in reading.documents}
    assert set(documents) == {DocumentKind.STRUCTURED_REPORT, DocumentKind.MESSAGE}
    assert f"Not analyzed: {WORDS}".encode() in documents[DocumentKind.STRUCTURED_REPORT]
    assert f"||{WORDS}||".encode() in documents[DocumentKind.MESSAGE]
    assert f"series {series}".encode() not in b"".join(documents.values())
    evidence = headers.instance(paths[0], sha256="").ref.sop_instance_uid.encode()
    assert evidence in documents[DocumentKind.STRUCTURED_REPORT]


def test_a_uid_of_another_study_stays_and_a_series_without_a_number_has_its_place(tmp_path: Path) -> None:
    paths = numbered(tmp_path)
    for path in paths:
        image = dcmread(path)
        del image.SeriesNumber
        image.save_as(path)
    study = headers.study([headers.instance(path, sha256="") for path in paths])
    (series,) = study.series
    text = f"series {series.series_instance_uid} and series 1.2.840.99999.1, in /data/1.2.3.4/file"
    assert with_names(text, study) == "series 1 of 1 (CT, 3 images) and series 1.2.840.99999.1, in /data/1.2.3.4/file"
