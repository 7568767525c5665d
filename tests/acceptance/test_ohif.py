"""A real OHIF in a real browser opens studies from Orthanc: what a radiologist sees of a capture and of a report."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from support import Orthanc, installed, shared
from support.dated import dated
from support.handler import BOX
from support.node import SPINE, configured, running, shipped_routes
from support.pointing import Position, pointing_report
from support.programs import Site, ct, shell
from support.viewer import viewable_archive, viewer

installed("playwright")

from playwright.sync_api import Page  # noqa: E402
from support.browser import page  # noqa: E402
from support.screen import Box, Screen, is_colored, near, outlined  # noqa: E402

from ainode.node import testing  # noqa: E402
from ainode.node.archive.dimse import Link  # noqa: E402
from ainode.node.archive.store import Outgoing, send  # noqa: E402
from ainode.node.domain import JobState  # noqa: E402

THIN = "data/dicom/ct_chest_thin_R01-001"
SIDE = 512
GAP = 8
"""columns between the two pictures of a capture"""
BOX_COLOR = (80, 220, 255)
"""of the boxes in a capture (`reports/labels.py`); no gray of the image is near it"""
DASHED = 0.35
"""of a side, at least: OHIF draws what a report points at as 4 pixels of line and 4 of none"""
SPINE_ROUTE = f"{SPINE.replace('support.handler', 'support.pictured')}report_out_of_scope = true\n"
FURTHER = 5
"""slices"""


@dataclass(frozen=True, slots=True)
class Reported:
    """A study in the archive after it was read: the headers of its images and documents."""

    headers: tuple[Dataset, ...]

    def first(self, modality: str) -> Dataset:
        return next(one for one in self.headers if one.Modality == modality)

    @property
    def report_number(self) -> int:
        """Return the Series Number of the report."""
        return int(self.first("SR").SeriesNumber)

    def region(self) -> tuple[Box, Dataset]:
        """Return the only region of the report, in pixels, and the image that it lies on."""
        (report,) = (one for one in self.headers if one.Modality == "SR")
        items = [item for one in report.iterall() if one.keyword == "ContentSequence" for item in one.value]
        ((*points, uid),) = {
            (*item.GraphicData, item.ContentSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID)
            for item in items
            if item.ValueType == "SCOORD"
        }
        corners = np.reshape(points, (-1, 2))
        image = next(one for one in self.headers if uid == one.SOPInstanceUID)
        return (*corners.min(axis=0), *corners.max(axis=0)), image


@dataclass(frozen=True, slots=True)
class Nodule:
    """A CT with a nodule at a known place, after it was read."""

    name: str
    reported: Reported
    position_mm: Position


def read(archive: Orthanc, folder: Path, routes: str, images: Sequence[Path], also: Sequence[Path] = ()) -> Reported:
    """Put a study into the archive, have a node read it (and what points into it), and return what is there then."""
    study = str(dcmread(images[0], stop_before_pixels=True).StudyInstanceUID)
    for path in images:
        archive.call("POST", "/instances", path.read_bytes())
    with running(configured(folder, peers=[archive.peer], routes=routes)) as node:
        send(Link(node.peer, "MODALITY"), [Outgoing.of(path) for path in (*images, *also)])
        job, _ = node.read(study, within_s=420)
    assert job.state in {JobState.REPORTED, JobState.OUT_OF_SCOPE}, job.reason
    held = (archive.download(one) for one in archive.instances_of(study).values())
    return Reported(tuple(dcmread(BytesIO(one), stop_before_pixels=True) for one in held))


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    with viewable_archive(tmp_path_factory.mktemp("archive")) as server:
        yield server


@pytest.fixture(scope="module")
def address(archive: Orthanc) -> Iterator[str]:
    with viewer(archive.http_port) as started:
        yield started


@pytest.fixture(scope="module")
def spine(archive: Orthanc, tmp_path_factory: pytest.TempPathFactory) -> Reported:
    folder = tmp_path_factory.mktemp("spine")
    flat = testing.noise(SIDE, SIDE, seed=1, SeriesDescription="read", BodyPartExamined="TSPINE")
    paths = testing.write([flat], folder / "files", study="ohif")
    return read(archive, folder / "node", SPINE_ROUTE, paths)


@pytest.fixture(scope="module")
def declined(archive: Orthanc, tmp_path_factory: pytest.TempPathFactory) -> Reported:
    folder = tmp_path_factory.mktemp("declined")
    flat = testing.noise(SIDE, SIDE, SeriesDescription="decline", BodyPartExamined="TSPINE", PatientID="DECLINED")
    paths = testing.write([flat], folder / "files", study="ohif declined")
    return read(archive, folder / "node", SPINE_ROUTE, paths)


@pytest.fixture(scope="module", params=["synthetic", "real"])
def nodule(request: pytest.FixtureRequest, archive: Orthanc, tmp_path_factory: pytest.TempPathFactory) -> Nodule:
    """A CT that somebody's report points into, read by the shipped route of the nodule model."""
    installed("openvino", "torch", "timm")
    folder = tmp_path_factory.mktemp("nodule")
    if request.param == "real":
        slices: Sequence[Path] = sorted(shared(f"{THIN}/dicom").rglob("*.dcm"))
        where: Position = tuple(json.loads(shared(f"{THIN}/nodule.json").read_text("utf-8"))["nodule_center_LPS_mm"])
    else:
        made = dated("20260101", 13.0)
        slices, where = made.write(folder / "files", "ohif nodule"), made.position_mm
    pointed = pointing_report(slices[0], [where], folder / "pointing.dcm")
    routes = shipped_routes("lung_nodule")
    return Nodule(request.param, read(archive, folder / "node", routes, slices, [pointed]), where)


