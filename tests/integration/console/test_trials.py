"""The pages on which a person tries files: what they show, whom they refuse, what is left."""

import html
import io
import json
import re
import socket
import time
import zipfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import requests
from integration.console.conftest import CSRF, Browser, is_open, visit_of
from pydicom import dcmread
from support.files import content_of
from support.waiting import until
from support.web_bench import Bench

from ainode.node import testing
from ainode.node.console.entry.access import Role
from ainode.node.offline.trial_question import Stage
from ainode.node.receiving.events import InstanceStored
from ainode.node.routes import Route

HTML = "<script>alert(1)</script>"


@pytest.fixture(autouse=True)
def nothing_open(bench: Bench) -> Iterator[None]:
    """Discard what a test that failed left."""
    yield
    for person in ("the reader", "the operator"):
        for trial in bench.parts.web.trials.all_of(f"person {person} "):
            bench.parts.web.trials.discard(trial)


def a_form(browser: Browser) -> str:
    """Return the address of a form that is not yet sent."""
    match = re.search(r'action="(/console/trials/[0-9a-f]{32})"', browser.get("/console/trials").text)
    assert match
    return match[1]


def a_volume() -> bytes:
    file = io.BytesIO()
    space = {
        "space": "left-posterior-superior",
        "space directions": np.diag((1.0, 1.0, 2.0)),
        "space origin": (0, 0, 0),
    }
    pytest.importorskip("nrrd").write(file, np.zeros((8, 9, 5), np.int16), space)
    return file.getvalue()


def radiograph(folder: Path) -> bytes:
    (path,) = testing.write([testing.noise(64, 64, BodyPartExamined="TSPINE")], folder, study="tried")
    dataset = dcmread(path)
    dataset.PatientName, dataset.PatientID = HTML, "<i>1</i>"
    dataset.save_as(path)
    return path.read_bytes()


def sent(browser: Browser, content: bytes, name: str = "spine.dcm", **fields: str) -> str:
    """Send a form, and return the address of the trial at its end."""
    address = a_form(browser)
    answer = browser.post(address, {"look": "1", **fields}, files={"files": (name, content)})
    assert (answer.status_code, answer.headers["Location"]) == (303, address)
    ended(browser, address)
    return address


def ended(browser: Browser, address: str) -> str:
    """Return the page of a trial at its end."""
    until(lambda: "HX-Redirect" in browser.get(f"{address}/progress?page=trial").headers)
    return browser.get(address).text


def left(bench: Bench) -> list[Path]:
    try:
        return content_of(bench.folder / "trials")
    except FileNotFoundError:  # removed meanwhile
        return left(bench)


def test_a_file_is_shown_and_leaves_nothing_once_it_is_discarded(bench: Bench, reader: Browser, tmp_path: Path) -> None:
    address = sent(reader, radiograph(tmp_path))
    page = reader.get(address).text
    assert "The files are not read yet" in page
    assert address in reader.get("/console/trials").text
    answer = reader.post(f"{address}/discard")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/console/trials")
    assert reader.get(address).status_code == 404
    assert left(bench) == []


def test_html_in_a_name_of_a_patient_or_of_a_file_stands_as_text(reader: Browser, tmp_path: Path) -> None:
    address = sent(reader, radiograph(tmp_path), name="a<img src=x onerror=alert(1)>")
    for page in (reader.get(address).text, reader.get("/console/trials").text):
        assert "<img" not in page
        assert HTML not in page
    assert "a&lt;img src=x onerror=alert(1)&gt;" in reader.get("/console/trials").text
    reader.post(f"{address}/discard")


def test_a_file_that_is_no_image_is_named_with_its_reason(bench: Bench, reader: Browser) -> None:
    address = sent(reader, b"a text that is no image at all", name="scan.dcm")
    page = reader.get(address).text
    assert "not read: scan.dcm: it is a text; give the images themselves" in page
    assert left(bench) == []
    reader.post(f"{address}/discard")


def test_a_decimal_comma_is_a_number_and_a_refused_form_leads_back_to_its_page(
    bench: Bench, reader: Browser, tmp_path: Path
) -> None:
    address = sent(reader, radiograph(tmp_path))
    trial = bench.parts.web.trials.of("person the reader ", address.rpartition("/")[2])
    page = f"http://127.0.0.1:{bench.settings.web.port}{address}"
    refused = reader.post(f"{address}/read", {"x_1": "9a"}, headers={"Referer": page})
    assert refused.status_code == 422
    assert f'<a href="{address}">Back to the page before</a>' in refused.text
    elsewhere = reader.post(f"{address}/read", {"x_1": "9a"}, headers={"Referer": "http://evil.example/console/x"})
    assert "Back to the page before" not in elsewhere.text
    reader.post(f"{address}/read", {"x_1": "97,1", "y_1": "-4", "z_1": "0,25", "look": "1"})
    assert trial.options.points[0] == (97.1, -4.0, 0.25)
    reader.post(f"{address}/discard")


