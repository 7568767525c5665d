"""Files read over HTTP and kept nowhere: POST /api/read, and POST /upload as scripts of the spine system call it."""

import base64
import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pydicom import Dataset, dcmread
from support import installed
from support.waiting import until

installed("fastapi", "uvicorn", "requests", "torch", "openvino", "timm", "ultralytics")

from support.web_bench import Bench  # noqa: E402

from ainode.node import testing  # noqa: E402
from ainode.node.reading import registry  # noqa: E402
from ainode.node.reading.weights import environment  # noqa: E402

HTML = "<script>alert(1)</script>^<b>"


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    made = Bench(tmp_path_factory.mktemp("trials"))
    yield made
    made.web.stop()
    made.engine.dispose()
    assert not (made.folder / "trials").exists()


@pytest.fixture(scope="module")
def token(bench: Bench) -> str:
    return bench.tokens.add("script")


@pytest.fixture(scope="module")
def radiograph(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return a synthetic radiograph of a spine; HTML stands in the name of its patient."""
    image, *_ = registry.handler("spine_radiograph", environment(bench.settings)).demonstration(0).images
    (path,) = testing.write([image], tmp_path_factory.mktemp("spine"), study="spine")
    dataset = dcmread(path)
    dataset.PatientName, dataset.PatientID = HTML, "<i>1</i>"
    dataset.save_as(path)
    return path.read_bytes()


def assert_nothing_is_left(bench: Bench) -> None:
    """Wait for it: a trial that is discarded while it is read goes once the process that reads it has ended."""
    until(lambda: not any((bench.folder / "trials").glob("*")), shown=lambda: [*(bench.folder / "trials").glob("*")])


def ended(bench: Bench, token: str, trial: dict[str, Any]) -> dict[str, Any]:
    deadline = time.monotonic() + 300
    while trial["stage"] not in {"done", "failed"}:
        assert time.monotonic() < deadline, trial
        time.sleep(0.1)
        trial = bench.call("GET", f"/api/read/{trial['id']}", token).json()
    return trial


def test_a_file_is_read_its_documents_are_fetched_and_nothing_is_kept(
    bench: Bench, token: str, radiograph: bytes
) -> None:
    files = {"files": ("../spine.dcm", radiograph)}
    answer = bench.call("POST", "/api/read", token, files=files)
    assert answer.status_code == 202
    trial = ended(bench, token, answer.json())
    (reading,) = trial["readings"]
    assert (trial["error"], trial["unread"], reading["route"]) == ("", [], "spine")
    assert reading["result"]["algorithm"]["weights_status"] == "demonstration"
    assert reading["answer"] == reading["result"]["verdict"]["headline"]
    report = bench.call("GET", f"/api/read/{trial['id']}/documents/1/sr-1.dcm", token)
    dataset = dcmread(io.BytesIO(report.content))
    assert (dataset.Modality, dataset.PatientName) == ("SR", HTML)
    printed = bench.call("GET", f"/api/read/{trial['id']}/documents/1/report.pdf", token)
    assert (printed.headers["content-type"], printed.content[:5]) == ("application/pdf", b"%PDF-")
    assert bench.call("DELETE", f"/api/read/{trial['id']}", token).status_code == 204
    assert_nothing_is_left(bench)
    assert bench.call("GET", f"/api/read/{trial['id']}", token).status_code == 404
    assert not bench.ledger.jobs()


def test_a_trial_needs_a_token_and_is_its_callers_alone(bench: Bench, token: str) -> None:
    assert bench.call("POST", "/api/read", "", files={"files": ("a", b"1")}).status_code == 401
    trial = bench.call("POST", "/api/read", token, files={"files": ("a", b"1")}, data={"look": "1"}).json()
    other = bench.tokens.add("other")
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/documents/1/report.pdf")):
        assert bench.call(method, f"/api/read/{trial['id']}{path}", other).status_code == 404
    assert bench.call("DELETE", f"/api/read/{trial['id']}", token).status_code == 204


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"model": "os"}, "there is no such model; give one of"),
        ({"model": "ainode.node.testing"}, "there is no such model"),
        ({"point": "1,2"}, "a point is no three numbers"),
        ({"point_is": "inch"}, "neither mm nor index"),
        ({"body_part": "<b>"}, "no term of up to 16 letters"),
    ],
)
def test_what_the_form_does_not_take_is_refused_with_its_reason(
    bench: Bench, token: str, fields: dict[str, str], words: str
) -> None:
    answer = bench.call("POST", "/api/read", token, files={"files": ("a", b"1")}, data=fields)
    assert (answer.status_code, words in answer.json()["detail"]) == (422, True)
    assert_nothing_is_left(bench)


def test_a_text_named_dcm_is_named_in_the_error_and_leaves_nothing(bench: Bench, token: str) -> None:
    files = {"files": ("scan.dcm", b"Dear colleague, please find the images elsewhere.")}
    trial = ended(bench, token, bench.call("POST", "/api/read", token, files=files).json())
    assert (trial["stage"], trial["error"]) == (
        "failed",
        "not read: scan.dcm: it is a text; give the images themselves",
    )
    assert_nothing_is_left(bench)


def test_an_old_script_gets_the_answer_of_the_spine_system(bench: Bench, token: str, radiograph: bytes) -> None:
    answer = bench.call("POST", "/upload", token, files={"file": ("spine.dcm", radiograph)})
    assert answer.status_code == 200
    values = answer.json()
    assert values["status"] == "success"
    assert values["diagnosis"] == ("Abnormal" if values["probability"] >= values["threshold"] else "Normal")
    assert values["confidence"] == round(100 * max(values["probability"], 1 - values["probability"]), 2)
    assert len(values["ensemble_prediction"]) == 3
    assert all(0 <= probability <= 1 for probability in values["ensemble_prediction"].values())
    original: Dataset = dcmread(io.BytesIO(radiograph))
    assert values["metadata"] == {
        "patient_id": "<i>1</i>",
        "study_date": original.StudyDate,
        "modality": "DX",
        "body_part": original.BodyPartExamined,
        "view_position": original.ViewPosition,
        "image_size": [original.Columns, original.Rows],
    }
    assert values["detections"]
    for detection in values["detections"]:
        assert set(detection) == {"class", "confidence", "bbox"}
        left_, top, right, bottom = detection["bbox"]
        assert 0 <= left_ < right <= original.Columns
        assert 0 <= top < bottom <= original.Rows
    head, _, content = values["annotated_image"].partition(",")
    image = Image.open(io.BytesIO(base64.b64decode(content)))
    assert (head, image.size) == ("data:image/png;base64", (original.Columns, original.Rows))
    assert values["model"]["weights_status"] == "demonstration"
    assert_nothing_is_left(bench)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"file": ("a.dcm", b"a text that is no image at all")}, "it is a text"),
        ({"image": ("a.dcm", b"1")}, "send one DICOM file in the field `file`"),
        ({"file": (None, b"1")}, "send one DICOM file in the field `file`"),
        ({"file": ("hand.png", b"\x89PNG\r\n\x1a\n")}, "POST /upload takes one DICOM radiograph of the spine"),
        ({"file": ("spine.jpg", b"\xff\xd8\xff" + bytes(200))}, "POST /api/read takes pictures"),
        ({"file": ("ct.nrrd", b"NRRD0004\n" + bytes(200))}, "POST /api/read takes pictures and volumes"),
        ({"file": ("spine.jpg", bytes(range(256)))}, "it is no JPEG file, though its name says so"),
    ],
)
def test_an_old_script_is_told_of_an_error_in_its_own_words(
    bench: Bench, token: str, files: dict[str, tuple[str | None, bytes]], words: str
) -> None:
    answer = bench.call("POST", "/upload", token, files=files)
    assert (answer.status_code, answer.json()["status"]) == (400, "error")
    assert words in answer.json()["message"]
    assert_nothing_is_left(bench)


def test_an_upload_needs_a_token(bench: Bench, token: str, radiograph: bytes) -> None:
    assert token
    assert bench.call("POST", "/upload", "", files={"file": ("spine.dcm", radiograph)}).status_code == 401


def test_an_open_upload_takes_no_token_at_a_name_of_the_node_alone_and_from_no_other_site(tmp_path: Path) -> None:
    bench = Bench(tmp_path, open_upload=True)
    try:
        bench.tokens.add("other")
        files = {"file": ("a.dcm", b"a text that is no image at all")}
        answer = bench.call("POST", "/upload", files=files)
        assert (answer.status_code, answer.json()["status"]) == (400, "error")
        assert bench.call("POST", "/upload", files=files, headers={"Host": "evil.example"}).status_code == 421
        own = {"Origin": f"http://127.0.0.1:{bench.settings.web.port}"}
        assert bench.call("POST", "/upload", files=files, headers=own).status_code == 400
        for foreign in ({"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}):
            assert bench.call("POST", "/upload", files=files, headers=foreign).status_code == 403
        assert bench.call("POST", "/api/read", files={"files": ("a", b"1")}).status_code == 401
        assert_nothing_is_left(bench)
    finally:
        bench.web.stop()
        bench.engine.dispose()


def test_the_page_of_the_interface_shows_examples_for_shell_and_python(bench: Bench) -> None:
    page = bench.call("GET", "/docs").text
    assert "curl -H" in page
    assert "import requests" in page
    paths = bench.call("GET", "/openapi.json").json()["paths"]
    form = paths["/api/read"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert {"files", "files_2", "files_3", "model", "point", "body_part"} <= set(form["properties"])


def test_health_has_the_fields_of_the_spine_system(bench: Bench) -> None:
    health = bench.call("GET", "/health").json()
    assert (health["status"], health["models_loaded"], health["device"]) == ("healthy", ["spine_radiograph"], "auto")
    assert {"timestamp", "version"} <= set(health)


def test_pictures_that_a_model_refuses_for_their_body_part_are_told_the_field(bench: Bench, token: str) -> None:
    picture = io.BytesIO()
    Image.new("RGB", (120, 100), "gray").save(picture, "PNG")
    files, fields = {"files": ("lung.png", picture.getvalue())}, {"model": "ct_tumor"}
    (reading,) = ended(bench, token, bench.call("POST", "/api/read", token, files=files, data=fields).json())[
        "readings"
    ]
    assert reading["is_refusal"]
    assert reading["advice"].startswith("name the body part in the field `body_part`, such as CHEST")
