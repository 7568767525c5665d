"""What `ainode read` leaves in its folder."""

from dataclasses import replace
from pathlib import Path

import pytest
from conformance.made import ALGORITHM, CONTEXT, a_result, source, sources_of
from pydicom.errors import InvalidDicomError
from support.bodies import abdomen, chest, study

from ainode.node import reports, settings
from ainode.node.domain import Reading
from ainode.node.identity import message_address
from ainode.node.offline import readings as offline
from ainode.node.offline.explanation_lines import explanation
from ainode.node.settings import Peer


def test_what_programs_read_is_kept_where_the_printed_report_cannot_be_made(tmp_path: Path) -> None:
    path = source(tmp_path)
    result = a_result(path)
    capture, _ = reports.documents(result, sources_of(path), CONTEXT)
    reading = Reading(result, (replace(capture, content=b"no DICOM"),), reports.result_json(result, CONTEXT), 0.0)
    with pytest.raises(InvalidDicomError):
        offline.save(reading, tmp_path / "out")
    assert {one.name for one in (tmp_path / "out").iterdir()} == {"sc-1.dcm", "result.json", "report.txt"}


def test_a_reading_leaves_no_document_of_the_reading_before_it_in_the_folder(tmp_path: Path) -> None:
    path = source(tmp_path)
    result = a_result(path)
    documents = reports.documents(result, sources_of(path), CONTEXT)
    reading = Reading(result, documents, reports.result_json(result, CONTEXT), 0.0)
    folder = tmp_path / "out"
    offline.save(replace(reading, documents=(*documents, *documents)), folder)
    for name in ("own-1.dcm", "sc-final.dcm"):
        (folder / name).touch()
    offline.save(reading, folder)
    assert {file.name for file in folder.glob("*.dcm")} == {"sc-1.dcm", "sr-1.dcm", "own-1.dcm", "sc-final.dcm"}


def test_a_message_for_a_listener_is_a_file_of_its_own_and_goes_with_its_reading(tmp_path: Path) -> None:
    path = source(tmp_path)
    result = a_result(path)
    address = message_address(Peer(name="his", host="h", port=1, deliver="hl7"))
    plain, listened = (
        Reading(result, reports.documents(result, sources_of(path), context), reports.result_json(result, context), 0.0)
        for context in (CONTEXT, replace(CONTEXT, messages=(address,)))
    )
    folder = tmp_path / "out"
    offline.save(listened, folder)
    assert (folder / "message-1.hl7").read_bytes() == listened.documents[-1].content
    assert (folder / "report.pdf").read_bytes() == reports.report_pdf(result, plain.documents)
    offline.save(plain, folder)
    assert not (folder / "message-1.hl7").exists()


def test_the_printed_report_gives_no_digest_of_weights_that_do_not_exist(tmp_path: Path) -> None:
    path = source(tmp_path)
    assert f"(sha256 {ALGORITHM.weights_sha256})" in reports.report_text(a_result(path))
    assert "sha256" not in reports.report_text(a_result(path, algorithm=replace(ALGORITHM, weights_sha256="")))


def test_an_explanation_shows_the_body_part_by_pixels_as_a_condition_of_its_own(tmp_path: Path) -> None:
    study(chest(0), tmp_path / "chest")
    study(abdomen(0), tmp_path / "abdomen")
    lines = {name: explanation(tmp_path / name, settings.load()) for name in ("chest", "abdomen")}
    (condition,) = {line.strip() for line in lines["chest"] if "body part by pixels" in line}
    assert condition.startswith("ok   body part by pixels: chest, lungs in slices ")
    assert "  ct_pneumonia reads it" in lines["chest"]
    assert "    ct-pneumonia: yes, modality CT, body part CHEST, 40 images" in lines["chest"]
    usual = r"nothing made by this node, an image with pixels, no localizer, no DERIVED\SECONDARY picture"
    assert f"      ok   asked of every image: {usual}" in lines["chest"]
    assert not any("ManufacturerModelName" in line for line in lines["chest"])
    assert "      FAIL body part by pixels: no chest, no aerated lung in any of 16 slices" in lines["abdomen"]
    assert any("ct_pneumonia declines" in line and "the header says CHEST" in line for line in lines["abdomen"])