def test_a_file_whose_name_promises_nrrd_and_that_is_none_is_told_so(reader: Browser) -> None:
    address = sent(reader, b"a text", name="Doe.nrrd")
    words = "not read: Doe.nrrd: it is no NRRD file, though its name says so; copy or save it again"
    assert words in reader.get(address).text
    reader.post(f"{address}/discard")


def test_a_position_outside_of_the_images_is_corrected_without_another_upload(bench: Bench, reader: Browser) -> None:
    address = sent(reader, a_volume(), "a.nrrd", x_1="2", y_1="-4", z_1="6", body_part="CHEST")
    page = reader.get(address).text
    assert "is outside of the images" in page
    assert "--point" not in page
    assert "The files are still here: correct the position below, and read again." in page
    assert re.search(r'name="y_1" value="-4.0"', page), "the typed values stay"
    assert 'value="CHEST"' in page
    assert "/series.json" in page, "the images are there to point at"
    reader.post(f"{address}/read", {"x_1": "2", "y_1": "4", "z_1": "6", "look": "1"})
    assert "The files are not read yet" in ended(reader, address)
    reader.post(f"{address}/discard")
    assert left(bench) == []


def test_a_trial_that_waits_says_for_what(bench: Bench, reader: Browser) -> None:
    trials = bench.parts.web.trials
    trial = trials.open("person the reader ")
    trial.set(stage=Stage.WAITING)
    page = reader.get(f"/console/trials/{trial.identifier}").text
    trials.discard(trial)
    assert "trials are read one after the other, and live studies before them" in page


def test_an_upload_that_is_too_large_is_refused_and_the_form_says_so(bench: Bench, reader: Browser) -> None:
    address = a_form(reader)
    content = io.BytesIO(bytes(1000))
    headers = {"Content-Type": "multipart/form-data; boundary=b", "Content-Length": str(3 << 30), "X-CSRF": CSRF}
    request = reader.session.prepare_request(
        requests.Request("POST", f"http://127.0.0.1:{bench.settings.web.port}{address}", data=content)
    )
    request.headers.update(headers)
    assert reader.session.send(request, timeout=60).status_code == 413
    assert "max_upload_bytes" in reader.get(f"{address}/progress").text
    assert left(bench) == []


def test_the_page_of_the_form_shows_how_much_of_the_upload_arrived(bench: Bench, reader: Browser) -> None:
    address = a_form(reader)
    head = (
        f"POST {address} HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Role: READER\r\nX-CSRF: {CSRF}\r\nContent-Length: 2000000\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\n\r\n"
    )
    part = b'--b\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n'
    with socket.create_connection(("127.0.0.1", bench.settings.web.port), timeout=60) as connection:
        connection.sendall(head.encode() + part + bytes(1_000_000 - len(part)))
        deadline = time.monotonic() + 120
        while "1.0 MB of 2.0 MB" not in (text := reader.get(f"{address}/progress").text):
            assert time.monotonic() < deadline, text
        assert '<progress max="2000000" value="1000000"' in text
    until(lambda: not left(bench))


@pytest.mark.parametrize("fields", [{"model": "os"}, {"x_1": "1"}, {"x_1": "a", "y_1": "b", "z_1": "c"}])
def test_a_form_that_does_not_fit_leaves_nothing(bench: Bench, reader: Browser, fields: dict[str, str]) -> None:
    answer = reader.post(a_form(reader), fields, files={"files": ("a", b"1")})
    assert answer.status_code == 422
    assert left(bench) == []


def test_a_form_without_its_token_is_refused_and_leaves_nothing(bench: Bench, reader: Browser) -> None:
    answer = reader.post(a_form(reader), {"csrf": "guessed"}, files={"files": ("a", b"1")})
    assert answer.status_code == 403
    assert left(bench) == []


def test_a_form_that_was_refused_is_corrected_and_sent_again(
    reader: Browser, operator: Browser, tmp_path: Path
) -> None:
    address, files = a_form(reader), {"files": ("spine.dcm", radiograph(tmp_path))}
    for wrong in ({"x_1": "1"}, {"model": "os"}):
        assert reader.post(address, wrong, files=files).status_code == 422
    assert operator.post(address, {"look": "1"}, files=files).status_code == 429
    assert reader.post(address, {"look": "1"}, files=files).status_code == 303
    ended(reader, address)
    reader.post(f"{address}/discard")


