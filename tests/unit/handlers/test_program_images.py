"""Which images a program is not given: what shows nothing, in all of its frames."""

from pathlib import Path

import numpy as np
import pytest

from ainode.handlers.described.description import Takes
from ainode.handlers.program.choosing import refusal_of, uniform_refusal
from ainode.node import testing
from ainode.node.domain import OutOfScope, SyntheticImage
from ainode.node.encoding import headers


@pytest.mark.parametrize("value", [0, 900])
def test_an_image_is_read_where_a_later_frame_shows_something(tmp_path: Path, value: int) -> None:
    frames = np.full((5, 32, 32), 7, "<u2")
    frames[3, 8:16, 8:16] += value
    image = SyntheticImage(32, 32, frames.tobytes(), {"NumberOfFrames": "5", "Modality": "CR"})
    (path,) = testing.write([image], tmp_path, study="frames")
    refusal = uniform_refusal((headers.instance(path, sha256=""),))
    if value:
        assert refusal is None
    else:
        assert isinstance(refusal, OutOfScope)
        assert refusal.code == "unusable-pixels"


@pytest.mark.parametrize("also", [(), ("secondary_capture",)])
def test_a_program_is_given_a_screen_of_a_viewer_only_where_its_description_takes_captures(
    tmp_path: Path, also: tuple[str, ...]
) -> None:
    header = {"ImageType": "DERIVED\\SECONDARY\\SCREEN SAVE", "Modality": "CR", "BodyPartExamined": "CHEST"}
    (path,) = testing.write([testing.noise(32, 32, **header)], tmp_path, study="screen")
    takes = Takes(
        modality=("CR",),
        body_part=(),
        is_stack=False,
        min_instances=1,
        smallest_side=1,
        color="any",
        series="",
        max_spacing_mm=1000,
        min_coverage_mm=0,
        kernel="any",
        units="",
        suv="",
        also=also,
    )
    refusal = refusal_of(headers.instance(path, sha256=""), takes)
    assert (refusal is None) is bool(also)
    assert also or (refusal and "Image Type says SCREEN SAVE" in refusal.reason)
