"""A nodule's size against balls of known volume, and its growth against the phantom's."""

from __future__ import annotations

from math import pi

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from ainode.models.following import Grid, Growth, NoduleSize, Omission, Position, growth, nodule_size
from ainode.models.phantoms.thorax import Field, Nodule, nodule_position, thorax
from ainode.models.phantoms.thorax_anatomy import Build

AXES: tuple[Position, Position, Position] = ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0))
THIN, USUAL, THICK = (0.7, 0.6, 0.6), (1.0, 0.7, 0.7), (1.5, 0.8, 0.8)
LUNG_HU, SOLID_HU = -850.0, 30.0


def _ball(diameter_mm: float) -> float:
    return pi / 6 * diameter_mm**3


def _scan(
    radii_mm: tuple[float, float, float],
    spacing_mm: tuple[float, float, float] = USUAL,
    *,
    density_hu: float = SOLID_HU,
    vessel_mm: float = 0.0,
    wall_mm: float = np.inf,
) -> tuple[Grid, Position]:
    """Return an ellipsoid in lung as a scanner sees it: partial volume, blur, noise; its middle is between voxels.

    Units: a vessel of that radius runs to the left; a wall begins that far behind the middle.
    """
    random = np.random.default_rng(round(100 * sum(radii_mm) + sum(spacing_mm)))
    reach = max(radii_mm) + 9.0
    size = [round(2 * reach / step) for step in spacing_mm]
    middle = reach + random.uniform(-0.5, 0.5, 3)
    filled, parts = np.zeros(size, np.float32), 3
    for part in np.ndindex(parts, parts, parts):
        at = [(np.arange(n) + (k + 0.5) / parts - 0.5) * s for n, k, s in zip(size, part, spacing_mm, strict=True)]
        z, y, x = np.ix_(*(one - m for one, m in zip(at, middle, strict=True)))
        inside = (z / radii_mm[0]) ** 2 + (y / radii_mm[1]) ** 2 + (x / radii_mm[2]) ** 2 < 1
        inside |= ((z**2 + y**2 < vessel_mm**2) & (x > 0)) | (y > wall_mm)
        filled += inside / parts**3
    values = gaussian_filter(LUNG_HU + (density_hu - LUNG_HU) * filled, [0.3, 0.7 / spacing_mm[1], 0.7 / spacing_mm[2]])
    values += random.normal(0, 40, size)
    z, y, x = (float(one) for one in middle)
    return Grid(values.astype(np.float32), (0.0, 0.0, 0.0), spacing_mm, AXES), (x, y, z)


def _sized(scan: Grid, position: Position) -> NoduleSize:
    answer = nodule_size(scan, position)
    assert isinstance(answer, NoduleSize), answer
    return answer


def _refused(scan: Grid, position: Position) -> str:
    answer = nodule_size(scan, position)
    assert isinstance(answer, Omission), answer
    return answer.code


@pytest.mark.parametrize(
    ("diameter_mm", "spacing_mm"),
    [(5.0, THIN), (5.0, USUAL), (5.0, THICK), (8.0, THICK), (12.0, USUAL), (20.0, THIN), (20.0, THICK)],
)
def test_the_volume_of_an_isolated_nodule_is_within_ten_percent(
    diameter_mm: float, spacing_mm: tuple[float, float, float]
) -> None:
    scan, center = _scan((diameter_mm / 2,) * 3, spacing_mm)
    found = _sized(scan, (center[0] + 1.0, center[1] - 1.0, center[2] + 1.0))
    assert found.volume_mm3 == pytest.approx(_ball(diameter_mm), rel=0.1)
    assert found.diameter_mm == pytest.approx(diameter_mm, abs=0.6)
    assert found.maximum_mm == pytest.approx(diameter_mm, abs=0.6)
    assert np.linalg.norm(np.subtract(found.position_mm, center)) < 0.5


def test_long_and_short_axis_are_those_of_the_axial_slice() -> None:
    found = _sized(*_scan((8.0, 4.0, 6.0)))
    assert found.long_axis_mm == pytest.approx(12, abs=0.7)
    assert found.short_axis_mm == pytest.approx(8, abs=0.7)
    assert found.diameter_mm == pytest.approx(10, abs=0.7)
    assert found.maximum_mm == pytest.approx(16, abs=0.9)


@pytest.mark.parametrize("diameter_mm", [6.0, 8.0, 14.0])
def test_a_vessel_is_cut_off(diameter_mm: float) -> None:
    scan, center = _scan((diameter_mm / 2,) * 3, vessel_mm=1.2)
    assert _sized(scan, center).volume_mm3 == pytest.approx(_ball(diameter_mm), rel=0.1)


