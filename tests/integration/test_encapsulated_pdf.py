"""The page of report.pdf in an archive that asks for it: Orthanc takes it, and gives it back as a PDF."""

import json
from io import BytesIO
from pathlib import Path

from pydicom import dcmread
from support import Orthanc
from support.node import configured, running
from support.studies import stored, written

from ainode.node.domain import DeliveryState, DocumentKind


def test_an_archive_that_asks_for_the_page_holds_it_beside_the_report(archive: Orthanc, tmp_path: Path) -> None:
    study = written(tmp_path, "paged")
    wishful = archive.peer.model_copy(update={"pdf": True})
    with running(configured(tmp_path / "node", peers=(wishful,))) as node:
        assert stored(node, study) == [0x0000]
        _, deliveries = node.read(study.uid)
    assert {item.state for item in deliveries} == {DeliveryState.CONFIRMED}
    (page,) = [item for item in deliveries if item.document.kind is DocumentKind.PDF]
    assert set(archive.instances_of(study.uid)) == {item.document.ref.sop_instance_uid for item in deliveries}
    uid = page.document.ref.sop_instance_uid
    (found,) = json.loads(archive.call("POST", "/tools/lookup", uid.encode()))
    answer = archive.call("GET", f"/instances/{found['ID']}/pdf")
    dataset = dcmread(BytesIO(page.document.path.read_bytes()))
    assert answer.rstrip(b"\0") == dataset.EncapsulatedDocument[: dataset.EncapsulatedDocumentLength].rstrip(b"\0")
    assert answer.startswith(b"%PDF")
