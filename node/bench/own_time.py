"""The node's own time per study: from the release of the last association until Debian's Orthanc has the report.

The handler takes no time (`immediate`). Each round runs a fresh node, which learns its sender's silence as in a
hospital: from the studies before.
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
from ainode.node.bench.archive import (
    ARCHIVE_NAME,
    Archive,
    NodeAndArchive,
    running_archive,
    running_node,
    send_files,
    wait_until,
)
from ainode.node.bench.servers import machine_description, program_path
from ainode.node.domain import UID
from ainode.node.terminal import table

_ROUTE: Final = (
    f'[[route]]\nname = "bench"\nhandler = "ainode.node.bench.immediate"\ndestinations = ["{ARCHIVE_NAME}"]\n'
)
_SYNTHETIC_IMAGES: Final[Mapping[str, tuple[int, dict[str, str]]]] = {
    "radiograph": (3000, {"Modality": "DX"}),
    "CT": (512, {"Modality": "CT", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2"}),
}
"""rows (as many as columns) and header of each kind of image"""
# Orthanc's default.
_STABLE_AGE_S: Final = 60
_LUA_SCRIPT: Final = f"""function OnStableStudy(study, tags, metadata)
  RestApiPost('/modalities/{ARCHIVE_NAME}/store', study)
end
"""


@dataclass(frozen=True, slots=True)
class Scenario:
    """A study to send, and what the node knows of the study."""

    images: str
    """`radiograph` or `CT`"""
    description: str
    """what the node knows of the study, for the table"""
    has_instance_count: bool = True
    """whether every object has Number of Study Related Instances (0020,1208)"""
    sender: str = "MODALITY"

    def __str__(self) -> str:
        return f"{self.images}, {self.description}"


@dataclass(frozen=True, slots=True)
class StudyTimes:
    """The time of a study in seconds, in all and by part."""

    total: float
    parts: tuple[float, ...] = ()
    """in the order of `PARTS`; empty where another program than this node took the time"""


PARTS: Final = ("complete", "handed on", "reading", "delivery")
"""The parts of a study's time, in their order.

complete: until the node takes the study for complete. handed on: headers, queues, commits, and the start of a reader
if no reader runs. reading: in the reader, files, selection, drawing and encoding. delivery: from the first byte sent to
the archive until the archive has the report."""
_COLUMN_NAMES: Final = ("study", "runs", "median", "slowest", *PARTS)
_FIRST_STUDY: Final = Scenario("radiograph", "count known, first study: a reader starts")
_RADIOGRAPH_STUDY, _CT_STUDY = (Scenario(images, "count known") for images in ("radiograph", "CT"))
# The node learns a sender's silence from five studies, so five studies come before those without a count.
SCENARIOS: Final = (
    _FIRST_STUDY,
    *(_RADIOGRAPH_STUDY,) * 3,
    _CT_STUDY,
    *(
        Scenario(images, "count unknown, the sender's silence learned", has_instance_count=False)
        for images in ("radiograph", "CT")
    ),
    Scenario("radiograph", "count and sender unknown", has_instance_count=False, sender="STRANGER"),
)
_STABLE_AGE_SCENARIO: Final = Scenario("radiograph", f"read by nobody: Orthanc, StableAge {_STABLE_AGE_S}, Lua store")


def own_time(
    folder: Path, *, rounds: int, slices: int, with_stable_age: bool, scenarios: Sequence[Scenario] = SCENARIOS
) -> dict[Scenario, list[StudyTimes]]:
    """Return the times of each study of each scenario.

    `with_stable_age` adds the time of a study that Orthanc's script passes on after StableAge, which takes a minute.
    Raises: ConfigError that names the Debian package, if Orthanc is missing.
    """
    scenario_times: dict[Scenario, list[StudyTimes]] = {}
    with running_archive(folder / "archive") as archive:
        for number in range(rounds):
            with running_node(folder / f"node {number}", archive, _ROUTE) as node_and_archive:
                for order, scenario in enumerate(scenarios):
                    name = f"bench {number} {order}"
                    paths = _study_files(scenario, folder / "sent", name, slices)
                    scenario_times.setdefault(scenario, []).append(
                        _study_times(node_and_archive, paths, UID(testing.uid(name)), scenario.sender)
                    )
        if with_stable_age:
            scenario_times[_STABLE_AGE_SCENARIO] = [_stable_age_times(folder, archive)]
    return scenario_times


def _study_files(scenario: Scenario, folder: Path, name: str, slices: int) -> tuple[Path, ...]:
    """Write a study of noise in place of the folder's files; a radiograph has 18 MB, a slice 0.5 MB."""
    size, header = _SYNTHETIC_IMAGES[scenario.images]
    count = slices if scenario.images == "CT" else 1
    instance_count = {"NumberOfStudyRelatedInstances": count} if scenario.has_instance_count else {}
    for path in folder.glob("*"):
        path.unlink()
    images = (testing.noise(size, size, seed=number, **header, **instance_count) for number in range(count))
    return testing.write(images, folder, study=name)


