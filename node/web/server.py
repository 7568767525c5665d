"""Uvicorn in a thread of the node; the socket is bound before the node reports that it is ready."""

import socket
import threading

import uvicorn
from fastapi import FastAPI

from ainode.node import tls
from ainode.node.errors import ConfigError
from ainode.node.settings import WebTable

_CONNECTIONS = 200
_CLOSING_S = 5


class WebServer:
    """An HTTP server for one application."""

    def __init__(self, app: FastAPI, web: WebTable) -> None:
        """Bind the socket; callers are served after `start`.

        Raises: ConfigError if the certificate is wrong, or the address and port cannot be bound.
        """
        if web.tls_certificate and web.tls_key:  # uvicorn would fail in its thread, or ask for a passphrase
            tls.accepting(tls.ServerFiles(web.tls_certificate, web.tls_key), "[web]")
        family = socket.AF_INET6 if ":" in web.bind else socket.AF_INET
        try:
            self._listener = socket.create_server((web.bind, web.port), family=family)
        except OSError as error:
            raise ConfigError(
                f"web.bind, web.port: cannot listen on {web.bind}:{web.port}: {error.strerror}"
            ) from error
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            limit_concurrency=_CONNECTIONS,
            timeout_graceful_shutdown=_CLOSING_S,
            ssl_certfile=web.tls_certificate,
            ssl_keyfile=web.tls_key,
        )
        self._server = uvicorn.Server(config)
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
