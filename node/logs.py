"""How log lines look: the sentence, then what it is about as key=value. No patient attribute is ever among the keys.

The words of a library may hold the value of a header, in a record, a warning or an error. So a line has the words of
the node's own modules alone, and of a library the place in its code. One record is one line: what cannot be printed,
such as a line end in an AE title, is escaped here and nowhere else. With `[node] log_format = "json"` a line is
an object.
"""

import json
import logging
import os
import sys
import threading
import traceback
import warnings
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Final, TextIO

_KEYS: Final = (
    *("action", "study_instance_uid", "sop_instance_uid", "job", "route", "handler"),
    *("peer", "address", "path", "status"),
)
# The module of the receiver's process runs as `__main__`.
_OWN: Final = ("ainode", "__main__")
# What an operator does about the line of a library, whose words nobody sees.
_OF_WARNINGS: Final = "nothing is to be done unless a line of ainode names a failure"
_OF_ERRORS: Final = "if something failed, hand this line to who supports the node"
# What they warn of is told by the node's own errors, too.
_SILENT: Final = ("urllib3", "pynetdicom.acse", "pynetdicom.transport", "websockets")
# What Python ignores by default, outside of a module that is run.
_FOR_DEVELOPERS: Final = (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning)

_FORMAT_VARIABLE: Final = "AINODE_NODE__LOG_FORMAT"

log = logging.getLogger(__name__)


def printable(text: str) -> str:
    """Return the text as one line that a terminal shows as it is: other characters are escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def raised_at(error: BaseException) -> str:
    """Return the type of an error and the calls that led to it, then those of its cause; one line, without messages."""
    return ", caused by ".join(_raised(error))


def _raised(error: BaseException) -> Iterator[str]:
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause and cause not in chain:
        chain.append(cause)
        calls = (_place(frame.filename, frame.lineno) for frame in traceback.extract_tb(cause.__traceback__))
        yield f"{type(cause).__name__} ({' > '.join(calls)})"
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)


def _place(path: str, line: int | None) -> str:
    """Return folder, file and line of a place in the code."""
    return f"{'/'.join(Path(path).parts[-2:])}:{line}"


class _Formatter(logging.Formatter):
    """Makes one line of a record; appends the record's `extra` values of known keys."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        fields = [f"{key}={getattr(record, key)}" for key in _KEYS if hasattr(record, key)]
        error = record.exc_info[1] if record.exc_info else None
        words = self._words(record), *fields, *([raised_at(error)] if error else [])
        record.message, record.asctime = " ".join(words), self.formatTime(record)
        return printable(self.formatMessage(record))

    def _words(self, record: logging.LogRecord) -> str:
        if _is_own(record):
            return record.getMessage()
        place = _place(record.pathname, record.lineno)
        remedy = _OF_WARNINGS if record.levelno <= logging.WARNING else _OF_ERRORS
        return f"the library's words may hold a header's value and are left out ({place}); {remedy}"


class _JsonFormatter(_Formatter):
    """Makes one object of a record, in ASCII: the time, the level, the module, the words, and values of known keys."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the object as one line."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        about = {key: str(getattr(record, key)) for key in _KEYS if hasattr(record, key)}
        error = record.exc_info[1] if record.exc_info else None
        raised = {"raised": raised_at(error)} if error else {}
        head = {"time": at, "level": record.levelname, "logger": record.name, "words": self._words(record)}
        return json.dumps(head | about | raised)


def _is_own(record: logging.LogRecord) -> bool:
    return record.name.partition(".")[0] in _OWN


class _FirstOfPlace(logging.Filter):
    """Passes the first record of each place where a library warns: without its words the next says no more."""

    def __init__(self) -> None:
        super().__init__()
        self._places: set[tuple[str, int]] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to log the record."""
        if _is_own(record) or record.levelno > logging.WARNING:
            return True
        place = record.pathname, record.lineno
        is_first = place not in self._places
        self._places.add(place)
        return is_first


def _show_warning(
    message: Warning | str,  # noqa: ARG001 - may hold the value of a header
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,  # noqa: ARG001 - the signature is that of `warnings.showwarning`
    line: str | None = None,  # noqa: ARG001
) -> None:
    """Log a warning as a record of the place that warns."""
    logger = logging.getLogger(category.__name__)
    logger.handle(logger.makeRecord(logger.name, logging.WARNING, filename, lineno, "", (), None))


@dataclass(frozen=True, slots=True)
class Line:
    """A record of the log as people read it."""

    at: datetime
    level: str
    text: str
    study_instance_uid: str


class RecentLines(logging.Handler):
    """Keeps the last lines of this process in memory; it hears the node's own modules between `begin` and `end`."""

    def __init__(self, count: int = 2_000) -> None:
        """Keep so many lines."""
        super().__init__(logging.INFO)
        self._lines: deque[Line] = deque(maxlen=count)
        self.setFormatter(_Formatter("%(message)s"))

    def begin(self) -> None:
        """Begin to listen."""
        logging.getLogger(_OWN[0]).addHandler(self)

    def end(self) -> None:
        """Listen no more."""
        logging.getLogger(_OWN[0]).removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record."""
        at, study = datetime.fromtimestamp(record.created, UTC), getattr(record, "study_instance_uid", "")
        self._lines.append(Line(at, record.levelname, self.format(record), str(study)))

    def newest(self, text: str = "", *, count: int = 200) -> tuple[Line, ...]:
        """Return the newest lines that hold a text, the newest first."""
        lines = (line for line in reversed(tuple(self._lines)) if text in line.text)
        return tuple(islice(lines, count))


def configure(stream: TextIO | None = None) -> None:
    """Log to a stream, by default standard error: the node from INFO on, libraries from WARNING on.

    Warnings and what ends a thread or the process become records, too. The format is that of `choose_format` in this
    process, or in the process that started this one.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.addFilter(_FirstOfPlace())
    is_json = os.environ.get(_FORMAT_VARIABLE, "") == "json"
    line = "%(asctime)s %(levelname)s %(name)s: %(message)s"
    handler.setFormatter(_JsonFormatter() if is_json else _Formatter(line))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.raiseExceptions = False  # the complaint about a record that cannot be written repeats its values
    for name in _OWN:
        logging.getLogger(name).setLevel(logging.INFO)
    for name in _SILENT:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    logging.getLogger("dbos").handlers = [handler]  # the library adds a handler of its own if there is none
    logging.getLogger("dbos").propagate = False
    _take_warnings()
    sys.excepthook = _note_end
    threading.excepthook = lambda ended: _note_end(ended.exc_type, ended.exc_value, ended.exc_traceback)
    sys.unraisablehook = lambda lost: _note_end(lost.exc_type, lost.exc_value, lost.exc_traceback)


def choose_format(name: str) -> None:
    """Log in a format from now on, `text` or `json`, and so do the processes that this process starts.

    They are told by the variable of the setting, which they would read in the same way.
    """
    if os.environ.get(_FORMAT_VARIABLE, "text") != name:
        os.environ[_FORMAT_VARIABLE] = name
        configure()


def _take_warnings() -> None:
    warnings.showwarning = _show_warning
    if not sys.warnoptions:
        # Other actions keep the text of each warning for ever, and every value of a header makes another text.
        warnings.simplefilter("always")
        for category in _FOR_DEVELOPERS:
            warnings.simplefilter("ignore", category)


def _note_end(kind: type[BaseException], error: BaseException | None, _stack: TracebackType | None) -> None:
    """Log what nobody caught."""
    if kind is not SystemExit:  # which ends a thread in silence
        log.critical("ended by %s", raised_at(error) if error else kind.__name__, extra={"action": "uncaught"})
