"""The process of one self-test: a handler's code makes the study in it, and an archive listens in it."""

import json
import resource
from dataclasses import dataclass, field

from ainode.node.errors import HandlerError
from ainode.node.reading.channel import question_from, write_answer
from ainode.node.reading.child_process import channel_of, log_stream
from ainode.node.settings import Settings


@dataclass(frozen=True, slots=True)
class SelfTestQuestion:
    """A route to test."""

    settings: Settings = field(repr=False)
    route: str


def serve(descriptor: int) -> None:
    """Test the route that the node asks for; the answer is what is wrong, and what is to be said."""
    with channel_of(descriptor) as file:
        question = question_from(file)
        if isinstance(question, SelfTestQuestion):
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            from ainode.node import logs  # noqa: PLC0415

            logs.configure(log_stream())
            from ainode.node.proving.self_test import tested  # noqa: PLC0415 - imports pynetdicom and highdicom

            try:
                record, words = tested(question.settings, question.route)
                answer = {"is_passed": record.is_passed, "words": words}
            except HandlerError as error:
                answer = {"is_passed": False, "words": str(error)}
            except OSError as error:
                answer = {"is_passed": False, "words": f"the record cannot be written: {error.strerror}"}
            write_answer(file, json.dumps(answer).encode())
