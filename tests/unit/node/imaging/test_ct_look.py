"""A look at a few slices tells a chest from what is none, whatever the header says."""

import time
from pathlib import Path

import numpy as np
import pytest
from support import shared
from support.bodies import Values, abdomen, chest, head, study, with_gas

from ainode.node.domain import Study
from ainode.node.encoding import headers
from ainode.node.imaging.ct_look import CtLook, look_at
from ainode.node.imaging.geometry import Stack, stack


def look(scan: Study) -> CtLook:
    slices = stack(scan.instances)
    assert isinstance(slices, Stack)
    return look_at(slices)


def real(folder: str) -> CtLook:
    files = shared(f"data/dicom/{folder}").rglob("*.dcm")
    return look(headers.study(headers.instance(path, sha256="") for path in files))


@pytest.mark.parametrize("values", [abdomen(0), abdomen(3), head(), with_gas(abdomen(0), 20, 22, hounsfield=-1000)])
def test_a_body_without_lungs_is_no_chest_whatever_its_header_says(values: Values, tmp_path: Path) -> None:
    seen = look(study(values, tmp_path))
    assert seen.lungs is None
    assert str(seen) == f"no chest, no aerated lung in any of {seen.count} slices"
    refusal = seen.chest_refusal
    assert refusal is not None
    assert refusal.code == "no-lung"
    assert "the header says CHEST (BodyPartExamined: CHEST), but the pixels show no aerated lung" in refusal.reason
    assert seen.abdomen_refusal is None, "nothing tells an abdomen from a leg"


@pytest.mark.parametrize("consolidations", [0, 4])
def test_lungs_are_a_chest_whatever_the_header_says(consolidations: int, tmp_path: Path) -> None:
    seen = look(study(chest(1, consolidations), tmp_path, BodyPartExamined="ABDOMEN"))
    assert seen.lungs is not None
    assert str(seen) == f"chest, lungs in slices {seen.lungs[0]} to {seen.lungs[1]} of 40"
    assert not seen.chest_refusal
    refusal = seen.abdomen_refusal
    assert refusal is not None
    assert refusal.code == "no-abdomen"
    assert "the header says ABDOMEN" in refusal.reason


def test_a_chest_with_an_abdomen_below_is_both(tmp_path: Path) -> None:
    seen = look(study(np.concatenate([abdomen(0), chest(1)]), tmp_path))
    assert str(seen).startswith("chest and abdomen, lungs in slices 4")
    assert not seen.chest_refusal
    assert not seen.abdomen_refusal


def test_below_is_toward_the_feet_where_slices_run_from_the_head(tmp_path: Path) -> None:
    values = np.concatenate([abdomen(0), chest(1)])[:, :, ::-1]
    # Rows to the back and columns to the right: the stack runs to the feet.
    turned = {"ImageOrientationPatient": (-1.0, 0.0, 0.0, 0.0, 1.0, 0.0)}
    seen = look(study(values, tmp_path, **turned))
    assert seen.scan.normal[2] < 0
    assert seen.lungs is not None
    assert seen.lungs[0] < 10
    assert seen.shows_abdomen


def test_a_header_that_names_no_part_is_said_to_name_none(tmp_path: Path) -> None:
    refusal = look(study(abdomen(0), tmp_path, BodyPartExamined="")).chest_refusal
    assert refusal is not None
    assert "the header names no body part, but the pixels show no aerated lung in any of 16 slices" in refusal.reason


def test_real_chests_and_slices_of_an_abdomen_are_told_apart() -> None:
    assert str(real("ct_chest_5mm_Lung_Dx-A0001/dicom_lung_kernel")) == "chest, lungs in slices 14 to 54 of 64"
    assert real("ct_chest_thin_R01-001").lungs is not None


def test_the_look_takes_less_than_half_a_second_of_the_processor() -> None:
    durations_s: list[float] = []
    for _ in range(3):
        before_s = time.process_time()
        real("ct_chest_5mm_Lung_Dx-A0001/dicom_lung_kernel")
        durations_s.append(time.process_time() - before_s)
    assert min(durations_s) < 1.0, "half a second on a machine of its own, headers included"
