"""The bytes of a study on disk, held against the bytes that were received, beside the reading of the study.

The node hashes while it waits for the reader process: in that process the hashing would wait for the interpreter.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from ainode.node.domain import File, Request
from ainode.node.encoding import headers
from ainode.node.errors import BrokenSeries, CannotUnderstand
from ainode.node.keeping.spool import content_sha256

_Version = tuple[int, int, int]
"""inode, size and time of the last change of a file: other after every write"""
_RECEIVED = "send the study again, then `ainode retry`"
_FETCHED = "remove the file, then `ainode retry` reads the study without this prior"


@contextmanager
def verified(request: Request) -> Iterator[Callable[[], None]]:
    """Let a study be read; no answer leaves the context on bytes that are not those received.

    Yield what raises now, for the part of an answer that leaves before the others.

    Raises: BrokenSeries that names the first instance whose file is gone, unreadable or other than received, also in
    place of what such a file made the handler raise.
    """
    # One thread hashes faster than a reader decodes; a second one would take the processor from the reader.
    threads = ThreadPoolExecutor(1, thread_name_prefix="sha256")
    remedies = [*((file, _RECEIVED) for file in request.files), *((file, _FETCHED) for file in request.priors)]
    checks = [(file, remedy, threads.submit(_verified, file)) for file, remedy in remedies]

    def refuse_changed() -> None:
        for file, remedy, check in checks:
            _refuse_changed(file, remedy, check)

    try:
        yield refuse_changed
    finally:
        try:
            refuse_changed()
        finally:
            threads.shutdown(cancel_futures=True)


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
