"""What a log line holds, and what it never holds."""

import io
import json
import logging
import re
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from unittest import mock

import pytest

from ainode.node import logs
from ainode.node.terminal import table

PATIENT = "Canary^Ursula"


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """Return what is logged; the loggers, hooks and warnings are as before at the end."""
    root, dbos, stream = logging.getLogger(), logging.getLogger("dbos"), io.StringIO()
    before = root.handlers[:], root.level, dbos.handlers[:], dbos.level, logging.raiseExceptions
    hooks = (mock.patch.object(sys, "excepthook"), mock.patch.object(sys, "unraisablehook"))
    with hooks[0], hooks[1], mock.patch.object(threading, "excepthook"), warnings.catch_warnings():
        logs.configure(stream)
        dbos.setLevel(logging.NOTSET)  # jobs that have stopped in this process silenced it
        yield stream
    root.handlers[:], root.level, dbos.handlers[:], dbos.level, logging.raiseExceptions = before


def broken() -> None:
    try:
        int(PATIENT)
    except ValueError as error:
        raise KeyError(PATIENT) from error


def test_a_line_tells_what_it_is_about_and_nothing_else(log: io.StringIO) -> None:
    extra = {"action": "complete", "study_instance_uid": "1.2.3", "status": "A700", "patient_name": PATIENT}
    logging.getLogger("ainode").info("study complete", extra=extra)
    expected = "INFO ainode: study complete action=complete study_instance_uid=1.2.3 status=A700"
    assert log.getvalue().strip().endswith(expected)


def test_a_log_of_objects_has_one_a_line_with_the_same_keys_and_none_of_a_patient(
    log: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AINODE_NODE__LOG_FORMAT", "json")
    logs.configure(log)
    extra = {"action": "complete", "study_instance_uid": "1.2.3", "job": "a", "patient_name": PATIENT}
    logging.getLogger("ainode").info("study\r\n\u2028 of %s", "SCANNER\x1b[2J", extra=extra)
    logging.getLogger("pydicom").warning("Invalid value %s", PATIENT)
    try:
        broken()
    except KeyError:
        logging.getLogger("ainode").exception("it failed")
    lines = log.getvalue().splitlines()
    assert all(line.isprintable() and line.isascii() for line in lines)
    own, library, failure = map(json.loads, lines)
    assert own.pop("time").endswith("+00:00")
    assert own == {
        "level": "INFO",
        "logger": "ainode",
        "words": "study\r\n\u2028 of SCANNER\x1b[2J",
        "action": "complete",
        "study_instance_uid": "1.2.3",
        "job": "a",
    }
    assert library["words"].startswith("the library's words may hold")
    assert failure["raised"].startswith("KeyError (")
    assert PATIENT not in log.getvalue()


def test_no_value_makes_a_second_line_or_moves_the_cursor_of_a_terminal(log: io.StringIO) -> None:
    forged = "SCANNER\r\n2026-01-01 00:00:00 INFO ainode: stored\x1b[2J\u2028\x85\u202e"
    logging.getLogger("ainode.node").warning("refused: %s", forged, extra={"peer": forged})
    (line,) = log.getvalue().split("\n")[:-1]
    assert line.isprintable()
    assert line.count(r"SCANNER\r\n2026-01-01 00:00:00 INFO ainode: stored\x1b[2J\u2028\x85\u202e") == 2


def test_half_a_surrogate_is_written_as_an_escape(log: io.StringIO) -> None:
    handlers = [handler for handler in logging.getLogger().handlers if getattr(handler, "stream", None) is log]
    # Not by a logger: pytest would keep the record, and no worker can send the record on.
    handlers[0].handle(logging.LogRecord("ainode.node", logging.WARNING, __file__, 1, "refused: \udc80", (), None))
    assert log.getvalue().endswith("refused: \\udc80\n")


def test_the_words_of_a_library_stay_out_and_its_place_in_the_code_does_not(log: io.StringIO) -> None:
    for name in ("pydicom", "highdicom.sr", "dbos", "uvicorn.error", "site_handlers.spine", "PIL.Image"):
        logging.getLogger(name).error(f"invalid value {PATIENT}")  # noqa: G004 - as libraries do
    assert PATIENT not in log.getvalue()
    pattern = (
        r"ERROR \S+: the library's words .* are left out \(node/test_logs.py:\d+\); if something failed, hand this line"
    )
    assert len(re.findall(pattern, log.getvalue())) == 6


def test_an_error_is_logged_with_its_stack_and_cause_and_without_its_message(log: io.StringIO) -> None:
    try:
        broken()
    except KeyError as error:
        logging.getLogger("ainode.node").error("read: %s", logs.raised_at(error))  # noqa: TRY400
        logging.getLogger("ainode.node").exception("read")
        logging.getLogger("uvicorn.error").exception("Exception in ASGI application")
    assert PATIENT not in log.getvalue()
    lines = log.getvalue().splitlines()
    assert len(lines) == 3
    pattern = (
        r"KeyError \(node/test_logs.py:\d+ > node/test_logs.py:\d+\), caused by ValueError \(node/test_logs.py:\d+\)"
    )
    assert all(re.search(pattern, line) for line in lines)


def test_a_warning_is_logged_once_for_its_place_and_never_in_its_words(log: io.StringIO) -> None:
    for number in range(3):
        warnings.warn(f"Invalid value for VR UI: '{PATIENT}{number}'", UserWarning, stacklevel=1)
    (line,) = log.getvalue().splitlines()
    pattern = (
        r"WARNING UserWarning: the library's words may hold .* \(node/test_logs.py:\d+\); nothing is to be done unless"
    )
    assert re.search(pattern, line)


def test_a_library_that_warns_of_each_value_is_logged_once_and_its_errors_each_time(log: io.StringIO) -> None:
    for number in range(3):
        logging.getLogger("pydicom").warning("value %d", number)
        logging.getLogger("dbos").error("value %d", number)
    assert [line.split()[2] for line in log.getvalue().splitlines()] == ["WARNING", "ERROR", "ERROR", "ERROR"]


def test_warnings_of_ever_new_values_take_no_memory(log: io.StringIO) -> None:
    for number in range(100):
        warnings.warn(f"value {number}", UserWarning, stacklevel=1)
    assert len(globals().get("__warningregistry__", {})) < 10
    assert log.getvalue()


def test_what_nobody_catches_in_a_thread_is_logged_without_its_message(log: io.StringIO) -> None:
    thread = threading.Thread(target=broken)
    thread.start()
    thread.join()
    assert "CRITICAL ainode.node.logs: ended by KeyError (" in log.getvalue()
    assert PATIENT not in log.getvalue()


def test_a_command_that_ends_by_an_error_of_a_library_prints_its_place_alone() -> None:
    script = (
        "from ainode.node.commands import cli\n"
        "@cli.app.command()\n"
        f"def fail() -> None:\n    {{}}[{PATIENT!r}]\n"
        "cli.main()"
    )
    ended = subprocess.run([sys.executable, "-c", script, "fail"], capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert PATIENT not in ended.stdout + ended.stderr
    assert "ended by KeyError (" in ended.stderr


def test_a_table_of_a_command_shows_no_control_character() -> None:
    assert table(("words",), [("Unknown\x1b[31m patient",)]) == "words\nUnknown\\x1b[31m patient"
