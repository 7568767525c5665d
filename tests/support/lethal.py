"""A handler whose every reading takes the node or worker along, as one does that needs the memory of the machine."""

import os
import signal
import time

import psutil

from ainode.node.bench.immediate import Immediate
from ainode.node.domain import OutOfScope, Result, Selection
from ainode.node.reading.weights import ModelEnvironment


class Lethal(Immediate):
    """Answers nobody."""

    def read(self, selection: Selection) -> Result | OutOfScope:
        del selection
        parents = psutil.Process().parents()
        os.kill(next(each.pid for each in parents if "ainode.node.commands.cli" in each.cmdline()), signal.SIGKILL)
        time.sleep(60)
        raise AssertionError


def build(environment: ModelEnvironment) -> Lethal:
    del environment
    return Lethal()
