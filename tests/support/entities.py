"""A pynetdicom server on loopback, for the archives and senders that tests play."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from socketserver import TCPServer
from typing import Any, TypeAlias

from pynetdicom import AE, evt
from pynetdicom.transport import ThreadedAssociationServer

_LOOK_S = 0.02
Answer: TypeAlias = tuple[evt.EventType, Callable[[evt.Event], Any]]


@contextmanager
def served(entity: AE, *answers: Answer, port: int = 0) -> Iterator[int]:
    """Serve an application entity, and yield its port."""
    server = entity.make_server(("127.0.0.1", port), evt_handlers=list(answers), server_class=ThreadedAssociationServer)
    # `start_server` looks each half second only whether the server shall end.
    threading.Thread(target=server.serve_forever, args=(_LOOK_S,), daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        TCPServer.shutdown(
            server
        )  # pynetdicom's own asks its AE for the server, which only `start_server` tells the AE
        server.server_close()