def _study_times(node_and_archive: NodeAndArchive, paths: Sequence[Path], study: UID, sender: str) -> StudyTimes:
    """Send a study to the node, wait for its report in the archive, and return the times."""
    send_files(node_and_archive.node, paths, sender)
    released_at = datetime.now(UTC)
    wait_until(lambda: node_and_archive.archive.has_series(study, "SR"), f"the report of study {study}")
    stored_at = datetime.now(UTC)
    job, deliveries = node_and_archive.finished_job(study)
    # `sent_at` is the begin of sending, not the archive's answer.
    sent_at = min(delivery.sent_at for delivery in deliveries if delivery.sent_at)
    moments = (released_at, job.queued_at, sent_at, stored_at)
    complete, queued, delivery = ((end - begin).total_seconds() for begin, end in pairwise(moments))
    parts = (complete, queued - job.seconds, job.seconds, delivery)
    return StudyTimes((stored_at - released_at).total_seconds(), parts)


def _stable_age_times(folder: Path, archive: Archive) -> StudyTimes:
    """Send a study to an Orthanc whose script passes stable studies on; return the time until the archive has it."""
    script = folder / "stable.lua"
    script.write_text(_LUA_SCRIPT)
    paths, study = _study_files(_STABLE_AGE_SCENARIO, folder / "sent", "bench peer", 1), UID(testing.uid("bench peer"))
    modalities = {ARCHIVE_NAME: [archive.peer.ae_title, "127.0.0.1", archive.port]}
    options = {"StableAge": _STABLE_AGE_S, "LuaScripts": [str(script)], "DicomModalities": modalities}
    with running_archive(folder / "peer", options) as forwarding_archive:
        send_files(forwarding_archive.peer, paths)
        released_at = time.monotonic()
        wait_until(lambda: archive.has_series(study, "DX"), f"study {study} to become stable")
        return StudyTimes(time.monotonic() - released_at)


def table_lines(scenario_times: Mapping[Scenario, Sequence[StudyTimes]]) -> Iterator[str]:
    """Yield a table with a line for each scenario: medians in seconds."""
    rows = []
    for scenario, times in scenario_times.items():
        totals = [study_times.total for study_times in times]
        parts = map(statistics.median, zip(*(study_times.parts for study_times in times), strict=True))
        cells = (
            str(scenario),
            str(len(times)),
            *(f"{seconds:.2f}" for seconds in (statistics.median(totals), max(totals), *parts)),
        )
        rows.append((*cells, *[""] * (len(_COLUMN_NAMES) - len(cells))))
    yield table(_COLUMN_NAMES, rows)


def measurement_lines(*, rounds: int, slices: int, patients: int, with_stable_age: bool) -> Iterator[str]:
    """Run all measurements of `bench node` and yield the lines of each as soon as it ends.

    Raises: ConfigError that names the Debian package, if Orthanc is missing.
    """
    program_path("Orthanc")
    yield machine_description()
    with tempfile.TemporaryDirectory(prefix="ainode-bench-") as temporary:
        folder = Path(temporary)
        yield f"\nOwn time: association released -> report found in Orthanc; seconds, medians; a CT has {slices} slices"
        yield from table_lines(own_time(folder / "own", rounds=rounds, slices=slices, with_stable_age=with_stable_age))
        yield f"\nEarlier studies: {patients} patients with two small CTs in Orthanc, a third one sent"
        yield from overheads.histogram_lines(overheads.overheads(folder / "priors", patients=patients))
        yield from overheads.full_size_registration()
