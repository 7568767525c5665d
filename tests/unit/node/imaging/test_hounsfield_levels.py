"""Air, fat and muscle that lie elsewhere than in Hounsfield units are seen, and no real scan is taken for one."""

from collections.abc import Sequence
from functools import cache
from typing import TypeVar

import numpy as np
import pytest
from numpy.typing import NDArray
from support import bodies, shared

from ainode.models.lung_infection.dataset import chest
from ainode.models.phantoms.thorax import Field, thorax
from ainode.node.imaging.hounsfield_levels import levels_reason
from ainode.node.imaging.pixels import modality_values

Values = NDArray[np.float32]
Slices = Sequence[Values]
Item = TypeVar("Item")
FOLDERS = {
    "thin chest": "ct_chest_thin_R01-001/dicom",
    "chest of 5 mm": "ct_chest_5mm_Lung_Dx-A0001/dicom_lung_kernel",
    "slice of a chest": "transfer_syntaxes/ct_chest_all_syntaxes/CTImage.dcm",
    "abdomen with contrast": "ct_abdomen/KiTS-00072",
    "three slices": "ct_abdomen/dcmqi_ct-3slice_with_SEG/ct-3slice",
    "slices of one date": "ct_two_dates_NY-SBU/A048383/axial",
    "slices of another scanner": "ct_two_dates_NY-SBU/A098752/axial",
}
BACKGROUNDS = ("normal001", "luna_normal_1", "luna_normal_2")
RESAMPLED = ("P001", "cap001", "cap002", "normal001")
PHANTOMS = ("phantom of a chest", "phantom of an abdomen", "phantom of pneumonia")
REAL = (*FOLDERS, *(f"chest cut out: {name}" for name in BACKGROUNDS), *(f"resampled: {name}" for name in RESAMPLED))


@cache
def scan(name: str) -> Slices:
    """Return up to 16 slices of a scan."""
    if name == "phantom of a chest":
        return list(bodies.chest(1)[1::3])
    if name == "phantom of an abdomen":
        return list(bodies.abdomen(1)[1::3])
    if name == "phantom of pneumonia":
        return list(thorax(0, 0, scanned=Field((40, 192, 192), (7.0, 1.95, 1.95)), consolidations=4).values[1::3])
    kind, _, part = name.partition(": ")
    if kind == "chest cut out":
        return spread(chest(shared(f"data/labelled/chest_backgrounds/{part}.npz"))[0])
    if kind == "resampled":
        return spread(np.load(shared(f"data/labelled/ct3d_covidctmd/{part}.npz"))["hu"].astype(np.float32))
    place = shared(f"data/dicom/{FOLDERS[name]}")
    return [modality_values(path) for path in spread([place] if place.is_file() else sorted(place.glob("*.dcm")))]


def spread(items: Sequence[Item]) -> list[Item]:
    numbers = np.unique(((np.arange(16) + 0.5) * len(items) / 16).astype(int))
    return [items[number] for number in numbers]


@pytest.mark.parametrize("name", [*PHANTOMS, *REAL])
def test_a_scan_in_hounsfield_units_is_read(name: str) -> None:
    assert levels_reason(scan(name)) == ""


@pytest.mark.parametrize("offset", [-200, -100, 100, 200])
@pytest.mark.parametrize("name", [*PHANTOMS, *REAL])
def test_a_wrong_intercept_is_seen_in_either_direction(name: str, offset: int) -> None:
    reason = levels_reason([values + offset for values in scan(name)])
    assert "Rescale Intercept or Rescale Slope does not fit the pixels; send the series" in reason
    assert "air" in reason


@pytest.mark.parametrize("name", [*PHANTOMS, *REAL])
def test_a_slope_that_is_too_high_is_seen(name: str) -> None:
    reason = levels_reason([(values + 1024) * 1.1 - 1024 for values in scan(name)])
    assert "expected near -100 and 40" in reason


@pytest.mark.parametrize("name", ["thin chest", "chest of 5 mm", "abdomen with contrast", "resampled: P001"])
def test_a_slope_that_is_too_low_is_seen_of_most_scans(name: str) -> None:
    assert levels_reason([(values + 1024) * 0.9 - 1024 for values in scan(name)])


def test_the_reason_says_what_was_measured_and_what_is_expected() -> None:
    reason = levels_reason([values + 200 for values in scan("phantom of a chest")])
    assert reason.startswith("the air around the body measures -80")
    assert "expected is -1000; fat and muscle lie near 100 and 240, expected near -100 and 40" in reason
    reason = levels_reason([values - 200 for values in scan("phantom of a chest")])
    assert reason.startswith("gas measures -1")
    assert "air is -1000 and nothing is thinner; fat and muscle lie near -300 and -160" in reason


@pytest.mark.parametrize("name", ["thin chest", "chest of 5 mm", "phantom of pneumonia"])
@pytest.mark.parametrize("sides", ["half", "middle", "lung"])
def test_a_field_that_is_cut_to_a_part_of_a_chest_is_judged_alike(name: str, sides: str) -> None:
    rows, columns = scan(name)[0].shape
    window = {
        "half": np.s_[:, columns // 2 :],
        "middle": np.s_[rows // 4 : -rows // 4, columns // 4 : -columns // 4],
        "lung": np.s_[rows // 4 : -rows // 4, columns // 8 : columns // 2],
    }[sides]
    part = [values[window] for values in scan(name)]
    assert levels_reason(part) == ""
    assert levels_reason([values + 100 for values in part])
    assert levels_reason([values - 200 for values in part])


@pytest.mark.parametrize("noise", [30, 80, 150])
def test_noise_of_a_sharp_kernel_is_no_shift(noise: int) -> None:
    random = np.random.default_rng(0)
    noisy = [
        np.maximum(values + random.normal(0, noise, values.shape), -1024).astype(np.float32)
        for values in scan("thin chest")
    ]
    assert levels_reason(noisy) == ""
    assert levels_reason([values + 200 for values in noisy])


@pytest.mark.parametrize("padding", [-3024, -2000, -1024])
def test_padding_around_the_field_is_no_air(padding: int) -> None:
    slices = scan("thin chest")
    rows, columns = slices[0].shape
    y, x = np.mgrid[:rows, :columns]
    outside = np.hypot(y - rows / 2, x - columns / 2) > columns / 2
    padded = [np.where(outside, padding, values).astype(np.float32) for values in slices]
    assert levels_reason(padded) == ""
    assert levels_reason([np.where(outside, padding, values + 100).astype(np.float32) for values in padded])
    assert levels_reason([np.where(outside, padding, values - 100).astype(np.float32) for values in padded])


@pytest.mark.parametrize("name", ["thin chest", "phantom of pneumonia"])
def test_blood_with_contrast_is_no_shift(name: str) -> None:
    rows, columns = scan(name)[0].shape
    y, x = np.mgrid[:rows, :columns]
    heart = np.hypot(y - rows / 2, x - columns / 2) < columns / 6
    enhanced = [np.where(heart & (values > 0) & (values < 80), values + 280, values) for values in scan(name)]
    assert levels_reason(enhanced) == ""


def test_a_head_that_has_hardly_any_fat_is_in_hounsfield_units() -> None:
    assert levels_reason(list(bodies.head())) == ""
    assert levels_reason([values + 200 for values in bodies.head()])


def test_what_shows_no_tissue_is_not_judged_by_tissue() -> None:
    air = np.random.default_rng(0).normal(-1000, 10, (128, 128)).astype(np.float32)
    assert levels_reason([air]) == ""
    assert levels_reason([air + 200])