def test_a_form_is_taken_once(reader: Browser, tmp_path: Path) -> None:
    address = sent(reader, radiograph(tmp_path))
    answer = reader.post(address, {"look": "1"}, files={"files": ("a", b"1")})
    assert (answer.status_code, "The form was sent before" in answer.text) == (429, True)
    reader.post(f"{address}/discard")


def test_nobody_sees_what_another_person_tries(reader: Browser, operator: Browser, tmp_path: Path) -> None:
    address = sent(reader, radiograph(tmp_path))
    assert operator.get(address).status_code == 404
    assert operator.post(f"{address}/keep").status_code == 404
    form = a_form(operator)
    unsent = operator.get(f"{form}/progress").text
    assert operator.get(f"{address}/progress").text == unsent.replace(form, address)
    reader.post(f"{address}/discard")


def test_a_viewer_tries_nothing_and_a_reader_keeps_nothing(viewer: Browser, reader: Browser, tmp_path: Path) -> None:
    assert viewer.get("/console/trials").status_code == 403
    assert viewer.post(a_form(reader), files={"files": ("a", b"1")}).status_code == 403
    address = sent(reader, radiograph(tmp_path))
    assert reader.post(f"{address}/keep").status_code == 403
    assert "Keep in the node" not in reader.get(address).text
    reader.post(f"{address}/discard")


def test_a_study_that_an_operator_keeps_comes_into_the_node_as_a_received_study(
    bench: Bench, operator: Browser, tmp_path: Path
) -> None:
    content = radiograph(tmp_path)
    address = sent(operator, content)
    study = testing.uid("tried")
    answer = operator.post(f"{address}/keep")
    assert (answer.status_code, answer.headers["Location"]) == (303, f"/console/studies/{study}")
    (stored,) = (event for event in bench.events if isinstance(event, InstanceStored))
    assert stored.ref.study_instance_uid == study
    assert dcmread(stored.path).PixelData == dcmread(io.BytesIO(content)).PixelData
    assert left(bench) == []
    page = operator.get(address)
    assert (page.status_code, "was kept in the node" in page.text, "it was discarded" in page.text) == (
        200,
        True,
        False,
    )
    assert f'href="/console/studies/{study}"' in page.text
    assert "/discard" not in page.text, "nothing of the trial is left to discard"
    again = operator.post(f"{address}/keep")
    assert (again.status_code, again.headers["Location"]) == (303, f"/console/studies/{study}")
    operator.post(f"{address}/discard")


def test_the_page_says_which_route_would_take_a_kept_study_before_it_is_kept(operator: Browser, tmp_path: Path) -> None:
    address = sent(operator, radiograph(tmp_path))
    assert (
        "Route spine takes it, and its model may still decline it; its documents stay in the node."
        in operator.get(address).text
    )
    operator.post(f"{address}/discard")
    address = sent(operator, a_volume(), "a.nrrd", x_1="2", y_1="4", z_1="6")
    page = operator.get(address).text
    assert "No route takes it, so that nobody reads it:" in page
    assert "route spine takes Modality DX, and this is CT" in page
    assert "The position 2.0, 4.0, 6.0 mm goes with it, for a later reading." in page
    operator.post(f"{address}/discard")


@pytest.fixture
def chest(tmp_path: Path) -> Iterator[Bench]:
    """A node with the route of nodules alone."""
    made = Bench(
        tmp_path, routes=(Route(name="lung-nodule", handler="lung_nodule", modality=("CT",), body_part=("CHEST",)),)
    )
    made.pages.state.visit_of, made.pages.state.is_open = visit_of, is_open
    yield made
    made.web.stop()
    made.parts.stop()
    made.engine.dispose()


def test_a_study_is_kept_with_the_body_part_and_the_positions_of_the_form(chest: Bench) -> None:
    operator = Browser(chest, Role.OPERATOR)
    address = sent(operator, a_volume(), "a.nrrd")
    page = operator.get(address).text
    assert "this is unknown" in page
    assert "Fill in “Body part of files that are not DICOM” above" in page
    assert "No position goes with it." in page
    operator.post(f"{address}/read", {"x_1": "2", "y_1": "4", "z_1": "6", "body_part": "CHEST", "look": "1"})
    page = ended(operator, address)
    assert "Route lung-nodule takes it, and its model may still decline it;" in page
    assert "The position 2.0, 4.0, 6.0 mm goes with it." in page
    operator.post(f"{address}/keep")
    chest.take()
    (job,) = chest.opened
    assert [location.position_mm for location in job.locations] == [(2.0, 4.0, 6.0)]
    assert job.route == "lung-nodule"


