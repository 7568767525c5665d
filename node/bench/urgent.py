"""The urgent lane under load: from the answer of the model until webhook and listener have it, while others wait."""

import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from ainode.node import testing
from ainode.node.bench.alarm import ANSWERED_AT, URGENT
from ainode.node.bench.archive import send_files, wait_until
from ainode.node.bench.receivers import Receivers, receiving
from ainode.node.bench.servers import AE_TITLE, Server, machine_description, node_command, running
from ainode.node.domain import JobState
from ainode.node.keeping import database
from ainode.node.keeping.ledger import Ledger
from ainode.node.keeping.records import Job
from ainode.node.settings import Peer
from ainode.node.terminal import table

GOAL_S: Final = 2.0
"""at the 95th percentile"""
_SIDE: Final = 1024
_PAUSE_S: Final = 1.0
_URGENT: Final = 40
_ROUTES: Final = f"""[[route]]
name = "bench"
handler = "ainode.node.bench.alarm"
destinations = ["his"]
allow_demonstration = true
urgent_tags = {{ SeriesDescription = "{URGENT}" }}
[route.urgent]
min_probability = 0.5
"""
_SETTINGS: Final = """[[peer]]
name = "his"
host = "127.0.0.1"
port = {listener}
deliver = "hl7"
[[notification]]
name = "oncall"
to = "webhook"
on = ["present"]
address = "http://127.0.0.1:{webhook}/"
key_env = "BENCH_KEY"
"""


@dataclass(frozen=True, slots=True)
class UrgentTimes:
    """Seconds of each study."""

    webhook: Sequence[float]
    """from the answer of the model until the webhook was called, of urgent studies"""
    acknowledgment: Sequence[float]
    """from the answer of the model until the message was acknowledged, of urgent studies"""
    urgent_wait: Sequence[float]
    """from the opening of the job until its reading began"""
    ordinary_wait: Sequence[float]
    composing: Sequence[float]
    """for the pictures and the report, which come after what is urgent"""


def urgent_times(folder: Path, *, waiting: int, urgent: int) -> UrgentTimes:
    """Return the times of urgent studies that arrive one after the other while others wait.

    Raises: ConfigError if a server does not start, or a study is not read.
    """
    environment = os.environ | {"BENCH_KEY": "of the bench"}
    with receiving() as receivers:
        ports = {"listener": receivers.listener_port, "webhook": receivers.webhook_port}
        command = partial(node_command, extra_settings=_SETTINGS.format(**ports), routes=_ROUTES)
        with running(Server("ainode", "", command, ready_text="ready: "), folder / "node", environment) as (_, port):
            engine = database.connect(f"sqlite:///{folder / 'node' / 'data' / 'catalog.sqlite'}")
            try:
                peer = Peer(name="node", ae_title=AE_TITLE, host="127.0.0.1", port=port)
                return _times(folder, peer, Ledger(engine), receivers, (waiting, urgent))
            finally:
                engine.dispose()


def _times(folder: Path, node: Peer, ledger: Ledger, receivers: Receivers, counts: tuple[int, int]) -> UrgentTimes:
    waiting, urgent = counts
    send_files(node, [path for number in range(waiting) for path in _study(folder, f"ordinary {number}", "ordinary")])
    wait_until(lambda: len(ledger.jobs()) == waiting, f"{waiting} studies to be routed")
    for number in range(urgent):
        send_files(node, _study(folder, f"urgent {number}", URGENT))
        time.sleep(_PAUSE_S)
    studies = {testing.uid(f"urgent {number}") for number in range(urgent)}
    for read in range(1, waiting + urgent + 1):  # each within the patience of `wait_until`
        wait_until(lambda count=read: len(ledger.jobs(states=(JobState.REPORTED,))) >= count, "all studies to be read")  # type: ignore[misc]
    wait_until(lambda: studies <= receivers.calls.keys(), "the last call of the webhook")
    wait_until(lambda: all(map(receivers.acknowledged_at, studies)), "the last acknowledgment")
    jobs = ledger.jobs(states=(JobState.REPORTED,))
    of_urgent = [job for job in jobs if job.study_instance_uid in studies]
    return UrgentTimes(
        [receivers.calls[job.study_instance_uid] - job.overheads[ANSWERED_AT] for job in of_urgent],
        [(receivers.acknowledged_at(job.study_instance_uid) or 0) - job.overheads[ANSWERED_AT] for job in of_urgent],
        [_wait_s(job) for job in of_urgent],
        [_wait_s(job) for job in jobs if job not in of_urgent],
        [job.overheads.get("compose", 0.0) for job in of_urgent],
    )


def _study(folder: Path, name: str, description: str) -> tuple[Path, ...]:
    header = {"Modality": "DX", "SeriesDescription": description, "NumberOfStudyRelatedInstances": 1}
    return testing.write([testing.noise(_SIDE, _SIDE, seed=1, **header)], folder / "sent" / name, study=name)  # type: ignore[arg-type]


def _wait_s(job: Job) -> float:
    return (job.reading_at - job.queued_at).total_seconds() if job.reading_at else 0.0


def measured_lane(waiting: int) -> Iterator[str]:
    """Run the measurement of `bench node` and yield its lines.

    Raises: as `urgent_times`.
    """
    yield machine_description()
    yield f"\nUrgent lane: {_URGENT} urgent studies, one after the other, while {waiting} others wait"
    with tempfile.TemporaryDirectory(prefix="ainode-bench-") as temporary:
        yield from urgent_lines(Path(temporary), waiting=waiting, urgent=_URGENT)


def urgent_lines(folder: Path, *, waiting: int, urgent: int) -> Iterator[str]:
    """Yield the table and whether the goal is met."""
    times = urgent_times(folder, waiting=waiting, urgent=urgent)
    rows = [
        ("model's answer -> webhook called", times.webhook),
        ("model's answer -> HL7 acknowledged", times.acknowledgment),
        ("pictures and report, made after that", times.composing),
        ("urgent: job opened -> reading begins", times.urgent_wait),
        ("ordinary: job opened -> reading begins", times.ordinary_wait),
    ]
    names = ("seconds", "studies", "p50", "p95", "longest")
    yield table(names, [(name, str(len(values)), *_figures(values)) for name, values in rows])
    worst = max(_p95(times.webhook), _p95(times.acknowledgment))
    yield f"goal: {GOAL_S:g} s at p95 for webhook and message: {'met' if worst <= GOAL_S else 'NOT met'}"


def _figures(values: Sequence[float]) -> tuple[str, str, str]:
    return f"{statistics.median(values):.2f}", f"{_p95(values):.2f}", f"{max(values):.2f}"


def _p95(values: Sequence[float]) -> float:
    """Return the value that 95 of 100 do not exceed: one of the values, so that no figure is made up."""
    return sorted(values)[max(-(-95 * len(values) // 100) - 1, 0)]
