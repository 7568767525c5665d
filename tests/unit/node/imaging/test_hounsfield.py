"""Values that are Hounsfield units are told from values that cannot be."""

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray
from support import shared

from ainode.models.phantoms.abdomen import abdomen
from ainode.models.phantoms.thorax import Field, thorax
from ainode.node.imaging.hounsfield import range_reason, tissue_reason
from ainode.node.imaging.pixels import modality_values

Values = NDArray[np.float32]
REAL = {
    "chest of 5 mm": "ct_chest_5mm_Lung_Dx-A0001/dicom_lung_kernel",
    "chest of 1.25 mm": "ct_chest_thin_R01-001/dicom",
    "abdomen": "ct_abdomen/KiTS-00072",
    "three slices": "ct_abdomen/dcmqi_ct-3slice_with_SEG/ct-3slice",
    "a slice of the chest": "ct_two_dates_NY-SBU/A048383/axial",
}


@cache
def scan(name: str) -> Values:
    """Every second pixel of slices in Hounsfield units."""
    if name == "phantom of the chest":
        phantom = thorax(3, 3, scanned=Field((40, 192, 192), (7.0, 1.95, 1.95)), consolidations=4)
        return np.asarray(phantom.values[::3, ::2, ::2], np.float32)
    if name == "phantom of the abdomen":
        return np.asarray(abdomen(np.random.default_rng(3), tumor=True).values[::2, ::2, ::2], np.float32)
    paths = sorted(shared(f"data/dicom/{REAL[name]}").glob("*.dcm"))
    return np.stack([modality_values(path)[::4, ::4] for path in paths[:: max(1, len(paths) // 8)]])


def reason_of(values: Values) -> str:
    return range_reason(values) or tissue_reason(values)


PHANTOMS = ["phantom of the chest", "phantom of the abdomen"]


@pytest.mark.parametrize("name", [*PHANTOMS, *REAL])
def test_hounsfield_units_are_read(name: str) -> None:
    assert not reason_of(scan(name))


@pytest.mark.parametrize("name", [*PHANTOMS, *REAL])
def test_a_slice_by_itself_and_a_window_of_the_lung_are_hounsfield_units_too(name: str) -> None:
    assert not reason_of(scan(name)[len(scan(name)) // 2])
    assert not reason_of(np.clip(scan(name), -1000, 1000))


def as_share(values: Values) -> Values:
    return np.clip((values + 1000) / 1400, 0, 1)


OTHER_VALUES: dict[str, Callable[[Values], Values]] = {
    "0 to 1": as_share,
    "-1 to 1": lambda values: 2 * as_share(values) - 1,
    "0 to 255": lambda values: 255 * as_share(values),
    "-128 to 127": lambda values: np.rint(255 * as_share(values)) - 128,
    "0 to 1000": lambda values: 1000 * as_share(values),
    "0 to 4095": lambda values: 4095 * as_share(values),
    "0 to 65535": lambda values: 65535 * as_share(values),
    "-1000 to 0": lambda values: 1000 * as_share(values) - 1000,
    "standard deviations": lambda values: (values - values.mean()) / values.std(),
    "mask": lambda values: (values > -300).astype(np.float32),
    "labels of air and body": lambda values: np.where(values > -300, 0, -1000).astype(np.float32),
    "raised by 1024": lambda values: np.clip(values + 1024, 0, None),
    "raised by 1000": lambda values: values + 1000,
    "raised by 1024 within padding": lambda values: np.where(values < -900, -1000, values + 1024),
    "lowered by 1024": lambda values: values - 1024,
    "lost sign of 16 bits": lambda values: np.where(values < 0, values + 65536, values),
    "lost sign of 12 bits": lambda values: np.where(values < 0, values + 4096, values),
    "padding with a lost sign": lambda values: np.where(values < -950, 62512, values),
    "without a sign": np.abs,
    "negative": np.negative,
    "ten times": lambda values: 10 * values,
    "a tenth": lambda values: values / 10,
    "half": lambda values: values / 2,
    "window of soft tissue": lambda values: np.clip(values, -160, 240),
}


@pytest.mark.parametrize("change", OTHER_VALUES)
@pytest.mark.parametrize("name", [*PHANTOMS, "chest of 5 mm", "abdomen"])
def test_other_values_are_refused_with_what_is_wrong(name: str, change: str) -> None:
    reason = reason_of(OTHER_VALUES[change](scan(name)).astype(np.float32))
    assert "values" in reason or "denser than gas" in reason, change
