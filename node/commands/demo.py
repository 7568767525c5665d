"""`ainode demo`: a node and an archive on loopback, a synthetic study per model, a table of the returned documents."""

import contextlib
import dataclasses
import secrets
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from PIL import Image
from pydicom import dcmread

from ainode.node import testing
from ainode.node.app import Node
from ainode.node.archive import store
from ainode.node.archive.dimse import Link
from ainode.node.domain import UID, DeliveryState, DocumentKind, JobState
from ainode.node.keeping import database
from ainode.node.keeping.ledger import Ledger
from ainode.node.keeping.records import Job
from ainode.node.offline import readings as offline
from ainode.node.reading import registry
from ainode.node.reading.weights import environment
from ainode.node.settings import CompletenessTable, ConsoleTable, NodeTable, Peer, Settings, WebTable, load
from ainode.node.start_checks import missing_packages

Row = tuple[str, str, str, str, str]
"""route, answer, name of the report, names of the captures, seconds"""
Tell = Callable[[str], None]
_PERSON = "demo"
_PASSWORD_BYTES = 15
_LIMIT_S = 300.0
_POLL_S = 0.2
_ENDED = frozenset({DeliveryState.CONFIRMED, DeliveryState.FAILED})


def free_port() -> int:
    """Return a TCP port that is free on the loopback interface at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def _folder(*, keep: bool) -> Iterator[Path]:
    """Yield the folder of the demonstration: the folder of the results, or a temporary folder."""
    if keep:
        yield _results_folder()
        return
    with tempfile.TemporaryDirectory(prefix="ainode-demo-", ignore_cleanup_errors=True) as path:
        yield Path(path)


def demonstration_settings(folder: Path, archive: Peer) -> Settings:
    """Return settings in which every shipped route delivers to the archive and allows demonstration weights."""
    shipped_settings = load()
    return shipped_settings.model_copy(
        update={
            "node": NodeTable(data=folder / "node", port=free_port(), min_free_bytes=0),
            "completeness": CompletenessTable(default_silence_s=2.0),
            "peers": (archive,),
            "routes": tuple(
                dataclasses.replace(route, destinations=(archive.name,), allow_demonstration=True)
                for route in shipped_settings.routes
            ),
        }
    )


def run(*, keep: bool, seed: int, on_console: Tell, on_rows: Callable[[list[Row]], None], stays: bool) -> bool:
    """Run the demonstration; return whether the archive has documents of every study.

    `on_console` gets where the console is and who may log in, before the first study; `on_rows` a row per study. A
    demonstration that stays ends with Ctrl-C. The reports, and the captures as PNG pictures, stay in ./ainode-demo.
    """
    _results_folder().mkdir(exist_ok=True)
    with _folder(keep=keep) as folder:
        port = free_port()
        archive = Peer(name="archive", ae_title="ARCHIVE", host="127.0.0.1", port=port, confirm="query")
        settings = with_console(demonstration_settings(folder, archive))
        node = Node(settings)
        with testing.EmbeddedArchive(folder / "archive", port):
            node.start()
            try:
                on_console(_welcome(settings))
                studies = {name: _send(name, settings, folder / "sent", seed) for name in registry.names()}
                rows = [_row(name, study, node.ledger, folder / "archive") for name, study in studies.items()]
                on_rows(rows)
                with contextlib.suppress(KeyboardInterrupt):
                    if stays:
                        node.wait()
            finally:
                node.request_stop()
                node.stop()
    return all(report and captures for _, _, report, captures, _ in rows)


def with_console(settings: Settings) -> Settings:
    """Return settings with the console on, if the packages of the extra `web` are there; the patients are nobody."""
    is_installed = not missing_packages(settings.model_copy(update={"web": WebTable(enabled=True)}))
    web, pages = WebTable(enabled=is_installed, port=free_port()), ConsoleTable(patient="full")
    return settings.model_copy(update={"web": web, "console": pages})


def _welcome(settings: Settings) -> str:
    """Add a person with a random password, and return where and how the person logs in."""
    if not settings.web.enabled:
        return "console: pip install 'ainode[web]' installs its packages"
    from ainode.node.keeping.people import People, Role  # noqa: PLC0415 - of the extra `web`

    password, engine = secrets.token_urlsafe(_PASSWORD_BYTES), database.connect(settings.database_url)
    People(engine).add(_PERSON, Role.ADMINISTRATOR, password, datetime.now(UTC))
    engine.dispose()
    return f"console: http://127.0.0.1:{settings.web.port}/  name: {_PERSON}  password: {password}"


def next_steps() -> str:
    """Return a text that tells a person what to do after the demonstration."""
    ainode = sys.argv[0] if sys.argv[0].endswith("ainode") else "ainode"
    return f"""
