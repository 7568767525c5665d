"""The synthetic chest: one patient at several dates, nodules of known size, disease where it is said to be."""

import numpy as np
import pytest

from ainode.models.phantoms.thorax import Field, Nodule, Thorax, nodule_position, thorax
from ainode.models.phantoms.thorax_anatomy import Build

COARSE = Field((32, 64, 64), (10.0, 6.0, 6.0))


def a_place(seed: int = 1, diameter_mm: float = 12.0) -> tuple[float, float, float]:
    return nodule_position(np.random.default_rng(3), seed, diameter_mm)


def around(place: tuple[float, float, float], seed: int = 1) -> Field:
    return Field((64, 64, 64), (1.0, 1.0, 1.0), Nodule(place, 1.0).center_mm(Build.of_patient(seed)))


def test_the_same_seeds_draw_the_same_volume() -> None:
    first, second = (thorax(4, 2, scanned=COARSE, consolidations=2) for _ in range(2))
    np.testing.assert_array_equal(first.values, second.values)


def test_another_day_moves_the_patient_a_little_and_keeps_the_anatomy() -> None:
    place = a_place()
    days = [thorax(1, day, scanned=around(place), nodules=[Nodule(place, 12.0)]) for day in range(4)]
    centers = np.asarray([day.nodule_centers[0] for day in days])
    assert 0 < np.ptp(centers, axis=0).max() < 40
    other = thorax(2, 0, scanned=COARSE).lungs
    same_patient = (thorax(1, 0, scanned=COARSE).lungs ^ thorax(1, 1, scanned=COARSE).lungs).mean()
    assert same_patient < (thorax(1, 0, scanned=COARSE).lungs ^ other).mean()


@pytest.mark.parametrize("diameter_mm", [6.0, 12.0, 20.0])
def test_a_nodule_has_the_diameter_that_was_asked_for(diameter_mm: float) -> None:
    place = a_place(diameter_mm=diameter_mm)
    field = around(place)
    with_it, without = (
        thorax(1, 5, scanned=field, nodules=nodules).values for nodules in ([Nodule(place, diameter_mm)], [])
    )
    background = np.median(without)
    share = ((with_it - without) / (30.0 - background)).sum()
    assert 2 * (share * 3 / (4 * np.pi)) ** (1 / 3) == pytest.approx(diameter_mm, abs=0.6)


def test_a_nodule_lies_where_it_is_said_to_lie_at_any_spacing() -> None:
    place = a_place()
    middle = Nodule(place, 1.0).center_mm(Build.of_patient(1))
    for spacing in ((1.0, 1.0, 1.0), (3.0, 0.8, 0.8)):
        field = Field((32, 64, 64), spacing, middle)
        with_it, without = (thorax(1, 5, scanned=field, nodules=n).values for n in ([Nodule(place, 14.0)], []))
        added = np.clip(with_it - without, 0, None)
        found = [float((added.sum(axis=tuple({0, 1, 2} - {axis})) * np.arange(n)).sum() / added.sum())
                 for axis, n in enumerate(field.size)]  # fmt: skip
        made = thorax(1, 5, scanned=field, nodules=[Nodule(place, 14.0)])
        np.testing.assert_allclose(found, made.nodule_centers[0], atol=0.6)


def test_spicules_make_a_nodule_reach_further() -> None:
    place = a_place()
    smooth, spiculated, none = (
        thorax(1, 5, scanned=around(place), nodules=nodules).values
        for nodules in ([Nodule(place, 12.0)], [Nodule(place, 12.0, spiculated=True)], [])
    )
    assert (spiculated - none > 100).sum() > 1.03 * (smooth - none > 100).sum()


def test_disease_lies_in_the_lungs_and_is_denser_than_they_are() -> None:
    ill = thorax(3, 0, scanned=COARSE, consolidations=5)
    assert ill.consolidations.any()
    assert (ill.consolidations & ill.lungs).sum() > 0.95 * ill.consolidations.sum()
    assert np.median(ill.values[ill.consolidations]) > np.median(ill.values[ill.lungs]) + 150
    assert not thorax(3, 0, scanned=COARSE).consolidations.any()


def test_a_chest_has_two_dark_lungs_bone_and_air_around() -> None:
    chest: Thorax = thorax(7, 7)
    right, left = chest.lungs[..., :60], chest.lungs[..., 68:]
    assert right.sum() > 20_000
    assert left.sum() > 20_000
    assert -930 < np.median(chest.values[chest.lungs]) < -750
    assert (chest.values > 300).mean() > 0.003
    assert np.median(chest.values[:, :5, :]) < -900
    assert chest.values.dtype == np.float32


def test_a_place_for_a_nodule_is_clear_of_the_wall() -> None:
    for seed in range(5):
        place = a_place(seed, 20.0)
        made = thorax(seed, 0, scanned=around(place, seed))
        z, y, x = (slice(27, 37),) * 3
        assert made.lungs[z, y, x].mean() > 0.6


@pytest.mark.parametrize(("place", "diameter_mm"), [((0.0, 0.0, 1.2), 5.0), ((0.0, 0.0, 0.0), 0.0)])
def test_what_is_no_nodule_is_refused(place: tuple[float, float, float], diameter_mm: float) -> None:
    with pytest.raises(ValueError, match="a nodule needs"):
        Nodule(place, diameter_mm)
