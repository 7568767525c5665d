"""A node with Debian's Orthanc as its archive, each in its own process, used over the network alone."""

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
from ainode.node.bench.servers import AE_TITLE, Server, free_port, node_command, orthanc_command, running
from ainode.node.domain import UID, DeliveryState, JobState
from ainode.node.errors import ConfigError
from ainode.node.keeping import database
from ainode.node.keeping.ledger import Ledger
from ainode.node.keeping.records import Delivery, Job
from ainode.node.settings import Peer

ARCHIVE_NAME: Final = "archive"
"""name of the archive's [[peer]], for routes"""
_POLL_S: Final = 0.02
_TIMEOUT_S: Final = 300.0
_END_STATES: Final = frozenset({DeliveryState.CONFIRMED, DeliveryState.FAILED})


@dataclass(frozen=True, slots=True)
class Archive:
    """A running Orthanc."""

    port: int
    http_port: int
    process_id: int

    @property
    def peer(self) -> Peer:
        """Return the archive as a configured peer."""
        return Peer(name=ARCHIVE_NAME, ae_title="ARCHIVE", host="127.0.0.1", port=self.port)

    def has_series(self, study: UID, modality: str) -> bool:
        """Return whether the archive has a series of this modality in the study."""
        query = {"Level": "Series", "Query": {"StudyInstanceUID": study, "Modality": modality}}
        connection = HTTPConnection("127.0.0.1", self.http_port, timeout=_TIMEOUT_S)
        try:
            connection.request("POST", "/tools/find", json.dumps(query))
            return bool(json.loads(connection.getresponse().read()))
        finally:
            connection.close()


@dataclass(frozen=True, slots=True)
class NodeAndArchive:
    """A running node and its running archive."""

    node: Peer
    archive: Archive
    ledger: Ledger
    process_id: int
    """of the node"""

    def open_deliveries(self) -> bool:
        """Return whether a document still waits for its way to the archive, or for the proof that it arrived."""
        return bool(self.ledger.tasks.waiting(()))

    def finished_job(self, study: UID) -> tuple[Job, tuple[Delivery, ...]]:
        """Wait for the job on a study and its deliveries to end, and return them.

        Raises: ConfigError if the job failed or does not end.
        """

        def is_finished() -> bool:
            jobs = self.ledger.jobs(study=study)
            deliveries = [delivery for job in jobs for delivery in self.ledger.deliveries(job.id)]
            return (
                bool(jobs)
                and not any(job.state in {JobState.WAITING, JobState.READING} for job in jobs)
                and all(delivery.state in _END_STATES for delivery in deliveries)
            )

        wait_until(is_finished, f"the node to read study {study}")
        (job,) = self.ledger.jobs(study=study)
        if job.state is not JobState.REPORTED:
            raise ConfigError(f"study {study} was not read: {job.reason or job.state}")
        return job, self.ledger.deliveries(job.id)


@contextmanager
def running_archive(folder: Path, options: Mapping[str, object] | None = None) -> Iterator[Archive]:
    """Run an Orthanc in the folder, with `options` in its configuration.

    Raises: ConfigError if Orthanc is not installed; the message names the Debian package.
    """
    http_port = free_port()
    defaults = {"DicomAet": "ARCHIVE", "HttpPort": http_port, "DicomAlwaysAllowFind": True, "DicomAlwaysAllowGet": True}
    command = partial(orthanc_command, options={**defaults, **(options or {})})
    with running(Server("Orthanc", "", command), folder) as (process, port):
        yield Archive(port, http_port, process.pid)


@contextmanager
def running_node(folder: Path, archive: Archive, routes: str) -> Iterator[NodeAndArchive]:
    """Run a node with these routes, and with the archive as its only peer."""
    peer = archive.peer
    settings = (f"{key} = {getattr(peer, key)!r}" for key in ("name", "ae_title", "host", "port"))
    command = partial(node_command, extra_settings="\n".join(("[[peer]]", *settings, "")), routes=routes)
    with running(Server("ainode", "", command, ready_text="ready: "), folder) as (process, port):
        engine = database.connect(f"sqlite:///{folder / 'data' / 'catalog.sqlite'}")
        try:
            node = Peer(name="node", ae_title=AE_TITLE, host="127.0.0.1", port=port)
            yield NodeAndArchive(node, archive, Ledger(engine), process.pid)
        finally:
            engine.dispose()


def send_files(peer: Peer, paths: Sequence[Path], sender: str = "MODALITY") -> None:
    """Send files over a single association, and release the association.

    Raises: ArchiveError if the peer refuses a file.
    """
    for answer in send(Link(peer, sender), [Outgoing.of(path) for path in paths]):
        if answer.error:
            raise answer.error


def wait_until(condition: Callable[[], bool], event: str, *, pause_s: float = _POLL_S) -> None:
    """Wait until the condition is true, which is tested fifty times a second, or after each pause.

    Raises: ConfigError that names the event, if the condition stays false.
    """
    deadline = time.monotonic() + _TIMEOUT_S
    while not condition():
        if time.monotonic() > deadline:
            raise ConfigError(f"waited {_TIMEOUT_S:g} s in vain for {event}")
        time.sleep(pause_s)