def test_a_nodule_that_touches_the_wall_is_cut_off() -> None:
    scan, center = _scan((6.0, 6.0, 6.0), wall_mm=5.0)
    assert _sized(scan, center).volume_mm3 == pytest.approx(_ball(12), rel=0.15)


def test_a_nodule_sunk_into_the_wall_is_not_measured() -> None:
    assert _refused(*_scan((6.0, 6.0, 6.0), wall_mm=1.0)) in {"attached", "too-large", "cut"}


def test_ground_glass_is_not_measured_as_solid() -> None:
    assert _refused(*_scan((6.0, 6.0, 6.0), density_hu=-600.0)) in {"nothing-dense", "not-solid"}


def test_lung_alone_has_no_size() -> None:
    scan, center = _scan((2.0, 2.0, 2.0))
    assert _refused(scan, (center[0] + 9, center[1], center[2])) == "nothing-dense"


def test_a_mass_is_not_measured() -> None:
    assert _refused(*_scan((20.0, 20.0, 20.0), (2.0, 1.5, 1.5))) == "too-large"


def test_a_nodule_at_the_edge_of_the_scan_is_not_measured() -> None:
    scan, (x, y, z) = _scan((5.0, 5.0, 5.0))
    first = round(z - 3)  # slices of 1 mm
    cut = Grid(scan.values[first:], (0.0, 0.0, float(first)), scan.spacing_mm, scan.axes)
    assert _refused(cut, (x, y, z)) == "cut"
    assert _refused(cut, (x, y, z - 10)) == "outside"


@pytest.mark.parametrize("spacing_mm", [THIN, THICK])
def test_the_growth_is_the_phantoms(spacing_mm: tuple[float, float, float]) -> None:
    patient, before_mm, after_mm = 3, 8.0, 11.0
    place = nodule_position(np.random.default_rng(4), patient, after_mm)
    center = Nodule(place, after_mm).center_mm(Build.of_patient(patient))
    sizes = []
    for day, diameter_mm in enumerate((before_mm, after_mm)):
        size = [round(64 / step) for step in spacing_mm]
        field = Field((size[0], size[1], size[2]), spacing_mm, center)
        drawn = thorax(patient, day, scanned=field, nodules=(Nodule(place, diameter_mm),))
        grid = Grid(drawn.values, (0.0, 0.0, 0.0), spacing_mm, AXES)
        x, y, z = grid.positions(drawn.nodule_centers[0])
        sizes.append(_sized(grid, (float(x), float(y), float(z))))
    change = growth(sizes[0].volume_mm3, sizes[1].volume_mm3, days=180)
    assert isinstance(change, Growth)
    assert change.percent == pytest.approx(100 * (_ball(after_mm) / _ball(before_mm) - 1), rel=0.1)


def test_a_nodule_of_twice_the_volume_after_a_hundred_days_doubles_in_a_hundred_days() -> None:
    change = growth(400, 800, days=100)
    assert isinstance(change, Growth)
    assert change.percent == pytest.approx(100)
    assert change.doubling_time_days == pytest.approx(100)
    assert not change.reason


@pytest.mark.parametrize(
    ("later_mm3", "said"), [(480.0, "no significant"), (330.0, "no significant"), (200.0, "smaller")]
)
def test_without_significant_growth_there_is_no_doubling_time_and_the_reason_is_said(
    later_mm3: float, said: str
) -> None:
    change = growth(400, later_mm3, days=100)
    assert isinstance(change, Growth)
    assert change.doubling_time_days is None
    assert said in change.reason


def test_two_scans_of_one_day_say_nothing_of_growth() -> None:
    answer = growth(400, 800, days=0.4)
    assert isinstance(answer, Omission)
    assert answer.code == "too-soon"


@pytest.mark.parametrize("spacing_mm", [THIN, THICK])
def test_the_outline_encloses_the_ball_in_every_slice_of_the_scan(spacing_mm: tuple[float, float, float]) -> None:
    scan, position = _scan((6.0, 6.0, 6.0), spacing_mm)
    outline = _sized(scan, position).outline
    assert len(outline) == pytest.approx(12.0 / spacing_mm[0], abs=2)
    assert all(contour[0] == contour[-1] and len({point[2] for point in contour}) == 1 for contour in outline)
    distances = [np.linalg.norm(np.asarray(point) - position) for contour in outline for point in contour]
    assert max(distances) < 6.0 + 1.0
    volume = sum(_area(np.asarray(contour)) for contour in outline) * spacing_mm[0]
    assert volume == pytest.approx(_ball(12.0), rel=0.25)


def _area(contour: np.ndarray) -> float:
    x, y = contour[:, 0], contour[:, 1]
    return abs(float(np.dot(x[:-1], y[1:]) - np.dot(x[1:], y[:-1]))) / 2
