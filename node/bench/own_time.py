"""The node's own time per study: last association released -> report found in Debian's Orthanc, without inference.

Each round is a fresh node. It learns its sender's silence as in a hospital: from the studies that came before.
"""

import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Final

from ainode.node import testing
from ainode.node.bench import overheads
from ainode.node.bench.archive import ARCHIVE, Archive, Pair, archive, delivered, paired, until
from ainode.node.bench.servers import machine, tool
from ainode.node.domain import UID
from ainode.node.terminal import table

_ROUTE: Final = f'[[route]]\nname = "bench"\nhandler = "ainode.node.bench.immediate"\ndestinations = ["{ARCHIVE}"]\n'
_IMAGES: Final[Mapping[str, tuple[int, dict[str, str]]]] = {
    "radiograph": (3000, {"Modality": "DX"}),
    "CT": (512, {"Modality": "CT", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2"}),
}
"""rows and columns, and the header"""
# Orthanc's default.
_STABLE_AGE_S: Final = 60
_LUA: Final = f"""function OnStableStudy(study, tags, metadata)
  RestApiPost('/modalities/{ARCHIVE}/store', study)
end
"""


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is sent, and what the node knows of it."""

    images: str
    knows: str
    counted: bool = True
    """every object carries the Number of Study Related Instances (0020,1208)"""
    sender: str = "MODALITY"

    def __str__(self) -> str:
        return f"{self.images}, {self.knows}"


@dataclass(frozen=True, slots=True)
class Lap:
    """How long one study took, and where that went, in seconds; no parts where the program is not ours."""

    total: float
    parts: tuple[float, ...] = ()
    """in the order of `PARTS`"""


PARTS: Final = ("complete", "handed on", "reading", "delivery")
"""Until the study counts as complete; headers, queues, commits, and the start of a reader that does not run; in the
reader files, selection, drawing, encoding; from the first byte sent to the archive until the report is found there."""
_HEAD: Final = ("study", "runs", "median", "slowest", *PARTS)
_FIRST: Final = Scenario("radiograph", "count known, first study: a reader starts")
_RADIOGRAPH, _SERIES = (Scenario(images, "count known") for images in ("radiograph", "CT"))
# Five studies before those without a count: only then a sender's silence is learned.
SCENARIOS: Final = (
    _FIRST,
    *(_RADIOGRAPH,) * 3,
    _SERIES,
    *(
        Scenario(images, "count unknown, the sender's silence learned", counted=False)
        for images in ("radiograph", "CT")
    ),
    Scenario("radiograph", "count and sender unknown", counted=False, sender="STRANGER"),
)
_PEER: Final = Scenario("radiograph", f"read by nobody: Orthanc, StableAge {_STABLE_AGE_S}, Lua store")


def own_time(
    folder: Path, *, rounds: int, slices: int, peer: bool, scenarios: Sequence[Scenario] = SCENARIOS
) -> dict[Scenario, list[Lap]]:
    """Return what each study of each scenario took; with `peer`, which takes a minute, also what others wait.

    Raises: ConfigError if Orthanc is missing, naming its Debian package.
    """
    laps: dict[Scenario, list[Lap]] = {}
    with archive(folder / "archive") as there:
        for number in range(rounds):
            with paired(folder / f"node {number}", there, _ROUTE) as pair:
                for order, scenario in enumerate(scenarios):
                    name = f"bench {number} {order}"
                    paths = _written(scenario, folder / "sent", name, slices)
                    laps.setdefault(scenario, []).append(_lap(pair, paths, UID(testing.uid(name)), scenario.sender))
        if peer:
            laps[_PEER] = [_stable(folder, there)]
    return laps


def _written(scenario: Scenario, folder: Path, name: str, slices: int) -> tuple[Path, ...]:
    """Write a study of noise in the place of the one before: 18 MB a radiograph, 0.5 MB a slice."""
    size, header = _IMAGES[scenario.images]
    count = slices if scenario.images == "CT" else 1
    announced = {"NumberOfStudyRelatedInstances": count} if scenario.counted else {}
    for one in folder.glob("*"):
        one.unlink()
    images = (testing.noise(size, size, seed=number, **header, **announced) for number in range(count))
    return testing.write(images, folder, study=name)


def _lap(pair: Pair, paths: Sequence[Path], study: UID, sender: str) -> Lap:
    delivered(pair.node, paths, sender)
    released = datetime.now(UTC)
    until(lambda: pair.archive.holds(study, "SR"), f"the report of study {study}")
    found = datetime.now(UTC)
    job, deliveries = pair.job(study)
    # when its documents were taken up for sending, not when they were answered
    sent = min(one.sent_at for one in deliveries if one.sent_at)
    times = (released, job.queued_at, sent, found)
    complete, handed_on, delivery = ((after - before).total_seconds() for before, after in pairwise(times))
    return Lap((found - released).total_seconds(), (complete, handed_on - job.seconds, job.seconds, delivery))


def _stable(folder: Path, there: Archive) -> Lap:
    """Send a radiograph to an Orthanc whose script passes on what is stable, and wait for it in the archive."""
    script = folder / "stable.lua"
    script.write_text(_LUA)
    paths, study = _written(_PEER, folder / "sent", "bench peer", 1), UID(testing.uid("bench peer"))
    modalities = {ARCHIVE: [there.peer.ae_title, "127.0.0.1", there.port]}
    options = {"StableAge": _STABLE_AGE_S, "LuaScripts": [str(script)], "DicomModalities": modalities}
    with archive(folder / "peer", options) as before:
        delivered(before.peer, paths)
        released = time.monotonic()
        until(lambda: there.holds(study, "DX"), f"study {study} to become stable")
        return Lap(time.monotonic() - released)


def lines(laps: Mapping[Scenario, Sequence[Lap]]) -> Iterator[str]:
    """Yield the table: one line for a scenario, medians in seconds."""
    rows = []
    for scenario, done in laps.items():
        totals = [one.total for one in done]
        parts = map(statistics.median, zip(*(one.parts for one in done), strict=True))
        cells = (
            str(scenario),
            str(len(done)),
            *(f"{one:.2f}" for one in (statistics.median(totals), max(totals), *parts)),
        )
        rows.append((*cells, *[""] * (len(_HEAD) - len(cells))))
    yield table(_HEAD, rows)


def measured(*, rounds: int, slices: int, patients: int, peer: bool) -> Iterator[str]:
    """Yield what a person reads of everything, each part as soon as it is known.

    Raises: ConfigError if Orthanc is missing, naming its Debian package.
    """
    tool("Orthanc")
    yield machine()
    with tempfile.TemporaryDirectory(prefix="ainode-bench-") as temporary:
        folder = Path(temporary)
        yield f"\nOwn time: association released -> report found in Orthanc; seconds, medians; a CT has {slices} slices"
        yield from lines(own_time(folder / "own", rounds=rounds, slices=slices, peer=peer))
        yield f"\nEarlier studies: {patients} patients with two small CTs in Orthanc, a third one sent"
        yield from overheads.lines(overheads.overheads(folder / "priors", patients=patients))
        yield from overheads.full_size()
