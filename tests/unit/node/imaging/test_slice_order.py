"""A person counts slices in one order: the number in a report is the number that the viewer shows."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.bodies import abdomen, chest, study

from ainode.node.console.rendering.slices import series_view
from ainode.node.domain import Study, SyntheticImage
from ainode.node.imaging.ct_look import look_at
from ainode.node.imaging.ct_parts import CtPart, lungs
from ainode.node.imaging.ct_series import CtRequirements
from ainode.node.imaging.geometry import Stack, stack, volume
from ainode.node.imaging.slice_order import slice_number

WANTED = CtRequirements(min_slices=16, min_coverage_mm=60, max_spacing_mm=10)
TO_THE_FEET = {"ImageOrientationPatient": (-1.0, 0.0, 0.0, 0.0, 1.0, 0.0)}
"""rows to the back and columns to the right: the stack runs to the feet"""


def as_they_are(images: Sequence[SyntheticImage]) -> Sequence[SyntheticImage]:
    return images


def from_the_head(images: Sequence[SyntheticImage]) -> Sequence[SyntheticImage]:
    count = len(images)
    numbers = range(count, 0, -1)
    return [
        replace(image, header={**image.header, "InstanceNumber": number})
        for image, number in zip(images, numbers, strict=True)
    ]


def without_number(images: Sequence[SyntheticImage]) -> Sequence[SyntheticImage]:
    return [replace(image, header={**image.header, "InstanceNumber": ""}) for image in images]


def shown_numbers(scan: Study) -> dict[str, int]:
    """Return the number that the viewer shows of each instance."""
    rows = series_view([instance.path for instance in scan.instances])["slices"]
    return {row["uid"]: number for number, row in enumerate(rows, start=1)}


@pytest.mark.parametrize("orientation", [{}, TO_THE_FEET], ids=["to the head", "to the feet"])
@pytest.mark.parametrize("arrange", [as_they_are, from_the_head, without_number])
def test_numbers_of_slices_in_reports_are_those_of_the_viewer(
    arrange: object, orientation: dict[str, object], tmp_path: Path
) -> None:
    scan = study(np.concatenate([abdomen(0), chest(0)]), tmp_path, arrange=arrange, **orientation)  # type: ignore[arg-type]
    shown = shown_numbers(scan)
    slices = stack(scan.instances)
    assert isinstance(slices, Stack)
    for index, instance in enumerate(slices.instances):
        assert slice_number(slices, index) == shown[instance.ref.sop_instance_uid]
    part = lungs(slices, volume(slices), WANTED)
    assert isinstance(part, CtPart)
    numbers = [shown[instance.ref.sop_instance_uid] for instance in part.slices.instances]
    assert [part.number(index) for index in range(len(numbers))] == numbers
    assert str(part) == f"slices {min(numbers)} to {max(numbers)} of 80: the lungs"
    seen = look_at(slices)
    assert seen.lungs is not None
    ends = sorted(shown[slices.instances[number - 1].ref.sop_instance_uid] for number in seen.lungs)
    assert f"lungs in slices {ends[0]} to {ends[1]} of 80" in str(seen)
