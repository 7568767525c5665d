"""A node with Debian's Orthanc as its archive, both as processes of their own, asked as a stranger would ask them."""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from typing import Final

from ainode.node.archive.dimse import Link
from ainode.node.archive.store import Outgoing, send
from ainode.node.bench.servers import AE_TITLE, Server, free_port, node, orthanc, running
from ainode.node.domain import UID, DeliveryState, JobState
from ainode.node.errors import ConfigError
from ainode.node.keeping import database
from ainode.node.keeping.ledger import Delivery, Job, Ledger
from ainode.node.settings import Peer

ARCHIVE: Final = "archive"
"""the name of the [[peer]], for routes"""
_POLL_S: Final = 0.02
_PATIENCE_S: Final = 300.0
_SETTLED: Final = frozenset({DeliveryState.CONFIRMED, DeliveryState.FAILED})


@dataclass(frozen=True, slots=True)
class Archive:
    """A running Orthanc."""

    port: int
    http_port: int

    @property
    def peer(self) -> Peer:
        """Return it as a configured peer."""
        return Peer(name=ARCHIVE, ae_title="ARCHIVE", host="127.0.0.1", port=self.port)

    def holds(self, study: UID, modality: str) -> bool:
        """Whether a series of this modality is in the study."""
        query = {"Level": "Series", "Query": {"StudyInstanceUID": study, "Modality": modality}}
        connection = HTTPConnection("127.0.0.1", self.http_port, timeout=_PATIENCE_S)
        try:
            connection.request("POST", "/tools/find", json.dumps(query))
            return bool(json.loads(connection.getresponse().read()))
        finally:
            connection.close()


@dataclass(frozen=True, slots=True)
class Pair:
    """A node and its archive, running."""

    node: Peer
    archive: Archive
    ledger: Ledger

    def job(self, study: UID) -> tuple[Job, tuple[Delivery, ...]]:
        """Return the job on a study and its deliveries, once all are settled.

        Raises: ConfigError if it failed, or does not end.
        """

        def settled() -> bool:
            jobs = self.ledger.jobs(study=study)
            deliveries = [one for job in jobs for one in self.ledger.deliveries(job.id)]
            return (
                bool(jobs)
                and not any(job.state in {JobState.WAITING, JobState.READING} for job in jobs)
                and all(one.state in _SETTLED for one in deliveries)
            )

        until(settled, f"the node to read study {study}")
        (job,) = self.ledger.jobs(study=study)
        if job.state is not JobState.REPORTED:
            raise ConfigError(f"study {study} was not read: {job.reason or job.state}")
        return job, self.ledger.deliveries(job.id)


@contextmanager
def archive(folder: Path, options: Mapping[str, object] | None = None) -> Iterator[Archive]:
    """Run an Orthanc in the folder, with `options` in its configuration.

    Raises: ConfigError naming the Debian package if it is not installed.
    """
    http_port = free_port()
    ours = {"DicomAet": "ARCHIVE", "HttpPort": http_port, "DicomAlwaysAllowFind": True, "DicomAlwaysAllowGet": True}
    command = partial(orthanc, options={**ours, **(options or {})})
    with running(Server("Orthanc", "", command), folder) as (_, port):
        yield Archive(port, http_port)


@contextmanager
def paired(folder: Path, archive: Archive, routes: str) -> Iterator[Pair]:
    """Run a node with the shipped configuration, these routes, and the archive as its one peer."""
    peer = archive.peer
    said = (f"{key} = {getattr(peer, key)!r}" for key in ("name", "ae_title", "host", "port"))
    command = partial(node, more="\n".join(("[[peer]]", *said, "")), routes=routes)
    with running(Server("ainode", "", command, says="ready: "), folder) as (_, port):
        engine = database.connect(f"sqlite:///{folder / 'data' / 'catalog.sqlite'}")
        try:
            us = Peer(name="node", ae_title=AE_TITLE, host="127.0.0.1", port=port)
            yield Pair(us, archive, Ledger(engine))
        finally:
            engine.dispose()


def delivered(peer: Peer, paths: Sequence[Path], sender: str = "MODALITY") -> None:
    """Send files over one association; when this returns, it is released.

    Raises: ArchiveError if one is not taken.
    """
    for answer in send(Link(peer, sender), [Outgoing.of(path) for path in paths]):
        if answer.error:
            raise answer.error


def until(true: Callable[[], bool], what: str) -> None:
    """Wait until something holds, looking fifty times a second.

    Raises: ConfigError if it never does.
    """
    deadline = time.monotonic() + _PATIENCE_S
    while not true():
        if time.monotonic() > deadline:
            raise ConfigError(f"waited {_PATIENCE_S:g} s in vain for {what}")
        time.sleep(_POLL_S)
