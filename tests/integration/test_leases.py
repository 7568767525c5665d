"""What a process that others took for dead sends: nothing, by whichever way, from the document on that was to leave."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler

import pytest
from support import a_file
from support.archives import SmallArchive, serving
from support.listener import Listener, listening
from support.web_archives import http, said

from ainode.node.archive.delivery import transport
from ainode.node.archive.store import Outgoing
from ainode.node.diagnosis.doctor_objects import trial_message
from ainode.node.domain import UID
from ainode.node.errors import LeaseLost
from ainode.node.identity import message_address
from ainode.node.settings import Peer
from ainode.node.testing import uid


class Lease:
    """Lets so many documents leave."""

    def __init__(self, count: int) -> None:
        self._left = count

    def refuse_lost(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise LeaseLost("taken for dead")


Arrived = Callable[[], int]
"""returns how many documents arrived"""


@contextmanager
def by_dimse() -> Iterator[tuple[Peer, Arrived]]:
    archive = SmallArchive()
    with serving(archive) as port:
        yield Peer(name="archive", ae_title="A", host="127.0.0.1", port=port), lambda: len(archive.stored)


@contextmanager
def by_web(deliver: str) -> Iterator[tuple[Peer, Arrived]]:
    requests: list[str] = []

    def answer(request: BaseHTTPRequestHandler) -> None:
        requests.append(request.path)
        # Of Orthanc; the other two take no success from it, and go on with the next document.
        said(request, 200, {"Status": "Success"})

    with http(answer) as peer:
        base = peer.dicomweb.removesuffix("/dicom-web")
        addresses = {
            "dicomweb": {"dicomweb": base, "retrieve": "dicomweb"},
            "orthanc": {"orthanc": base},
            "fhir": {"fhir": base},
        }
        yield Peer.model_validate({"name": "web", "deliver": deliver, **addresses[deliver]}), lambda: len(requests)


@contextmanager
def by_hl7() -> Iterator[tuple[Peer, Arrived]]:
    listener = Listener(["AA"])
    with listening(listener) as port:
        peer = Peer(name="his", host="127.0.0.1", port=port, deliver="hl7")
        yield peer, lambda: len(listener.messages)


WAYS = {
    "dimse": by_dimse,
    "dicomweb": lambda: by_web("dicomweb"),
    "orthanc": lambda: by_web("orthanc"),
    "fhir": lambda: by_web("fhir"),
    "hl7": by_hl7,
}


def outgoing(deliver: str) -> list[Outgoing]:
    """Return three documents, or three messages in the language of a listener."""
    if deliver == "hl7":
        return [Outgoing.message(uid(str(number)), a_message(str(number))) for number in range(3)]
    if deliver == "fhir":
        return [Outgoing.message(uid(str(number)), b"{}") for number in range(3)]
    return [Outgoing.of(a_file(rows=number)) for number in (16, 17, 18)]


def a_message(name: str) -> bytes:
    his = message_address(Peer(name="his", host="127.0.0.1", port=1, deliver="hl7"))
    return trial_message(his, UID(uid(name)), datetime(2026, 1, 2, tzinfo=UTC)).content


@pytest.mark.parametrize("deliver", WAYS)
def test_no_document_leaves_once_the_lease_is_lost(deliver: str) -> None:
    with WAYS[deliver]() as (peer, arrived):
        with pytest.raises(LeaseLost):
            transport(peer, "AINODE", 10.0, Lease(0).refuse_lost).send(outgoing(deliver))
        assert arrived() == 0


@pytest.mark.parametrize("deliver", ["dimse", "orthanc", "hl7"])
def test_what_left_before_the_lease_was_lost_has_left_and_nothing_follows(deliver: str) -> None:
    with WAYS[deliver]() as (peer, arrived):
        with pytest.raises(LeaseLost):
            transport(peer, "AINODE", 10.0, Lease(1).refuse_lost).send(outgoing(deliver))
        assert arrived() == 1


@pytest.mark.parametrize("deliver", ["dimse", "orthanc", "hl7"])
def test_a_process_that_holds_its_lease_sends_all(deliver: str) -> None:
    with WAYS[deliver]() as (peer, arrived):
        transport(peer, "AINODE", 10.0, Lease(3).refuse_lost).send(outgoing(deliver))
        assert arrived() == 3
