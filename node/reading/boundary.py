"""The boundary of a handler's code: whatever the code raises becomes an error of the node that holds no patient's data.

A message of a library may repeat the value of a header, so the error names the type and the place alone.
"""

import logging
import signal
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from ainode.node import logs
from ainode.node.disk import is_full
from ainode.node.errors import NodeError, OutOfResources, installation

log = logging.getLogger(__name__)

SEE_THE_LOG: Final = "; see the log"
"""how the words of an error end that a handler did not mean: an exception that is none of the node's"""


@contextmanager
def boundary(handler: str, step: str, kind: type[NodeError]) -> Iterator[None]:
    """Let a step of a handler raise errors of the node alone; an error of another type becomes `kind`.

    Raises: NodeError; OutOfResources if the disk is full; the KeyboardInterrupt that ends a command.
    """
    try:
        yield
    except BaseException as error:
        if _is_full_disk(error):
            raise OutOfResources(f"handler {handler!r}: the disk is full {step}; make room on the disk") from error
        if isinstance(error, NodeError) or _is_from_the_keyboard(error):
            raise
        raise _translated(error, handler, step, kind) from error


def _is_from_the_keyboard(error: BaseException) -> bool:
    return isinstance(error, KeyboardInterrupt) and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN


def _translated(error: BaseException, handler: str, step: str, kind: type[NodeError]) -> NodeError:
    if isinstance(error, ModuleNotFoundError):
        return kind(f"handler {handler!r}: {error.name} is missing; {_remedy(handler, error.name or '')}")
    message = f"handler {handler!r}: {type(error).__name__} {step}{_place(error)}{SEE_THE_LOG}"
    log.error("%s: %s", message, logs.raised_at(error), extra={"action": "handler_failed", "handler": handler})
    return kind(message)


def _place(error: BaseException) -> str:
    """Return the file and the line that raised an error, '' if nothing tells them."""
    if isinstance(error, SyntaxError) and error.filename:
        return f" ({Path(error.filename).name}, line {error.lineno})"
    frames = traceback.extract_tb(error.__traceback__)[1:]
    return f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""


def _is_full_disk(error: BaseException) -> bool:
    """Return whether a full disk or a used-up quota is the error, or what led to the error."""
    causes = {id(error): error}
    while (cause := error.__cause__ or error.__context__) and id(cause) not in causes:
        causes[id(cause)] = error = cause
    return any(isinstance(cause, Exception) and is_full(cause) for cause in causes.values())


def installation_of(packages: Iterable[str]) -> str:
    """Return the command that installs packages of the shipped handlers; ultralytics alone is in no other extra."""
    names = {package.partition(".")[0] for package in packages}
    extras = [*(["models"] if names - {"ultralytics"} else []), *(["detect"] if "ultralytics" in names else [])]
    return installation(*extras)


def _remedy(name: str, missing: str) -> str:
    """Return how the missing module of a handler is found: a site's handler, a package of it, or a package of ours."""
    if name == missing or name.startswith(f"{missing}."):
        return "put its folder on PYTHONPATH, or install it as a package; see handlers/README.md"
    return f"install the package that has {missing}" if "." in name else installation_of([missing])