def test_a_kept_ct_that_no_route_matched_is_told_what_would_help(chest: Bench) -> None:
    operator = Browser(chest, Role.OPERATOR)
    address = sent(operator, a_volume(), "a.nrrd")
    study = operator.post(f"{address}/keep").headers["Location"]
    chest.take(later=timedelta(minutes=5))
    for page in (study, f"{study}/explanation"):
        text = html.unescape(operator.get(page).text)
        assert "What would let route lung-nodule take it: for a CT, write body_part_from" in text


def test_a_refusal_of_a_trial_names_the_series_by_its_place_modality_and_images(
    bench: Bench, operator: Browser
) -> None:
    study, series = testing.uid("refused"), testing.uid("a series of which slices are missing")
    trial = bench.parts.web.trials.open("person the operator ")
    (trial.folder / "result" / "1").mkdir(parents=True)
    reason = f"series {series}: 3 of 12 slices are missing"
    result = {"out_of_scope": {"reason": reason, "code": "gap"}, "evidence": []}
    (trial.folder / "result" / "1" / "result.json").write_text(json.dumps(result))
    reading = {"study_instance_uid": study, "route": "ct", "handler": "ct", "folder": "result/1", "error": ""}
    reading |= {"answer": reason, "is_refusal": True, "documents": []}
    files = {f"1.2.{number}": f"files/{number}" for number in range(9)}
    other = {"series_instance_uid": "1.9", "modality": "SR", "files": {"1.9.1": "files/report"}}
    held = {"series_instance_uid": series, "modality": "CT", "files": files}
    studies = [{"study_instance_uid": study, "date": 1, "series": [other, held]}]
    content = {"studies": studies, "readings": [reading], "unread": [], "unread_count": 0}
    (trial.folder / "trial.json").write_text(json.dumps(content))
    trial.set(stage=Stage.DONE)
    page = html.unescape(operator.get(f"/console/trials/{trial.identifier}").text)
    assert '<p class="verdict ">series 2 of 2 (CT, 9 images): 3 of 12 slices are missing</p>' in page
    assert f"<code>{series}</code>" in page.partition("Full UID")[2]


def test_the_answer_of_a_trial_is_shown_as_that_of_a_study_without_what_only_a_study_has(
    bench: Bench, operator: Browser
) -> None:
    study, route = testing.uid("answered"), "spine"
    trial = bench.parts.web.trials.open("person the operator ")
    (trial.folder / "result" / "1").mkdir(parents=True)
    result = {
        "verdict": {"presence": "present", "headline": "abnormal: present, 0.98", "statements": []},
        "scores": {"probability": 0.98},
        "algorithm": {"name": "spine", "version": "1", "weights_status": "demonstration", "weights_sha256": "ff" * 32},
    }
    (trial.folder / "result" / "1" / "result.json").write_text(json.dumps(result))
    report = {
        "study_instance_uid": study,
        "series_instance_uid": "1.2",
        "sop_class_uid": "1.3",
        "sop_instance_uid": "1.4",
    }
    reading = {
        "study_instance_uid": study,
        "route": route,
        "handler": route,
        "folder": "result/1",
        "error": "",
        "answer": "abnormal: present, 0.98",
        "documents": [{"name": "sr-1.dcm", "kind": "sr", "study_instance_uid": study, **report}],
    }
    content = {"studies": [], "readings": [reading], "unread": [], "unread_count": 0}
    (trial.folder / "trial.json").write_text(json.dumps(content))
    trial.set(stage=Stage.DONE)
    page = operator.get(f"/console/trials/{trial.identifier}")
    assert (page.status_code, "abnormal: present, 0.98" in page.text) == (200, True)
    assert "Demonstration weights" in page.text
    addresses = set(re.findall(r'(?:href|action|hx-[a-z]+)="(/console/[^"]*)"', page.text))
    assert not [address for address in addresses if address.startswith("/console/studies/")]
    files = f"/console/trials/{trial.identifier}/readings/1"
    assert operator.get(f"{files}/result.json").json() == result
    assert operator.get(f"{files}/all.zip").status_code == 410, "the file of the report is not there"
    (trial.folder / "result" / "1" / "sr-1.dcm").write_bytes(b"a report")
    with zipfile.ZipFile(io.BytesIO(operator.get(f"{files}/all.zip").content)) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    assert contents == {"result.json": json.dumps(result).encode(), "sr-1.dcm": b"a report"}
