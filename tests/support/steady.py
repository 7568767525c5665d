"""A handler whose every answer takes a while, as a model's does: work is under way when a process is killed."""

import time

from ainode.node.bench.immediate import Immediate
from ainode.node.domain import OutOfScope, Result, Selection
from ainode.node.reading.weights import ModelEnvironment

READING_S = 0.4


class Steady(Immediate):
    """Answers as `Immediate` does, after a while in which it takes no processor."""

    def read(self, selection: Selection) -> Result | OutOfScope:
        time.sleep(READING_S)
        return super().read(selection)


def build(environment: ModelEnvironment) -> Steady:
    del environment
    return Steady()
