"""Models that fail on some studies, in every way that ends, holds or fills a process."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import psutil
from acceptance.faults.installation import ROUTES, Installation, Site
from acceptance.faults.judgement import Row, judged
from acceptance.faults.sender import SentStudy, new_study
from support.faults import HANG, RAISE, write_handler

from ainode.node.domain import JobState

_FORK: Final = """
for number in range(3):
    if not os.fork():
        time.sleep(3600)
subprocess.Popen(["sleep", "3600"])
"""
_HOARD: Final = """
hoard = []
while True:
    hoard.append(bytearray(1 << 26))
    time.sleep(0.01)
"""
STATEMENTS: Final = {
    "raises": RAISE,
    "crashes": "ctypes.string_at(0)",
    "hangs": HANG,
    "forks and hangs": _FORK + HANG,
    "eats memory": _HOARD,
}
_LIMITS: Final = "[reader]\ntime_limit_s = 20\nmemory_limit_bytes = 900000000"
_ROUTE: Final = """
[[route]]
name = "{name}"
handler = "{handler}"
tags = {{ SeriesDescription = "{name}" }}
destinations = DESTINATIONS
"""
_PAUSE_S: Final = 0.5
_WITHIN_S: Final = 360.0
_END_S: Final = 60.0


def site(folder: Path) -> Site:
    """Return a site with a route for each model that fails, beside the route that is well."""
    modules = folder / "modules"
    routes = [
        _ROUTE.format(name=name, handler=write_handler(modules, name.replace(" ", "_"), read=statement))
        for name, statement in STATEMENTS.items()
    ]
    return Site(folder, routes="".join((ROUTES, *routes)), more=_LIMITS, modules=modules)


def model_rows(installation: Installation, studies: int) -> Iterator[Row]:
    """Yield a row for each model that fails, and a row of the other route meanwhile: its longest wait for an answer."""
    poison = {name: [new_study(order=name) for _ in range(studies)] for name in STATEMENTS}
    for sent in poison.values():
        installation.modality.send(sent)
    started = time.monotonic()
    other = Row("other route while models fail")
    while not (_have_failed(installation, poison) or time.monotonic() > started + _WITHIN_S):
        (study,) = more = [new_study()]
        sent_at = time.monotonic()
        installation.modality.send(more)
        other = judged(installation, other + Row(other.fault, times=1), [study], over_at=sent_at)
        time.sleep(_PAUSE_S)
    for name, sent in poison.items():
        yield judged(installation, Row(f"model {name}", times=len(sent)), [], refused=sent, over_at=started)
    yield other + Row(other.fault, stuck=_leftovers(installation))


def _have_failed(installation: Installation, poison: dict[str, list[SentStudy]]) -> bool:
    uids = {study.uid for studies in poison.values() for study in studies}
    return uids <= {job.study_instance_uid for job in installation.node.ledger.jobs(states=[JobState.FAILED])}


def _leftovers(installation: Installation) -> int:
    """Return how many processes of models outlive their readers."""
    deadline = time.monotonic() + _END_S
    while (count := len(_orphans(installation))) and time.monotonic() < deadline:
        time.sleep(_PAUSE_S)
    return count


def _orphans(installation: Installation) -> list[int]:
    assert installation.node.process
    root = psutil.Process(installation.node.process.pid)
    family = {root.pid, *(process.pid for process in root.children(recursive=True))}
    folder = str(installation.node.folder)
    return [
        process.pid
        for process in psutil.process_iter(["cwd"])
        if process.info["cwd"] == folder and process.pid not in family
    ]
