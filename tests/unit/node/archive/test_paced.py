"""What a server sends in small pieces is acknowledged at once."""

import socket
import threading
from collections.abc import Iterator

import pytest
import requests

from ainode.node.archive.web import WebLink
from ainode.node.settings import Peer

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"


class Kept(socket.socket):
    """A connection that notes what is asked of it."""

    calls: list[str]

    def setsockopt(self, *arguments: object) -> None:  # type: ignore[override]
        if arguments == (socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1):
            self.calls.append("acknowledge at once")
        super().setsockopt(*arguments)  # type: ignore[call-overload]

    def recv_into(self, *arguments: object) -> int:  # type: ignore[override]
        self.calls.append("read")
        return super().recv_into(*arguments)  # type: ignore[arg-type]


@pytest.fixture
def address() -> Iterator[str]:
    """Return the address of a server that answers two requests of a connection, each in two pieces."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                for _ in range(2):
                    connection.recv(65_536)
                    connection.sendall(HEAD)
                    connection.sendall(b"{}")

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.join()


def test_each_piece_of_an_answer_is_acknowledged_at_once(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server with Nagle's algorithm sends the second piece 40 ms later else, on each request of a kept connection."""
    calls: list[str] = []
    monkeypatch.setattr(Kept, "calls", calls, raising=False)
    monkeypatch.setattr(socket, "socket", Kept)
    peer = Peer(name="archive", deliver="orthanc", orthanc=address)
    with WebLink(peer).session("a question") as session:
        answers: list[requests.Response] = [session.get(f"{address}/system") for _ in range(2)]
    assert [answer.json() for answer in answers] == [{}, {}]
    reads = [place for place, call in enumerate(calls) if call == "read"]
    assert len(reads) >= len(answers)
    assert all(calls[place - 1] == "acknowledge at once" for place in reads)
