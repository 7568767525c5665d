from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from ainode.models.errors import CheckpointRefused, MissingNetwork, ModelError
from ainode.models.following.grid import Grid, Omission
from ainode.models.nodule_detection import card, dataset, implanting
from ainode.models.nodule_detection.candidates import blobs_of
from ainode.models.nodule_detection.cells import cells_of, halved
from ainode.models.nodule_detection.dataset import AXES, Chest, Nodule
from ainode.models.nodule_detection.froc import sensitivities, sensitivity_at, threshold_at
from ainode.models.nodule_detection.lungs import Lungs, lungs_of
from ainode.models.nodule_detection.model import NoduleDetector, distinct, reference_answers, reference_cubes
from ainode.models.phantoms.abdomen import abdomen
from ainode.models.phantoms.thorax import Field, Thorax, thorax
from ainode.models.phantoms.thorax import Nodule as Ball
from ainode.models.running.runtime import Execution

ROOT = Path(__file__).parents[3]
SHIPPED = ROOT / "weights" / card.read_card().file
REAL = ROOT.parent / "shared" / "data" / "dicom" / "ct_chest_thin_R01-001"
SPACING = (3.0, 2.0, 2.0)
BALLS = (Ball((0.1, 0.3, 0.5), 9.0), Ball((-0.2, 0.5, -0.5), 14.0))
START = (0.0, 0.0, 0.0)


@pytest.fixture(scope="module")
def phantom() -> Thorax:
    return thorax(5, 1, scanned=Field((64, 120, 150), SPACING), nodules=BALLS)


@pytest.fixture(scope="module")
def chest(phantom: Thorax) -> Chest:
    scan = scan_of(phantom.values)
    lungs = lungs_of(scan)
    assert isinstance(lungs, Lungs)
    return Chest("phantom", scan, lungs)


def scan_of(values: NDArray[np.float32], spacing: tuple[float, float, float] = SPACING) -> Grid:
    return Grid(values, START, spacing, AXES)


def distances_mm(shape: tuple[int, int, int], center: tuple[float, float, float]) -> NDArray[np.float64]:
    steps = np.asarray(SPACING)[:, None, None, None]
    return np.asarray(np.linalg.norm((np.indices(shape) - np.reshape(center, (3, 1, 1, 1))) * steps, axis=0))


def a_nodule(diameter_mm: float, patient: str = "one") -> Nodule:
    """Return a ball of soft tissue in lung, cut out tightly along z, with the noise of a scan."""
    random = np.random.default_rng(0)
    reach = round(diameter_mm / 2)
    z, y, x = np.meshgrid(*(np.arange(-n, n + 1) for n in (reach, reach + 8, reach + 8)), indexing="ij")
    mask = z**2 + y**2 + x**2 <= (diameter_mm / 2) ** 2
    values = ndimage.gaussian_filter(np.where(mask, 40.0, -860.0), 0.6) + random.normal(0, 20, mask.shape)
    return Nodule(values.astype(np.float32), mask, (1.0, 1.0, 1.0), diameter_mm, patient)


def test_both_lungs_are_found_with_what_is_in_them(phantom: Thorax, chest: Chest) -> None:
    covered = chest.lungs.grid.nearest_values(chest.scan) > 0
    assert (covered & phantom.lungs).sum() > 0.98 * phantom.lungs.sum()
    assert covered.sum() < 1.06 * phantom.lungs.sum()
    for center in phantom.nodule_centers:
        assert covered[tuple(np.rint(center).astype(int))]


def test_a_nodule_at_the_wall_is_inside_of_the_closed_lungs(phantom: Thorax, chest: Chest) -> None:
    edge = np.argwhere(phantom.lungs[32, 60])[0][0]
    center = (32.0, 60.0, edge + 2.0)
    ball = distances_mm(phantom.values.shape, center) < 8  # type: ignore[arg-type]
    lungs = lungs_of(scan_of(np.where(ball, np.float32(30), phantom.values)))
    assert isinstance(lungs, Lungs)
    covered = lungs.grid.nearest_values(chest.scan) > 0
    assert (covered & ball & phantom.lungs).sum() > 0.8 * (ball & phantom.lungs).sum()


def test_an_abdomen_is_refused_in_words() -> None:
    picture = abdomen(np.random.default_rng(3), slices=16, side=192, step_mm=2.5)
    refusal = lungs_of(scan_of(picture.values.astype(np.float32), picture.spacing_mm))
    assert isinstance(refusal, Omission)
    assert "ml of lung" in refusal.reason


def test_thick_slices_are_refused_in_words(phantom: Thorax) -> None:
    refusal = lungs_of(scan_of(phantom.values, (5.0, 2.0, 2.0)))
    assert isinstance(refusal, Omission)
    assert refusal.reason.startswith("voxels of 5.0 x 2.0 x 2.0 mm are too coarse")


