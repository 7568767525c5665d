"""What the durable engine (DBOS) knows of workflows: which are active, and which are so old that nobody needs them."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Final

from dbos import DBOS

from ainode.node.jobs.queues import APPLICATION_VERSION

_UNFINISHED: Final = ("ENQUEUED", "PENDING", "DELAYED")
_FINISHED: Final = ("SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED")
_BATCH: Final = 500


class Activity:
    """Which tasks a workflow of an executor works at, or a workflow in a queue waits for."""

    def __init__(self, executor: str) -> None:
        self._executor = executor
        self._working: set[str] = set()
        self._idle: frozenset[str] = frozenset()
        self._lock = threading.Lock()

    @contextmanager
    def working(self, workflow: str) -> Iterator[None]:
        """Mark a workflow as worked at in this process."""
        with self._lock:
            self._working.add(workflow)
        try:
            yield
        finally:
            with self._lock:
                self._working.discard(workflow)

    def turns(self) -> Mapping[str, int]:
        """Return the newest turn of each task that is worked at or queued, by the name of the task.

        A workflow that the engine calls pending, and that this process did not work at in two calls, is abandoned: the
        engine could not write down its end, or that it was taken from the queue. The next start ends it.
        """
        workflows = DBOS.list_workflows(
            status=list(_UNFINISHED), app_version=APPLICATION_VERSION, load_input=False, load_output=False
        )
        pending = {
            workflow.workflow_id
            for workflow in workflows
            if workflow.status == "PENDING" and workflow.executor_id == self._executor
        }
        queued = {workflow.workflow_id for workflow in workflows if workflow.status != "PENDING"}
        with self._lock:
            idle = frozenset(pending - self._working)
        abandoned, self._idle = idle & self._idle, idle
        turns: dict[str, int] = {}
        for workflow in queued | (pending - abandoned):
            name, _, turn = workflow.rpartition(":")
            turns[name] = max(int(turn), turns.get(name, 0))
        return turns


def is_queued(workflow: str) -> bool:
    """Return whether a workflow waits in its queue."""
    status = DBOS.get_workflow_status(workflow)
    return status is not None and status.status == "ENQUEUED"


def remove_finished(before: datetime) -> int:
    """Remove the rows of workflows that finished before a time; return how many."""
    return _remove(status=list(_FINISHED), completed_before=before.isoformat())


def remove_older_versions() -> int:
    """Remove what an earlier version of the node left: the dispatcher begins the work anew; return how many."""
    workflows = DBOS.list_workflows(status=list(_UNFINISHED), load_input=False, load_output=False)
    versions = {str(workflow.app_version) for workflow in workflows} - {APPLICATION_VERSION}
    return _remove(status=list(_UNFINISHED), app_version=list(versions)) if versions else 0


def _remove(**conditions: object) -> int:
    count = 0
    while workflows := DBOS.list_workflows(**conditions, limit=_BATCH, load_input=False, load_output=False):  # type: ignore[arg-type]
        DBOS.delete_workflows([workflow.workflow_id for workflow in workflows])
        count += len(workflows)
    return count
