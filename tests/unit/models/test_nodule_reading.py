"""Nodules of a chest are found, outlined once each and judged; a mass and an abdomen are refused in words."""

from __future__ import annotations

from dataclasses import replace
from math import dist
from pathlib import Path

import numpy as np
import pytest
from support import installed

installed("torch", "openvino", "safetensors", "timm")

from ainode import weights  # noqa: E402
from ainode.models.following import Grid, Omission  # noqa: E402
from ainode.models.following.grid import triple  # noqa: E402
from ainode.models.nodule_detection.model import Candidate, Detection  # noqa: E402
from ainode.models.nodule_detection.search import Search, searched  # noqa: E402
from ainode.models.nodule_malignancy.card import read_card  # noqa: E402
from ainode.models.nodule_outline.model import OutlinedNodule  # noqa: E402
from ainode.models.nodule_reading.density import Density, density_of  # noqa: E402
from ainode.models.nodule_reading.search import NoduleSearch, outlined, traits_model  # noqa: E402
from ainode.models.nodule_reading.weights import DETECTION, MALIGNANCY, OUTLINE, TRAITS  # noqa: E402
from ainode.models.phantoms.thorax import Field, Nodule, thorax  # noqa: E402
from ainode.models.running.runtime import Execution  # noqa: E402
from ainode.node.reading.weights import WeightStore  # noqa: E402

AXES = ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0))
SPACING = (2.5, 1.8, 1.8)
BALLS = (Nodule((0.1, 0.3, 0.5), 9.0), Nodule((-0.2, 0.5, -0.5), 14.0))
MIDDLE = (40.0, 40.0, 40.0)


@pytest.fixture(scope="module")
def search(tmp_path_factory: pytest.TempPathFactory) -> NoduleSearch:
    store = WeightStore(tmp_path_factory.mktemp("site"))
    paths = {name: store.verified(name) for name in (DETECTION, OUTLINE, MALIGNANCY)}
    return NoduleSearch.load(paths, execution=Execution(tmp_path_factory.mktemp("cache"), "torch-cpu"))


@pytest.fixture(scope="module")
def phantom() -> tuple[Grid, list[tuple[float, float, float]]]:
    """Return a phantom chest, and the middles of its nodules, LPS mm."""
    chest = thorax(5, 1, scanned=Field((76, 134, 166), SPACING), nodules=BALLS)
    scan = Grid(chest.values, (-3.0, 5.0, 40.0), SPACING, AXES)
    return scan, [triple(scan.positions(center)) for center in chest.nodule_centers]


@pytest.fixture(scope="module")
def detection(search: NoduleSearch, phantom: tuple[Grid, list[tuple[float, float, float]]]) -> Detection:
    candidates = searched(phantom[0], 40)  # of 600: the network reads each
    assert isinstance(candidates, Search)
    probabilities = search.detector.probabilities(candidates)
    marks = zip(candidates.blobs.places, candidates.blobs.diameters, probabilities, strict=True)
    listed = [Candidate(triple(candidates.cells.positions(place)), size, sure) for place, size, sure in marks]
    return Detection(tuple(sorted(listed, key=lambda mark: -mark.probability)), search.detector.calibration.threshold)


def lung_with(radius_mm: float, density_hu: float) -> Grid:
    """Return lung with a ball of a density in its middle."""
    z, y, x = (np.indices((80, 80, 80)) - 40.0).astype(np.float32)
    share = np.clip(radius_mm - np.sqrt(z**2 + y**2 + x**2) + 0.5, 0, 1)
    noise = np.random.default_rng(0).normal(0, 15, share.shape)
    return Grid((-850 + share * (density_hu + 850) + noise).astype(np.float32), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), AXES)