@pytest.fixture(scope="module")
def tab() -> Iterator[Page]:
    with page() as opened:
        yield opened


@pytest.fixture
def screen(tab: Page, tmp_path: Path) -> Screen:
    return Screen(tab, tmp_path)


def test_the_capture_is_shown_in_its_colors(spine: Reported, address: str, screen: Screen) -> None:
    """The source is gray; beside it both boxes are blue."""
    capture = spine.first("OT")
    screen.open(address, capture)
    screen.until(lambda: bool(near(screen.seen("capture"), BOX_COLOR).mean() > 0.001))
    seen = screen.seen("capture")

    def part(box: Box) -> np.ndarray:
        left, top, right, bottom = (round(side) for side in screen.placed(box, capture))
        return seen[top:bottom, left:right]

    beside = (capture.Columns + GAP) // 2
    assert is_colored(part((30, 300, beside - GAP - 30, 480))).mean() < 0.01
    left, top, right, bottom = BOX
    left, right = left + beside, right + beside
    for edge in (left, right, left + 150, right + 150):
        blue = near(part((edge - 3, top + 10, edge + 3, bottom - 10)), BOX_COLOR)
        assert blue.any(axis=1).mean() > 0.7  # OHIF's player lies over a part of one


def test_both_boxes_of_the_report_are_drawn_at_their_pixels(spine: Reported, address: str, screen: Screen) -> None:
    image = spine.first("DX")
    screen.open(address, image)
    screen.show(spine.report_number, lambda: len(screen.lines()) >= 2)
    screen.keep("report")
    left, top, right, bottom = BOX
    for shift in (0, 150):
        box = screen.placed((left + shift, top, right + shift, bottom), image)
        assert any(np.allclose(box, one, atol=2) for one in screen.lines()), (box, screen.lines())
    assert screen.says("Probability: 81.00 %") >= 2


def test_the_report_of_a_nodule_opens_at_the_slice_and_the_pixels_it_points_at(
    nodule: Nodule, address: str, screen: Screen
) -> None:
    box, image = nodule.reported.region()
    # The report points at the nodule: on the slice through it, to a pixel (PS3.3 C.7.6.2.1.1, axial).
    x, y, z = image.ImagePositionPatient
    column, row = np.reshape(box, (2, 2)).mean(axis=0) - 0.5
    down, across = image.PixelSpacing
    off = np.abs(np.array((x + column * across, y + row * down, z)) - nodule.position_mm)
    assert (off <= (across, down, image.SliceThickness / 2)).all()
    screen.open(address, image)
    screen.until(lambda: screen.slice() != (0, 0))
    assert screen.slice()[0] != image.InstanceNumber
    screen.show(nodule.reported.report_number, lambda: bool(screen.lines()))
    seen = screen.seen(f"nodule-{nodule.name}")
    assert screen.slice()[0] == image.InstanceNumber
    expected = screen.placed(box, image)
    assert [np.allclose(expected, one, atol=2) for one in screen.lines()] == [True], (expected, screen.lines())
    assert min(outlined(is_colored(seen), expected)) > DASHED


