"""What each job answered, in the columns that figures and searches need, taken from its result.json."""

import json
from collections.abc import Mapping
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ainode.node.keeping.records import Job, Outcome
from ainode.node.keeping.schema import answers

_UNKNOWN_CODE: Final = "unknown"


def write_answer(connection: Connection, job: Job, outcome: Outcome) -> None:
    """Write the answer of a job that is reported now, in the transaction that reports the job."""
    row = {
        "job": job.id,
        "study_instance_uid": job.study_instance_uid,
        "route": job.route,
        "handler": job.handler,
        "seconds": outcome.seconds,
        "at": outcome.finished_at or job.queued_at,
        **answer_values(outcome.result),
    }
    connection.execute(sa.delete(answers).where(answers.c.job == job.id))
    connection.execute(sa.insert(answers).values(row))


def answer_values(result: str) -> Mapping[str, object]:
    """Return the columns of `answers` that follow from a result.json.

    Without a verdict the probability is the score `probability`, if there is one.
    """
    values: Mapping[str, Any] = json.loads(result) if result else {}
    refusal, algorithm, verdict = (values.get(key) or {} for key in ("out_of_scope", "algorithm", "verdict"))
    probability = verdict.get("probability")
    return {
        "model": algorithm.get("name", ""),
        "version": algorithm.get("version", ""),
        "weights_sha256": algorithm.get("weights_sha256", ""),
        "weights_status": algorithm.get("weights_status", ""),
        "presence": verdict.get("presence") or "",
        "probability": values.get("scores", {}).get("probability") if probability is None else probability,
        "threshold": verdict.get("threshold"),
        "headline": verdict.get("headline") or "",
        "code": (refusal.get("code") or _UNKNOWN_CODE) if refusal else "",
    }
