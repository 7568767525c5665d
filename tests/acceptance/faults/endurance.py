"""Many studies without a fault: what the node answers, and how the memory of each process grows."""

import time
from collections import defaultdict
from functools import partial
from typing import Final

import numpy as np
import psutil
import sqlalchemy as sa
from acceptance.faults.installation import Installation
from acceptance.faults.judgement import Row, judged
from acceptance.faults.kills import READER, RECEIVER, processes
from acceptance.faults.sender import SentStudy, new_studies

from ainode.node.domain import JobState
from ainode.node.keeping import schema

_WAVE: Final = 10
"""so many studies are sent before anybody waits for answers"""
_OUTSTANDING: Final = 40
_SETTLED: Final = 0.25
"""the part of the run in which caches fill, which is not judged"""
_LEAST_STUDIES: Final = 100
"""of fewer studies a slope says nothing"""
_PER: Final = 1000
_MB: Final = 1e6
_WITHIN_S: Final = 600.0


def endurance_row(installation: Installation, studies: int, instances: int) -> Row:
    """Return the row of so many studies with so many instances in all; its note has MB per 1,000 instances."""
    sent: list[SentStudy] = []
    samples: dict[str, list[tuple[int, float]]] = defaultdict(list)
    started, per_study = time.monotonic(), max(1, instances // studies)
    while len(sent) < studies:
        wave = new_studies(min(_WAVE, studies - len(sent)), instances=per_study)
        installation.modality.send(wave)
        sent += wave
        installation.wait(partial(_has_room, installation, len(sent)), within_s=_WITHIN_S)
        for name, resident in _resident_mb(installation).items():
            samples[name].append((len(sent) * per_study, resident))
    row = judged(installation, Row("no fault"), sent, within_s=_WITHIN_S)
    seconds = time.monotonic() - started
    note = f"{len(sent)} studies in {seconds:.0f} s"
    if len(sent) >= _LEAST_STUDIES:
        slopes = ", ".join(f"{name} {_slope(points):+.2f}" for name, points in samples.items())
        note = f"{note}; MB per {_PER} instances: {slopes}"
    return row + Row(row.fault, times=1, note=note)


def _has_room(installation: Installation, sent: int) -> bool:
    """Return whether few of the studies that were sent are not read yet."""
    query = sa.select(sa.func.count()).where(schema.jobs.c.state == JobState.REPORTED)
    with installation.node.engine.connect() as connection:
        return sent - int(connection.execute(query).scalar_one()) < _OUTSTANDING


def _resident_mb(installation: Installation) -> dict[str, float]:
    """Return the resident memory of each process of the node."""
    assert installation.node.process
    groups = {"node": [psutil.Process(installation.node.process.pid)]}
    groups |= {"receiver": processes(installation, RECEIVER), "reader": processes(installation, READER)}
    return {name: sum(map(_resident_bytes, group)) / _MB for name, group in groups.items()}


def _resident_bytes(process: psutil.Process) -> int:
    """Return the resident memory of a process, 0 if the process has just ended."""
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


def _slope(points: list[tuple[int, float]]) -> float:
    """Return the growth in MB per 1,000 instances, by least squares over what follows the first part."""
    instances, resident = np.asarray(points[int(len(points) * _SETTLED) :]).T
    return float(np.polyfit(instances, resident, 1)[0] * _PER)
