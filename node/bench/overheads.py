"""The time that earlier studies cost a reading, as histograms: query, retrieve and register.

The patients are synthetic: the handler's demonstration study at three dates. The two earlier studies lie in the
archive, and the newest study is sent to the node.
"""

import dataclasses
import statistics
from collections.abc import Iterator, Mapping, Sequence
from math import ceil, inf
from pathlib import Path
from typing import Final

import numpy as np

from ainode.node import testing
from ainode.node.bench.archive import ARCHIVE_NAME, NodeAndArchive, running_archive, running_node, send_files
from ainode.node.domain import UID, SyntheticImage, Value
from ainode.node.keeping.records import Job
from ainode.node.reading import registry
from ainode.node.reading.weights import environment
from ainode.node.settings import load

PARTS: Final = {
    "query": "studies and series asked of the archive (C-FIND)",
    "retrieve": "two earlier CTs fetched (C-GET), checked, kept",
    "register": "two earlier CTs registered with the newest and the nodule found again in them, in the reader",
}
"""the parts of a job's overheads"""
_FOLLOWING_HANDLER: Final = "lung_nodule"
_NEWEST_DATE: Final = "20260101"
_EARLIER_DATES: Final = ("20250705", "20250101")
_EDGES_S: Final = (0.0, *(step * 10.0**power for power in range(-3, 3) for step in (1, 1.5, 2, 3, 5, 7)))
_BAR_LENGTH: Final = 40
# Standard deviation of the difference between two scans of a thin diagnostic CT.
_NOISE_HU: Final = 10.0
_MAX_SHIFT_MM: Final = 20.0


def overheads(folder: Path, *, patients: int, handler: str = _FOLLOWING_HANDLER) -> dict[str, tuple[float, ...]]:
    """Return the seconds of each part, for each patient whose reading had the part.

    Raises: ConfigError if Orthanc is missing or a study was not read.
    """
    route = (
        f'[[route]]\nname = "following"\nhandler = "{handler}"\nmodality = ["CT"]\ncompanions = ["SR"]\n'
        f'destinations = ["{ARCHIVE_NAME}"]\nallow_demonstration = true\n'
        f'[route.priors]\nfrom = "{ARCHIVE_NAME}"\nmodality = ["CT"]\n'
    )
    with (
        running_archive(folder / "archive") as archive,
        running_node(folder / "node", archive, route) as node_and_archive,
    ):
        jobs = [_job_of_patient(node_and_archive, folder / "sent", handler, patient) for patient in range(patients)]
    return {part: tuple(job.overheads[part] for job in jobs if part in job.overheads) for part in PARTS}


def _job_of_patient(node_and_archive: NodeAndArchive, folder: Path, handler: str, patient: int) -> Job:
    """Send a patient's earlier studies to the archive and the newest study to the node; return the node's job."""
    demonstration = registry.handler(handler, environment(load())).demonstration(patient)
    for date in _EARLIER_DATES:
        images = _images_at_date(date, patient, demonstration.images)
        send_files(node_and_archive.archive.peer, testing.write(images, folder / date, study=f"bench {patient} {date}"))
    images, study = _images_at_date(_NEWEST_DATE, patient, demonstration.images), f"bench {patient}"
    send_files(
        node_and_archive.node,
        testing.write(images, folder / _NEWEST_DATE, study=study, positions_mm=demonstration.positions_mm),
    )
    return node_and_archive.finished_job(UID(testing.uid(study)))[0]


def _images_at_date(date: str, patient: int, images: Sequence[SyntheticImage]) -> Iterator[SyntheticImage]:
    """Yield the images as another date would show them: with other noise, and shifted unless the date is the newest."""
    random = np.random.default_rng([int(date), patient])
    shift_mm = random.uniform(-_MAX_SHIFT_MM, _MAX_SHIFT_MM, 3) * (date != _NEWEST_DATE)
    header: dict[str, Value] = {
        "StudyDate": date,
        "PatientID": f"BENCH{patient}",
        "PatientBirthDate": "19500101",
        "FrameOfReferenceUID": testing.uid("frame", date, patient),
    }
    for image in images:
        x, y, z = np.asarray(image.header["ImagePositionPatient"], np.float64) + shift_mm
        position: dict[str, Value] = {"ImagePositionPatient": (float(x), float(y), float(z))}
        values = np.frombuffer(image.pixels, "<u2")
        noisy_values = np.clip(np.rint(values + random.normal(0, _NOISE_HU, values.size)), 0, 4095).astype("<u2")
        yield dataclasses.replace(image, pixels=noisy_values.tobytes(), header={**image.header, **header, **position})


def histogram_lines(part_seconds: Mapping[str, Sequence[float]]) -> Iterator[str]:
    """Yield a title and a histogram for each part."""
    for part, seconds in part_seconds.items():
        yield f"\n{part}: {PARTS[part]}"
        yield from histogram(seconds)


def full_size_registration(handler: str = _FOLLOWING_HANDLER) -> Iterator[str]:
    """Yield a line on the registration of two CTs of full size, if the handler's module has `registering`."""
    registering = getattr(registry.module(handler), "registering", None)
    seconds: Sequence[float] = registering() if registering else ()
    if not seconds:
        return
    figures = f"median {statistics.median(seconds):.1f} s, max {max(seconds):.1f} s, n {len(seconds)}"
    yield f"\nregister, two decoded CTs of 300 slices of 512 x 512: {figures}"


def histogram(seconds: Sequence[float], edges_s: Sequence[float] = _EDGES_S) -> Iterator[str]:
    """Yield a bar for each bucket from the first to the last used bucket, then count, median, p95 and maximum.

    Units: seconds. A bucket has its lower edge and not its upper edge; the last bucket has no upper edge. The p95 is
    the nearest rank.
    """
    if not seconds:
        yield "  not measured"
        return
    counts = [
        (low, high, sum(low <= value < high for value in seconds))
        for low, high in zip(edges_s, (*edges_s[1:], inf), strict=True)
    ]
    used_buckets = [number for number, (_, _, count) in enumerate(counts) if count]
    max_count = max(count for _, _, count in counts)
    for low, high, count in counts[used_buckets[0] : used_buckets[-1] + 1]:
        yield f"  {low:>6g} .. {high:<6g} s {count:4}  {'#' * ceil(_BAR_LENGTH * count / max_count)}".rstrip()
    ranked = sorted(seconds)
    p95 = ranked[ceil(0.95 * len(ranked)) - 1]
    yield f"  n {len(ranked)}, median {statistics.median(ranked):.3f} s, p95 {p95:.3f} s, max {ranked[-1]:.3f} s"
