"""A handler whose probability is the Series Description; `decline` is refused, `silent` has no probability."""

from dataclasses import replace

from ainode.node.domain import OutOfScope, Result, Selection, Verdict
from ainode.node.reading.weights import ModelEnvironment
from support.handler import Obedient, healthy


class Graded(Obedient):
    """Answers with the probability of the header."""

    def read(self, selection: Selection) -> Result | OutOfScope:
        answer, text = healthy(selection), selection.instances[0].text("SeriesDescription")
        if text == "silent":
            whole = replace(answer.findings[0], verdict=None)
            return replace(answer, findings=(whole,), scores={})
        probability = float(text)
        whole = replace(answer.findings[0], verdict=Verdict.of(probability, 0.5))
        return replace(answer, findings=(whole,), scores={"probability": probability})


def build(environment: ModelEnvironment) -> Graded:
    del environment
    return Graded()