def test_both_nodules_of_a_chest_are_found_outlined_and_judged(
    search: NoduleSearch, phantom: tuple[Grid, list[tuple[float, float, float]]], detection: Detection
) -> None:
    scan, middles = phantom
    answer = outlined(detection, search.reader, scan, 4)
    for middle, ball in zip(middles, BALLS, strict=True):
        (nodule,) = (nodule for nodule in answer.nodules if dist(nodule.position_mm, middle) < 2)
        # A generous outline, on pixels of 1.8 mm.
        assert nodule.outline.size.long_axis_mm == pytest.approx(ball.diameter_mm, abs=2.5)
        assert 0 < search.reader.prediction(nodule.outline, scan).probability < 1
    sureness = [nodule.mark.probability for nodule in answer.nodules]
    assert sureness == sorted(sureness, reverse=True)


def test_as_many_nodules_as_wanted_are_outlined_and_the_other_marks_are_counted(
    search: NoduleSearch, phantom: tuple[Grid, list[tuple[float, float, float]]], detection: Detection
) -> None:
    everything, single = (outlined(detection, search.reader, phantom[0], most) for most in (3, 1))
    assert [nodule.position_mm for nodule in single.nodules] == [everything.nodules[0].position_mm]
    assert single.further >= len(everything.nodules) - 1 > 0


def test_two_marks_in_one_outline_are_one_nodule(
    search: NoduleSearch, phantom: tuple[Grid, list[tuple[float, float, float]]], detection: Detection
) -> None:
    scan, middles = phantom
    mark = min(detection.marks, key=lambda mark: dist(mark.position_mm, middles[1]))
    x, y, z = mark.position_mm
    beside = replace(mark, position_mm=(x + 5, y, z), probability=0.9 * mark.probability)
    answer = outlined(Detection((mark, beside), 0.0), search.reader, scan, 1)
    assert (len(answer.nodules), answer.further) == (1, 0)


def test_a_body_without_lungs_is_not_searched(search: NoduleSearch) -> None:
    answer = search.search(lung_with(9, 40), 5)
    assert isinstance(answer, Omission)
    assert "ml of lung" in answer.reason


def test_a_mass_has_no_outline_but_a_reason(search: NoduleSearch) -> None:
    answer = search.reader.outline(lung_with(18, 40), MIDDLE)
    assert isinstance(answer, Omission)
    assert answer.reason.endswith("more than 30 mm: a mass, not a nodule")


def test_a_ball_of_fat_has_a_reason_with_its_size_and_no_probability(search: NoduleSearch) -> None:
    answer = search.reader.outline(lung_with(8, -90), MIDDLE)
    assert isinstance(answer, Omission)
    assert answer.code == "fat"
    assert " mm3: the model has not learned from nodules of fat; no probability" in answer.reason


@pytest.mark.parametrize(
    ("density_hu", "density"), [(40, Density.SOLID), (-600, Density.GROUND_GLASS)], ids=["soft tissue", "ground glass"]
)
def test_the_density_follows_from_the_hounsfield_units(
    search: NoduleSearch, density_hu: float, density: Density
) -> None:
    nodule = search.reader.outline(lung_with(7, density_hu), MIDDLE)
    assert isinstance(nodule, OutlinedNodule), nodule
    assert density_of(nodule) is density


def test_a_solid_core_in_ground_glass_is_part_solid(search: NoduleSearch) -> None:
    glass, core = lung_with(9, -600), lung_with(4, 40)
    scan = replace(glass, values=np.maximum(glass.values, core.values))
    nodule = search.reader.outline(scan, MIDDLE)
    assert isinstance(nodule, OutlinedNodule), nodule
    assert density_of(nodule) is Density.PART_SOLID


def test_the_traits_judge_the_outline_where_their_weights_are(search: NoduleSearch) -> None:
    head = next(iter(weights.__path__)) + "/" + read_card().file
    traits = traits_model({TRAITS: Path(head)}, search.reader.outlines)
    assert traits is not None
    reader = replace(search.reader, traits=traits)
    scan = lung_with(7, 40)
    nodule = reader.outline(scan, MIDDLE)
    assert isinstance(nodule, OutlinedNodule), nodule
    reading = traits.reading(nodule)
    assert reader.prediction(nodule, scan).probability == reading.probability
    assert reader.density(nodule) == reading.kind == "solid"
    assert traits_model({}, search.reader.outlines) is None
