"""Data types of FHIR R4 as they come from DICOM."""

import pytest

from ainode.node.encoding import fhir


@pytest.mark.parametrize(
    ("text", "date"),
    [("20240229", "2024-02-29"), ("20230229", ""), ("20261399", ""), ("00000000", ""), ("2024022", ""), ("", "")],
)
def test_a_day_that_no_calendar_has_is_no_date(text: str, date: str) -> None:
    assert fhir.date(text) == date
