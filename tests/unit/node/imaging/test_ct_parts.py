"""The lungs, and what lies below them, are cut out of a longer scan; numbers and places stay those of the whole."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from support.bodies import Arrange, Values, abdomen, chest, study, with_gas

from ainode.node.domain import OutOfScope, SyntheticImage
from ainode.node.imaging.ct_parts import CtPart, below_lungs, lungs
from ainode.node.imaging.ct_series import CtRequirements
from ainode.node.imaging.geometry import Stack, Volume, stack, volume

WANTED = CtRequirements(min_slices=16, min_coverage_mm=60, max_spacing_mm=10)
Cut = Callable[[Stack, Volume, CtRequirements], CtPart | OutOfScope]


def cut(values: Values, folder: Path, *, find: Cut = lungs, arrange: Arrange = tuple, **header: object) -> CtPart:
    part = answer(values, folder, find=find, arrange=arrange, **header)
    assert isinstance(part, CtPart), part
    return part


def answer(
    values: Values, folder: Path, *, find: Cut = lungs, arrange: Arrange = tuple, **header: object
) -> CtPart | OutOfScope:
    slices = stack(study(values, folder, arrange=arrange, **header).instances)  # type: ignore[arg-type]
    assert isinstance(slices, Stack)
    return find(slices, volume(slices), WANTED)


def backwards(images: Sequence[SyntheticImage]) -> list[SyntheticImage]:
    return list(images[::-1])


@pytest.mark.parametrize("below", [abdomen(0), abdomen(3), with_gas(abdomen(0), 5, 12)])
@pytest.mark.parametrize("arrange", [tuple, backwards])
def test_a_chest_gives_the_same_values_alone_and_above_an_abdomen(
    below: Values, arrange: Arrange, tmp_path: Path
) -> None:
    alone = cut(chest(0, 4), tmp_path / "alone")
    longer = cut(np.concatenate([below, chest(0, 4)]), tmp_path / "longer", arrange=arrange)
    assert np.array_equal(alone.volume.values, longer.volume.values)
    assert longer.first == alone.first + 40
    assert str(longer) == f"slices {longer.first + 1} to {longer.first + len(longer.slices.instances)} of 80: the lungs"


def test_slices_and_voxels_of_a_part_lie_where_they_lay_in_the_whole(tmp_path: Path) -> None:
    part = cut(np.concatenate([abdomen(0), chest(0)]), tmp_path)
    for number, instance in enumerate(part.slices.instances):
        place = np.asarray(instance.header["ImagePositionPatient"], float)
        assert part.slices.position(number, 0, 0) == pytest.approx(place)
        assert part.volume.position((number, 0, 0)) == pytest.approx(place)


def test_slices_that_run_to_the_feet_are_cut_to_the_same_lungs(tmp_path: Path) -> None:
    values = np.concatenate([abdomen(0), chest(0)])
    straight = cut(values, tmp_path / "to the head")
    header = {"ImageOrientationPatient": (-1.0, 0.0, 0.0, 0.0, 1.0, 0.0)}
    turned = cut(values[:, :, ::-1], tmp_path / "to the feet", **header)
    assert turned.slices.normal[2] < 0
    assert np.array_equal(turned.volume.values, straight.volume.values)
    assert turned.first == 80 - straight.first - len(straight.slices.instances)
    assert str(turned) == str(straight)
    lowest = turned.slices.instances[-1]
    assert turned.volume.position((0, 0, 0))[2] == pytest.approx(lowest.header["ImagePositionPatient"][2])  # type: ignore[index]


def test_too_little_lung_is_refused_with_its_slices(tmp_path: Path) -> None:
    refusal = answer(np.concatenate([abdomen(0), chest(0)[:15]]), tmp_path)
    assert isinstance(refusal, OutOfScope)
    assert refusal.code == "too-few-slices"
    assert "of 55: the lungs: 9 slices; 16 are needed" in refusal.reason


def test_a_body_without_lungs_is_refused(tmp_path: Path) -> None:
    refusal = answer(abdomen(0), tmp_path)
    assert isinstance(refusal, OutOfScope)
    assert refusal.code == "no-lung"


def test_what_lies_below_the_lungs_is_an_abdomen_and_without_lungs_everything_is(tmp_path: Path) -> None:
    below = cut(np.concatenate([abdomen(0), chest(0)]), tmp_path / "longer", find=below_lungs)
    whole = cut(abdomen(0), tmp_path / "alone", find=below_lungs)
    assert (below.first, whole.first) == (0, 0)
    assert np.array_equal(below.volume.values[:40], whole.volume.values)
    assert 40 < len(below.slices.instances) < 50
    assert str(whole) == "slices 1 to 40 of 40: the abdomen"


def test_a_chest_down_to_its_last_slice_has_no_abdomen(tmp_path: Path) -> None:
    refusal = answer(chest(0)[15:], tmp_path, find=below_lungs)
    assert isinstance(refusal, OutOfScope)
    assert refusal.code == "no-abdomen"


def test_a_part_of_lungs_that_the_scan_cuts_says_so(tmp_path: Path) -> None:
    assert "does not hold the whole lungs" in str(cut(chest(0)[:25], tmp_path / "half"))
    assert "whole lungs" not in str(cut(chest(0), tmp_path / "whole"))
