"""The bytes of a study on disk, held against the bytes that were received, in threads beside the reading."""

from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

from ainode.node.domain import File
from ainode.node.encoding import headers
from ainode.node.errors import BrokenSeries, CannotUnderstand
from ainode.node.keeping.spool import content_sha256

# hashlib releases the interpreter; more threads would take the processor from the reading.
_THREADS: Final = 2

_Version = tuple[int, int, int]
"""inode, size and time of the last change of a file: other after every write"""


class Verification:
    """Hashes files from its construction on; `finish` says whether they were, and still are, what was received."""

    def __init__(self, files: Iterable[File], priors: Iterable[File]) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="sha256")
        remedies = (
            (files, "send the study again, then `ainode retry`"),
            (priors, "remove the file, then `ainode retry` reads the study without this prior"),
        )
        self._checks: list[tuple[File, str, Future[_Version]]] = [
            (file, remedy, self._threads.submit(_verified, file)) for group, remedy in remedies for file in group
        ]

    def finish(self) -> None:
        """Return when every file is verified.

        Raises: BrokenSeries that names the first instance whose file is gone, unreadable or other than received.
        """
        try:
            for file, remedy, check in self._checks:
                _refuse_changed(file, remedy, check)
        finally:
            self._threads.shutdown(cancel_futures=True)


def _refuse_changed(file: File, remedy: str, check: Future[_Version]) -> None:
    try:
        if check.result() != _version(file):  # written to since; the same instance that came once more is no change
            _verified(file)
    except CannotUnderstand as error:
        raise BrokenSeries(f"{_name(file)}: {error}; {remedy}") from error
    except OSError as error:
        raise BrokenSeries(f"{_name(file)} cannot be read from disk ({error.strerror}); {remedy}") from error


def _verified(file: File) -> _Version:
    """Return the version of a file whose data set has the digest of the data set that was received.

    Raises: CannotUnderstand, OSError.
    """
    version = _version(file)
    if content_sha256(file.path) != file.sha256:
        raise CannotUnderstand("its bytes on disk are not the bytes that were received")
    return version


def _version(file: File) -> _Version:
    status = file.path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


def _name(file: File) -> str:
    """Return which instance a file is: from its record, else from its header, else by the name of the file."""
    if file.sop_instance_uid:
        return f"instance {file.sop_instance_uid}"
    try:
        return f"instance {headers.instance(file.path, sha256='').ref.sop_instance_uid}"
    except (CannotUnderstand, OSError):
        return f"file {file.path.name}"
