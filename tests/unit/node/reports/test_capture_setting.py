"""What stands in the corner of a capture: series and slice as a viewer numbers them, and the date."""

import pytest
from pydicom import Dataset

from ainode.node.domain import UID, Capture, InstanceRef
from ainode.node.reports.capture_setting import setting_of

SLICES = tuple(
    InstanceRef(UID("1.2"), UID("1.2.3"), UID("1.2.840.10008.5.1.4.1.1.2"), UID(f"1.2.3.{number}"))
    for number in range(1, 6)
)


@pytest.mark.parametrize(
    ("index", "instance_number", "caption"),
    [(1, 2, "Series 4 2/5"), (1, 4, "Series 4 4/5"), (1, 12, "Series 4 image 12"), (1, None, "Series 4")],
    ids=["from the first", "from the last", "a part of a series", "no number"],
)
def test_a_slice_has_the_number_that_a_viewer_shows(index: int, instance_number: int | None, caption: str) -> None:
    header = Dataset()
    header.SeriesNumber, header.InstanceNumber, header.StudyDate = 4, instance_number, "20260131"
    setting = setting_of(header, Capture(SLICES[index], "", ()), SLICES)
    assert setting.captions == (caption, "2026-01-31")
