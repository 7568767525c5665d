"""A handler that finds something, whose pictures take long to draw; a Series Description of `quiet` finds nothing."""

import os
from dataclasses import replace

from ainode.node.domain import Capture, Finding, Measurement, OutOfScope, Result, Saliency, Selection, Verdict, refs
from ainode.node.reading.weights import ModelEnvironment
from support.handler import ABNORMAL, PERCENT, PROBABILITY, SPINE, Obedient, result

_PICTURES = 6
PROBABILITY_NAME = "ALARMING_PROBABILITY"
"""variable of the environment with which the model answers something else"""


class Alarming(Obedient):
    """Says that the spine is abnormal: 0.93, or 0.12 of a quiet study."""

    def read(self, selection: Selection) -> Result | OutOfScope:
        first = selection.instances[0]
        order = first.text("SeriesDescription")
        if order not in {"loud", "quiet"}:
            return super().read(selection)
        probability = float(os.environ.get(PROBABILITY_NAME, "0.93" if order == "loud" else "0.12"))
        certainty = Measurement(PROBABILITY, 100 * probability, PERCENT, (first.ref,))
        verdict = Verdict.of(probability, 0.5)
        finding = Finding("spine", ABNORMAL, SPINE, (certainty,), (first.ref,), verdict=verdict)
        rows, columns = (int(first.text(keyword)) for keyword in ("Rows", "Columns"))
        saliency = Saliency(rows, columns, bytes(rows * columns))
        captures = tuple(
            Capture(first.ref, f"Picture {number}", (), saliency, (finding,)) for number in range(_PICTURES)
        )
        evidence = refs(selection.instances)
        return replace(result(selection), findings=(finding,), captures=captures, evidence=evidence)


def build(environment: ModelEnvironment) -> Alarming:
    del environment
    return Alarming()
