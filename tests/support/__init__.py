"""Real servers for the tests: each is a context manager, on loopback, on its own port, and stops by itself."""

from support.files import a_file, installed, instance_ref, shared
from support.servers import Orthanc, Storescp, free_port, orthanc, program, run, storescp

__all__ = [
    "Orthanc",
    "Storescp",
    "a_file",
    "free_port",
    "installed",
    "instance_ref",
    "orthanc",
    "program",
    "run",
    "shared",
    "storescp",
]
