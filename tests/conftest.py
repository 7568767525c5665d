"""Hypothesis without time limits: a busy machine must not fail a test that is right."""

import logging
import sys
import threading
from collections.abc import Iterator

import pytest
from hypothesis import settings

settings.register_profile("ainode", deadline=None)
settings.load_profile("ainode")


@pytest.fixture(autouse=True)
def unchanged_logging() -> Iterator[None]:
    """Undo `logs.configure`: a command that runs in this process would leave its hooks, and a stream that is closed."""
    engine = logging.getLogger("dbos")
    handlers, does_propagate, does_raise = engine.handlers[:], engine.propagate, logging.raiseExceptions
    hooks = sys.excepthook, sys.unraisablehook, threading.excepthook
    yield
    engine.handlers[:], engine.propagate, logging.raiseExceptions = handlers, does_propagate, does_raise
    sys.excepthook, sys.unraisablehook, threading.excepthook = hooks
