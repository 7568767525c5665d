"""Power cuts, and disks that are full or not to be written, below the whole data folder of a node."""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Final

from acceptance.faults.installation import Installation
from acceptance.faults.judgement import Row, judged
from acceptance.faults.kills import suspend_all
from acceptance.faults.sender import new_studies
from support.disks import LoopDisk

_LONGEST_PAUSE_S: Final = 2.0


def power_cuts(installation: Installation, disk: LoopDisk, times: int, *, seed: int) -> Row:
    """Return the row of power cuts at random moments while studies arrive, are read and leave."""
    chance, row = random.Random(seed), Row("power cut")
    for _ in range(times):
        studies = new_studies(4)
        with installation.modality.sending(studies):
            time.sleep(chance.uniform(0, _LONGEST_PAUSE_S))
            with installation.ending():
                suspend_all(installation)
                disk.cut_power(installation.kill)
            over_at = time.monotonic()
            installation.keep_alive()
        row = judged(installation, row + Row(row.fault, times=1), studies, over_at=over_at)
    return row


def disk_rows(installation: Installation, disk: LoopDisk, fault_s: float) -> Iterator[Row]:
    """Yield a row for each way in which a disk takes nothing."""
    for name, fault in FAULTS.items():
        before, during = new_studies(3), new_studies(3)
        installation.modality.send(before)
        with fault(installation, disk):
            installation.modality.send(during, within_s=fault_s)
        over_at = time.monotonic()
        installation.modality.send(during)
        yield judged(installation, Row(name, times=1), [*before, *during], over_at=over_at)


@contextmanager
def full(_: Installation, disk: LoopDisk) -> Iterator[None]:
    """Leave no byte."""
    disk.fill_bytes()
    yield
    disk.make_room()


@contextmanager
def nameless(_: Installation, disk: LoopDisk) -> Iterator[None]:
    """Leave bytes, but no file can be made."""
    disk.fill_names()
    yield
    disk.make_room()


@contextmanager
def read_only(installation: Installation, disk: LoopDisk) -> Iterator[None]:
    """Refuse every write; at the end the operator stops the node, and mounts the disk anew."""
    disk.refuse_writes()
    yield
    with installation.ending():
        installation.kill()
        disk.mount_anew()


FAULTS: Final[dict[str, Callable[[Installation, LoopDisk], AbstractContextManager[None]]]] = {
    "disk full": full,
    "no inode left": nameless,
    "disk read-only": read_only,
}
