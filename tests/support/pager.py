"""Who is told: a webhook that answers as a test says, a word for each request and the last for all others."""

import contextlib
import hashlib
import hmac
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SECRET = "correct horse"  # noqa: S105 - of the tests
_LONGEST_S = 120.0


@dataclass(frozen=True)
class Call:
    """One request."""

    id: str
    body: bytes
    headers: dict[str, str]
    at: float
    """on the monotonic clock"""


@dataclass
class Pager:
    """What arrived, and how it is answered: a status, or hang, drip, drop."""

    answers: list[str]
    calls: list[Call] = field(default_factory=list)
    release: threading.Event = field(default_factory=threading.Event)
    """ends a hang"""

    @property
    def ids(self) -> list[str]:
        """Return the identifier of each request."""
        return [call.id for call in self.calls]


@contextlib.contextmanager
def paging(pager: Pager, port: int = 0) -> Iterator[str]:
    """Run the receiver; yield its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = dict(self.headers.items())
            pager.calls.append(Call(headers["Ainode-Id"], body, headers, time.monotonic()))
            word = pager.answers[min(len(pager.calls), len(pager.answers)) - 1]
            if word == "hang":
                pager.release.wait(_LONGEST_S)
            elif word == "drip":
                while not pager.release.wait(0.1):
                    with contextlib.suppress(OSError):
                        self.wfile.write(b"H")
            elif word != "drop":
                self.send_response(int(word))
                self.send_header("Content-Length", "0")
                self.end_headers()
            self.close_connection = True

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/page"
        finally:
            pager.release.set()
            server.shutdown()
            thread.join()


def is_genuine(headers: dict[str, str], body: bytes, secret: str) -> bool:
    """Return whether the node signed: the five lines of config/README.md."""
    timestamp = headers["Ainode-Timestamp"]
    signed = hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    is_recent = abs(time.time() - int(timestamp)) < 300
    return is_recent and hmac.compare_digest(f"sha256={signed}", headers["Ainode-Signature"])
