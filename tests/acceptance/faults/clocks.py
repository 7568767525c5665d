"""Wall clocks that jump by hours, under a node whose studies wait (libfaketime)."""

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final

import pytest
from acceptance.faults.installation import Installation
from acceptance.faults.judgement import Row, judged
from acceptance.faults.sender import SentStudy, new_study

from ainode.node.domain import UID

JUMPS: Final = {"clock forward by 3 h": "+3h", "clock back by 6 h": "-3h", "clock right again": "+0"}
_REFUSED_S: Final = 120.0
_LIBRARY: Final = "faketime/libfaketimeMT.so.1"
_SLEEP: Final = """
import threading, time

def sleep(seconds):
    threading.Event().wait(seconds)

time.sleep = sleep
"""


def environment(file: Path) -> dict[str, str]:
    """Return the variables of a process whose clock follows a file; skip, by name, without the library.

    The library cannot sleep by the clock that does not jump (EINVAL), so `modules` beside the file has another sleep.
    """
    libraries = sorted(Path("/usr/lib").glob(f"*/{_LIBRARY}"))
    if not libraries:
        pytest.skip("libfaketime is missing (Debian package faketime)")
    modules(file).mkdir(parents=True, exist_ok=True)
    (modules(file) / "sitecustomize.py").write_text(_SLEEP, encoding="ascii")
    file.write_text("+0\n", encoding="ascii")
    return {
        "LD_PRELOAD": str(libraries[0]),
        "FAKETIME_TIMESTAMP_FILE": str(file),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


def modules(file: Path) -> Path:
    """Return the folder of the modules of such a process."""
    return file.with_name("modules")


def clock_rows(installation: Installation, file: Path) -> Iterator[Row]:
    """Yield a row for each jump, while studies wait for silence and documents wait for their archive."""
    for name, offset in JUMPS.items():
        installation.exit.close()
        read = [new_study()]
        installation.modality.send(read)
        installation.wait(partial(_is_refused, installation, read[0]), within_s=_REFUSED_S)
        waiting = [new_study(announced=False) for _ in range(2)]
        installation.modality.send(waiting)
        file.write_text(f"{offset}\n", encoding="ascii")
        installation.exit.open()
        over_at = time.monotonic()
        arriving = [new_study(announced=number % 2 == 0) for number in range(2)]
        installation.modality.send(arriving)
        yield judged(installation, Row(name, times=1), [*read, *waiting, *arriving], over_at=over_at)


def _is_refused(installation: Installation, study: SentStudy) -> bool:
    """Return whether the documents of a study wait for another attempt."""
    ledger = installation.node.ledger
    deliveries = [delivery for job in ledger.jobs(study=UID(study.uid)) for delivery in ledger.deliveries(job.id)]
    return bool(deliveries) and all(delivery.error for delivery in deliveries)
