"""Uvicorn in a thread of the node; the socket is bound before the node reports that it is ready."""

import logging
import socket
import threading
from functools import partial
from typing import Any, Final

import uvicorn
from fastapi import FastAPI

from ainode.node import tls
from ainode.node.errors import ConfigError
from ainode.node.settings import WebTable
from ainode.node.web.connections import BoundedProtocol, Places
from ainode.node.web.limits import Complaints

_CONNECTIONS: Final = 384
# So many connections are accepted at a time: each is read before the connections behind can displace the connection.
_ACCEPTED_AT_ONCE: Final = 128
# So many more wait in the kernel: beyond, a caller tries again after a second.
_QUEUE: Final = 1_024
_CLOSING_S: Final = 5


class WebServer:
    """An HTTP server for one application."""

    def __init__(self, app: FastAPI, web: WebTable, complaints: Complaints) -> None:
        """Bind the socket; callers are served after `start`.

        Raises: ConfigError if the certificate is wrong, or the address and port cannot be bound.
        """
        files = tls.server_files(web)
        context = tls.accepting(files, "[web]") if files else None
        family = socket.AF_INET6 if ":" in web.bind else socket.AF_INET
        try:
            self._listener = socket.create_server((web.bind, web.port), family=family)
        except OSError as error:
            raise ConfigError(
                f"web.bind, web.port: cannot listen on {web.bind}:{web.port}: {error.strerror}"
            ) from error
        # asyncio knows no TCP in a socket without a protocol number; then an answer in two pieces waits 40 ms.
        self._listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        protocol: Any = partial(BoundedProtocol, Places(_CONNECTIONS), complaints, context)
        config = uvicorn.Config(
            app,
            http=protocol,
            loop="asyncio",
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,  # whoever connects from this machine could write any address into the log
            backlog=_ACCEPTED_AT_ONCE,
            timeout_graceful_shutdown=_CLOSING_S,
        )
        logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # a line for each malformed request
        self._server = _Server(config)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._listener]}, name="web", daemon=True
        )

    def start(self) -> None:
        """Begin to serve callers."""
        self._thread.start()

    def is_alive(self) -> bool:
        """Return whether the server still runs."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Accept no more requests, wait a few seconds for those that run, then close the socket."""
        self._server.should_exit = True
        self._thread.join()
        self._listener.close()


class _Server(uvicorn.Server):
    """A server whose queue of connections is longer than the number of connections that it accepts at once."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept."""
        await super().startup(sockets)
        for listener in sockets or ():
            listener.listen(_QUEUE)
