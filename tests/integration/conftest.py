"""One Orthanc for the whole session, for the tests that only add to it."""

from collections.abc import Iterator

import pytest
from support import Orthanc, free_port, orthanc


@pytest.fixture(scope="session")
def our_port() -> int:
    """The port where `archive` believes that AINODE listens."""
    return free_port()


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory, our_port: int) -> Iterator[Orthanc]:
    with orthanc(tmp_path_factory.mktemp("session-orthanc"), modalities={"ainode": ("AINODE", our_port)}) as server:
        yield server
