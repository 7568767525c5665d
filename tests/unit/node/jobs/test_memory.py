"""Whether memory goes back to the system."""

import os
import subprocess
import sys

import pytest
from support.node import ROOT

BEGINNING = """
import os, threading
from ainode.node.jobs import memory

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

memory.bound_heaps()
"""

USE_IN_THREADS = """
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

USE_LARGE_PIECES_AMONG_SMALL = """
first = b"x" * 30_000_000
del first
large, small = [], []
for _ in range(100):
    large.append(b"x" * 1_000_000)
    small.append(b"x" * 1_000)
most = resident()
large.clear()
print(most - resident())
"""

LOOKS = """
import gc
from ainode.node.jobs import memory

looks = []
gc.callbacks.append(lambda phase, _: looks.append(phase))
try:
    with memory.without_collections():
        import ainode.node.app
        made = len(gc.get_objects())
        raise LookupError
except LookupError:
    count = len(looks)
later = [[] for _ in range(10_000)]
print(made, count, len(looks), gc.get_freeze_count())
"""


def freed_bytes(use: str) -> int:
    """Return how much smaller a process is at the end of a use than at its peak."""
    if not sys.platform.startswith("linux"):
        pytest.skip("the C library is not glibc")
    environment = os.environ | {"PYTHONPATH": str(ROOT / ".ns")}
    command = [sys.executable, "-c", BEGINNING + use]
    return int(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment).stdout)


def test_what_threads_have_used_goes_back_to_the_system() -> None:
    # 144 MB were used, of which the C library alone returns up to 22.
    assert freed_bytes(USE_IN_THREADS) > 60_000_000


def test_a_large_piece_goes_back_at_once_though_small_pieces_of_its_time_stay() -> None:
    assert freed_bytes(USE_LARGE_PIECES_AMONG_SMALL) > 90_000_000


def test_no_garbage_is_looked_for_while_a_start_imports_and_what_it_imported_is_left_out_later() -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT / ".ns")}
    command = [sys.executable, "-c", LOOKS]
    words = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment).stdout.split()
    made, looks, looks_later, left_out = map(int, words)
    assert looks == 0
    assert looks_later > 0
    assert left_out >= made * 0.9
