"""What `ainode read` leaves in its folder."""

from dataclasses import replace
from pathlib import Path

import pytest
from conformance.made import CONTEXT, a_result, source, sources_of
from pydicom.errors import InvalidDicomError

from ainode.node import reports
from ainode.node.domain import Reading
from ainode.node.offline import readings as offline


def test_what_programs_read_is_kept_where_the_printed_report_cannot_be_made(tmp_path: Path) -> None:
    path = source(tmp_path)
    result = a_result(path)
    capture, _ = reports.documents(result, sources_of(path), CONTEXT)
    reading = Reading(result, (replace(capture, content=b"no DICOM"),), reports.result_json(result, CONTEXT), 0.0)
    with pytest.raises(InvalidDicomError):
        offline.save(reading, tmp_path / "out")
    assert {one.name for one in (tmp_path / "out").iterdir()} == {"sc-1.dcm", "result.json", "report.txt"}
