"""A listener for HL7 messages as a RIS has one: hl7apy judges what arrives and writes the acknowledgments.

It answers as a test says, a word for each message, and the last word for all that follow.
"""

import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from hl7apy.consts import VALIDATION_LEVEL
from hl7apy.core import Message
from hl7apy.parser import parse_message

BEGIN, END = b"\x0b", b"\x1c\x0d"
WORDS = "MUELLER^JOERG is unknown here"
"""what a listener says to a message that it does not take"""


@dataclass
class Listener:
    """What arrived, and how it is answered."""

    answers: list[str]
    """AA, AE, AR and their like with or without the number of an error, such as `AE 204`; or silence, drips, half,
    garbage, other, nameless, closes, line ends, mark, mark within"""
    codec: str = "utf-8"
    messages: list[bytes] = field(default_factory=list)
    """without their frames"""
    unframed: list[bytes] = field(default_factory=list)
    """what came in no frame"""
    release: threading.Event = field(default_factory=threading.Event)
    """ends the silence"""

    def begin(self, answers: list[str]) -> None:
        """Answer so from now on, and forget what arrived."""
        self.answers, self.messages, self.unframed = answers, [], []

    @property
    def control_ids(self) -> list[str]:
        """Return MSH-10 of each message."""
        return [str(judged(message, self.codec).msh.msh_10.to_er7()) for message in self.messages]

    def _answer(self, message: bytes) -> Iterator[bytes]:
        """Yield the parts of an answer; without one the connection is closed."""
        word = self.answers[min(len(self.messages), len(self.answers)) - 1]
        if word == "silence":
            self.release.wait(120)
            return
        if word == "closes":
            return
        if word == "drips":
            yield BEGIN
            while not self.release.wait(0.1):
                yield b"M"
        acknowledgment = BEGIN + self._acknowledgment(message, word).encode(self.codec) + END
        if word == "half":
            yield acknowledgment[: len(acknowledgment) // 2]
        else:
            yield {
                "garbage": b"HTTP/1.1 400 Bad Request\r\n\r\n",
                "line ends": b"\r\n" + acknowledgment,
                "mark": b"\xef\xbb\xbf" + acknowledgment,
                "mark within": acknowledgment.replace(b"\x0b", b"\x0b\xef\xbb\xbf"),
            }.get(word, acknowledgment)

    def _acknowledgment(self, message: bytes, word: str) -> str:
        code, _, error = word.partition(" ")
        answer = Message("ACK", version="2.5.1", validation_level=VALIDATION_LEVEL.TOLERANT)
        answer.msh.msh_9, answer.msh.msh_10, answer.msh.msh_11 = "ACK^R01^ACK", "7", "P"
        control_id = message.split(b"\r")[0].split(b"|")[9].decode(self.codec)  # a judgment takes too long here
        answer.add_segment("MSA")
        answer.msa.msa_1 = code if len(code) == 2 else "AA"
        answer.msa.msa_2 = {"other": "0815", "nameless": ""}.get(word, control_id)
        if not word.startswith(("AA", "CA")):
            answer.msa.msa_3 = WORDS.replace("^", "\\S\\")
        text = str(answer.to_er7())
        return f"{text}\rERR|||{error}^fault^HL70357|E\r" if error else f"{text}\r"


def judged(message: bytes, codec: str) -> Message:
    """Return a message that hl7apy finds valid, all its segments in their places."""
    level = VALIDATION_LEVEL.STRICT
    parsed = parse_message(message.decode(codec), validation_level=level, find_groups=True)
    with NamedTemporaryFile() as report:
        assert parsed.validate(report_file=report.name)
        warnings = Path(report.name).read_text(encoding="utf-8").splitlines()
    # Its table of coding systems is older than SNOMED CT's entry, and knows no local ones.
    assert [line for line in warnings if " not in table HL70396 " not in line] == []
    return parsed


class _Handler(socketserver.StreamRequestHandler):
    def __init__(self, listener: Listener, *arguments: Any) -> None:  # noqa: ANN401 - those of the base class
        self.listener = listener
        super().__init__(*arguments)

    def handle(self) -> None:
        while content := self._content():
            self.listener.messages.append(content)
            parts = 0
            for parts, part in enumerate(self.listener._answer(content), start=1):  # noqa: B007
                self.wfile.write(part)
            if not parts:
                return

    def _content(self) -> bytes:
        received = b""
        while not received.endswith(END):
            if not (block := self.connection.recv(65_536)):
                self.listener.unframed += [received] if received else []
                return b""
            received += block
        assert received.startswith(BEGIN)
        return received[len(BEGIN) : -len(END)]


@contextmanager
def listening(listener: Listener, port: int = 0, context: ssl.SSLContext | None = None) -> Iterator[int]:
    """Listen on loopback, over TLS with a `context`, and yield the port."""

    listener._acknowledgment(b"MSH|||||||||0", "AA")  # hl7apy loads its tables for a while

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address, daemon_threads = True, True

        def get_request(self) -> tuple[socket.socket, object]:
            connection, address = super().get_request()
            return (context.wrap_socket(connection, server_side=True) if context else connection), address

        def handle_error(self, request: object, client_address: object) -> None:
            """Say nothing of a node that was killed, or that closed first."""

    handler = partial(_Handler, listener)
    with Server(("127.0.0.1", port), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield int(server.server_address[1])
        finally:
            listener.release.set()
            server.shutdown()
            thread.join()
