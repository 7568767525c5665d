"""The process of an assistant: it does one task, answers, and ends."""

import resource

from ainode.node.console.assistant.client import Task
from ainode.node.reading.channel import question_from, write_answer
from ainode.node.reading.child_process import channel_of, log_stream


def serve(descriptor: int) -> None:
    """Answer the question of a node on an inherited socket."""
    with channel_of(descriptor) as file:
        task = question_from(file)
        if isinstance(task, Task):
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            from ainode.node import logs  # noqa: PLC0415

            logs.configure(log_stream())
            from ainode.node.console.assistant.tasks import answer  # noqa: PLC0415 - imports all that a task needs

            write_answer(file, answer(task))
