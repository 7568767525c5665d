"""Radiographs of the spine through a real node into a real archive and viewer: angles, lines at their place, refusals.

The drawn spine is read with the weights that ship. Where SPINE_WEIGHTS names a file of spine_vertebrae that a site
trained, real films are read too: as the set has them, inverted, of 12 bits, compressed, cut, turned, small.
"""

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from support import Orthanc, installed, shared, site_weights
from support.node import RunningNode, configured, running, shipped_routes
from support.viewer import viewable_archive, viewer

installed("torch", "openvino", "playwright")

from support.browser import page  # noqa: E402
from support.screen import Screen, is_colored  # noqa: E402

from ainode.models.phantoms.spine import spine_radiograph  # noqa: E402
from ainode.models.spine_vertebrae.card import read_card  # noqa: E402
from ainode.models.spine_vertebrae.dataset import Film, films_of_part  # noqa: E402
from ainode.models.spine_vertebrae.geometry import curves, largest  # noqa: E402
from ainode.node import testing  # noqa: E402
from ainode.node.archive.dimse import Link  # noqa: E402
from ainode.node.archive.store import Outgoing, send  # noqa: E402
from ainode.node.domain import JobState, SyntheticImage, Value  # noqa: E402
from ainode.node.keeping.records import Job  # noqa: E402

WEIGHTS = "SPINE_WEIGHTS"
JPEG_LOSSLESS = "1.2.840.10008.1.2.4.70"
FILMS = ("spine_0029", "spine_0030")
HEADER: Mapping[str, Value] = {"BodyPartExamined": "WHOLESPINE", "ViewPosition": "AP", "SeriesDescription": "Spine"}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    with viewable_archive(tmp_path_factory.mktemp("archive")) as server:
        yield server


@pytest.fixture(scope="module")
def drawn_node(tmp_path_factory: pytest.TempPathFactory, archive: Orthanc) -> Iterator[RunningNode]:
    folder = tmp_path_factory.mktemp("drawn")
    with running(configured(folder, peers=[archive.peer], routes=shipped_routes("spine_angles"))) as node:
        yield node


@pytest.fixture(scope="module")
def site_node(tmp_path_factory: pytest.TempPathFactory, archive: Orthanc) -> Iterator[RunningNode]:
    if not os.environ.get(WEIGHTS):
        pytest.skip(f"{WEIGHTS} names no weights of `ainode train spine_vertebrae`")
    routes = shipped_routes("spine_angles", allowed=False)
    node = configured(tmp_path_factory.mktemp("site"), peers=[archive.peer], routes=routes)
    site_weights.bring(node, Path(os.environ[WEIGHTS]), name=read_card().weights, trained_on="spine_aasce")
    with running(node):
        yield node


def answered(node: RunningNode, archive: Orthanc, path: Path) -> Job:
    archive.call("POST", "/instances", path.read_bytes())
    send(Link(node.peer, "MODALITY"), [Outgoing.of(path)])
    job, _ = node.read(str(dcmread(path, stop_before_pixels=True).StudyInstanceUID), within_s=300)
    return job


def angle_of(job: Job) -> float:
    assert job.state is JobState.REPORTED, job.reason
    scores: dict[str, float] = json.loads(job.result or "{}")["scores"]
    return max(value for name, value in scores.items() if "Cobb angle" in name)


def a_radiograph(picture: NDArray[np.uint16], folder: Path, study: str, **header: Value) -> Path:
    rows, columns = picture.shape
    image = SyntheticImage(rows, columns, picture.astype("<u2").tobytes(), {**HEADER, **header})
    (path,) = testing.write([image], folder / study, study=study)
    return path


def documents_of(archive: Orthanc, path: Path) -> list[Dataset]:
    study = str(dcmread(path, stop_before_pixels=True).StudyInstanceUID)
    return [dcmread(BytesIO(archive.download(identifier))) for identifier in archive.instances_of(study).values()]


def lines_of_the_largest_curve(archive: Orthanc, path: Path) -> NDArray[np.float64]:
    """Return both ends of the first two lines in the report, (2, 2, 2): those of the largest curve come first."""
    (report,) = (item for item in documents_of(archive, path) if item.Modality == "SR")
    items = [item for one in report.iterall() if one.keyword == "ContentSequence" for item in one.value]
    lines = [np.reshape(item.GraphicData, (-1, 2)) for item in items if item.ValueType == "SCOORD"]
    return np.asarray([line for line in lines if len(line) == 2][:2])


