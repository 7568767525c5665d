"""OHIF as its package ships it, on a port of its own: static files, and /dicom-web passed on to an Orthanc."""

import os
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from http.client import HTTPConnection
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from support.node import ROOT
from support.servers import Orthanc, orthanc

VERSION = "3.13.2"
_CONFIG = ROOT / "docker" / "ohif" / "app-config.js"
_DICOMWEB = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


def built() -> Path:
    """Return the built application, or skip: `make ohif` fetches it."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser()
    folder = cache / "ainode-tests" / "ohif" / VERSION / "package" / "dist"
    if not (folder / "index.html").exists():
        pytest.skip(f"OHIF {VERSION} is not in {cache}/ainode-tests/ohif: `make ohif` fetches it")
    return folder


class _Handler(SimpleHTTPRequestHandler):
    archive_port: int

    def handle(self) -> None:
        # a page that is left takes its requests with it
        with suppress(BrokenPipeError, ConnectionResetError):
            super().handle()

    def do_GET(self) -> None:
        if self.path.startswith("/dicom-web/"):
            self._pass_on()
            return
        if self.path.startswith("/app-config.js"):
            self._answer(200, "text/javascript", _CONFIG.read_bytes())
            return
        if not Path(self.translate_path(self.path)).is_file():
            self.path = "/index.html"  # the application's own addresses
        super().do_GET()

    def _pass_on(self) -> None:
        headers = {key: self.headers[key] for key in ("Accept", "Host") if key in self.headers}
        with closing(HTTPConnection("127.0.0.1", self.archive_port, timeout=60)) as archive:
            archive.request("GET", self.path, headers=headers)
            said = archive.getresponse()
            self._answer(said.status, said.headers.get("Content-Type", ""), said.read())

    def _answer(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def end_headers(self) -> None:
        # without both the browser gives no shared memory, and nothing is drawn
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        super().end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def viewer(archive_port: int) -> Iterator[str]:
    """Run it in front of the Orthanc at that HTTP port, and return its address."""
    handler = type("Handler", (_Handler,), {"archive_port": archive_port})
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(built())))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def viewable_archive(folder: Path, **options: object) -> Iterator[Orthanc]:
    """Run an Orthanc that OHIF can read from; skip where OHIF or the plugin is missing. `options` as of `orthanc`."""
    built()
    if not _DICOMWEB.exists():
        pytest.skip(f"{_DICOMWEB} is not installed")
    with orthanc(folder, Plugins=[str(_DICOMWEB)], **options) as archive:
        yield archive
