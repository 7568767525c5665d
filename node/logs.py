"""How log lines look: the sentence, then what it is about as key=value. No patient attribute is ever among the keys."""

import logging
import sys

_KEYS = ("action", "study_instance_uid", "sop_instance_uid", "job", "route", "handler", "peer", "address", "path")
_TOO_LOUD = ("alembic", "dbos", "dicomweb_client", "highdicom", "pydicom", "pynetdicom")


class _Formatter(logging.Formatter):
    """Appends the record's `extra` values of known keys."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        known = [f"{key}={getattr(record, key)}" for key in _KEYS if hasattr(record, key)]
        return " ".join([super().format(record), *known])


def configure() -> None:
    """Log to standard error; libraries only from WARNING on, which keeps header values out."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for name in _TOO_LOUD:
        logging.getLogger(name).setLevel(logging.WARNING)
