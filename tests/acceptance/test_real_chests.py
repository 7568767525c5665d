"""Real chests through a node with the shipped routes: each is answered or refused, none is called malignant.

Where INFECTION_WEIGHTS names a file of lung_infection that a site trained, the share of infection is tested too.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import dcmread
from support import Orthanc, installed, orthanc, shared, site_weights
from support.node import RunningNode, configured, running, shipped_routes

from ainode.models.lung_infection.card import read_card
from ainode.models.lung_infection.dataset import chest
from ainode.node import testing
from ainode.node.archive.dimse import Link
from ainode.node.archive.store import Outgoing, send
from ainode.node.domain import UID, JobState
from ainode.node.keeping.records import Job

pytestmark = [pytest.mark.long, pytest.mark.timeout(3600)]
installed("torch", "openvino", "keras", "timm", "cv2")

INFECTION = "INFECTION_WEIGHTS"
HEALTHY_PERCENT = 1.0
# Chests at their full resolution: those whose source gives no size of a pixel get a usual size.
BACKGROUNDS = ("normal001", "luna_normal_1", "luna_normal_2")
RESAMPLED = ("P001", "cap001", "cap002", "normal001")
SCANS = ("ct_chest_thin_R01-001", "ct_chest_5mm_Lung_Dx-A0001")
_PIXEL_MM = 0.6


@dataclass(frozen=True)
class Answers:
    """What each chest route said of a study."""

    jobs: dict[str, Job]

    def words(self, route: str) -> str:
        """Return the reason of a refusal, or the headline and findings of a result."""
        job = self.jobs[route]
        return job.reason if job.state is JobState.OUT_OF_SCOPE else json.dumps(json.loads(job.result or "{}"))

    def scores(self, route: str) -> dict[str, float]:
        values: dict[str, float] = json.loads(self.jobs[route].result or "{}").get("scores", {})
        return values


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    with orthanc(tmp_path_factory.mktemp("archive")) as server:
        yield server


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, archive: Orthanc) -> Iterator[RunningNode]:
    routes = shipped_routes()
    for handler in ("ct_tumor", "lung_nodule"):
        routes = routes.replace(f'handler = "{handler}"', f'handler = "{handler}"\ndetect = true')
    configuration = configured(tmp_path_factory.mktemp("node"), peers=[archive.peer], routes=routes)
    if os.environ.get(INFECTION):
        name = read_card().weights
        site_weights.bring(configuration, Path(os.environ[INFECTION]), name=name, trained_on="ct_infection")
    with running(configuration) as started:
        yield started


def written(values: NDArray[np.float32], spacing_mm: tuple[float, float, float], folder: Path, name: str) -> list[Path]:
    header = {"BodyPartExamined": "CHEST", "SeriesDescription": "chest", "PatientID": name.upper()}
    return list(testing.write(testing.ct(values, spacing_mm, frame=name, header=header), folder, study=name))


def a_background(name: str, folder: Path) -> list[Path]:
    path = shared(f"data/labelled/chest_backgrounds/{name}.npz")
    with np.load(path) as file:
        z, y, x = (_PIXEL_MM if np.isnan(mm) else float(mm) for mm in file["spacing"])
    return written(chest(path)[0], (z, y, x), folder, f"background {name}")


def a_resampled_volume(name: str, folder: Path) -> list[Path]:
    with np.load(shared(f"data/labelled/ct3d_covidctmd/{name}.npz")) as file:
        values, counts, spacing = file["hu"].astype(np.float32), file["shape_orig"], file["spacing_orig"]
    z, y, x = (float(mm * count / size) for mm, count, size in zip(spacing, counts, values.shape, strict=True))
    return written(values, (z, y, x), folder, f"resampled {name}")


def answered(node: RunningNode, paths: list[Path]) -> Answers:
    study = str(dcmread(paths[0], stop_before_pixels=True).StudyInstanceUID)
    send(Link(node.peer, "MODALITY"), [Outgoing.of(path) for path in paths])
    node.read(study, within_s=1500)
    jobs = {job.route: job for job in node.ledger.jobs(study=UID(study))}
    for job in jobs.values():
        assert job.state in {JobState.REPORTED, JobState.OUT_OF_SCOPE}, job.reason
    return Answers(jobs)


def nothing_is_called_malignant(answers: Answers) -> None:
    for route in answers.jobs:
        assert "malignant: present" not in answers.words(route), route
    assert set(answers.jobs) >= {"ct-pneumonia", "ct-tumor", "lung-nodule"}


@pytest.mark.parametrize("name", BACKGROUNDS)
def test_a_healthy_chest_is_called_malignant_by_no_route(node: RunningNode, tmp_path: Path, name: str) -> None:
    answers = answered(node, a_background(name, tmp_path))
    nothing_is_called_malignant(answers)
    said = answers.words("ct-tumor")
    assert "candidate" in said
    assert "what is not marked was not ruled out" in said
    if os.environ.get(INFECTION):
        share = answers.scores("ct-pneumonia")["infected share of both lungs in percent"]
        assert share < HEALTHY_PERCENT
    else:
        assert "ainode train lung_infection" in answers.words("ct-pneumonia")


@pytest.mark.parametrize("name", RESAMPLED)
def test_a_volume_of_coarse_pixels_is_answered_without_a_share(node: RunningNode, tmp_path: Path, name: str) -> None:
    answers = answered(node, a_resampled_volume(name, tmp_path))
    nothing_is_called_malignant(answers)
    assert "infected share" not in answers.words("ct-pneumonia")
    if os.environ.get(INFECTION):
        assert "pixels of" in answers.words("ct-pneumonia")


@pytest.mark.parametrize("folder", SCANS)
def test_a_real_scan_is_answered_by_candidates_or_refused_in_words(node: RunningNode, folder: str) -> None:
    answers = answered(node, sorted(shared(f"data/dicom/{folder}").rglob("*.dcm")))
    for route in ("lung-nodule", "ct-tumor"):
        said = answers.words(route)
        assert "candidate" in said or "slices up to 3 mm are searched" in said
        assert "malignant: absent" not in said
