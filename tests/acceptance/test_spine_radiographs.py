"""The shipped routes and the shipped spine model: every real study goes in, only the spines come back."""

import json
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread
from support import Orthanc, installed, orthanc, run, shared
from support.judges import module_errors, set_errors, template_errors, tree_errors
from support.node import RunningNode, configured, running, shipped_routes

from ainode.node import testing
from ainode.node.archive.dimse import Link, echo
from ainode.node.archive.store import Outgoing, send
from ainode.node.domain import UID, DeliveryState, DocumentKind, JobState
from ainode.node.keeping.catalog import Catalog

installed("openvino", "timm", "torch", "ultralytics")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    with orthanc(tmp_path_factory.mktemp("archive")) as server:
        yield server


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, archive: Orthanc) -> Iterator[RunningNode]:
    routes = shipped_routes("spine_radiograph")
    with running(configured(tmp_path_factory.mktemp("node"), peers=[archive.peer], routes=routes)) as started:
        yield started


def deliver(node: RunningNode, *paths: Path) -> str:
    sent = send(Link(node.peer, "MODALITY"), [Outgoing.of(path) for path in paths])
    assert [one.error for one in sent] == [None] * len(paths)
    return str(dcmread(paths[0], stop_before_pixels=True).StudyInstanceUID)


def received(archive: Orthanc, study: str, folder: Path) -> list[Path]:
    folder.mkdir(exist_ok=True)
    paths = []
    for uid, identifier in archive.instances_of(study).items():
        paths.append(folder / f"{uid}.dcm")
        paths[-1].write_bytes(archive.download(identifier))
    return paths


def judged(documents: list[Path], sources: list[Path]) -> list[str]:
    """Return every error of every independent judge."""
    reports = [path for path in documents if dcmread(path, stop_before_pixels=True).Modality == "SR"]
    found = [error for path in documents for error in module_errors(path)]
    found += [error for path in reports for error in (*tree_errors(path), *template_errors(path))]
    # "AccessionNumber IE Study versus Series" is dcentvfy's own noise
    return found + [error for error in set_errors(documents, sources) if "AccessionNumber" not in error]


def test_a_synthetic_study_comes_back_with_one_report_and_a_capture_per_image_without_an_error(
    node: RunningNode, archive: Orthanc, tmp_path: Path
) -> None:
    from ainode.handlers.spine_radiograph import build
    from ainode.node.reading.weights import ModelEnvironment, WeightStore

    images = build(ModelEnvironment(WeightStore(tmp_path), tmp_path)).demonstration(seed=3).images
    paths = testing.write(images, tmp_path / "sent", study="synthetic")
    job, deliveries = node.read(deliver(node, *paths), within_s=240)
    assert job.state is JobState.REPORTED, job.reason
    assert {one.state for one in deliveries} == {DeliveryState.CONFIRMED}
    kinds = [one.document.kind for one in deliveries]
    # the summary comes first
    assert kinds == [DocumentKind.SECONDARY_CAPTURE] * (1 + len(images)) + [DocumentKind.STRUCTURED_REPORT]
    documents = received(archive, job.study_instance_uid, tmp_path / "back")
    assert judged(documents, list(paths)) == []


def test_the_real_thoracic_spines_are_read_and_a_monochrome1_twin_says_the_same(
    node: RunningNode, archive: Orthanc, tmp_path: Path
) -> None:
    paths = sorted(shared("data/dicom/spine/drr_from_R01-001").glob("*.dcm"))
    job, deliveries = node.read(deliver(node, *paths), within_s=240)
    assert job.state is JobState.REPORTED, job.reason
    assert [one.document.kind for one in deliveries].count(DocumentKind.STRUCTURED_REPORT) == 1
    assert len(deliveries) == 1 + len(paths) + 1
    documents = received(archive, job.study_instance_uid, tmp_path)
    assert judged(documents, paths) == []
    probabilities = _by_photometric(json.loads(job.result), paths)
    assert abs(probabilities["MONOCHROME1"] - probabilities["MONOCHROME2"]) < 0.01


def _by_photometric(summary: dict[str, object], paths: list[Path]) -> dict[str, float]:
    """Return the laterals' probability by photometric interpretation, found by the image each rests on."""
    laterals = {
        str(one.SOPInstanceUID): str(one.PhotometricInterpretation)
        for one in (dcmread(path, stop_before_pixels=True) for path in paths)
        if one.ViewPosition == "LL"
    }
    found = {}
    for finding in summary["findings"]:  # type: ignore[attr-defined]
        for uid in finding["evidence"]:
            if uid in laterals and finding["region"] is None:
                found[laterals[uid]] = finding["measurements"][0]["value"] / 100
    return found


def test_every_real_object_is_answered_and_what_is_no_spine_is_left_with_the_right_reason(node: RunningNode) -> None:
    folder = shared("data/dicom")
    to = ("-aec", "AINODE", "-aet", "MODALITY", "127.0.0.1", str(node.port))
    for one in sorted(folder.iterdir()):
        if one.is_dir() and one.name != "corrupt_odd":
            run("dcmsend", "--no-halt", "--decompress-never", *to, "+sd", "+r", one)
    for path in sorted((folder / "corrupt_odd").rglob("*.dcm")):  # one each: DCMTK's own clients die of some
        run("storescu", *to, path)
    echo(Link(node.peer, "MODALITY"))
    catalog = node.catalog
    node.until(lambda: not catalog.unrouted(), within_s=120)
    spine = dcmread(next((folder / "spine" / "drr_from_R01-001").glob("*.dcm")), stop_before_pixels=True)
    read = {job.study_instance_uid for job in node.ledger.jobs() if job.route == "spine-radiograph"}
    assert read - {testing.uid("synthetic")} == {spine.StudyInstanceUID}
    for where, attribute, said in (
        ("spine/cr_cspine_16x16_headers/77654033/CR1/6154", "Rows", "16"),
        ("cr_dx/nema/RG1_J2KI.dcm", "BodyPartExamined", "CHEST"),
        ("cr_dx/nema/RG2_J2KR", "BodyPartExamined", "HIP"),
        ("cr_dx/nema/RG3_J2KR.dcm", "BodyPartExamined", "EXTREMITY"),
        ("mr_head_t1/dicoms", "Modality", "MR"),
        ("ct_chest_thin_R01-001/dicom", "Modality", "CT"),
        ("ct_abdomen/scout_TCGA-D1-A0ZP", "Modality", "CT"),
    ):
        assert said in _why_not(catalog, folder / where, attribute)


def _why_not(catalog: Catalog, where: Path, attribute: str) -> str:
    """Return what the stored explanation found instead, for the first failed check of that attribute."""
    path = where if where.is_file() else next(path for path in sorted(where.rglob("*")) if path.is_file())
    header = dcmread(BytesIO(path.read_bytes()), stop_before_pixels=True)
    for decision in catalog.explanation(UID(header.StudyInstanceUID)):
        if decision["series_instance_uid"] == header.SeriesInstanceUID:
            failed = [check for check in decision["checks"] if not check["passed"]]
            return next((check["found"] for check in failed if check["attribute"] == attribute), f"{failed}")
    return "no decision for that series"
