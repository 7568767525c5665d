"""Real CT and real photographs of skin by C-STORE: reports and captures of the right models are in the archive."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from support import Orthanc, installed, orthanc, run, shared
from support.judges import module_errors, set_errors, template_errors, tree_errors
from support.node import ROOT, RunningNode, configured, running, shipped_routes
from support.pointing import Position, pointing_report
from support.regions import center_mm, regions

from ainode.node.domain import UID, DeliveryState, JobState, Result
from ainode.node.encoding import headers
from ainode.node.reading import pipeline, registry
from ainode.node.reading.weights import ModelEnvironment, WeightStore

installed("openvino", "torch", "keras", "monai")

THIN = "data/dicom/ct_chest_thin_R01-001"
THICK = "data/dicom/ct_chest_5mm_Lung_Dx-A0001"
CHEST_ROUTES = {"lung-nodule", "ct-pneumonia", "ct-tumor"}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    with orthanc(tmp_path_factory.mktemp("archive")) as server:
        yield server


def searching(routes: str) -> str:
    """Let the route of tumors search the lung, so that the route answers of a chest."""
    return routes.replace('handler = "ct_tumor"', 'handler = "ct_tumor"\ndetect = true')


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, archive: Orthanc) -> Iterator[RunningNode]:
    folder = tmp_path_factory.mktemp("node")
    with running(configured(folder, peers=[archive.peer], routes=searching(shipped_routes()))) as started:
        yield started


def arrived(node: RunningNode, archive: Orthanc, paths: list[Path], folder: Path) -> dict[str, list[Path]]:
    """Send a study over two associations, wait for its jobs, and return the documents in the archive by route."""
    to = ("-aec", "AINODE", "-aet", "MODALITY", "127.0.0.1", str(node.port))
    for half in range(2):
        listing = folder / f"association {half}"
        listing.mkdir(parents=True)
        for number, path in enumerate(paths[half::2]):
            (listing / f"{number:04d}").symlink_to(path)
        assert run("dcmsend", "--decompress-never", *to, "+sd", listing).returncode == 0
    study = UID(str(dcmread(paths[0], stop_before_pixels=True).StudyInstanceUID))
    node.read(study, within_s=420)
    held = archive.instances_of(study)
    found: dict[str, list[Path]] = {}
    for job in node.ledger.jobs(study=study):
        if job.state is JobState.OUT_OF_SCOPE:
            continue
        assert job.state is JobState.REPORTED, (job.route, job.reason)
        for one in node.ledger.deliveries(job.id):
            assert one.state is DeliveryState.CONFIRMED
            path = folder / f"{one.document.ref.sop_instance_uid}.dcm"
            path.write_bytes(archive.download(held[one.document.ref.sop_instance_uid]))
            found.setdefault(job.route, []).append(path)
    return found


def judged(documents: list[Path], sources: list[Path]) -> list[str]:
    """Return every error of every independent judge."""
    reports = [path for path in documents if dcmread(path, stop_before_pixels=True).Modality == "SR"]
    found = [error for path in documents for error in module_errors(path)]
    found += [error for path in reports for error in (*tree_errors(path), *template_errors(path))]
    return found + [error for error in set_errors(documents, sources) if "AccessionNumber" not in error]


def _of_the_node(node: RunningNode, path: Path) -> float:
    study = UID(str(dcmread(path, stop_before_pixels=True).StudyInstanceUID))
    (job,) = [one for one in node.ledger.jobs(study=study) if one.route == "ct-pneumonia"]
    probability: float = json.loads(job.result)["scores"]["probability"]
    return probability


def _of_the_files(paths: list[Path], folder: Path) -> float:
    """Return what the same model says of the same files, without a network in between."""
    model = registry.handler("ct_pneumonia", ModelEnvironment(WeightStore(folder), folder / "networks"))
    study = headers.study(tuple(headers.instance(path, sha256="0" * 64) for path in paths))
    answer = pipeline.answer_of(study, model)
    assert isinstance(answer, Result)
    return answer.scores["probability"]


def test_a_real_thin_ct_is_read_by_every_chest_model_and_the_nodule_lies_where_it_was_pointed_at(
    node: RunningNode, archive: Orthanc, tmp_path: Path
) -> None:
    slices = sorted(shared(f"{THIN}/dicom").rglob("*.dcm"))
    said = json.loads(shared(f"{THIN}/nodule.json").read_text("utf-8"))
    where: Position = tuple(said["nodule_center_LPS_mm"])
    pointed = pointing_report(slices[0], [where], tmp_path / "pointing.dcm")
    documents = arrived(node, archive, [*slices, pointed], tmp_path / "back")
    assert set(documents) == CHEST_ROUTES
    for found in documents.values():
        assert judged(found, slices) == []
    report = next(one for path in documents["lung-nodule"] if (one := dcmread(path)).Modality == "SR")
    images = {str(one.SOPInstanceUID): one for one in (dcmread(path, stop_before_pixels=True) for path in slices)}
    drawn = list(regions(report))
    assert drawn
    assert _of_the_node(node, slices[0]) == pytest.approx(_of_the_files(slices, tmp_path), abs=1e-4)
    voxel = np.asarray(said["spacing_mm"])
    for points, image in drawn:
        assert (np.abs(center_mm(points, images[image]) - where) <= voxel).all()


def test_a_real_5_mm_ct_is_searched_for_nothing_and_gets_no_nodule_where_there_is_none(
    node: RunningNode, archive: Orthanc, tmp_path: Path
) -> None:
    slices = sorted(shared(THICK).rglob("*.dcm"))
    inside = sorted(slices, key=lambda path: dcmread(path, stop_before_pixels=True).ImagePositionPatient[2])[32]
    image = dcmread(inside, stop_before_pixels=True)
    # A third of the width from the patient's right, in the middle from front to back: in the right lung.
    where = center_mm(np.asarray([[image.Columns / 3, image.Rows / 2]]), image)
    pointed = pointing_report(inside, [tuple(where)], tmp_path / "pointing.dcm")
    documents = arrived(node, archive, [*slices, pointed], tmp_path / "back")
    assert set(documents) == {"ct-pneumonia"}, "nodules are searched in slices of up to 3 mm"
    jobs = node.ledger.jobs(study=UID(image.StudyInstanceUID))
    assert any(job.route == "lung-nodule" and "no nodule at this point" in job.reason for job in jobs)
    for found in documents.values():
        assert judged(found, slices) == []


def test_a_chest_ct_to_which_nobody_pointed_is_not_read_for_a_nodule(
    node: RunningNode, archive: Orthanc, tmp_path: Path
) -> None:
    slices = []
    for path in sorted(shared(f"{THIN}/dicom").rglob("*.dcm"))[20:50]:
        image = dcmread(path)
        image.StudyInstanceUID, image.SOPInstanceUID = "2.25.77", f"2.25.77.{len(slices)}"
        image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
        slices.append(tmp_path / path.name)
        image.save_as(slices[-1])
    documents = arrived(node, archive, slices, tmp_path / "back")
    assert "lung-nodule" not in documents
    (job,) = [one for one in node.ledger.jobs(study=UID("2.25.77")) if one.route == "lung-nodule"]
    assert "no nodule was pointed at" in job.reason


def test_real_photographs_of_skin_are_read_as_they_come_out_of_a_camera(tmp_path: Path) -> None:
    photographs = sorted(shared("data/dicom/vl_dermoscopy").rglob("*.jpg"))
    done = run(ROOT / ".venv/bin/ainode", "read", *photographs, "--model", "skin_lesion", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    answers = sorted(tmp_path.glob("*/result.json"))
    assert len(answers) == len(photographs) > 1
    for answer in answers:
        probability = json.loads(answer.read_text("utf-8"))["scores"]["probability"]
        assert 0 < probability < 1
        documents = sorted(answer.parent.glob("s*.dcm"))
        assert len(documents) == 2
        assert judged(documents, []) == []
