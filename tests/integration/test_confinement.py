import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from integration.test_reader import asking

from ainode.node.diagnosis.checks import check_lines
from ainode.node.domain import Result
from ainode.node.errors import ConfigError, HandlerError, NodeError
from ainode.node.offline import readings
from ainode.node.reading import confinement
from ainode.node.reading.reader import Reader
from ainode.node.reading.weights import ModelEnvironment, WeightStore
from ainode.node.routes import Route
from ainode.node.settings import NodeTable, ReaderTable, Settings

INTRUDER = "support.intruder"
LIMITS = ReaderTable(time_limit_s=60, memory_limit_bytes=1 << 29, confined_handlers=(INTRUDER,))
ENDED = {
    "socket": "PermissionError",
    "spawn": "PermissionError",
    "fork": "PermissionError",
    "write": "PermissionError",
    "append": "PermissionError",
    "link": "PermissionError",
    "signal": "PermissionError",
    "peek": "PermissionError",
    "catalog": "PermissionError",
    "lock": "PermissionError",
    "allocate": "killed above 536870912 bytes",
    "ask too much": "MemoryError",
}
confined = pytest.mark.skipif(bool(confinement.missing()), reason="; ".join(confinement.missing()))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> ModelEnvironment:
    folder = tmp_path_factory.mktemp("data")
    site = folder / "weights"
    site.mkdir()
    (site / "of_the_site").write_text("x", encoding="ascii")
    (site / "of_the_site").chmod(0o600)
    (folder / "catalog.sqlite").write_text("x", encoding="ascii")
    return ModelEnvironment(WeightStore(site), folder / "networks", data=folder)


@pytest.fixture(scope="module")
def reader(models: ModelEnvironment) -> Iterator[Reader]:
    reader = Reader(INTRUDER, models, LIMITS)
    yield reader
    reader.kill_unless_reading()


@confined
@pytest.mark.parametrize(("attempt", "reason"), ENDED.items())
def test_a_confined_model_that_reaches_out_fails_alone_and_the_next_study_is_read(
    reader: Reader, models: ModelEnvironment, tmp_path: Path, attempt: str, reason: str
) -> None:
    spool = models.weights.site.parent / "spool"
    before = len(psutil.Process().children(recursive=True))
    with pytest.raises(NodeError, match=reason):
        reader.read(asking(spool / tmp_path.name, attempt))
    assert isinstance(reader.read(asking(spool / tmp_path.name, "own")).answer, Result)
    assert len(psutil.Process().children(recursive=True)) <= before + 1
    assert [path.name for path in models.weights.site.iterdir()] == ["of_the_site"]


@confined
def test_a_confined_model_changes_no_mode_of_a_file(reader: Reader, models: ModelEnvironment, tmp_path: Path) -> None:
    study = models.weights.site.parent / "spool" / tmp_path.name
    assert isinstance(reader.read(asking(study, "mode")).answer, Result)
    assert (models.weights.site / "of_the_site").stat().st_mode & 0o777 == 0o600


def test_the_same_attempts_succeed_where_nothing_confines_them(models: ModelEnvironment, tmp_path: Path) -> None:
    reader = Reader(INTRUDER, models, ReaderTable(time_limit_s=60))
    for attempt in ("spawn", "append", "peek", "catalog", "lock", "own"):
        assert isinstance(reader.read(asking(tmp_path, attempt)).answer, Result)
    reader.kill_unless_reading()


@confined
def test_a_command_reads_with_a_confined_model_in_a_process_of_its_own(
    models: ModelEnvironment, tmp_path: Path
) -> None:
    request = asking(models.weights.site.parent / "spool" / tmp_path.name, "socket")
    with pytest.raises(HandlerError, match="PermissionError"):
        readings.reading_of(request, INTRUDER, models, LIMITS)


@confined
def test_what_a_killed_process_left_in_its_temporary_folder_is_removed_by_the_next(tmp_path: Path) -> None:
    models = ModelEnvironment(WeightStore(tmp_path), tmp_path / "networks")
    folder = models.cache / INTRUDER
    left = folder / "tmp-left"
    left.mkdir(parents=True)
    readers = [Reader(INTRUDER, models, LIMITS) for _ in range(2)]
    for reader in readers:
        reader.read(asking(tmp_path, "own"))
    assert not left.exists()
    assert len([*folder.glob("tmp-*")]) == len(readers)
    for reader in readers:
        reader.kill_unless_reading()
    readers[0].read(asking(tmp_path, "own"))
    assert len([*folder.glob("tmp-*")]) == 1
    readers[0].kill_unless_reading()


