"""Broken handlers in real reader processes: what each costs, and what is told of it."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest
from support.faults import (
    FULL_DISK,
    HALF_ANSWER,
    HANG,
    PATIENT,
    RAISE,
    SPIN,
    SYNTAX_ERROR,
    replaced,
    write_handler,
)
from support.waiting import until

from ainode.node import testing
from ainode.node.diagnosis.checks import check_lines
from ainode.node.domain import UID, DocumentContext, File, OutOfScope, Request
from ainode.node.errors import (
    BrokenSeries,
    HandlerError,
    HandlerStarting,
    NodeError,
    OutOfResources,
    ReaderDied,
    ReaderTimeout,
)
from ainode.node.keeping.spool import content_sha256
from ainode.node.offline import readings
from ainode.node.offline.inputs import dicom_studies
from ainode.node.reading import family
from ainode.node.reading.reader import Reader
from ainode.node.reading.readers import Readers
from ainode.node.reading.weights import HandlerWeights, ModelEnvironment, WeightStore
from ainode.node.routes import Route
from ainode.node.settings import NodeTable, ReaderTable, Settings

CONTEXT = DocumentContext(datetime(2026, 1, 2, tzinfo=UTC), UID("2.25.1"), "test", ("ainode 0",), "00")
STUDY = UID(testing.uid("faulty"))
NOT_BLOCKED_S = 30.0
_OTHERS: set[psutil.Process] = set()
IMPORTING = ("body", "build", "weights")


@pytest.fixture(autouse=True)
def _importable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in [name for name in sys.modules if name.startswith("site_handlers")]:
        del sys.modules[name]


def models(folder: Path) -> ModelEnvironment:
    return ModelEnvironment(WeightStore(folder / "weights"), folder)


@pytest.fixture
def reader_of(tmp_path: Path) -> Iterator[Callable[..., Reader]]:
    readers: list[Reader] = []

    def reader_of(time_limit_s: float = 60, memory_limit_bytes: int = 1 << 34, **statements: str) -> Reader:
        name = write_handler(tmp_path, f"faulty{len(readers)}", **statements)
        limits = ReaderTable(time_limit_s=time_limit_s, memory_limit_bytes=memory_limit_bytes)
        readers.append(Reader(name, models(tmp_path), limits))
        return readers[-1]

    yield reader_of
    for reader in readers:
        reader.kill_unless_reading()


def a_request(folder: Path, order: str = "read") -> Request:
    image = testing.noise(256, 512, SeriesDescription=order, BodyPartExamined="TSPINE")
    (path,) = testing.write([image], folder / order, study="faulty")
    return Request(STUDY, (File(path, content_sha256(path)),), CONTEXT, report_out_of_scope=True)


@pytest.fixture(autouse=True, scope="module")
def _others() -> None:
    """Note the servers that tests of other files share: they are no children of a reader."""
    _OTHERS.update(psutil.Process().children(recursive=True))


def children() -> list[psutil.Process]:
    return [process for process in psutil.Process().children(recursive=True) if process not in _OTHERS]


CHILD = "Path(__file__).with_name('child').write_text(str(subprocess.Popen(['sleep', '600']).pid))"
# The process in between ends at once, so that nobody is the parent of the process that it started.
ORPHAN = f"if os.fork() == 0:\n    os.setsid()\n    {CHILD}\n    os._exit(0)\nos.wait()".replace("'child'", "'orphan'")
# A process of another session and with an environment of its own is known only from what the node saw before.
STRANGER = CHILD.replace("]).pid", "], env={}, start_new_session=True).pid").replace("'child'", "'stranger'")
EXIT, CRASH = "os._exit(3)", "ctypes.string_at(0)"
ENDINGS = {
    RAISE: "ValueError",
    "raise SystemExit(1)": "SystemExit",
    "raise KeyboardInterrupt": "KeyboardInterrupt",
    EXIT: "ended with code 3",
    CRASH: f"ended with code {-signal.SIGSEGV}",
    FULL_DISK: "the disk is full",
}


@pytest.mark.parametrize("part", IMPORTING)
@pytest.mark.parametrize(("statement", "reason"), ENDINGS.items(), ids=lambda value: value[:12])
def test_whatever_a_handler_does_before_a_study_is_an_error_of_the_node_without_its_text(
    reader_of: Callable[..., Reader], part: str, statement: str, reason: str
) -> None:
    with pytest.raises(NodeError, match=reason) as raised:
        reader_of(**{part: statement}).needs()
    assert PATIENT not in str(raised.value)


def test_a_module_with_a_syntax_error_is_named_with_its_line(reader_of: Callable[..., Reader]) -> None:
    with pytest.raises(NodeError, match=r"SyntaxError while its module was imported \(faulty0.py, line 7\)"):
        reader_of(body=SYNTAX_ERROR).needs()


@pytest.mark.parametrize(
    ("part", "statement"), [("body", SPIN), ("build", HANG), ("weights", "os.kill(os.getpid(), signal.SIGSTOP)")]
)
def test_a_handler_that_never_tells_its_weights_is_killed_at_the_limit(
    reader_of: Callable[..., Reader], part: str, statement: str
) -> None:
    before = children()
    with pytest.raises(ReaderTimeout, match="was killed after 2 s"):
        reader_of(2, **{part: statement}).needs()
    assert children() == before


PRINT = f"""
import logging, threading, warnings
words = {PATIENT[::-1]!r}[::-1]
print(words)
print(words, file=sys.stderr)
for descriptor in (1, 2):
    os.write(descriptor, words.encode())
    subprocess.run(["echo", words], stdout=descriptor)
