"""Uvicorn in a thread of the node; the socket is bound before the node reports that it is ready."""

import asyncio
import contextlib
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
# Answers state the time, in seconds (RFC 9110, 6.6.1).
_TICK_S: Final = 1.0


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
        self._server.end()
        self._thread.join()
        self._listener.close()


class _Server(uvicorn.Server):
    """A server whose queue of connections is longer than the number of connections that it accepts at once.

    It is told of its end, and does not look for it ten times a second.
    """

    def __init__(self, config: uvicorn.Config) -> None:
        """Keep the argument."""
        super().__init__(config)
        self._loop: asyncio.AbstractEventLoop | None = None

    def end(self) -> None:
        """Let the server end; any thread may call."""
        self.should_exit = True
        if self._loop:
            with contextlib.suppress(RuntimeError):  # the server has ended
                self._loop.call_soon_threadsafe(self._ending.set)

    async def main_loop(self) -> None:
        """Wait for the end."""
        self._ending = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), _TICK_S)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept."""
        await super().startup(sockets)
        for listener in sockets or ():
            listener.listen(_QUEUE)
