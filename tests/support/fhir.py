"""FHIR servers for the tests: that of Medplum, which judges and keeps, and one that does wrong what a test says."""

import json
import os
import ssl
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from support.certificates import Certificate
from support.servers import program

VERSION = "5.2.13"
WORDS = "patient MUELLER is unknown here"
"""what a server says to a transaction that it does not do"""


@contextmanager
def medplum() -> Iterator[str]:
    """Start a server of Medplum's router, in memory; yield its base address; or skip: `make fhir` fetches it."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser()
    modules = cache / "ainode-tests" / "fhir" / VERSION / "node_modules"
    if not (modules / "@medplum" / "fhir-router").exists():
        pytest.skip(f"the FHIR router of Medplum {VERSION} is not in {modules}: `make fhir` fetches it")
    script = Path(__file__).with_name("fhir_server.mjs")
    command = [program("node"), str(script), str(modules)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin
        assert server.stdout
        try:
            yield f"http://127.0.0.1:{int(server.stdout.readline())}/fhir"
        finally:
            server.stdin.close()  # it ends with its input


@dataclass
class Wrong:
    """A server that answers as a test says, a word for each transaction, and the last word for all that follow.

    A word is an HTTP status; or done, silence, closes, half, page, fewer, entry, batch, redirect.
    """

    answers: list[str]
    tokens: list[str] = field(default_factory=list)
    """the bearer tokens that it takes; with none it takes every call"""
    issued: list[str] = field(default_factory=lambda: ["first", "second", "third"])
    """the tokens that POST /token gives, one after the other"""
    expires_in: float | None = 3600
    elsewhere: str = ""
    """the address that it redirects to"""
    version: str = "4.0.1"
    transactions: list[bytes] = field(default_factory=list)
    authorizations: list[str] = field(default_factory=list)
    """of the transactions"""
    token_requests: list[tuple[str, Mapping[str, list[str]]]] = field(default_factory=list)
    """the Authorization and the form of each"""
    release: threading.Event = field(default_factory=threading.Event)
    """ends the silence"""

    def statement(self) -> Mapping[str, Any]:
        """Return the CapabilityStatement."""
        rest = [{"mode": "server", "interaction": [{"code": "transaction"}]}]
        return {"resourceType": "CapabilityStatement", "fhirVersion": self.version, "rest": rest}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wrong: Wrong

    def do_GET(self) -> None:
        self._answer(200, self.wrong.statement())

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        authorization = self.headers.get("Authorization", "")
        if self.path == "/token":
            self._token(authorization, body)
            return
        wrong = self.wrong
        wrong.transactions.append(body)
        wrong.authorizations.append(authorization)
        if wrong.tokens and authorization.removeprefix("Bearer ") not in wrong.tokens:
            self._answer(401, _outcome("login"))
            return
        self._say(wrong.answers[min(len(wrong.transactions), len(wrong.answers)) - 1], json.loads(body))

    def _token(self, authorization: str, body: bytes) -> None:
        wrong = self.wrong
        wrong.token_requests.append((authorization, parse_qs(body.decode())))
        if not wrong.issued:
            self._answer(401, {"error": "invalid_client"})
            return
        duration = {} if wrong.expires_in is None else {"expires_in": wrong.expires_in}
        self._answer(200, {"access_token": wrong.issued.pop(0), "token_type": "Bearer", **duration})

    def _say(self, word: str, bundle: Mapping[str, Any]) -> None:  # noqa: C901 - a word a line
        entries = [{"response": {"status": "201 Created"}} for _ in bundle["entry"]]
        done = {"resourceType": "Bundle", "type": "transaction-response", "entry": entries}
        if word.isdigit():
            self._answer(int(word), _outcome("processing"), {"Retry-After": "1"})
        elif word == "silence":
            self.wrong.release.wait(120)
            self.close_connection = True
        elif word == "closes":
            self.close_connection = True
        elif word == "half":
            self._answer(200, done, cut=40)
        elif word == "page":
            self._send(200, "text/html", b"<html><body>Sign in, MUELLER</body></html>")
        elif word == "redirect":
            self._send(307, "text/plain", b"", {"Location": self.wrong.elsewhere})
        elif word == "fewer":
            self._answer(200, {**done, "entry": entries[1:]})
        elif word == "entry":
            entries[-1] = {"response": {"status": "412 Precondition Failed"}}
            self._answer(200, done)
        elif word == "batch":
            self._answer(200, {**done, "type": "batch-response"})
        else:
            assert word == "done"
            self._answer(200, done)

    def _answer(self, status: int, body: object, headers: Mapping[str, str] | None = None, cut: int = 0) -> None:
        self._send(status, "application/fhir+json", json.dumps(body).encode(), headers, cut)

    def _send(
        self, status: int, media_type: str, body: bytes, headers: Mapping[str, str] | None = None, cut: int = 0
    ) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": media_type, "Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[:cut] if cut else body)
        self.close_connection = bool(cut)

    def log_message(self, *args: object) -> None:
        """Write nothing."""


def _outcome(code: str) -> Mapping[str, Any]:
    issue = {"severity": "error", "code": code, "details": {"text": WORDS}}
    return {"resourceType": "OperationOutcome", "issue": [issue]}


@contextmanager
def serving(wrong: Wrong, *, certificate: Certificate | None = None) -> Iterator[str]:
    """Serve it on this machine, over TLS with a certificate; yield its base address."""
    handler = type("Handler", (_Handler,), {"wrong": wrong})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate.path, certificate.key)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http{'s' if certificate else ''}://127.0.0.1:{server.server_port}/fhir"
        finally:
            wrong.release.set()
            server.shutdown()
            thread.join()