KEPT = """
import ctypes, errno, platform, sys
from ainode.node.reading import system_calls
system_calls.gain_no_privileges()
system_calls.refuse(processes=sys.argv[1] == "reader")
library, queues = ctypes.CDLL(None, use_errno=True), ctypes.CDLL("librt.so.1", use_errno=True)
attempts = {
    "shmget": lambda: library.shmget(0x17, 1 << 16, 0o1666),
    "shmat": lambda: library.shmat(0, None, 0),
    "shmctl": lambda: library.shmctl(0, 2, None),
    "msgget": lambda: library.msgget(0x17, 0o1666),
    "msgsnd": lambda: library.msgsnd(0, bytes(16), 8, 0),
    "msgrcv": lambda: library.msgrcv(0, bytes(16), 8, 0, 0),
    "semget": lambda: library.semget(0x17, 1, 0o1666),
    "semop": lambda: library.semop(0, bytes(6), 1),
    "mq_open": lambda: queues.mq_open(b"/ainode-kept", 0o102, 0o600, None),
}
clone = {"x86_64": 56, "aarch64": 220}[platform.machine()]
for shift in (17, *range(25, 31)):  # CLONE_NEW*, with SIGCHLD
    attempts[f"clone {shift}"] = lambda flags=1 << shift | 17: library.syscall(clone, flags, 0, 0, 0, 0)
for name, attempt in attempts.items():
    ctypes.set_errno(0)
    attempt()
    print(name, errno.errorcode.get(ctypes.get_errno()))
"""


@confined
@pytest.mark.parametrize("process", ["reader", "program"])
def test_no_memory_message_or_semaphore_outlives_a_process_of_others_and_none_is_in_another_namespace(
    process: str,
) -> None:
    answers = subprocess.run(
        [sys.executable, "-c", KEPT, process], capture_output=True, check=True, encoding="ascii"
    ).stdout.splitlines()
    assert len(answers) == 16
    assert {answer.split()[-1] for answer in answers} == {"EPERM"}


REACHED = """
import ctypes, os, socket, sys
from ainode.node.reading import system_calls
outside, listener, folder = int(sys.argv[2]), sys.argv[3], sys.argv[4].encode()
system_calls.gain_no_privileges()
system_calls.refuse(processes=sys.argv[1] == "reader")
library, nice, idle = ctypes.CDLL(None, use_errno=True), os.nice(1), os.sched_param(0)
def send():
    kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC
    socket.socketpair(socket.AF_UNIX, kind)[0].sendto(b"words of a patient", listener)
attempts = {
    "send": send,
    "priority": lambda: os.setpriority(os.PRIO_PROCESS, outside, 19),
    "priority of the user": lambda: os.setpriority(os.PRIO_USER, 0, 19),
    "cores": lambda: os.sched_setaffinity(outside, {min(os.sched_getaffinity(0))}),
    "policy": lambda: os.sched_setscheduler(outside, os.SCHED_IDLE, idle),
    "parameters": lambda: os.sched_setparam(outside, idle),
    "watch": lambda: library.inotify_add_watch(library.inotify_init(), folder, 0xfff) < 0 or print("watches"),
}
for name, attempt in attempts.items():
    try:
        attempt()
    except PermissionError:
        print(name, "EPERM")
os.sched_setaffinity(0, os.sched_getaffinity(0))
one, other = socket.socketpair()
one.sendall(b"own")
print("own", other.recv(3).decode())
"""


@confined
@pytest.mark.parametrize("process", ["reader", "program"])
def test_a_process_of_others_sends_to_no_socket_slows_no_other_process_and_watches_no_folder(
    process: str, tmp_path: Path
) -> None:
    other = subprocess.Popen(["sleep", "60"])
    with other, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "socket"))
        listener.settimeout(0)
        before = _schedule(other.pid)
        arguments = [process, str(other.pid), str(tmp_path / "socket"), str(tmp_path)]
        told = subprocess.run(
            [sys.executable, "-c", REACHED, *arguments], capture_output=True, check=True, encoding="ascii"
        ).stdout.splitlines()
        after = _schedule(other.pid)
        other.kill()
        with pytest.raises(BlockingIOError):
            listener.recv(100)
    assert told == ["send EPERM", "priority EPERM", "priority of the user EPERM", "own own"]
    assert after == before


def _schedule(process: int) -> tuple[object, ...]:
    return os.getpriority(os.PRIO_PROCESS, process), os.sched_getaffinity(process), os.sched_getscheduler(process)


def test_a_system_that_cannot_confine_reads_nothing_by_models_of_others_unless_the_operator_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(confinement.landlock, "version", lambda: 0)
    with pytest.raises(ConfigError, match=r"no Landlock: Linux 5.13.*\[reader\] allow_unconfined = true"):
        confinement.refuse_unless_confinable(allows_unconfined=False)
    confinement.refuse_unless_confinable(allows_unconfined=True)


@pytest.mark.parametrize(
    ("version", "allowed", "state", "words"),
    [
        (7, False, "ready", "models of others have no network"),
        (0, False, "not ready", "files that it may not change .*; they read nothing"),
        (0, True, "attention", "files that it may not change .*; they run all the same"),
    ],
)
def test_a_check_says_whether_the_models_of_others_are_confined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, version: int, allowed: bool, state: str, words: str
) -> None:
    monkeypatch.setattr(confinement.landlock, "version", lambda: version)
    settings = Settings(
        node=NodeTable(data=tmp_path, min_free_bytes=1),
        reader=ReaderTable(confined_handlers=(INTRUDER,), allow_unconfined=allowed),
        routes=(Route("intruder", INTRUDER),),
    )
    lines = {name: (state, words) for name, state, words in check_lines(settings)}
    assert lines["confinement"][0] == state
    assert re.search(words, lines["confinement"][1])
