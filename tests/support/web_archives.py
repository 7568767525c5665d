"""DICOMweb archives: Debian's Orthanc with its plugin, and HTTP servers that answer as a test says."""

import json
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

from ainode.node.settings import Peer
from support.files import a_file
from support.servers import Orthanc, orthanc, program

Answer = Callable[[BaseHTTPRequestHandler], None]


@contextmanager
def dicomweb_orthanc(
    folder: Path,
    modalities: Mapping[str, tuple[str, int]] | None = None,
    **options: Any,  # noqa: ANN401
) -> Iterator[tuple[Orthanc, Peer]]:
    """Run an Orthanc with DICOMweb that lets everybody query and retrieve; yield it and all of it as a peer."""
    plugins = sorted(Path("/usr/lib/orthanc").glob("libOrthancDicomWeb.so*"))
    if not plugins:
        pytest.skip("orthanc-dicomweb is not installed")
    options |= {
        "Plugins": [str(plugins[0])],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        "DicomAlwaysAllowGet": True,
        "DicomAlwaysAllowMove": True,
    }
    with orthanc(folder, modalities=modalities, **options) as server:
        address = f"http://127.0.0.1:{server.http_port}"
        yield server, server.peer.model_copy(update={"dicomweb": f"{address}/dicom-web", "orthanc": address})


@contextmanager
def http(
    answer: Answer, certificate: Path | None = None, *, client_ca: Path | None = None, pause_s: float = 0.0
) -> Iterator[Peer]:
    """Run a web server whose every answer is the test's; yield it as a peer that is reached by DICOMweb alone.

    It pauses before each MiB of a request, which `body` keeps; with a client CA it asks for a certificate.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        def do_POST(self) -> None:
            left, self.body = int(self.headers.get("Content-Length", 0)), b""
            while left > 0:
                time.sleep(pause_s)
                block = self.rfile.read(min(left, 1 << 20))
                self.body += block
                left -= len(block) or left
            answer(self)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign] # the client may leave in the middle
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        if client_ca:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(client_ca)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    scheme = "https" if certificate else "http"
    try:
        yield web_peer(f"{scheme}://127.0.0.1:{server.server_port}/dicom-web")
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def web_peer(address: str) -> Peer:
    """Return a peer that is reached by DICOMweb alone."""
    return Peer(name="web", deliver="dicomweb", retrieve="dicomweb", dicomweb=address)


def said(request: BaseHTTPRequestHandler, status: int, body: object = None, **headers: str) -> None:
    """Answer with JSON, or with nothing."""
    content = b"" if body is None else json.dumps(body).encode()
    request.send_response(status)
    request.send_header("Content-Type", "application/dicom+json")
    request.send_header("Content-Length", str(len(content)))
    for name, value in headers.items():
        request.send_header(name, value)
    request.end_headers()
    request.wfile.write(content)


def certificate(folder: Path) -> Path:
    """Return a self-signed certificate of 127.0.0.1 with its key."""
    key, made = folder / "key.pem", folder / "certificate.pem"
    options = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(
        [program("openssl"), "req", *options, *names, "-keyout", key, "-out", made], check=True, capture_output=True
    )
    both = folder / "both.pem"
    both.write_bytes(key.read_bytes() + made.read_bytes())
    return both


def a_file_of(*, study: str, series: str = "", **elements: object) -> bytes:
    """Return a small file with these elements; the series is the study's first unless named."""
    dataset = dcmread(BytesIO(a_file(study=study, series=series or f"{study}.1")))
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    stream = BytesIO()
    dataset.save_as(stream)
    return stream.getvalue()
