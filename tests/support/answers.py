"""Answers of jobs as result.json and as rows, for tests of figures and searches."""

import json
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

import numpy as np
import sqlalchemy as sa

from ainode.node.keeping.schema import answers

WEIGHTS = "a" * 64


def verdict(presence: str, probability: float, threshold: float = 0.5) -> dict[str, object]:
    return {"presence": presence, "probability": probability, "threshold": threshold, "band": None, "about": None}


def result_json(
    *verdicts: dict[str, object], presence: str | None = None, scores: dict[str, float] | None = None
) -> str:
    """Return the result.json of a model that read a study."""
    strongest = next((item for item in verdicts if item["presence"] == presence), None)
    headline = f"lesion: {presence}, {strongest['probability']:.2f}, threshold 0.50" if strongest else ""
    numbers = {key: strongest[key] for key in ("probability", "threshold")} if strongest else {}
    return json.dumps(
        {
            "verdict": {"presence": presence, "headline": headline, **numbers, "statements": []},
            "scores": scores or {},
            "findings": [{"finding": str(number), "verdict": item} for number, item in enumerate(verdicts)],
            "algorithm": {
                "name": "skin_lesion",
                "version": "0.1.0",
                "weights_sha256": WEIGHTS,
                "weights_status": "research",
            },
        }
    )


def refusal_json(code: str = "too-small") -> str:
    """Return the result.json of a model that refused a study."""
    return json.dumps({"out_of_scope": {"reason": "the image has 10 x 10 pixels", "code": code}, "evidence": []})


def an_answer(number: int, at: datetime, probability: float | None = 0.25, **changes: object) -> dict[str, object]:
    """Return a row of `answers`; without a probability, the study was refused."""
    read = {
        "model": "skin_lesion",
        "version": "0.1.0",
        "weights_sha256": WEIGHTS,
        "weights_status": "research",
        "presence": "present" if (probability or 0) > 0.5 else "absent",
        "headline": f"lesion: {'present' if (probability or 0) > 0.5 else 'absent'}, {probability or 0:.2f}",
        "threshold": 0.5,
        "code": "",
    }
    refused = dict.fromkeys(("model", "version", "weights_sha256", "weights_status", "presence", "headline"), "")
    return {
        "job": f"{number:032x}",
        "study_instance_uid": f"1.2.{number}",
        "route": "skin",
        "handler": "skin_lesion",
        "probability": probability,
        "seconds": 2.0,
        "at": at,
        "is_superseded": False,
        **(refused | {"code": "too-small", "threshold": None} if probability is None else read),
        **changes,
    }


def put_answers(engine: sa.Engine, rows: Sequence[dict[str, object]]) -> None:
    """Insert rows of `answers`."""
    with engine.begin() as connection:
        connection.execute(sa.insert(answers), list(rows))


def many(count: int, until: datetime, *, days: int = 90, seed: int = 0) -> Iterator[dict[str, object]]:
    """Yield answers over a number of days: a tenth refused, scores that crowd at both ends."""
    random = np.random.default_rng(seed)
    scores, ages = random.beta(0.5, 0.8, count), np.sort(random.random(count))[::-1] * days
    refused, times = random.random(count) < 0.1, random.lognormal(0.7, 0.4, count)
    for number in range(count):
        probability = None if refused[number] else float(scores[number])
        at = until - timedelta(days=float(ages[number]))
        yield an_answer(number, at, probability, seconds=float(times[number]))
