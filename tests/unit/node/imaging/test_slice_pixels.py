from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ainode.node.domain import UID, Instance, InstanceRef
from ainode.node.errors import BrokenSeries
from ainode.node.imaging.slice_pixels import check_slices

Values = NDArray[np.float32]

REF = InstanceRef(UID("1.1"), UID("1.2"), UID("1.2.840.10008.5.1.4.1.1.2"), UID("1.3.0"))
INSTANCE = Instance(REF, UID("1.2.840.10008.1.2.1"), Path(), "", 1, {})
INSTANCES = [replace(INSTANCE, ref=replace(REF, sop_instance_uid=UID(f"1.3.{number}"))) for number in range(12)]


def body(noise: float = 10.0) -> Values:
    """Return 12 slices of a lopsided body that grows from slice to slice, in Hounsfield units."""
    rows, columns = np.mgrid[:96, :96]
    values = np.full((12, 96, 96), -1000.0)
    for number in range(12):
        is_body = ((rows - 55) / 35) ** 2 + ((columns - 45) / 40) ** 2 < 0.6 + 0.02 * number
        values[number][is_body] = 40
        values[number, 30:50, 20:30] = -800
    return np.asarray(values + np.random.default_rng(0).normal(0, noise, values.shape), np.float32)


def changed(change: Callable[[Values], None]) -> Values:
    values = body()
    change(values)
    return values


def _empty(values: Values) -> None:
    values[5] = -1024


def _without_a_number(values: Values) -> None:
    values[5] = np.nan


def _copied(values: Values) -> None:
    values[4:10] = values[4]


def _half_upside_down(values: Values) -> None:
    values[6:] = values[6:, ::-1]


def _half_mirrored(values: Values) -> None:
    values[6:] = values[6:, :, ::-1]


def _every_second_turned(values: Values) -> None:
    values[1::2] = values[1::2, ::-1, ::-1]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_empty, r"instance 1\.3\.5: every pixel has one value, between slices"),
        (_without_a_number, r"instance 1\.3\.5: every pixel has one value, between slices"),
        (_copied, r"instance 1\.3\.4, .*, 1\.3\.9: pixels that are exactly those of another slice"),
        (_half_upside_down, r"instance 1\.3\.5, 1\.3\.6: the one lies upside down against its neighbor"),
        (_half_mirrored, r"instance 1\.3\.5, 1\.3\.6: the one lies mirrored against its neighbor"),
        (_every_second_turned, r"instance 1\.3\.0, 1\.3\.1: the one lies turned by 180 degrees"),
    ],
)
def test_slices_that_cannot_be_of_one_body_are_refused_with_their_uids(
    change: Callable[[Values], None], words: str
) -> None:
    with pytest.raises(BrokenSeries, match=words):
        check_slices(INSTANCES, changed(change))


def _empty_ends(values: Values) -> None:
    values[:2], values[-1] = -1024, np.nan


def _as_scanned(_: Values) -> None:
    pass


def _symmetric(values: Values) -> None:
    half = values[:, :, :48]
    values[:, :, 48:] = half[:, :, ::-1] + np.random.default_rng(1).normal(0, 10, half.shape)


@pytest.mark.parametrize("change", [_as_scanned, _empty_ends, _symmetric])
def test_a_body_its_empty_ends_and_a_body_that_is_its_own_mirror_image_are_read(
    change: Callable[[Values], Any],
) -> None:
    check_slices(INSTANCES, changed(change))


def test_drawn_slices_without_noise_may_be_alike() -> None:
    check_slices(INSTANCES, np.repeat(body(noise=0)[:1], 12, axis=0))