def test_the_box_of_a_nodule_is_on_no_other_slice(nodule: Nodule, address: str, screen: Screen) -> None:
    box, image = nodule.reported.region()
    screen.open(address, image)
    screen.show(nodule.reported.report_number, lambda: bool(screen.lines()))
    _, number = screen.slice()
    for away in (FURTHER, -FURTHER):
        screen.scroll(away)
        assert screen.slice()[1] == number + away
        screen.until(lambda: not screen.lines())
        seen = screen.seen(f"nodule-{nodule.name}{away:+d}")
        assert max(outlined(is_colored(seen), screen.placed(box, image))) == 0
        screen.scroll(-away)
        screen.until(lambda: bool(screen.lines()))
        assert screen.slice() == (image.InstanceNumber, number)
        seen = screen.seen(f"nodule-{nodule.name}-back")
        assert min(outlined(is_colored(seen), screen.placed(box, image))) > DASHED


def test_a_nodule_can_be_taken_over_as_a_measurement_of_its_slice(nodule: Nodule, address: str, screen: Screen) -> None:
    _, image = nodule.reported.region()
    screen.open(address, image)
    screen.show(nodule.reported.report_number, lambda: bool(screen.lines()))
    screen.press("yes-hydrate-btn")
    screen.press("trackedMeasurements-btn")
    screen.until(lambda: screen.says(f"S: {image.SeriesNumber} I: {image.InstanceNumber}") == 1)
    screen.keep(f"nodule-{nodule.name}-measurement")


def test_a_report_of_a_study_that_was_not_read_shows_why(declined: Reported, address: str, screen: Screen) -> None:
    screen.open(address, declined.first("DX"))
    screen.show(declined.report_number, lambda: screen.says("Not analyzed: this study asks to be declined") == 1)
    screen.keep("not-read")


def test_the_report_of_a_healthy_study_shows_the_verdict_and_the_threshold_that_was_not_reached(
    archive: Orthanc, address: str, screen: Screen, tmp_path: Path
) -> None:
    flat = testing.noise(SIDE, SIDE, SeriesDescription="healthy", BodyPartExamined="TSPINE", PatientID="HEALTHY")
    paths = testing.write([flat], tmp_path / "files", study="ohif healthy")
    healthy = read(archive, tmp_path / "node", SPINE_ROUTE, paths)
    screen.open(address, healthy.first("DX"))
    screen.show(healthy.report_number, lambda: screen.says("Probability: 33.00 %") >= 1)
    screen.keep("healthy-report")
    assert screen.says("Threshold Value: 41.60 %") >= 1
    assert screen.says(": absent") >= 1


def test_a_report_of_a_program_opens_with_its_number_of_a_whole_study(
    archive: Orthanc, address: str, screen: Screen, tmp_path: Path
) -> None:
    """The number names no image: the borders of all stand for it, else OHIF does not open the report."""
    site = Site(tmp_path)
    try:
        site.program(shell('echo \'{"measurements": {"diameter": 5}}\' > $out/result.json'))
        (report,) = site.read(*ct()).documents
    finally:
        site.close()
    images = sorted((tmp_path / "study").rglob("*.dcm"))
    for content in (*(path.read_bytes() for path in images), report.content):
        archive.call("POST", "/instances", content)
    screen.open(address, dcmread(images[0], stop_before_pixels=True))
    number = int(dcmread(BytesIO(report.content)).SeriesNumber)
    screen.show(number, lambda: screen.says("Diameter: 5.00 mm") >= 1)
    screen.keep("whole-study")
