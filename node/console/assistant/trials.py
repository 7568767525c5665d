"""The tasks of an assistant that call other systems, or the node itself, with synthetic objects."""

import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ainode.node import testing
from ainode.node.archive import dimse, orthanc, qido, store
from ainode.node.archive.delivery import reach_listener
from ainode.node.archive.dimse import Link
from ainode.node.archive.web import WebLink
from ainode.node.diagnosis.advice import advice, problems
from ainode.node.diagnosis.doctor import examine
from ainode.node.domain import SELF_TEST_MODALITY
from ainode.node.errors import ArchiveError, NodeError
from ainode.node.proving.self_test import own_receiver, tested
from ainode.node.settings import Peer, Settings

_ANSWER_S = 10.0


def echo(settings: Settings, name: str) -> dict[str, Any]:
    """Return for each protocol that the node speaks with a peer whether the peer answers."""
    trials = [_echo_trial(protocol, question) for protocol, question in _echoes(settings.peer(name), settings)]
    return {"trials": trials, "advice": {}, "problems": [], "remaining": []}


def _echoes(peer: Peer, settings: Settings) -> Iterator[tuple[str, Callable[[], object]]]:
    if peer.is_listener:
        yield "connection", partial(reach_listener, peer)
    if peer.speaks_dimse:
        yield "C-ECHO", partial(dimse.echo, Link(peer, settings.node.ae_title, _ANSWER_S))
    if peer.dicomweb:
        yield "QIDO-RS", partial(qido.echo, WebLink(peer, _ANSWER_S))
    if peer.orthanc:
        yield "Orthanc REST", partial(orthanc.echo, WebLink(peer, _ANSWER_S))


def _echo_trial(name: str, question: Callable[[], object]) -> dict[str, str]:
    begin = time.monotonic()
    try:
        question()
    except NodeError as error:
        return {"name": name, "outcome": "no", "detail": str(error)}
    return {"name": name, "outcome": "yes", "detail": f"{1000 * (time.monotonic() - begin):.0f} ms"}


def doctor(settings: Settings, name: str) -> dict[str, Any]:
    """Return what the doctor finds out about a peer."""
    examination = examine(settings.peer(name), settings, token=secrets.token_hex(8), now=datetime.now(UTC))
    return {
        "trials": [asdict(trial) for trial in examination.trials],
        "advice": dict(advice(examination)),
        "problems": list(problems(examination)),
        "remaining": list(examination.remaining_studies),
    }


def send(settings: Settings, token: str) -> dict[str, Any]:
    """Send a picture that no route takes to the receiver of the node; return its UID and how long that took."""
    study = f"self-test {token}"
    with TemporaryDirectory() as folder:
        image = testing.noise(64, 64, Modality=SELF_TEST_MODALITY)
        paths = testing.write([image], Path(folder), study=study)
        begin = time.monotonic()
        answers = store.send(Link(own_receiver(settings), settings.node.ae_title), [*map(store.Outgoing.of, paths)])
    refused = [answer.error for answer in answers if answer.error]
    if refused:
        raise ArchiveError(f"the receiver did not take the study: {refused[0]}")
    return {"study": testing.uid(study), "instances": len(paths), "seconds": time.monotonic() - begin}


def self_test(settings: Settings, route: str) -> str:
    """Test a route as each night; return what is to be said of it. Whether it passed is kept in the route's record."""
    return tested(settings, route)[1]
