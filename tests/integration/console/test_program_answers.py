"""The page of a study that a site's program read: its numbers and its own pictures are where a reader looks."""

import hashlib
import io
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from conformance.made import ALGORITHM, CONTEXT, SPINE, source
from integration.console.conftest import Browser
from PIL import Image
from support import instance_ref
from support.web_bench import Bench

from ainode.node import reports, testing
from ainode.node.domain import (
    UID,
    Code,
    DocumentKind,
    Finding,
    InstanceRef,
    JobState,
    Measurement,
    Result,
    SyntheticImage,
)
from ainode.node.keeping.catalog import Completion, StoredInstance
from ainode.node.keeping.records import Job, KeptDocument, Outcome

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
JOB = "c" * 32
VOLUME, CUBIC_MM = Code("118565006", "SCT", "Volume"), Code("mm3", "UCUM", "mm3")
SIDE = 32
DRAWN = {"1.2.840.10008.5.1.4.1.1.7": "drawn", "1.2.840.10008.5.1.4.1.1.88.11": "told"}
"""what the program made, by SOP class"""


@pytest.fixture(scope="module")
def address(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Have a study read by a program that measured and drew; return the address of its page."""
    folder = tmp_path_factory.mktemp("by a program")
    path = source(folder)
    ref = instance_ref(path)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    bench.catalog.index([StoredInstance(ref, UID("1.2.840.10008.1.2.1"), sha256, 1, path, "MODALITY", NOW)])
    content = bench.catalog.content(ref.study_instance_uid)
    completion = Completion(NOW, "10.0 s of silence, for a sender without history")
    bench.catalog.mark_routed(ref.study_instance_uid, content=content, explanation=[], completion=completion)
    job = Job(
        id=JOB,
        study_instance_uid=ref.study_instance_uid,
        route="lungs",
        handler="lungs",
        content=content,
        created_at=NOW,
        queued_at=NOW,
        destinations=(),
    )
    assert bench.ledger.open(job)
    bench.ledger.move(JOB, JobState.READING, at=NOW)
    kept = [_kept(folder, ref, kind, name) for kind, name in DRAWN.items()]
    summary = reports.result_json(_result(ref), CONTEXT)
    outcome = Outcome(JobState.REPORTED, summary, "", 4.0, {}, NOW + timedelta(seconds=17))
    assert bench.ledger.report(job, kept, outcome)
    return f"/console/studies/{ref.study_instance_uid}"


def _result(image: InstanceRef) -> Result:
    volume = Measurement(VOLUME, 4321.5, CUBIC_MM, (image,))
    finding = Finding("left lung", VOLUME, SPINE, (volume,), (image,))
    return Result(
        image.study_instance_uid, ALGORITHM, "Lungs", SPINE, (finding,), (), (image,), (image,), {"volume": 4321.5}
    )


def _kept(folder: Path, ref: InstanceRef, kind: str, name: str) -> KeptDocument:
    """Write an object of a program, with grays from black to white."""
    grays = np.linspace(0, 4095, SIDE * SIDE).astype("<u2")
    image = SyntheticImage(SIDE, SIDE, grays.tobytes(), {"WindowCenter": "2048", "WindowWidth": "4096"})
    data_set = testing.dataset(image, study=name)
    path = folder / f"{name}.dcm"
    data_set.save_as(path, enforce_file_format=True)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    own = InstanceRef(ref.study_instance_uid, UID(f"1.2.{len(name)}"), UID(kind), UID(f"1.2.{len(name)}.1"))
    return KeptDocument(JOB, own, DocumentKind.OBJECT, path, digest)


def test_what_a_program_measured_stands_with_the_answer_and_not_in_a_closed_part_alone(
    viewer: Browser, address: str
) -> None:
    page = viewer.get(address).text
    answer = page[page.index(f'id="answer-{JOB}"') :]
    open_part = answer[: answer.index("<details")]
    assert "<dt>left lung, Volume</dt><dd>4321.5 mm3</dd>" in open_part


def test_a_picture_that_a_program_drew_is_among_the_captures_and_its_report_is_not(
    viewer: Browser, address: str
) -> None:
    files = f"{address}/jobs/{JOB}/documents"
    page = viewer.get(address).text
    assert "Object 1 of the program, as the program drew it" in page
    assert page.count("<figcaption>Object") == 1
    shown = np.asarray(Image.open(io.BytesIO(viewer.get(f"{files}/1.2.5.1.png").content)))
    assert shown.shape == (SIDE, SIDE)
    assert (shown.min(), shown.max()) == (0, 255)
    assert viewer.get(f"{files}/1.2.4.1.png").status_code == 404