warnings.warn(words, UserWarning)
logging.getLogger("a_library").warning(words)
def fail(): raise ValueError(words)
thread = threading.Thread(target=fail)
thread.start()
thread.join()
"""


def test_nothing_that_a_handler_or_its_libraries_print_warn_of_or_log_leaves_the_reader(
    reader_of: Callable[..., Reader], capfd: pytest.CaptureFixture[str]
) -> None:
    reader_of(**dict.fromkeys(IMPORTING, PRINT)).needs()
    output = capfd.readouterr()
    assert PATIENT not in output.out + output.err
    for words in (
        "UserWarning: the library's words",
        "WARNING a_library: the library's words",
        "ended by ValueError (",
    ):
        assert output.err.count(words) == len(IMPORTING)


def test_a_mended_handler_is_imported_anew(reader_of: Callable[..., Reader], tmp_path: Path) -> None:
    reader = reader_of(build=RAISE)
    with pytest.raises(NodeError):
        reader.needs()
    write_handler(tmp_path, "faulty0")
    assert reader.needs().weights == ()


class Answers:
    """The readers of a node with one handler, and the event of its weights."""

    def __init__(self, folder: Path, time_limit_s: float = 60, **statements: str) -> None:
        self.handler = write_handler(folder, "faulty", **statements)
        self.is_known = threading.Event()
        limits = ReaderTable(time_limit_s=time_limit_s)
        self.readers = Readers([self.handler], models(folder), limits, lambda _: self.is_known.set())

    def weights(self) -> HandlerWeights:
        """Return the weights; refuse to be blocked."""
        started = time.monotonic()
        try:
            return self.readers.weights(self.handler)
        finally:
            assert time.monotonic() - started < NOT_BLOCKED_S

    def starting(self) -> bool:
        """Return whether the weights are not known yet."""
        try:
            self.weights()
        except HandlerStarting:
            return True
        return False


@pytest.mark.parametrize("statement", [RAISE, EXIT, HANG, SPIN])
def test_the_weights_of_a_broken_handler_block_nobody_and_are_none(tmp_path: Path, statement: str) -> None:
    answers = Answers(tmp_path, time_limit_s=3, build=statement)
    assert answers.starting()
    assert answers.is_known.wait(120)
    assert answers.weights() == HandlerWeights()
    assert answers.weights() == HandlerWeights()  # a failure stands for a minute


def test_the_weights_are_asked_once_and_the_process_stays_for_the_reading(tmp_path: Path) -> None:
    note = "with Path(__file__).with_name('built').open('a') as file: print(os.getpid(), file=file)"
    answers = Answers(tmp_path, build=note)
    assert not children()
    assert answers.starting()
    assert answers.is_known.wait(120)
    assert answers.weights().names == ()
    reading = answers.readers.read(answers.handler, a_request(tmp_path, "decline"))
    assert isinstance(reading.answer, OutOfScope)
    (process,) = children()
    assert Path(f"/proc/{process.pid}/oom_score_adj").read_text() == "1000\n"  # the node is not the victim of a study
    assert (tmp_path / "site_handlers" / "built").read_text().split() == [str(process.pid)]
    answers.readers.kill_idle()
    assert answers.weights().names == ()
    assert not children()


def test_no_code_of_a_handler_runs_in_the_process_of_the_node(tmp_path: Path) -> None:
    answers = Answers(tmp_path)
    assert answers.starting()
    assert answers.is_known.wait(120)
    answers.readers.read(answers.handler, a_request(tmp_path))
    assert not [name for name in sys.modules if name.startswith("site_handlers")]
    answers.readers.kill_idle()


def test_a_study_whose_bytes_changed_on_disk_is_not_answered_whatever_the_handler_makes_of_it(tmp_path: Path) -> None:
    answers = Answers(tmp_path)
    for order in ("read", "raise"):
        request = a_request(tmp_path, order)
        (file,) = request.files
        file.path.write_bytes(file.path.read_bytes()[:-1] + b"?")
        with pytest.raises(BrokenSeries, match=r"instance .* not the bytes that were received; send the study again"):
            answers.readers.read(answers.handler, request)
    answers.readers.kill_idle()


def test_a_request_that_a_stopped_process_does_not_take_ends_at_the_limit(
    reader_of: Callable[..., Reader], tmp_path: Path
) -> None:
    reader = reader_of(20)
    reader.needs()
    (process,) = children()
    process.suspend()
    files = tuple(File(tmp_path / f"{number}.dcm", f"{number:064}") for number in range(20_000))
    with pytest.raises(ReaderTimeout):
        reader.read(replace(a_request(tmp_path), files=files))
    assert not children()
    assert isinstance(reader.read(a_request(tmp_path, "decline")).answer, OutOfScope)


def test_a_process_that_stops_in_the_middle_of_its_answer_is_killed_at_the_limit(
    reader_of: Callable[..., Reader], tmp_path: Path
) -> None:
    with pytest.raises(ReaderTimeout):
        reader_of(3, read=HALF_ANSWER).read(a_request(tmp_path))
    assert not children()


def has_ended(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_process_that_announces_an_endless_answer_is_killed_before_the_node_keeps_any_of_it(
    reader_of: Callable[..., Reader], tmp_path: Path
) -> None:
    endless = HALF_ANSWER.replace("1 << 20", "1 << 40")
    with pytest.raises(HandlerError, match=r"sent bytes that are no answer .an answer of 1099511627776 bytes"):
        reader_of(read=endless).read(a_request(tmp_path))
    assert not children()


@pytest.mark.parametrize(("end", "error"), [(HANG, ReaderTimeout), (EXIT, HandlerError)])
def test_what_a_handler_started_dies_with_its_reader(
    reader_of: Callable[..., Reader], tmp_path: Path, end: str, error: type[NodeError]
) -> None:
    with pytest.raises(error):
        reader_of(20, read=f"{CHILD}\n{ORPHAN}\n{STRANGER}\ntime.sleep(1)\n{end}").read(a_request(tmp_path))
    process_ids = [int((tmp_path / "site_handlers" / name).read_text()) for name in ("child", "orphan", "stranger")]
    until(lambda: all(map(has_ended, process_ids)))


@pytest.mark.parametrize(("name", "start"), [("child", CHILD), ("orphan", ORPHAN)])
def test_the_memory_of_what_a_handler_started_counts_and_all_of_it_is_killed(
    reader_of: Callable[..., Reader], tmp_path: Path, name: str, start: str
) -> None:
    eating = start.replace(
        "'sleep', '600'", "sys.executable, '-c', 'import time; b = bytearray(7 << 26); time.sleep(600)'"
    )
    with pytest.raises(ReaderDied, match=r"killed above 402653184 bytes \(\[reader\] memory_limit_bytes\)"):
        reader_of(60, 6 << 26, read=f"{eating}\n{HANG}").read(a_request(tmp_path))
    until(lambda: has_ended(int((tmp_path / "site_handlers" / name).read_text())))


def test_memory_that_a_reader_shares_with_its_children_counts_once(
    reader_of: Callable[..., Reader], tmp_path: Path
) -> None:
    shared = f"b = bytearray(b'1') * (3 << 26)\nfor _ in range(3): os.fork() or {HANG}\ntime.sleep(1)"
    reading = reader_of(60, 8 << 26, read=shared).read(a_request(tmp_path))
    assert reading.documents


def test_what_the_readers_of_a_killed_node_had_started_is_killed_at_the_next_start(tmp_path: Path) -> None:
    node, other = (Answers(folder).readers for folder in (tmp_path, tmp_path / "other"))
    environment = os.environ | {family.MARK: f"{node.mark}0123"}
    with subprocess.Popen(["sleep", "600"], env=environment, start_new_session=True) as process:
        # A process that was just started has no environment for a moment.
        until(lambda: process.pid in family.marked(node.mark))
        other.kill_leftovers()
        assert process.poll() is None
        node.kill_leftovers()
        assert process.wait(60) == -signal.SIGKILL


def test_a_study_at_which_a_process_died_has_a_process_to_itself_the_next_time(
    reader_of: Callable[..., Reader], tmp_path: Path
) -> None:
    """A process that others used may have died of what the others left behind."""
    note = "with Path(__file__).with_name('pids').open('a') as file: print(os.getpid(), file=file)"
    first_time = "first = Path(__file__).with_name('first')\nif not first.exists(): first.touch(); os._exit(3)"
    reader = reader_of(
        read=f"{note}\nif selection.instances[0].text('SeriesDescription') == 'once':\n"
        + textwrap.indent(first_time, "    ")
    )
    suspect, other = a_request(tmp_path, "once"), replace(a_request(tmp_path), study_instance_uid=UID("1.2.3"))
    with pytest.raises(ReaderDied):
        reader.read(suspect)
    for request in (other, suspect, other, suspect):
        reader.read(request)
    pids = (tmp_path / "site_handlers" / "pids").read_text().split()
    assert len(set(pids)) == 4
    assert pids[3] == pids[4]


def _by_order(statements: Iterable[str], instance: str) -> str:
    """Return statements of which a handler takes those that the study asks for: by 0, by 1, and so on."""
    return "\n".join(
        f"if {instance}.text('SeriesDescription') == 'by {number}':\n{textwrap.indent(statement, '    ')}"
        for number, statement in enumerate(statements)
    )


def test_rubbish_is_an_error_that_names_it(reader_of: Callable[..., Reader], tmp_path: Path) -> None:
    answers = {
        "return None": r"read\(\) is None, not Result or OutOfScope",
        "return (lambda: 0)": r"read\(\) is of the type function",
        "return (part for part in ())": r"read\(\) is of the type generator",
        "return selection": r"read\(\) is of the type Selection",
        "return object.__new__(Result)": r"read\(\) has no study_instance_uid",
        replaced("findings", "None"): r"read\(\)\.findings is None, not a tuple",
        replaced("findings", "(f for f in r.findings)"): r"findings is of the type generator, not a tuple",
        replaced("scores", "{'a': float('nan')}"): r"read\(\)\.scores\['a'\] is nan",
        replaced("title", "sys.stdout"): r"read\(\)\.title is of the type TextIOWrapper, not str",
    }
    reader = reader_of(
        read=_by_order(answers, "selection.instances[0]"),
        select="if study.instances[0].text('SeriesDescription') == 'select': return None",
    )
    reasons = {f"by {number}": reason for number, reason in enumerate(answers.values())}
    for order, reason in (reasons | {"select": r"select\(\) is None, not OutOfScope"}).items():
        with pytest.raises(NodeError, match=reason) as raised:
            reader.read(a_request(tmp_path, order))
        assert not raised.value.retry
        assert f"study {STUDY}" in str(raised.value)
        assert ": see handlers/README.md" in str(raised.value)


@pytest.mark.parametrize(
    ("part", "statement", "reason"),
    [
        ("weights", "return 'one/name'", "no tuple of names"),
        ("weights", "return (name for name in ())", "no tuple of names"),
        ("build", "return None", "returned no Handler"),
    ],
)  # fmt: skip
def test_rubbish_before_a_reading_is_an_error_that_names_it(
    reader_of: Callable[..., Reader], tmp_path: Path, part: str, statement: str, reason: str
) -> None:
    with pytest.raises(NodeError, match=reason) as raised:
        reader_of(**{part: statement}).read(a_request(tmp_path))
    assert not raised.value.retry
    assert f"study {STUDY}" in str(raised.value)
    assert "(see node/domain/handler.py)" in str(raised.value)


def test_what_a_handler_derives_from_the_nouns_of_the_node_arrives_as_the_nouns(
    reader_of: Callable[..., Reader], tmp_path: Path
) -> None:
    derived = (
        "import numpy\nclass Own(Result): pass\nclass Text(str): pass\nr = super().read(selection)\n"
        "return Own(**{name: getattr(r, name) for name in r.__slots__} "
        "| {'title': Text('mine'), 'scores': {'a': numpy.float32(0.5)}})"
    )
    answer = reader_of(read=derived).read(a_request(tmp_path)).answer
    assert type(answer).__name__ == "Result"
    assert answer.title == "mine"  # type: ignore[union-attr]
    assert answer.scores == {"a": 0.5}  # type: ignore[union-attr]


def test_a_full_disk_below_the_handler_is_waited_out(reader_of: Callable[..., Reader], tmp_path: Path) -> None:
    reader = reader_of(select=_by_order([FULL_DISK], "study.instances[0]"), read=FULL_DISK)
    for order in ("by 0", "read"):
        with pytest.raises(OutOfResources, match=f"the disk is full while reading study {STUDY}"):
            reader.read(a_request(tmp_path, order))


def test_check_has_one_line_for_each_broken_handler_and_the_other_lines_stand(tmp_path: Path) -> None:
    faults = {"syntax": {"body": SYNTAX_ERROR}, "raises": {"build": RAISE}, "hangs": {"build": HANG}, "well": {}}
    routes = tuple(Route(name, write_handler(tmp_path, name, **fault)) for name, fault in faults.items())
    node = NodeTable(data=tmp_path / "data", min_free_bytes=0)
    lines = check_lines(Settings(node=node, routes=routes, reader=ReaderTable(time_limit_s=20)))
    states = {name: (state, reason) for name, state, reason in lines}
    assert states["disk"][0] == states["route well"][0] == "ready"
    for name, reason in (("syntax", "SyntaxError"), ("raises", "ValueError"), ("hangs", "was killed after 20 s")):
        state, told_reason = states[f"route {name}"]
        assert state == "not ready"
        assert reason in told_reason
        assert PATIENT not in told_reason
    assert not children()


@pytest.mark.parametrize("part", ["body", "build", "select", "read"])
@pytest.mark.parametrize("statement", [RAISE, "sys.exit(7)"])
def test_a_command_that_runs_a_broken_handler_itself_names_the_handler_and_the_type_of_the_error(
    tmp_path: Path, part: str, statement: str
) -> None:
    handler = write_handler(tmp_path, "faulty", **{part: statement})
    (path,) = (file.path for file in a_request(tmp_path).files)
    settings = Settings(node=NodeTable(data=tmp_path / "data"))
    ((study,), _) = dicom_studies([path], settings)
    with pytest.raises(NodeError, match=r"handler 'site_handlers.faulty': (ValueError|SystemExit)") as raised:
        readings.read(study, Route(handler, handler), settings, models(tmp_path))
    assert PATIENT not in str(raised.value)
