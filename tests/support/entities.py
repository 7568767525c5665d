"""A pynetdicom server on loopback, for the archives and senders that tests play."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

from pynetdicom import AE, evt

Answer: TypeAlias = tuple[evt.EventType, Callable[[evt.Event], Any]]


@contextmanager
def served(entity: AE, *answers: Answer, port: int = 0) -> Iterator[int]:
    """Serve an application entity, and yield its port."""
    server = entity.start_server(("127.0.0.1", port), block=False, evt_handlers=list(answers))
    assert server is not None
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
