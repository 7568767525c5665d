"""Whether an audit trail, or a copy of it, is as it was written."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from ainode.node.audit.trail import Link, Record, lines, record_of, state


def trail_faults(folder: Path, *, first: int = 1) -> Iterator[str]:
    """Yield a sentence for each record that is not as it was written, and for records that are missing.

    `first` is the number of the first record of a trail whose older files are elsewhere.
    Raises: OSError.
    """
    head, sizes = state(folder)
    chain = _Chain(Link() if first == 1 else Link(first - 1, ""), head)
    for path, size in sizes.items():
        for position, line in enumerate(lines(path, 0, size), 1):
            yield from chain.faults_of(line, f"{path.name}: line {position}")
    yield from chain.faults_of_end()


def copy_faults(file: Path) -> Iterator[str]:
    """Yield the same for a single file, whose first record may have any number, and which has no `head`.

    A collector may have written a record twice, because the node sent the record again.
    Raises: OSError.
    """
    chain, digests = _Chain(None, None), set()
    for position, line in enumerate(lines(file, 0, file.stat().st_size), 1):
        digest = hashlib.sha256(line).digest()
        if digest not in digests:
            digests.add(digest)
            yield from chain.faults_of(line, f"{file.name}: line {position}")


class _Chain:
    """The records so far: the last, and the one that `head` tells of."""

    def __init__(self, last: Link | None, head: Link | None) -> None:
        self._last, self._head, self._at_head = last, head, Link()

    def faults_of(self, line: bytes, place: str) -> Iterator[str]:
        """Take the next line, and yield what is wrong with it."""
        record, number = record_of(line), self._last.number + 1 if self._last else 1
        if record is None:
            ending = "was changed" if line.endswith(b"\n") else "is not whole"
            yield f"{place}, record {number}: {ending}"
            self._last = Link(number, "")
            return
        if self._last:
            yield from _breaks(self._last, record, place)
        self._last = record.link
        if self._head and record.link.number == self._head.number:
            self._at_head = record.link

    def faults_of_end(self) -> Iterator[str]:
        """Yield what is wrong with the end of a trail, after its last line."""
        last = self._last or Link()
        if self._head is None:
            if last.number:
                yield "head: absent or damaged; whether the last records are here cannot be told"
        elif self._head.number > last.number:
            yield f"head: records {last.number + 1} to {self._head.number} are missing at the end"
        elif self._head != self._at_head:
            yield f"head: record {self._head.number} is another one than was written"


def _breaks(last: Link, record: Record, place: str) -> Iterator[str]:
    """Yield why a record does not follow the last one."""
    if record.link.number != last.number + 1:
        yield f"{place}: record {record.link.number} stands where record {last.number + 1} belongs"
    elif last.digest and record.previous != last.digest:
        yield f"{place}: record {record.link.number} does not continue the record before"
