"""Whether memory goes back to the system."""

import os
import subprocess
import sys

import pytest
from support.node import ROOT

USE = """
import os, threading
from ainode.node.jobs import memory

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

memory.share_heaps()
gate = threading.Barrier(9)

def use():
    pieces = [b"x" * 60_000 for _ in range(300)]
    gate.wait()
    del pieces
    gate.wait()

threads = [threading.Thread(target=use) for _ in range(8)]
for thread in threads:
    thread.start()
gate.wait()
most = resident()
gate.wait()
memory.give_back()
print(most - resident())
for thread in threads:
    thread.join()
"""


def test_what_threads_have_used_goes_back_to_the_system() -> None:
    if not sys.platform.startswith("linux"):
        pytest.skip("the C library is not glibc")
    environment = os.environ | {"PYTHONPATH": str(ROOT / ".ns")}
    printed = subprocess.run(
        [sys.executable, "-c", USE], stdout=subprocess.PIPE, text=True, check=True, env=environment
    )
    assert int(printed.stdout) > 100_000_000