def the_lines_are_drawn(archive: Orthanc, folder: Path, path: Path, name: str) -> None:
    """Hold OHIF to drawing the lines of the largest curve where the report has them."""
    lines = lines_of_the_largest_curve(archive, path)
    image = dcmread(path, stop_before_pixels=True)
    boxes = [(*line.min(axis=0), *line.max(axis=0)) for line in lines]
    report = next(item for item in documents_of(archive, path) if item.Modality == "SR")
    with viewer(archive.http_port) as address, page() as tab:
        screen = Screen(tab, folder)
        screen.open(address, image)
        screen.show(int(report.SeriesNumber), lambda: bool(screen.lines()))
        placed = [screen.placed(box, image) for box in boxes]

        def are_drawn() -> bool:
            drawn = np.array(screen.straight_lines())
            return all(np.abs(drawn - box).max(axis=1).min() < 4 for box in placed)

        screen.until(are_drawn)
        assert is_colored(screen.seen(name)).any()


def test_a_drawn_spine_is_measured_and_its_end_plates_are_drawn_in_the_viewer(
    drawn_node: RunningNode, archive: Orthanc, tmp_path: Path
) -> None:
    random = np.random.default_rng(6)
    drawn = spine_radiograph(random, rows=1400, columns=560, view="AP", region="WHOLE", abnormal=False)
    path = a_radiograph(drawn.image, tmp_path, "drawn spine")
    job = answered(drawn_node, archive, path)
    assert angle_of(job) == pytest.approx(largest(curves(drawn.corners)).angle, abs=5)
    the_lines_are_drawn(archive, tmp_path, path, "drawn-spine")


def film_of(name: str) -> Film:
    films = films_of_part(shared("data/labelled/spine_aasce"), "test")
    return next(film for film in films if film.name == name)


def as_dx(film: Film, folder: Path, variant: str) -> Path:
    """Return a film of the set as a DX image of 12 bits, changed as the variant says."""
    values, header = changed(film.picture.astype(np.uint16) << 4, variant)
    path = a_radiograph(values, folder, f"{film.name} {variant}", **header)
    if variant != "jpeg lossless":
        return path
    compressed = path.with_name("lossless.dcm")
    subprocess.run(["/usr/bin/dcmcjpeg", "+e1", str(path), str(compressed)], check=True, timeout=60)
    assert dcmread(compressed, stop_before_pixels=True).file_meta.TransferSyntaxUID == JPEG_LOSSLESS
    return compressed


