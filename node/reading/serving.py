"""The process of a handler: it answers one question after the other until the node closes the channel."""

import importlib
from dataclasses import dataclass
from functools import partial
from io import BufferedRWPair

from ainode.node import errors
from ainode.node.domain import OnEarly, PrepareQuestion, Reading, Request
from ainode.node.errors import HandlerError, NodeError
from ainode.node.reading.boundary import boundary
from ainode.node.reading.channel import Failure, answer_bytes, question_from, write_answer
from ainode.node.reading.child_process import channel_of, log_stream
from ainode.node.reading.confinement import Bounds
from ainode.node.reading.loaded_handler import LoadedHandler
from ainode.node.reading.plain import plain
from ainode.node.reading.rehearsal import RehearsalQuestion, rehearsed_reading
from ainode.node.reading.weights import ModelEnvironment


@dataclass(frozen=True, slots=True)
class Opening:
    """The first message of the node: whose process this is."""

    handler: str
    environment: ModelEnvironment
    bounds: Bounds | None = None
    """what confines the process; None of a handler that is code of the installation"""


def serve(descriptor: int) -> None:
    """Answer the questions of a node on an inherited socket."""
    with channel_of(descriptor) as file:
        opening = question_from(file)
        if isinstance(opening, Opening):
            _answer_all(file, opening)


def _answer_all(file: BufferedRWPair, opening: Opening) -> None:
    from ainode.node import logs  # noqa: PLC0415

    logs.configure(log_stream())
    handler = LoadedHandler(opening.handler, opening.environment, opening.bounds)
    while True:
        try:
            question = question_from(file)
        except EOFError:
            return
        write_answer(file, _answer(opening.handler, handler, question, partial(_tell_early, file)))
        _load_encoders()


def _load_encoders() -> None:
    """Import what a reading needs, while the node opens the job of the study."""
    from pydicom import config  # noqa: PLC0415

    # pydicom's validation repeats the value in its warning; a log may hold no patient attribute.
    config.settings.reading_validation_mode = config.IGNORE
    importlib.import_module("ainode.node.reading.pipeline")


def _tell_early(file: BufferedRWPair, reading: Reading) -> None:
    """Send the urgent part of a reading, which the reading follows."""
    write_answer(file, answer_bytes(plain(reading, (Reading,), "urgent part")))


def _answer(name: str, handler: LoadedHandler, question: object, on_early: OnEarly) -> bytes:
    """Return the answer of the handler as bytes; an error of the handler is an answer, too."""
    try:
        if isinstance(question, RehearsalQuestion):
            return answer_bytes(plain(rehearsed_reading(), (Reading,), "reading"))
        handler.confine()  # before anything is imported that begins threads
        if isinstance(question, PrepareQuestion):
            with boundary(name, "in prepare()", HandlerError):
                return answer_bytes(handler.prepare())
        if not isinstance(question, Request):
            return answer_bytes(handler.needs())
        _load_encoders()
        with boundary(name, f"while reading study {question.study_instance_uid}", HandlerError):
            return answer_bytes(plain(handler.read(question, on_early), (Reading,), "reading"))
    except NodeError as error:
        kind = next(base.__name__ for base in type(error).__mro__ if base.__module__ == errors.__name__)
        return answer_bytes(Failure(kind, _about(question, str(error)), handler.is_built))


def _about(question: object, message: str) -> str:
    """Return a message that names the study that was asked for."""
    if not isinstance(question, Request) or question.study_instance_uid in message:
        return message
    return f"study {question.study_instance_uid}: {message}"
