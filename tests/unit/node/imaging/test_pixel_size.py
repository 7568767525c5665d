"""Pixels that cannot be as large as the header says are refused, by the reconstructed field and by the body's width."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support import bodies, shared
from support.ct_headers import series_of, slices

from ainode.node.domain import Instance, OutOfScope, Value
from ainode.node.encoding import headers
from ainode.node.errors import CannotUnderstand
from ainode.node.imaging.ct_look import look_at
from ainode.node.imaging.ct_series import CtRequirements, ct_stack
from ainode.node.imaging.geometry import Stack, stack
from ainode.node.imaging.pixel_size import field_reason, width_reason

REQUIREMENTS = CtRequirements(min_slices=5, min_coverage_mm=20, max_spacing_mm=10)


def slice_of(**header: Value) -> Instance:
    return slices(1, **header)[0]


def with_spacing(instance: Instance, factor: float) -> Instance:
    row_mm, column_mm = np.asarray(instance.header["PixelSpacing"], np.float64)
    return replace(instance, header={**instance.header, "PixelSpacing": (row_mm * factor, column_mm * factor)})


@pytest.mark.parametrize("factor", [0.5, 1 / 1.5, 0.87, 1.15, 1.5, 2.0, 10.0])
def test_a_spacing_that_contradicts_the_diameter_of_the_field_is_refused_with_both(factor: float) -> None:
    refusal = ct_stack([series_of(slices(ReconstructionDiameter=512 * 0.8 / factor))], REQUIREMENTS)
    assert isinstance(refusal, OutOfScope)
    assert refusal.code == "wrong-pixel-size"
    assert "Pixel Spacing 0.8 mm times 512 rows is 410 mm" in refusal.reason
    assert f"but Reconstruction Diameter is {512 * 0.8 / factor:.0f} mm; one of them is wrong" in refusal.reason


def test_a_spacing_that_is_wrong_in_one_direction_is_refused() -> None:
    reason = field_reason([slice_of(ReconstructionDiameter=409.6, PixelSpacing=(0.8, 1.2))])
    assert "Pixel Spacing 1.2 mm times 512 columns is 614 mm" in reason


def test_one_slice_that_contradicts_is_enough() -> None:
    assert field_reason([slice_of(ReconstructionDiameter=409.6), slice_of(ReconstructionDiameter=273.0)])


@pytest.mark.parametrize(
    "header",
    [
        {},
        {"ReconstructionDiameter": 410},
        {"ReconstructionDiameter": 400},
        {"ReconstructionDiameter": ""},
        {"ReconstructionDiameter": 0},
        # Cut out of a matrix of 512, and padded from one of 480.
        {"ReconstructionDiameter": 409.6, "Rows": 320, "Columns": 400},
        {"ReconstructionDiameter": 409.6, "Rows": 330, "Columns": 330},
        {"ReconstructionDiameter": 384.0, "Rows": 520, "Columns": 520},
        # What was made later keeps the diameter of its source.
        {"ReconstructionDiameter": 273.0, "ImageType": ("DERIVED", "SECONDARY", "AXIAL")},
        {"ReconstructionDiameter": 273.0, "ImageType": ("DERIVED", "PRIMARY", "OTHER")},
    ],
)
def test_what_does_not_contradict_is_read(header: dict[str, Value]) -> None:
    assert isinstance(ct_stack([series_of(slices(**header))], REQUIREMENTS), Stack)


def real_slices() -> list[Instance]:
    """Return every real CT slice whose header can be read and has both attributes."""
    paths = [
        path for folder in ("dicom", "labelled/ct3d_covidctmd") for path in shared(f"data/{folder}").rglob("*.dcm")
    ]
    instances = []
    for path in paths:
        try:
            instance = headers.instance(path, sha256="")
        except CannotUnderstand:
            continue
        if {"ReconstructionDiameter", "PixelSpacing"} <= set(instance.header):
            instances.append(instance)
    return instances


def test_no_real_slice_contradicts_itself_and_each_does_with_a_spacing_of_half_as_much_again() -> None:
    instances = real_slices()
    assert len(instances) > 100
    assert not field_reason(instances)
    assert all(field_reason([with_spacing(instance, 1.5)]) for instance in instances)
    assert all(field_reason([with_spacing(instance, 1 / 1.5)]) for instance in instances)


@pytest.mark.parametrize(("factor", "width"), [(3.0, "wider"), (0.2, "narrower")])
def test_a_body_of_an_impossible_width_is_refused(tmp_path: Path, factor: float, width: str) -> None:
    spacing_mm = (7.0, 3.9 * factor, 3.9 * factor)
    scan = stack(bodies.study(bodies.chest(1), tmp_path, spacing_mm=spacing_mm).instances)
    assert isinstance(scan, Stack)
    refusal = look_at(scan).unit_refusal
    assert refusal is not None, width
    assert refusal.code == "wrong-pixel-size"
    assert "bodies of 80 to 700 mm are read: correct Pixel Spacing" in refusal.reason
    assert refusal.reason.endswith("sizes are read in mm")


def test_a_body_that_the_field_cuts_may_be_of_any_width() -> None:
    values = np.full((64, 64), 40, np.float32)
    assert not width_reason([values], (1.0, 1.0))
    values[:8], values[-8:], values[:, :8], values[:, -8:] = (-1000,) * 4
    assert "the body is 48 mm wide" in width_reason([values], (1.0, 1.0))
    assert not width_reason([values], (2.0, 2.0))


@pytest.mark.parametrize("folder", ["ct_chest_thin_R01-001", "ct_chest_5mm_Lung_Dx-A0001", "ct_abdomen/KiTS-00072"])
def test_real_bodies_are_of_a_possible_width(folder: str) -> None:
    files = shared(f"data/dicom/{folder}").rglob("*.dcm")
    scan = stack(headers.study(headers.instance(path, sha256="") for path in files).instances)
    assert isinstance(scan, Stack)
    assert look_at(scan).size_reason == ""
