"""Small programs that need TensorFlow: each runs in a process of its own, as torch and TensorFlow share none."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
from numpy.typing import NDArray
from support import installed
from support.node import ROOT


def on_tensorflow(program: str, *arguments: object) -> str:
    """Run a program with `ainode` to import and two threads; return the last line that it printed."""
    installed("keras", "tensorflow")
    threads = {"TF_NUM_INTRAOP_THREADS": "2", "TF_NUM_INTEROP_THREADS": "2", "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        env=os.environ | threads | {"PYTHONPATH": str(ROOT / ".ns")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ""


def seeded(table: dict[str, NDArray[np.float32]], seed: int) -> dict[str, NDArray[np.float32]]:
    """Return random weights by He's spread: the signal neither dies nor bursts in fifty layers of untrained norms.

    Not by `keras.utils.set_random_seed`, which imports TensorFlow where it is installed.
    """
    random = np.random.default_rng(seed)
    drawn = dict(table)
    for key, value in table.items():
        if key.endswith("kernel"):
            inputs = value.shape[0] * value.shape[1] if "depth" in key else value[..., 0].size
            drawn[key] = random.normal(0, (2 / inputs) ** 0.5, value.shape).astype(np.float32)
        elif "norm" in key:
            drawn[key] = (value + random.uniform(0, 0.1, value.shape)).astype(np.float32)
    return drawn
