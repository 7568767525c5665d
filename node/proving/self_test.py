"""The whole way of a synthetic study through a running node: sent to its receiver, read, and back on loopback.

The study names a patient of its own, so that its documents leave the node for the destination here and no other.
"""

import errno
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from pydicom import Dataset, dcmread

from ainode.node import testing
from ainode.node.archive import store
from ainode.node.archive.dimse import Link
from ainode.node.domain import SELF_TEST_PATIENT_ID, UID, DeliveryState, JobState, counted
from ainode.node.errors import ConfigError, HandlerError, NodeError
from ainode.node.keeping import database
from ainode.node.keeping.catalog import Catalog
from ainode.node.keeping.ledger import Ledger
from ainode.node.keeping.records import Job
from ainode.node.proving import edits
from ainode.node.proving.golden import RouteRecord, RouteResult, compared, keep, record_of, study_of
from ainode.node.reading import registry
from ainode.node.reading.boundary import boundary
from ainode.node.reading.weights import environment
from ainode.node.settings import Peer, Settings

_POLL_S: Final = 0.25
_UNREAD: Final = frozenset({JobState.WAITING, JobState.READING})
_SETTLED: Final = frozenset({DeliveryState.CONFIRMED, DeliveryState.FAILED})


@dataclass(frozen=True, slots=True)
class _Run:
    """What the way of a study needs to be followed."""

    settings: Settings
    ledger: Ledger
    catalog: Catalog
    route: str
    study: UID
    began: datetime
    deadline: float
    """on the monotonic clock"""

    def current_jobs(self) -> list[Job]:
        """Return the jobs that read the study as it was sent now."""
        jobs = self.ledger.jobs(study=self.study)
        return [job for job in jobs if job.queued_at >= self.began and job.state is not JobState.SUPERSEDED]


def tested(settings: Settings, route: str) -> tuple[RouteRecord, str]:
    """Test a route of a running node; return what is kept of it from now on, and what is to be said of it.

    Raises: OSError if the record cannot be written; HandlerError if another test runs all the time, which leaves the
    record alone.
    """
    record, began, words = record_of(settings, route), time.monotonic(), ""
    now = datetime.now(UTC)
    try:
        result = _result(settings, route, now)
        record, words = compared(record, result, settings)
    except (NodeError, OSError) as error:
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            port = settings.self_test.port
            raise HandlerError(f"another self-test runs, or another program has port {port} ([self_test])") from error
        record = replace(record, problem=str(error) or type(error).__name__)
    record = replace(record, at=now, seconds=round(time.monotonic() - began, 1))
    keep(settings, record)
    return record, words or record.problem or "the golden answer, and every object"


def _result(settings: Settings, name: str, now: datetime) -> RouteResult:
    """Return what a route answered on its synthetic study.

    Raises: NodeError that says how far the study came; OSError.
    """
    route = next((route for route in settings.routes if route.name == name), None)
    if route is None or name not in settings.self_test.routes:
        raise ConfigError(f"[self_test] names no route {name!r} of routes.toml")
    with TemporaryDirectory(prefix="ainode-self-test.") as folder:
        study = study_of(name)
        paths = _study(route.handler, settings, study, Path(folder), now)
        deadline = time.monotonic() + settings.self_test.limit_s
        with _listening(Path(folder) / "archive", settings.self_test.port, deadline) as archive:
            _send(settings, paths)
            engine = database.existing(settings.database_url)
            try:
                uid = UID(testing.uid(study))
                run = _Run(settings, Ledger(engine), Catalog(engine), name, uid, now, deadline)
                job = _delivered(run, len(paths))
                _refuse_undelivered(run.ledger, job)
                arrived = Counter(_modality(path) for path in archive.files() if _is_of(path, run.ledger, job))
            finally:
                engine.dispose()
        return RouteResult.of(job.result, arrived, job.seconds)


@contextmanager
def _listening(folder: Path, port: int, deadline: float) -> Iterator[testing.EmbeddedArchive]:
    """Open the destination of the test; another test, as that of another node of this machine, has its end first.

    Raises: OSError if the port is still taken at the deadline.
    """
    with ExitStack() as stack:
        while True:
            try:
                archive = stack.enter_context(testing.EmbeddedArchive(folder, port))
                break
            except OSError as error:
                if error.errno != errno.EADDRINUSE or time.monotonic() > deadline:
                    raise
            time.sleep(_POLL_S)
        yield archive


