"""What the durable engine (DBOS) knows of workflows: which are active, and which are so old that nobody needs them."""

from datetime import datetime
from typing import Final

from dbos import DBOS

from ainode.node.jobs.queues import APPLICATION_VERSION

_UNFINISHED: Final = ("ENQUEUED", "PENDING", "DELAYED")
_FINISHED: Final = ("SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED")
_BATCH: Final = 500


def active_tasks(executor: str) -> set[str]:
    """Return the names of the tasks that a workflow waits for, or that a workflow of the executor works at."""
    workflows = DBOS.list_workflows(
        status=list(_UNFINISHED), app_version=APPLICATION_VERSION, load_input=False, load_output=False
    )
    return {
        workflow.workflow_id.rpartition(":")[0]
        for workflow in workflows
        if workflow.status != "PENDING" or workflow.executor_id == executor
    }


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
