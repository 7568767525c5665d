"""How log lines look: the sentence, then what it is about as key=value. No patient attribute is ever among the keys."""

import logging
import sys
import traceback

_KEYS = (
    *("action", "study_instance_uid", "sop_instance_uid", "job", "route", "handler"),
    *("peer", "address", "path", "status"),
)
_TOO_LOUD = ("alembic", "dbos", "highdicom", "pydicom", "pynetdicom")
# Their warnings repeat an address, with a Patient ID in it, or what a server says. The errors of pynetdicom.transport
# name no peer; the node's own errors do.
_SILENT = ("urllib3", "pynetdicom.transport")


def raised_at(error: BaseException) -> str:
    """Return type and stack of an error without its message, into which a library may have put a header's value."""
    return f"{type(error).__name__}\n{''.join(traceback.format_tb(error.__traceback__))}"


class _Formatter(logging.Formatter):
    """Appends the record's `extra` values of known keys."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        fields = [f"{key}={getattr(record, key)}" for key in _KEYS if hasattr(record, key)]
        return " ".join([super().format(record), *fields])


def configure() -> None:
    """Log to standard error; libraries only from WARNING on, or not at all, which keeps header values out."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for name in _TOO_LOUD:
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in _SILENT:
        logging.getLogger(name).setLevel(logging.CRITICAL)