def _study(handler: str, settings: Settings, study: str, folder: Path, now: datetime) -> tuple[Path, ...]:
    """Write the synthetic study of a handler. Only its time differs from test to test, so that the node reads it anew.

    Raises: ConfigError if the handler makes none.
    """
    with boundary(handler, "in demonstration()", ConfigError):
        synthetic = registry.handler(handler, environment(settings)).demonstration(0)
    paths = testing.write(synthetic.images, folder / "made", study=study, positions_mm=synthetic.positions_mm)

    def edit(item: Dataset) -> None:
        item.PatientID = SELF_TEST_PATIENT_ID
        item.InstanceCreationDate, item.InstanceCreationTime = f"{now:%Y%m%d}", f"{now:%H%M%S.%f}"

    return edits.written(paths, folder / "study", edit, of_images=False)


def own_receiver(settings: Settings) -> Peer:
    """Return the node as a peer of its own."""
    node = settings.node
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(node.bind, node.bind)  # noqa: S104 - compared, not bound
    certificate = str(node.tls_certificate or "")
    return Peer(
        name="own-receiver",
        ae_title=node.ae_title,
        host=host,
        port=node.port,
        tls=bool(certificate),
        ca_file=certificate,
        tls_certificate=certificate,
        tls_key=str(node.tls_key or ""),
    )


def _send(settings: Settings, paths: Sequence[Path]) -> None:
    """Send the study to the node's own receiver.

    Raises: NodeError.
    """
    link = Link(own_receiver(settings), settings.node.ae_title)
    for answer in store.send(link, [*map(store.Outgoing.of, paths)]):
        if answer.error:
            raise HandlerError(f"the receiver of the node did not take the study: {answer.error}") from answer.error


def _delivered(run: _Run, count: int) -> Job:
    """Return the job of the route once every job of the study is over and its documents arrived.

    Raises: HandlerError that says how far the study came.
    """
    while time.monotonic() < run.deadline:
        jobs = run.current_jobs()
        own = next((job for job in jobs if job.route == run.route), None)
        if own and own.state in {JobState.FAILED, JobState.CANCELLED}:
            raise HandlerError(f"job {own.id} {own.state}: {own.explanation}")
        if own and all(_is_over(run.ledger, job) for job in jobs):
            return own
        if own is None and _is_routed(run, count):
            raise HandlerError(
                "the route did not take the synthetic study of its own handler: `ainode explain "
                f"{run.study}` says which condition the study does not meet"
            )
        time.sleep(_POLL_S)
    state = "it was not complete" if own is None else f"job {own.id} was {own.state}, or its documents had not arrived"
    raise HandlerError(f"not done within {run.settings.self_test.limit_s:g} s ([self_test] limit_s): {state}")


def _is_over(ledger: Ledger, job: Job) -> bool:
    return job.state not in _UNREAD and all(item.state in _SETTLED for item in ledger.deliveries(job.id))


def _refuse_undelivered(ledger: Ledger, job: Job) -> None:
    """Return if every document of a job arrived: the first answer is golden, and must not lack what it made.

    Raises: HandlerError.
    """
    failed = [item for item in ledger.deliveries(job.id) if item.state is DeliveryState.FAILED]
    if failed:
        count = counted(len(failed), "document")
        raise HandlerError(f"{count} of job {job.id} did not arrive: {failed[0].explanation}")


def _is_routed(run: _Run, count: int) -> bool:
    """Return whether every object of this test is there, and the routes have decided."""
    new = [item for item in run.catalog.instances(run.study) if item.received_at >= run.began]
    return len(new) == count and run.catalog.is_routed(run.study)


def _is_of(path: Path, ledger: Ledger, job: Job) -> bool:
    return path.stem in {document.ref.sop_instance_uid for document in ledger.documents(job.id)}


def _modality(path: Path) -> str:
    return str(dcmread(path, stop_before_pixels=True, force=True).get("Modality"))
