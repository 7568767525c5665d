"""Hypothesis without time limits and with the same examples in each run: nothing but a change fails a test."""

import gc
import logging
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Generator, Iterator

import pytest
from hypothesis import settings

settings.register_profile("ainode", deadline=None, derandomize=True)
settings.register_profile("search", deadline=None)
settings.load_profile("ainode")

_NETWORKS = "AINODE_READER__NETWORKS"


def pytest_configure(config: pytest.Config) -> None:
    """Let the nodes of all workers share converted networks: conversion is most of the time of a first reading."""
    # Most nodes of the tests read no study by a real model, and one that prepared itself would take the time of others.
    os.environ.setdefault("AINODE_READER__PREPARE", "false")
    if _NETWORKS not in os.environ:
        os.environ[_NETWORKS] = folder = tempfile.mkdtemp(prefix="ainode-networks.")
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Import the files of tests while no garbage is looked for, and look at nothing of theirs later.

    The looks at a million objects that stay took a quarter of the time in which each worker collects.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture(scope="module", autouse=True)
def no_folders_of_modules(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Remove what a module made for all of its tests: a run would fill gigabytes of memory with it."""
    root = tmp_path_factory.getbasetemp()
    before = set(root.iterdir())
    yield
    for path in set(root.iterdir()) - before:
        if not path.name.startswith("session-"):
            shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="module", autouse=True)
def unchanged_umask() -> Iterator[None]:
    """Undo `apply_to_process`: a node in this process would have the files of later modules closed to others."""
    umask = os.umask(0o022)
    os.umask(umask)
    yield
    os.umask(umask)


@pytest.fixture(autouse=True)
def unchanged_logging() -> Iterator[None]:
    """Undo `logs.configure`: a command that runs in this process would leave its hooks, and a stream that is closed."""
    engine = logging.getLogger("dbos")
    handlers, does_propagate, does_raise = engine.handlers[:], engine.propagate, logging.raiseExceptions
    hooks = sys.excepthook, sys.unraisablehook, threading.excepthook
    yield
    engine.handlers[:], engine.propagate, logging.raiseExceptions = handlers, does_propagate, does_raise
    sys.excepthook, sys.unraisablehook, threading.excepthook = hooks
