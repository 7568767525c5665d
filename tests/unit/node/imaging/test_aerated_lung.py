"""Aerated lung is measured on each slice by itself, and the lungs are found in a longer scan."""

from pathlib import Path

import numpy as np
import pytest
from support import shared
from support.bodies import SPACING_MM, Values, abdomen, chest, head, with_gas

from ainode.node.imaging.aerated_lung import LEAST_SHARE, cut_lungs, lung_shares, lung_slices


def lungs(values: Values) -> range:
    return lung_slices(lung_shares(values), SPACING_MM[0])


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("consolidations", [0, 4])
def test_the_lungs_are_the_same_slices_with_an_abdomen_below(seed: int, consolidations: int) -> None:
    alone, longer = chest(seed, consolidations), np.concatenate([abdomen(seed), chest(seed, consolidations)])
    assert len(lungs(alone)) > 25
    assert [number - 40 for number in lungs(longer)] == list(lungs(alone))


def test_slices_in_reverse_have_the_same_lungs() -> None:
    forward, backward = lungs(chest(0)), lungs(chest(0)[::-1])
    assert sorted(39 - number for number in backward) == list(forward)


@pytest.mark.parametrize("hounsfield", [-1000, -850])
def test_gas_of_the_bowel_far_below_is_no_lung(hounsfield: float) -> None:
    longer = np.concatenate([with_gas(abdomen(0), 5, 12, hounsfield), chest(0)])
    assert [number - 40 for number in lungs(longer)] == list(lungs(chest(0)))


def test_consolidated_lung_between_aerated_slices_does_not_end_the_lungs() -> None:
    consolidated = chest(0).copy()
    middle = consolidated[18:22]
    middle[(middle < -500) & (middle > -950)] = 30
    assert lung_shares(consolidated)[20] < LEAST_SHARE
    assert lungs(consolidated) == lungs(chest(0))


@pytest.mark.parametrize("values", [abdomen(0), abdomen(3), head(), np.full((20, 96, 96), -1000, np.float32)])
def test_a_body_without_lungs_has_no_slices_of_the_lungs(values: Values) -> None:
    assert not lungs(values)
    assert lung_shares(values).max() < LEAST_SHARE


def test_a_field_that_the_lung_fills_is_lung() -> None:
    assert lung_shares(np.full((4, 64, 64), -850, np.float32)).min() > 0.9


def test_foam_and_air_around_a_body_never_count() -> None:
    padded = abdomen(0).copy()
    outside = padded[:, 90:] < -900
    padded[:, 90:][outside] = -920
    assert lung_shares(padded).max() < LEAST_SHARE


def test_a_value_for_pixels_outside_of_the_field_does_not_matter() -> None:
    padded = chest(0).copy()
    y, x = np.mgrid[:96, :96]
    padded[:, np.hypot(y - 47.5, x - 47.5) > 47] = -3024
    assert lung_shares(padded) == pytest.approx(lung_shares(chest(0)), abs=0.01)


def test_lungs_of_real_chests_reach_from_base_to_apex() -> None:
    folder = shared("data/labelled/ct3d_covidctmd")
    for path in sorted(Path(folder).glob("*.npz")):
        with np.load(path) as stored:
            values = stored["hu"].astype(np.float32)
            spacing = float(stored["spacing_orig"][0] * stored["shape_orig"][0] / len(values))
        assert 45 < len(lung_slices(lung_shares(values), spacing)) < 64, path.name


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("consolidations", [0, 4])
def test_a_whole_chest_is_not_cut_whatever_lies_below(seed: int, consolidations: int) -> None:
    whole = chest(seed, consolidations)
    for values in (whole, np.concatenate([abdomen(seed), whole]), with_gas(whole, 0, 1), abdomen(seed)):
        assert not cut_lungs(lung_shares(values), SPACING_MM[0])


@pytest.mark.parametrize(
    ("kept", "ends"),
    [(slice(20, None), "lowest slice"), (slice(20), "highest slice"), (slice(15, 25), "lowest and the highest slices")],
    ids=["bases are missing", "apices are missing", "both are missing"],
)
def test_lungs_that_reach_an_end_of_the_scan_are_cut_there(kept: slice, ends: str) -> None:
    text = cut_lungs(lung_shares(chest(0)[kept]), SPACING_MM[0])
    assert text == f"the lungs reach the {ends} of the scan, which does not hold the whole lungs"
