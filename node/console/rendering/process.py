"""The process that decodes untrusted files for the console: it answers until the node closes the channel."""

import os
import resource
from io import BufferedRWPair
from typing import Final

from ainode.node.console.rendering.questions import Limits
from ainode.node.reading.channel import question_from, write_answer
from ainode.node.reading.child_process import channel_of, log_stream

# Libraries map more than they use.
_UNUSED_BYTES: Final = 1 << 30


def serve(descriptor: int) -> None:
    """Answer the questions of a node on an inherited socket."""
    with channel_of(descriptor) as file:
        limits = question_from(file)
        if isinstance(limits, Limits):
            _confine(limits)
            _answer_all(file)


def _confine(limits: Limits) -> None:
    """Let the process leave no dump, and let memory beyond the limit be an error that has a reason."""
    for kind, size in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_AS, limits.memory_bytes + _UNUSED_BYTES),
    ):
        resource.setrlimit(kind, (size, size))
    # Each thread of a library of algebra maps memory of its own.
    os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"


def _answer_all(file: BufferedRWPair) -> None:
    from ainode.node import logs  # noqa: PLC0415

    logs.configure(log_stream())
    from ainode.node.console.rendering.answers import answer  # noqa: PLC0415 - imports decoders, under the limits

    while True:
        try:
            question = question_from(file)
        except EOFError:
            return
        write_answer(file, answer(question))
