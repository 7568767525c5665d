"""The synthetic abdomen: the same for the same seed, in Hounsfield units, its tumor where it says."""

from __future__ import annotations

import numpy as np

from ainode.models.phantoms.abdomen import Abdomen, abdomen


def _drawn(seed: int, *, tumor: bool = True) -> Abdomen:
    return abdomen(np.random.default_rng(seed), slices=24, side=128, step_mm=6, tumor=tumor)


def test_the_same_seed_gives_the_same_abdomen_and_another_seed_another() -> None:
    assert np.array_equal(_drawn(1).values, _drawn(1).values)
    assert not np.array_equal(_drawn(1).values, _drawn(2).values)


def test_air_fat_organs_and_bone_have_their_hounsfield_units() -> None:
    values = _drawn(0).values
    assert values.shape == (24, 128, 128)
    assert values[:, 0, 0].mean() < -950
    for low, high in ((-140, -70), (30, 80), (90, 130), (180, 600)):
        assert ((values > low) & (values < high)).mean() > 0.01, f"something lies between {low} and {high} HU"


def test_a_tumor_is_darker_than_the_gland_around_it_and_on_the_slices_named() -> None:
    for seed in range(3):
        made = _drawn(seed)
        assert made.tumor_mm is not None
        center = [
            round(at / step + (n - 1) / 2)
            for at, step, n in zip(made.tumor_mm, made.spacing_mm, made.values.shape, strict=True)
        ]
        z, y, x = center
        assert made.tumor_slices[z]
        assert made.values[z, y - 1 : y + 2, x - 1 : x + 2].mean() < 85
        reach = made.radius_mm / made.spacing_mm[0]
        assert made.tumor_slices.sum() <= 2 * reach + 1


def test_without_a_tumor_no_slice_is_named() -> None:
    made = _drawn(0, tumor=False)
    assert made.tumor_mm is None
    assert not made.tumor_slices.any()