def changed(values: NDArray[np.uint16], variant: str) -> tuple[NDArray[np.uint16], dict[str, Value]]:
    """Return pixels and header values of a variant."""
    rows, columns = values.shape
    header: dict[str, Value] = {}
    match variant:
        case "inverted":
            values, header = (
                4095 - values,
                {"PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "INVERSE"},
            )
        case "negative by mistake":
            values = 4095 - values
        case "turned by 5 degrees":
            turn = cv2.getRotationMatrix2D((columns / 2, rows / 2), 5, 0.95)
            values = np.asarray(cv2.warpAffine(values, turn, (columns, rows)), np.uint16)
        case "small in a large field":
            field = np.full((rows * 2, columns * 3), int(values.min()), np.uint16)
            field[rows // 2 : rows // 2 + rows, columns : 2 * columns] = values
            values = field
        case "wide pixels":
            values = np.asarray(cv2.resize(values, (256, rows), interpolation=cv2.INTER_AREA), np.uint16)
            header = dict.fromkeys(("PixelSpacing", "ImagerPixelSpacing"), (0.2, 0.2 * columns / 256))
    return values, header


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", FILMS)
def test_a_real_film_has_its_angle_however_it_is_encoded_and_its_lines_at_their_place(
    name: str, site_node: RunningNode, archive: Orthanc, tmp_path: Path
) -> None:
    film = film_of(name)
    variants = ("as it is", "inverted", "jpeg lossless")
    paths = {variant: as_dx(film, tmp_path, variant) for variant in variants}
    angles = {variant: angle_of(answered(site_node, archive, path)) for variant, path in paths.items()}
    assert angles["as it is"] == pytest.approx(film.largest_angle, abs=10)
    assert angles["inverted"] == pytest.approx(angles["as it is"], abs=0.1)
    assert angles["jpeg lossless"] == angles["as it is"]
    lines = lines_of_the_largest_curve(archive, paths["as it is"])
    # Each line is as much longer than its end plate, at both ends, as half a vertebra is wide.
    points = (lines.mean(axis=1, keepdims=True) + (lines - lines.mean(axis=1, keepdims=True)) / 2).reshape(-1, 2)
    nearest = np.linalg.norm(points[:, None] - film.corners.reshape(-1, 2), axis=2).min(axis=1)
    assert nearest.mean() < 20
    the_lines_are_drawn(archive, tmp_path, paths["as it is"], name)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", FILMS)
@pytest.mark.parametrize(
    "variant", ["negative by mistake", "turned by 5 degrees", "small in a large field", "wide pixels"]
)
def test_a_changed_real_film_has_the_angle_of_the_film(
    name: str, variant: str, site_node: RunningNode, archive: Orthanc, tmp_path: Path
) -> None:
    film = film_of(name)
    assert angle_of(answered(site_node, archive, as_dx(film, tmp_path, variant))) == pytest.approx(
        film.largest_angle, abs=10
    )


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", FILMS)
@pytest.mark.parametrize("half", ["upper", "lower"])
def test_half_a_real_film_has_the_angle_of_the_vertebrae_that_it_shows(
    name: str, half: str, site_node: RunningNode, archive: Orthanc, tmp_path: Path
) -> None:
    film = film_of(name)
    rows = film.picture.shape[0]
    cut = slice(0, round(0.6 * rows)) if half == "upper" else slice(round(0.4 * rows), rows)
    inside = (film.corners[:, :, 1] > cut.start + 8).all(axis=1) & (film.corners[:, :, 1] < cut.stop - 8).all(axis=1)
    true = largest(curves(film.corners[inside].astype(np.float64))).angle
    path = a_radiograph(film.picture[cut].astype(np.uint16) << 4, tmp_path, f"{name} {half}")
    assert angle_of(answered(site_node, archive, path)) == pytest.approx(true, abs=10)


OTHERS = (
    "cr_dx/gdcm/gdcm-CR-MONO1-10-chest.dcm",
    "cr_dx/nema/RG1_J2KI.dcm",
    "cr_dx/nema/RG2_J2KR",
    "cr_dx/nema/RG3_J2KI.dcm",
)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("other", OTHERS)
def test_a_chest_a_hip_or_a_limb_is_refused_though_its_header_says_spine(
    other: str, site_node: RunningNode, archive: Orthanc, tmp_path: Path
) -> None:
    image = dcmread(shared(f"data/dicom/{other}"))
    if image.file_meta.TransferSyntaxUID.is_compressed:
        image.decompress()
    for keyword in ("AnatomicRegionSequence", "SeriesDescription", "StudyDescription", "ProtocolName"):
        if keyword in image:
            del image[keyword]
    image.BodyPartExamined, image.ViewPosition = "TSPINE", "AP"
    image.StudyInstanceUID = testing.uid(other, "study")
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = testing.uid(other, "image")
    path = tmp_path / "other.dcm"
    image.save_as(path)
    job = answered(site_node, archive, path)
    assert job.state is JobState.OUT_OF_SCOPE, job.result
    assert "the picture shows no spine from the front" in job.reason


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_the_side_view_of_a_real_ct_is_refused_though_its_header_names_no_view(
    site_node: RunningNode, archive: Orthanc, tmp_path: Path
) -> None:
    image = dcmread(shared("data/dicom/spine/drr_from_R01-001/tspine_lat_mono2.dcm"))
    for keyword in ("ViewPosition", "PatientOrientation", "SeriesDescription", "StudyDescription", "ViewCodeSequence"):
        if keyword in image:
            del image[keyword]
    image.StudyInstanceUID = testing.uid("side view", "study")
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = testing.uid("side view", "image")
    path = tmp_path / "side.dcm"
    image.save_as(path)
    job = answered(site_node, archive, path)
    assert job.state is JobState.OUT_OF_SCOPE, job.result
    assert "it looks like another view or another part of the body" in job.reason


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", FILMS)
def test_a_real_film_upside_down_is_refused_before_its_levels_are_named(
    name: str, site_node: RunningNode, archive: Orthanc, tmp_path: Path
) -> None:
    picture = film_of(name).picture[::-1, ::-1].astype(np.uint16) << 4
    job = answered(site_node, archive, a_radiograph(picture, tmp_path, f"{name} upside down"))
    assert job.state is JobState.OUT_OF_SCOPE, job.result
    assert "the picture shows no spine from the front" in job.reason


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_the_frontal_projection_of_a_real_ct_is_read(site_node: RunningNode, archive: Orthanc) -> None:
    job = answered(site_node, archive, shared("data/dicom/spine/drr_from_R01-001/tspine_ap_mono2.dcm"))
    assert angle_of(job) < 20
