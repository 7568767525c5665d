import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ainode.node import testing
from ainode.node.domain import UID, DocumentContext, File, OutOfScope, Request, Result
from ainode.node.errors import HandlerError, ReaderDied, ReaderTimeout
from ainode.node.keeping.spool import content_sha256
from ainode.node.reading.reader import Reader
from ainode.node.reading.weights import ModelEnvironment, WeightStore
from ainode.node.settings import ReaderTable

CONTEXT = DocumentContext(datetime(2026, 1, 2, tzinfo=UTC), UID("2.25.1"), "test", ("ainode 0",), "00")


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    limits = ReaderTable(time_limit_s=10, memory_limit_bytes=1 << 30)
    made = Reader("support.handler", ModelEnvironment(WeightStore(tmp_path), tmp_path), limits)
    yield made
    made.kill_unless_reading()


def asking(folder: Path, order: str) -> Request:
    image = testing.noise(256, 512, SeriesDescription=order, BodyPartExamined="TSPINE")
    study = UID(testing.uid(order))
    (path,) = testing.write([image], folder / order, study=order)
    return Request(study, (File(path, content_sha256(path)),), CONTEXT, report_out_of_scope=True)


def test_a_study_is_read_and_its_report_comes_last_and_the_process_waits(reader: Reader, tmp_path: Path) -> None:
    assert (reader.state().subject, reader.state().memory_bytes) == ("", 0)
    reading = reader.read(asking(tmp_path, "read"))
    assert reader.state().subject == ""
    assert reader.state().memory_bytes > 10**7
    assert isinstance(reading.answer, Result)
    assert reading.documents[-1].kind == "sr"


def test_a_declined_study_has_a_reason_and_a_report_without_a_probability(reader: Reader, tmp_path: Path) -> None:
    reading = reader.read(asking(tmp_path, "decline"))
    assert isinstance(reading.answer, OutOfScope)
    assert b"asks to be declined" in reading.documents[0].content
    assert b"122157" not in reading.documents[0].content


def test_a_hung_model_is_killed_at_its_time_limit_and_the_next_study_is_read(tmp_path: Path) -> None:
    reader = Reader("support.handler", ModelEnvironment(WeightStore(tmp_path), tmp_path), ReaderTable(time_limit_s=5))
    with pytest.raises(ReaderTimeout, match=r"killed after 5 s \(.reader. time_limit_s\); raise the limit"):
        reader.read(asking(tmp_path, "hang"))
    answer = None
    while answer is None:  # a machine at work may start the process too late: then the node asks again, too
        with suppress(ReaderTimeout):
            answer = reader.read(asking(tmp_path, "decline")).answer
    assert isinstance(answer, OutOfScope)
    reader.kill_unless_reading()


@pytest.mark.parametrize(
    ("order", "said"), [("crash", "ended with code 7: .*; `ainode check`"), ("leak", "killed above .*; raise")]
)
def test_a_reader_that_dies_says_how_and_the_next_study_is_read(
    reader: Reader, tmp_path: Path, order: str, said: str
) -> None:
    with pytest.raises(ReaderDied, match=said):
        reader.read(asking(tmp_path, order))
    assert isinstance(reader.read(asking(tmp_path, "decline")).answer, OutOfScope)


def test_an_unexpected_error_ends_its_own_job_without_a_retry(reader: Reader, tmp_path: Path) -> None:
    with pytest.raises(HandlerError, match="ZeroDivisionError") as raised:
        reader.read(asking(tmp_path, "raise"))
    assert not raised.value.retry
    assert isinstance(reader.read(asking(tmp_path, "decline")).answer, OutOfScope)


def is_of_our_minor_version(interpreter: Path) -> bool:
    if not interpreter.exists():
        return False
    version = subprocess.run([interpreter, "--version"], check=True, capture_output=True, text=True).stdout
    return version.startswith(f"Python {sys.version_info.major}.{sys.version_info.minor}.")


SYSTEM_PYTHON = Path("/usr/bin/python3")
READ_A_STUDY = """
import sys
sys.path[:0] = sys.argv[2:]
from pathlib import Path
from ainode.node.reading.reader import Reader
from ainode.node.reading.weights import ModelEnvironment, WeightStore
from ainode.node.settings import ReaderTable
from integration.test_reader import asking
folder = Path(sys.argv[1])
reader = Reader("support.handler", ModelEnvironment(WeightStore(folder), folder), ReaderTable(time_limit_s=60))
print(reader.read(asking(folder, "read")).documents[-1].kind)
reader.kill_unless_reading()
"""


@pytest.mark.skipif(not is_of_our_minor_version(SYSTEM_PYTHON), reason="the system has no Python of our minor version")
def test_a_study_is_read_by_the_python_of_the_operating_system(tmp_path: Path) -> None:
    folders = [folder for folder in sys.path if folder and not Path(folder).is_relative_to(sys.base_prefix)]
    options = ["-P", "-c", READ_A_STUDY, str(tmp_path), *folders]
    answer = subprocess.run([SYSTEM_PYTHON, *options], capture_output=True, text=True, timeout=120, check=False)
    assert answer.stdout.split() == ["sr"], answer.stderr