The reports (DICOM SR) and the captures as pictures are in {_results_folder()}.
The patients are synthetic: the answers show that the way works, and nothing else.
Next:
  {ainode} read FILE --out result/
      read a file of your own, without a network
  {ainode} check
      see what is ready on this machine
  README.md, "Connect an archive"
      receive from a PACS or Orthanc, and send results back
  handlers/README.md
      bring a model of your own
"""


def _results_folder() -> Path:
    return Path("ainode-demo").absolute()


def _send(name: str, settings: Settings, folder: Path, seed: int) -> UID:
    """Send the synthetic study of a handler to the node, as a modality sends it; return the Study Instance UID."""
    study = f"demonstration of {name}, seed {seed}"
    demonstration = registry.handler(name, environment(settings)).demonstration(seed)
    paths = testing.write(demonstration.images, folder / name, study=study, positions_mm=demonstration.positions_mm)
    node = Peer(name="node", ae_title=settings.node.ae_title, host="127.0.0.1", port=settings.node.port)
    for answer in store.send(Link(node, "MODALITY"), [store.Outgoing.of(path) for path in paths]):
        if answer.error:
            raise answer.error
    return UID(testing.uid(study))


def _row(name: str, study: UID, ledger: Ledger, archive: Path) -> Row:
    job = _finished_job(study, name, ledger)
    if job is None:
        return (name, f"no answer within {_LIMIT_S:g} s", "", "", "-")
    answer = job.reason or offline.headline(job.result)
    return (job.route, answer, *_result_files(name, _archived_documents(job, ledger, archive)), f"{job.seconds:.1f}")


def _archived_documents(job: Job, ledger: Ledger, archive: Path) -> dict[DocumentKind, list[Path]]:
    """Return the paths of the documents of a job that are in the folder of the archive."""
    paths: dict[DocumentKind, list[Path]] = {kind: [] for kind in DocumentKind}
    for delivery in ledger.deliveries(job.id):
        path = archive / f"{delivery.document.ref.sop_instance_uid}.dcm"
        if delivery.state is DeliveryState.CONFIRMED and path.exists():
            paths[delivery.document.kind].append(path)
    return paths


def _result_files(name: str, documents: Mapping[DocumentKind, Sequence[Path]]) -> tuple[str, str]:
    """Copy the report and write the captures as pictures; return the names of the report and of the pictures."""
    reports, pictures = [], []
    for path in documents[DocumentKind.STRUCTURED_REPORT]:
        reports.append(f"{name}.dcm")
        shutil.copyfile(path, _results_folder() / reports[-1])
    for number, path in enumerate(documents[DocumentKind.SECONDARY_CAPTURE], start=1):
        pictures.append(f"{name}-{number}.png")
        Image.fromarray(dcmread(path).pixel_array).save(_results_folder() / pictures[-1])
    return "\n".join(reports), "\n".join(pictures)


def _finished_job(study: UID, handler: str, ledger: Ledger) -> Job | None:
    """Wait for the handler's job on a study and for its deliveries; return None if they do not end in time.

    Other routes may read the same study: several models read a chest CT.
    """
    deadline = time.monotonic() + _LIMIT_S
    while time.monotonic() < deadline:
        for job in (job for job in ledger.jobs(study=study) if job.handler == handler):
            is_delivered = all(delivery.state in _ENDED for delivery in ledger.deliveries(job.id))
            if job.state not in {JobState.WAITING, JobState.READING} and is_delivered:
                return job
        time.sleep(_POLL_S)
    return None
