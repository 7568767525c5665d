"""Every error of the node, grouped by who must act.

    NodeError
    ├── ConfigError              the operator edits a file; at start only, exit 2
    │   └── PointRefused         a point of a reading of files lies outside of the images: give another
    ├── ReceiveError             the sender is told: `status` answers the C-STORE
    │   ├── OutOfResources       0xA700
    │   ├── DataSetMismatch      0xA900
    │   └── CannotUnderstand     0xC000
    ├── HandlerError             this job ends, the next one runs
    │   ├── BrokenSeries         the images cannot be decoded or their geometry rebuilt
    │   ├── ImagesRejected       a rejection note says that the images are not to be used
    │   ├── WeightsError         missing, or not the bytes the manifest names
    │   │   └── WeightsReplaced  replaced during the reading
    │   ├── HandlerStarting      its needs are not known yet: the study is routed again when they are
    │   ├── ReaderTimeout        the model was killed at its time limit
    │   └── ReaderDied           the reader process ended by itself (memory, crash)
    │       └── ReaderTooLarge   the model was killed at its memory limit
    ├── ReportError              a result that cannot be encoded
    ├── CannotRender             a file that a page cannot show
    │   └── Busy                 too many people wait for the same work of the node
    ├── DatabaseUnavailable      locked, full, away or gone: whatever needed the database is tried again
    │   └── LeaseLost            others took this process for dead, or its task is another's: it acts no more
    └── ArchiveError
        ├── ArchiveUnreachable   retried with back-off
        └── ArchiveRefused       final for that document; carries the archive's status

`retry`, `attempts` and `status` are class attributes: who catches asks the error and keeps no table of its own.
"""

import importlib.metadata
import json
import shlex
import sys
from typing import ClassVar


class NodeError(Exception):
    """Anything the node reports; `retry` says whether trying again can help."""

    retry: ClassVar[bool] = False
    attempts: ClassVar[int] = 3
    """how often in all a study is read for which trying again can help"""


class ConfigError(NodeError):
    """A configuration file is wrong: names the file, the key and the remedy."""


class PointRefused(ConfigError):
    """A point is no position in the images of its study."""


class ReceiveError(NodeError):
    """An object cannot be taken; `status` is the C-STORE answer (PS3.4 B.2.3)."""

    status: ClassVar[int] = 0xC000


class OutOfResources(ReceiveError):
    """The disk is below its watermark."""

    status = 0xA700


class DataSetMismatch(ReceiveError):
    """The data set is of another SOP class or instance than the command says."""

    status = 0xA900


class CannotUnderstand(ReceiveError):
    """The data set cannot be parsed or names no instance."""

    status = 0xC000


class HandlerError(NodeError):
    """A study could not be read; ends this job only."""


class BrokenSeries(HandlerError):
    """The images cannot be decoded, or their geometry cannot be rebuilt."""


class ImagesRejected(HandlerError):
    """A rejection note says of images of the job that they are not to be used."""


class WeightsError(HandlerError):
    """Weights are missing, or are not the bytes the manifest names."""


class WeightsReplaced(WeightsError):
    """The manifests changed while a study was read: nobody can state which weights answered."""

    retry = True


class HandlerStarting(HandlerError):
    """A handler has not told its weights yet: its reader process starts."""

    retry = True


class ReaderTimeout(HandlerError):
    """The reader was killed at its time limit."""

    retry, attempts = True, 2


class ReaderDied(HandlerError):
    """The reader process ended by itself: out of memory, or a crash in a library."""

    retry, attempts = True, 2


class ReaderTooLarge(ReaderDied):
    """The reader was killed at its memory limit."""


class ReportError(NodeError):
    """A result that cannot be encoded as a valid DICOM object."""


class CannotRender(NodeError):
    """A page cannot show a file: damaged, or more than the process that decodes files may take."""


class Busy(CannotRender):
    """Too many people wait for the same work of the node; a moment later there is an answer."""


class DatabaseUnavailable(NodeError):
    """The database is locked, full, away, damaged or gone; nothing of the transaction is written."""

    retry = True


class LeaseLost(DatabaseUnavailable):
    """The work is not this process's any more: nothing is sent, and nothing of the transaction is written."""


class ArchiveError(NodeError):
    """An archive did not take, confirm or answer.

    `comment` has the archive's own words, which may quote a Patient ID: the ledger keeps the words, no log has them.
    """

    def __init__(self, message: str, *, comment: str = "") -> None:
        """Keep the archive's own words beside the message."""
        super().__init__(message)
        self.comment = comment


class ArchiveUnreachable(ArchiveError):
    """No association, a lost one, or a transient failure status."""

    retry = True


class NotSent(ArchiveUnreachable):
    """No connection was made, or an earlier document kept this one: nothing of the document left the node."""


class ArchiveRefused(ArchiveError):
    """The archive said no to one document; `archive_status` is what it answered."""

    def __init__(self, message: str, *, archive_status: int | None, comment: str = "") -> None:
        """Keep the archive's own status and words beside the message; a listener for messages has no status."""
        super().__init__(message, comment=comment)
        self.archive_status = archive_status


def installation(*extras: str) -> str:
    """Return the command that installs extras of ainode in a checkout, for this Python and as ainode is installed.

    ainode is on no package index; without the constraints, other versions of torch and torchvision come.
    """
    option = "" if _is_installed_whole() else "-e "
    python = shlex.quote(sys.executable)
    return f"in the checkout of ainode: {python} -m pip install -c constraints.txt {option}'.[{','.join(extras)}]'"


def _is_installed_whole() -> bool:
    """Return whether ainode is installed apart from its checkout; not so where it runs from the checkout."""
    try:
        # Without this file, what was found is the metadata that lie in the checkout itself.
        if not (origin := importlib.metadata.distribution("ainode").read_text("direct_url.json")):
            return False
        return not json.loads(origin).get("dir_info", {}).get("editable", False)
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return False
