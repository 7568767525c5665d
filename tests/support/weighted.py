"""A handler that, as the shipped ones do, keeps in memory what it loaded from its one file of weights."""

from dataclasses import replace
from functools import cached_property

from ainode.node.domain import Algorithm, OutOfScope, Result, Selection
from ainode.node.reading.weights import ModelEnvironment
from support.handler import Obedient

NAME = "weighted/network"


class Weighted(Obedient):
    """Its probability is the number in its file."""

    def __init__(self, environment: ModelEnvironment) -> None:
        self._store = environment.weights

    @cached_property
    def _probability(self) -> float:
        return float(self._store.verified(NAME).read_text())

    def weights(self) -> tuple[str, ...]:
        return (NAME,)

    def read(self, selection: Selection) -> Result | OutOfScope:
        answer = super().read(selection)
        assert isinstance(answer, Result)
        scores = {"probability": self._probability}
        algorithm = Algorithm("weighted", "1", self._store.digest(self.weights()), self._store.status(self.weights()))
        return replace(answer, algorithm=algorithm, scores=scores)


def build(environment: ModelEnvironment) -> Weighted:
    return Weighted(environment)