@pytest.mark.parametrize("spacing", [(2.0, 0.6, 0.6), (0.5, 1.4, 1.4)])
def test_cells_of_a_millimeter_show_the_same_ramp(spacing: tuple[float, float, float]) -> None:
    index = np.indices((40, 30, 36)).astype(np.float32)
    scan = Grid(np.tensordot(np.float32([2, 3, 5]), index, 1), (7.0, 8.0, 9.0), spacing, AXES)
    cells = cells_of(scan)
    assert cells.spacing_mm == pytest.approx((1, 1, 1), abs=0.05)
    inner = tuple(slice(4, -4) for _ in range(3))
    positions = cells.positions(np.moveaxis(np.indices(cells.values.shape), 0, -1))
    assert cells.values[inner] == pytest.approx(scan.values_at(positions)[inner], abs=0.8)
    assert halved(cells.values).shape == tuple(n // 2 for n in cells.values.shape)


def test_a_ball_is_the_first_candidate_and_a_vessel_is_behind() -> None:
    z, y, x = np.indices((60, 60, 60)).astype(np.float32)
    values = np.full((60, 60, 60), -850, np.float32)
    values[(y - 15) ** 2 + (x - 15) ** 2 < 4**2] = 50
    values[(z - 30) ** 2 + (y - 40) ** 2 + (x - 42) ** 2 < 5**2] = 50
    blobs = blobs_of(values, np.ones_like(values))
    assert blobs.places[0] == pytest.approx((30, 40, 42), abs=1)
    assert blobs.diameters[0] == pytest.approx(10, rel=0.25)
    assert (blobs.strengths[1:] < 0.5 * blobs.strengths[0]).all()


def test_an_implanted_nodule_has_its_own_density_and_the_lung_around_stays(chest: Chest) -> None:
    random = np.random.default_rng(1)
    scan, (implant,) = implanting.implanted(chest, [a_nodule(12)], [], chest, random)
    distance = distances_mm(scan.values.shape, implant.place)  # type: ignore[arg-type]
    assert np.median(scan.values[distance < 3]) == pytest.approx(40, abs=25)
    far = distance > 6 + 3 + 3
    assert np.array_equal(scan.values[far], chest.scan.values[far])
    assert scan.values.max() <= chest.scan.values.max()


def test_a_control_leaves_the_lung_without_anything_dense(chest: Chest) -> None:
    random = np.random.default_rng(2)
    scan, implants = implanting.implanted(chest, [], [a_nodule(10)] * 3, chest, random)
    assert implants
    assert not any(implant.is_nodule for implant in implants)
    for implant in implants:
        distance = distances_mm(scan.values.shape, implant.place)  # type: ignore[arg-type]
        changed = scan.values != chest.scan.values
        assert (changed & (distance < 5)).any()
        assert np.percentile(scan.values[changed & (distance < 5)], 90) < -600


def test_the_free_response_counts_false_marks_of_all_scans() -> None:
    false, nodules = [0.9, 0.7, 0.5, 0.3, 0.2], [0.95, 0.6, 0.25, -1.0]
    assert threshold_at(false, 2, 1) == 0.5
    assert sensitivities(nodules, false, 2, (0.5, 1, 2)).tolist() == [0.25, 0.5, 0.75]
    estimate = sensitivity_at(nodules, ["a", "b", "c", "d"], false, 2, 8)
    assert (estimate.value, estimate.n) == (1.0, 4)


def test_a_candidate_within_a_likelier_candidate_is_no_second_mark() -> None:
    places = np.array([[0.0, 0, 0], [0, 0, 5], [0, 0, 20]])
    assert distinct(places, np.array([12.0, 12, 4]), np.array([0.5, 0.9, 0.7])) == [1, 2]


def test_the_inputs_that_a_precision_is_tried_with_have_answers_between_yes_and_no(tmp_path: Path) -> None:
    model = NoduleDetector.load({card.read_card().network: SHIPPED}, execution=Execution(tmp_path, "cpu"))
    probabilities = reference_answers(model, reference_cubes())
    # Where all answers are 1, no precision moves one.
    assert ((probabilities > 0.05) & (probabilities < 0.95)).sum() >= 10


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    execution = Execution(tmp_path, "torch-cpu")
    with pytest.raises(MissingNetwork):
        NoduleDetector.load({}, execution=execution)
    other = ROOT / "weights" / "lung_nodule_temporal.safetensors"
    with pytest.raises(CheckpointRefused, match="no slope, intercept and threshold"):
        NoduleDetector.load({card.read_card().network: other}, execution=execution)


def test_a_folder_without_the_data_set_is_refused_by_the_name_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"train\.npz is missing"):
        dataset.nodules_of(tmp_path, "train")


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> NoduleDetector:
    execution = Execution(tmp_path_factory.mktemp("networks"), "cpu")
    return NoduleDetector.load({card.read_card().network: SHIPPED}, execution=execution)


@pytest.mark.skipif(not REAL.is_dir(), reason="the CT of R01-001 is not here")
def test_the_nodule_of_a_real_ct_is_among_the_first_three_marks(detector: NoduleDetector) -> None:
    slices = sorted(
        (pydicom.dcmread(path) for path in (REAL / "dicom").glob("*.dcm")),
        key=lambda instance: float(instance.ImagePositionPatient[2]),
    )
    values = np.stack([i.pixel_array * float(i.RescaleSlope) + float(i.RescaleIntercept) for i in slices])
    x, y, z = (float(coordinate) for coordinate in slices[0].ImagePositionPatient)
    rows, columns = map(float, slices[0].PixelSpacing)
    scan = Grid(values.astype(np.float32), (x, y, z), (1.0, rows, columns), AXES)
    detection = detector.predict(scan)
    assert not isinstance(detection, Omission)
    truth = json.loads((REAL / "nodule.json").read_text("utf-8"))["nodule_center_LPS_mm"]
    distances = [np.linalg.norm(np.subtract(mark.position_mm, truth)) for mark in detection.marks[:3]]
    assert min(distances) < 8
