"""`ainode worker` and `ainode workers`: a process beside the node, and who is there."""

import platform
import signal
from collections.abc import Iterator, Sequence

from ainode.node import logs
from ainode.node.commands.ending import end_process
from ainode.node.errors import ConfigError
from ainode.node.keeping import database
from ainode.node.keeping.executors import Executors
from ainode.node.keeping.permissions import Permissions
from ainode.node.settings import Settings, Sources
from ainode.node.starting.joining import is_shared, readiness_problems, worker_problems


def run_worker(settings: Settings, sources: Sources, handlers: Sequence[str], name: str, *, is_trial: bool) -> None:
    """Run a worker until a signal asks for its end; of a trial, return once it is known that it could.

    Raises: ConfigError with a line for each reason why there may be no such worker.
    """
    logs.choose_format(settings.node.log_format)
    handlers = tuple(handlers) or tuple(sorted({route.handler for route in settings.routes}))
    name = name or platform.node()
    problems = list(worker_problems(settings, handlers, name))
    if problems := problems or list(readiness_problems(settings, sources, handlers)):
        raise ConfigError("\n".join(problems))
    if is_trial:
        print("the worker can start")  # noqa: T201 - the answer of the command
        return
    from ainode.node.jobs import memory  # noqa: PLC0415 - a trial needs none of it

    Permissions.of_group(settings.node.group).apply_to_process()
    memory.bound_heaps()  # before the first thread
    with memory.without_collections():
        from ainode.node.app import Ending  # noqa: PLC0415
        from ainode.node.worker import Worker  # noqa: PLC0415

        worker = Worker(settings, handlers, name)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: worker.request_stop())
    worker.start()
    ending = worker.wait()
    end_process(worker.stop, settings.node.stop_limit_s, is_requested=ending is Ending.REQUESTED)


def worker_rows(settings: Settings) -> Iterator[tuple[str, ...]]:
    """Yield a row for each process that works at the jobs, or ended within a day.

    Raises: ConfigError on SQLite, where there is one process; DatabaseUnavailable.
    """
    if not is_shared(settings):
        raise ConfigError("[database] url: on SQLite the node alone works; several machines need PostgreSQL")
    engine = database.existing(settings.database_url)
    for executor in Executors(engine).all():
        state = executor.state(settings.workers.dead_after_s)
        age = f"{executor.beat_age_s:.0f} s ago"
        yield executor.name, executor.kind, executor.host, state, age, ", ".join(executor.handlers)
    engine.dispose()
