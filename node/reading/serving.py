"""The process of a handler: it answers one question after the other until the node closes the channel."""

import contextlib
import ctypes
import importlib
import os
import pickle
import signal
import socket
from dataclasses import dataclass
from io import BufferedRWPair
from pathlib import Path
from typing import Final, TextIO

from ainode.node import errors
from ainode.node.domain import Reading, Request
from ainode.node.errors import HandlerError, NodeError
from ainode.node.reading.boundary import boundary
from ainode.node.reading.channel import Failure, question_from, write_answer
from ainode.node.reading.loaded_handler import LoadedHandler
from ainode.node.reading.plain import plain
from ainode.node.reading.weights import ModelEnvironment

# linux/prctl.h
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
# proc(5): the kernel without memory kills this process and its children first, and not the node.
_FIRST_VICTIM: Final = "1000"
_STDOUT: Final = 1
_STDERR: Final = 2


@dataclass(frozen=True, slots=True)
class Opening:
    """The first message of the node: whose process this is."""

    handler: str
    environment: ModelEnvironment


def serve(descriptor: int) -> None:
    """Answer the questions of a node on an inherited socket."""
    library = ctypes.CDLL(None, use_errno=True)
    # Linux ends this process when the thread that started it ends, however it ends.
    library.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # Orphans below this process stay below it, where the node finds them.
    library.prctl(_PR_SET_CHILD_SUBREAPER, 1)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_FIRST_VICTIM, encoding="ascii")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with socket.socket(fileno=descriptor) as end, end.makefile("rwb") as file:
        end.set_inheritable(False)
        opening = question_from(file)
        if isinstance(opening, Opening):
            _answer_all(file, opening)


def _answer_all(file: BufferedRWPair, opening: Opening) -> None:
    from ainode.node import logs  # noqa: PLC0415

    logs.configure(_taken_from_the_handler())
    handler = LoadedHandler(opening.handler, opening.environment)
    while True:
        try:
            question = question_from(file)
        except EOFError:
            return
        write_answer(file, _answer(opening.handler, handler, question))
        _load_encoders()


def _taken_from_the_handler() -> TextIO:
    """Return standard error for the log alone; what a handler or its libraries print goes nowhere.

    A printed line may hold the value of a header. Libraries in C write to the descriptors, so these are replaced.
    """
    stream = os.fdopen(os.dup(_STDERR), "w", buffering=1, encoding="utf-8", errors="backslashreplace")
    with Path(os.devnull).open("wb") as nothing:
        for descriptor in (_STDOUT, _STDERR):
            os.dup2(nothing.fileno(), descriptor)
    return stream


def _load_encoders() -> None:
    """Import what a reading needs, while the node opens the job of the study."""
    from pydicom import config  # noqa: PLC0415

    # pydicom's validation repeats the value in its warning; a log may hold no patient attribute.
    config.settings.reading_validation_mode = config.IGNORE
    importlib.import_module("ainode.node.reading.pipeline")


def _answer(name: str, handler: LoadedHandler, question: object) -> bytes:
    """Return the answer of the handler as bytes; an error of the handler is an answer, too."""
    try:
        if not isinstance(question, Request):
            return pickle.dumps(handler.needs())
        _load_encoders()
        with boundary(name, f"while reading study {question.study_instance_uid}", HandlerError):
            return pickle.dumps(plain(handler.read(question), (Reading,), "reading"))
    except NodeError as error:
        kind = next(base.__name__ for base in type(error).__mro__ if base.__module__ == errors.__name__)
        return pickle.dumps(Failure(kind, str(error), handler.is_built))
