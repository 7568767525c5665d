"""`ainode demo`: a node and an archive on loopback, one synthetic study per model, a table of what came back."""

import contextlib
import dataclasses
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from ainode.node import testing
from ainode.node.app import Node
from ainode.node.archive import store
from ainode.node.archive.dimse import Link
from ainode.node.domain import UID, DeliveryState, DocumentKind, JobState
from ainode.node.keeping.ledger import Ledger
from ainode.node.keeping.records import Job, KeptDocument
from ainode.node.offline import readings as offline
from ainode.node.reading import registry
from ainode.node.reading.weights import environment
from ainode.node.settings import CompletenessTable, NodeTable, Peer, Settings, load

Row = tuple[str, str, str, str, str, str]
_PATIENCE_S = 300.0
_POLL_S = 0.2


def free_port() -> int:
    """Return a port of loopback that was free just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def _folder(*, keep: bool) -> Iterator[Path]:
    """Yield the folder of the demonstration; of a temporary one the archive stays, so that a person can look."""
    if keep:
        path = Path("ainode-demo").absolute()
        path.mkdir(exist_ok=True)
        yield path
        return
    path = Path(tempfile.mkdtemp(prefix="ainode-demo-"))
    try:
        yield path
    finally:
        for name in ("node", "sent"):
            shutil.rmtree(path / name, ignore_errors=True)


def demonstration_settings(folder: Path, archive: Peer) -> Settings:
    """Return settings with every shipped route delivering to the archive, demonstration weights allowed."""
    shipped = load()
    return shipped.model_copy(
        update={
            "node": NodeTable(data=folder / "node", port=free_port(), min_free_bytes=0),
            "completeness": CompletenessTable(default_silence_s=2.0),
            "peers": (archive,),
            "routes": tuple(
                dataclasses.replace(route, destinations=(archive.name,), allow_demonstration=True)
                for route in shipped.routes
            ),
        }
    )


def run(*, keep: bool, seed: int) -> tuple[list[Row], bool]:
    """Return a row per study, and whether every study got its documents into the archive."""
    with _folder(keep=keep) as folder:
        port = free_port()
        archive = Peer(name="archive", ae_title="ARCHIVE", host="127.0.0.1", port=port, confirm="query")
        settings = demonstration_settings(folder, archive)
        node = Node(settings)
        with testing.EmbeddedArchive(folder / "archive", port):
            node.start()
            try:
                sent = {name: _send(name, settings, folder / "sent", seed) for name in registry.names()}
                rows = [_row(name, study, node.ledger, folder / "archive") for name, study in sent.items()]
            finally:
                node.request_stop()
                node.stop()
    return rows, all(row[3] and row[4] for row in rows)


def _send(name: str, settings: Settings, folder: Path, seed: int) -> UID:
    """Send one synthetic study to the node as a modality would; return its UID."""
    study = f"demonstration of {name}, seed {seed}"
    made = registry.handler(name, environment(settings)).demonstration(seed)
    paths = testing.write(made.images, folder / name, study=study, positions_mm=made.positions_mm)
    us = Peer(name="node", ae_title=settings.node.ae_title, host="127.0.0.1", port=settings.node.port)
    for answer in store.send(Link(us, "MODALITY"), [store.Outgoing.of(path) for path in paths]):
        if answer.error:
            raise answer.error
    return UID(testing.uid(study))


def _row(name: str, study: UID, ledger: Ledger, archive: Path) -> Row:
    job = _finished(study, name, ledger)
    if job is None:
        return (name, "-", f"no answer within {_PATIENCE_S:g} s", "", "", "-")
    arrived = [
        one.document
        for one in ledger.deliveries(job.id)
        if one.state is DeliveryState.CONFIRMED and (archive / f"{one.document.ref.sop_instance_uid}.dcm").exists()
    ]
    paths = {kind: "\n".join(_paths(arrived, kind, archive)) for kind in DocumentKind}
    return (
        name,
        job.route,
        job.reason or offline.headline(job.result),
        paths[DocumentKind.STRUCTURED_REPORT],
        paths[DocumentKind.SECONDARY_CAPTURE],
        f"{job.seconds:.1f}",
    )


def _paths(documents: Sequence[KeptDocument], kind: DocumentKind, archive: Path) -> Iterator[str]:
    return (str(archive / f"{one.ref.sop_instance_uid}.dcm") for one in documents if one.kind is kind)


def _finished(study: UID, handler: str, ledger: Ledger) -> Job | None:
    """Wait for the handler's job on the study and its deliveries; None if they do not come.

    Other routes may read the same study: a chest CT is one for several models.
    """
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        for job in (one for one in ledger.jobs(study=study) if one.handler == handler):
            settled = all(
                one.state in {DeliveryState.CONFIRMED, DeliveryState.FAILED} for one in ledger.deliveries(job.id)
            )
            if job.state not in {JobState.WAITING, JobState.READING} and settled:
                return job
        time.sleep(_POLL_S)
    return None
