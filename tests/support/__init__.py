"""Real servers for the tests: each is a context manager, on loopback, on its own port, and stops by itself.

A name is looked up at its first use: the handlers of this room run in reader processes, hundreds in a run, which need
neither servers nor pytest.
"""

from importlib import import_module

_FILES = ("a_file", "installed", "instance_ref", "shared")
_SERVERS = ("Orthanc", "Storescp", "free_port", "orthanc", "program", "run", "storescp")
__all__ = [*_FILES, *_SERVERS]  # noqa: PLE0604 - names alone


def __getattr__(name: str) -> object:
    """Return what a module of this room has under that name."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{'files' if name in _FILES else 'servers'}"), name)
