"""What earlier studies cost before and within a reading: query, retrieve and register, a histogram each.

The patients are synthetic, each a made-up study of the handler's at three dates; only the newest is sent.
"""

import dataclasses
import statistics
from collections.abc import Iterator, Mapping, Sequence
from math import ceil, inf
from pathlib import Path
from typing import Final

import numpy as np

from ainode.node import testing
from ainode.node.bench.archive import ARCHIVE, Pair, archive, delivered, paired
from ainode.node.domain import UID, SyntheticImage, Value
from ainode.node.keeping.ledger import Job
from ainode.node.reading import registry
from ainode.node.reading.weights import environment
from ainode.node.settings import load

PARTS: Final = {
    "query": "studies and series asked of the archive (C-FIND)",
    "retrieve": "two earlier CTs fetched (C-GET), checked, kept",
    "register": "two earlier CTs registered with the newest and the nodule found again in them, in the reader",
}
"""what a job's overheads are of"""
_FOLLOWING: Final = "lung_nodule"
_NOW: Final = "20260101"
_EARLIER: Final = ("20250705", "20250101")
_EDGES_S: Final = (0.0, *(step * 10.0**power for power in range(-3, 3) for step in (1, 1.5, 2, 3, 5, 7)))
_WIDEST: Final = 40
# Hounsfield units: between two scans of a thin diagnostic CT.
_NOISE_HU: Final = 10.0
_LAIN_ELSEWHERE_MM: Final = 20.0


def overheads(folder: Path, *, patients: int, handler: str = _FOLLOWING) -> dict[str, tuple[float, ...]]:
    """Return the seconds of each part, one for each patient whose reading had it.

    Raises: ConfigError if Orthanc is missing, or a study was not read.
    """
    route = (
        f'[[route]]\nname = "following"\nhandler = "{handler}"\nmodality = ["CT"]\ncompanions = ["SR"]\n'
        f'destinations = ["{ARCHIVE}"]\n[route.priors]\nfrom = "{ARCHIVE}"\nmodality = ["CT"]\n'
    )
    with archive(folder / "archive") as there, paired(folder / "node", there, route) as pair:
        jobs = [_read(pair, folder / "sent", handler, patient) for patient in range(patients)]
    return {part: tuple(job.overheads[part] for job in jobs if part in job.overheads) for part in PARTS}


def _read(pair: Pair, folder: Path, handler: str, patient: int) -> Job:
    """Put a patient's earlier studies into the archive, send the newest to the node, and return its job."""
    made = registry.handler(handler, environment(load())).demonstration(patient)
    for date in _EARLIER:
        images = _at(date, patient, made.images)
        delivered(pair.archive.peer, testing.write(images, folder / date, study=f"bench {patient} {date}"))
    images, study = _at(_NOW, patient, made.images), f"bench {patient}"
    delivered(pair.node, testing.write(images, folder / _NOW, study=study, positions_mm=made.positions_mm))
    return pair.job(UID(testing.uid(study)))[0]


def _at(date: str, patient: int, images: Sequence[SyntheticImage]) -> Iterator[SyntheticImage]:
    """Yield the images of another date: other noise, and before today the patient lay elsewhere."""
    random = np.random.default_rng([int(date), patient])
    moved = random.uniform(-_LAIN_ELSEWHERE_MM, _LAIN_ELSEWHERE_MM, 3) * (date != _NOW)
    header: dict[str, Value] = {
        "StudyDate": date,
        "PatientID": f"BENCH{patient}",
        "PatientBirthDate": "19500101",
        "FrameOfReferenceUID": testing.uid("frame", date, patient),
    }
    for image in images:
        x, y, z = np.asarray(image.header["ImagePositionPatient"], np.float64) + moved
        where: dict[str, Value] = {"ImagePositionPatient": (float(x), float(y), float(z))}
        stored = np.frombuffer(image.pixels, "<u2")
        noisy = np.clip(np.rint(stored + random.normal(0, _NOISE_HU, stored.size)), 0, 4095).astype("<u2")
        yield dataclasses.replace(image, pixels=noisy.tobytes(), header={**image.header, **header, **where})


def lines(found: Mapping[str, Sequence[float]]) -> Iterator[str]:
    """Yield a titled histogram for each part."""
    for part, seconds in found.items():
        yield f"\n{part}: {PARTS[part]}"
        yield from histogram(seconds)


def full_size(handler: str = _FOLLOWING) -> Iterator[str]:
    """Yield a line on registration of two CTs of full size, where the handler's module times it (`registering`)."""
    timed = getattr(registry.module(handler), "registering", None)
    seconds: Sequence[float] = timed() if timed else ()
    if not seconds:
        return
    found = f"median {statistics.median(seconds):.1f} s, max {max(seconds):.1f} s, n {len(seconds)}"
    yield f"\nregister, two decoded CTs of 300 slices of 512 x 512: {found}"


def histogram(seconds: Sequence[float], edges_s: Sequence[float] = _EDGES_S) -> Iterator[str]:
    """Yield the buckets from the first to the last that is used, then count, median, p95 (nearest rank) and maximum.

    Units: seconds. A bucket holds its lower edge and not its upper; the last has no upper edge.
    """
    if not seconds:
        yield "  not measured"
        return
    counts = [
        (low, high, sum(low <= one < high for one in seconds))
        for low, high in zip(edges_s, (*edges_s[1:], inf), strict=True)
    ]
    used = [number for number, (_, _, count) in enumerate(counts) if count]
    most = max(count for _, _, count in counts)
    for low, high, count in counts[used[0] : used[-1] + 1]:
        yield f"  {low:>6g} .. {high:<6g} s {count:4}  {'#' * ceil(_WIDEST * count / most)}".rstrip()
    ranked = sorted(seconds)
    p95 = ranked[ceil(0.95 * len(ranked)) - 1]
    yield f"  n {len(ranked)}, median {statistics.median(ranked):.3f} s, p95 {p95:.3f} s, max {ranked[-1]:.3f} s"
