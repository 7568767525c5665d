"""A handler that takes the time of a small model and draws pictures; an image described as `urgent` shows something."""

import dataclasses
import time
from typing import Final

from ainode.node.bench.immediate import Immediate
from ainode.node.domain import OutOfScope, Result, Selection, Verdict
from ainode.node.reading.weights import ModelEnvironment

URGENT: Final = "urgent"
"""the Series Description of an image that shows something"""
ANSWERED_AT: Final = "answered at"
"""among the seconds of a reading: when the handler had its answer, since 1970"""
_MODEL_S: Final = 0.2
_PICTURES: Final = 4


class Alarm(Immediate):
    """Answers after a while that something is there, or not."""

    def read(self, selection: Selection) -> Result | OutOfScope:
        """Return a finding with a verdict and four captures of the image."""
        answer = super().read(selection)
        if not isinstance(answer, Result):
            return answer
        time.sleep(_MODEL_S)
        is_urgent = selection.instances[0].text("SeriesDescription") == URGENT
        verdict = Verdict.of(0.95 if is_urgent else 0.05, 0.5)
        (finding,) = (dataclasses.replace(finding, verdict=verdict) for finding in answer.findings)
        (capture,) = answer.captures
        captures = tuple(dataclasses.replace(capture, title=f"Picture {number}") for number in range(_PICTURES))
        return dataclasses.replace(answer, findings=(finding,), captures=captures, seconds={ANSWERED_AT: time.time()})


def build(environment: ModelEnvironment) -> Alarm:
    """Return the handler."""
    del environment
    return Alarm()
