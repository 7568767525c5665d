import logging

import pytest

from ainode.node import logs


def test_a_line_says_what_it_is_about_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    try:
        logs.configure()
        extra = {"action": "complete", "study_instance_uid": "1.2.3", "status": "A700", "patient_name": "Doe^Jane"}
        logging.getLogger("ainode").info("study complete", extra=extra)
    finally:
        root.handlers[:], root.level = before
    line = capsys.readouterr().err.strip()
    assert line.endswith("INFO ainode: study complete action=complete study_instance_uid=1.2.3 status=A700")
