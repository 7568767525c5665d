"""A server of tokens that hangs delays its own peer and no other."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ainode.node.archive.oauth2 import Tokens
from ainode.node.archive.web import WebLink
from ainode.node.errors import ArchiveUnreachable
from ainode.node.settings import OAuth2Table, Peer, ResourcesTable


@contextmanager
def token_server(answer: bytes, release: threading.Event) -> Iterator[tuple[Peer, threading.Event]]:
    """Answer one request once it is released; yield the peer that it is of, and whether somebody has asked."""
    asked = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/token"
        table = OAuth2Table(token_url=url, client_id_env="EHR_ID", client_secret_env="EHR_SECRET")  # noqa: S106
        peer = Peer(name="ehr", deliver="fhir", fhir=url, oauth2=table, resources=ResourcesTable())

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65_536)
                asked.set()
                release.wait(60)
                head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(answer)}\r\n\r\n"
                connection.sendall(head.encode() + answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield peer, asked
        thread.join(60)


def test_a_server_of_tokens_that_hangs_delays_no_other_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EHR_ID", "node")
    monkeypatch.setenv("EHR_SECRET", "secret")
    tokens, hang, at_once = Tokens(), threading.Event(), threading.Event()
    at_once.set()
    answer = json.dumps({"access_token": "mine", "token_type": "Bearer", "expires_in": 3600}).encode()
    errors: list[Exception] = []

    def fetch(peer: Peer) -> str:
        assert peer.oauth2
        return tokens.token(WebLink(peer, 60.0), peer.oauth2)

    def wait_for(peer: Peer) -> None:
        try:
            fetch(peer)
        except ArchiveUnreachable as error:
            errors.append(error)

    with token_server(b"{}", hang) as (slow, asked), token_server(answer, at_once) as (quick, _):
        waiting = threading.Thread(target=wait_for, args=(slow,))
        waiting.start()
        assert asked.wait(60)
        assert fetch(quick) == "mine"
        assert waiting.is_alive()
        hang.set()
        waiting.join(60)
    assert len(errors) == 1
