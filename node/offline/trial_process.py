"""The process of one trial: it converts and reads what a person dropped, and writes the outcome beside the files.

The files are a stranger's. Whatever they crash or fill is this process, which the node limits in time and memory.
"""

import os
from pathlib import Path
from typing import Final

from ainode.node import errors
from ainode.node.errors import BrokenSeries, NodeError
from ainode.node.offline.trial_question import TrialQuestion
from ainode.node.reading.boundary import boundary
from ainode.node.reading.channel import Failure, answer_bytes, question_from, write_answer
from ainode.node.reading.child_process import channel_of, log_stream

# Live studies go first.
_NICE: Final = 10


def serve(descriptor: int) -> None:
    """Do what the node asks, and tell each step; the last answer is a step, too, or a failure."""
    with channel_of(descriptor) as file:
        question = question_from(file)
        os.nice(_NICE)
        if not isinstance(question, TrialQuestion):
            return
        try:
            _prepare()
            from ainode.node.offline import trial_reading  # noqa: PLC0415 - imports what decodes and reads

            with boundary("", "while the files were tried", BrokenSeries):
                for step in trial_reading.steps(question):
                    write_answer(file, answer_bytes(step))
        except NodeError as error:
            kind = next(base.__name__ for base in type(error).__mro__ if base.__module__ == errors.__name__)
            write_answer(file, answer_bytes(Failure(kind, _words(error, question.folder), is_built=True)))


def _prepare() -> None:
    from pydicom import config  # noqa: PLC0415

    from ainode.node import logs  # noqa: PLC0415

    logs.configure(log_stream())
    # pydicom's validation repeats the value in its warning; a log may hold no patient attribute.
    config.settings.reading_validation_mode = config.IGNORE


def _words(error: NodeError, folder: Path) -> str:
    """Return the words of an error, with paths from the folder on."""
    return str(error).replace(f"{folder}/", "")
