"""Who is told, on this machine: a webhook and an HL7 listener that take everything, and note when."""

import json
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

from ainode.node.encoding.hl7 import control_id_of

_BEGIN, _END = b"\x0b", b"\x1c\x0d"
_BLOCK_BYTES: Final = 65_536


@dataclass(frozen=True, slots=True)
class Receivers:
    """Where they listen, and what arrived when, in seconds since 1970."""

    webhook_port: int
    listener_port: int
    calls: dict[str, float] = field(default_factory=dict)
    """by the Study Instance UID"""
    messages: dict[str, float] = field(default_factory=dict)
    """when each message was acknowledged, by the message"""

    def acknowledged_at(self, study: str) -> float | None:
        """Return when the message about a study was acknowledged, None if none was."""
        return next((at for message, at in self.messages.items() if f"|{study}|" in message), None)


@contextmanager
def receiving() -> Iterator[Receivers]:
    """Run both."""
    calls: dict[str, float] = {}
    messages: dict[str, float] = {}

    class Webhook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            calls.setdefault(body["study"], time.time())
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    class Listener(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            received = b""
            while block := self.request.recv(_BLOCK_BYTES):
                received += block
                while _END in received:
                    frame, _, received = received.partition(_END)
                    message = frame.removeprefix(_BEGIN)
                    words = f"MSH|^~\\&|RIS||AINODE||||ACK|1|P|2.5.1\rMSA|AA|{control_id_of(message)}\r"
                    self.request.sendall(_BEGIN + words.encode() + _END)
                    messages.setdefault(message.decode(), time.time())

    webhook = ThreadingHTTPServer(("127.0.0.1", 0), Webhook)
    listener = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Listener)
    listener.daemon_threads = True
    servers = (webhook, listener)
    threads = [threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True) for server in servers]
    for thread in threads:
        thread.start()
    try:
        yield Receivers(webhook.server_port, listener.server_address[1], calls, messages)
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()
