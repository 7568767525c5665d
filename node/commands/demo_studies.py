"""The synthetic studies of `ainode demo`: each is sent, read and delivered, and each step is a line for a person."""

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from PIL import Image
from pydicom import dcmread

from ainode.node import testing
from ainode.node.archive import store
from ainode.node.archive.dimse import Link
from ainode.node.domain import UID, DeliveryState, DocumentKind, JobState, WeightsStatus, counted
from ainode.node.errors import ConfigError, NodeError
from ainode.node.keeping.ledger import Ledger
from ainode.node.keeping.records import Delivery, Job
from ainode.node.offline.headlines import headline
from ainode.node.reading import registry
from ainode.node.reading.boundary import boundary
from ainode.node.reading.weights import environment
from ainode.node.settings import Peer, Settings

Tell = Callable[[str], None]
_LIMIT_S: Final = 300.0
_POLL_S: Final = 0.2
# A person who sees no line for longer than this takes the command for dead.
_SILENCE_S: Final = 15.0
_ENDED: Final = frozenset({DeliveryState.CONFIRMED, DeliveryState.FAILED})
_UNREAD: Final = frozenset({JobState.WAITING, JobState.READING})


@dataclass(frozen=True, slots=True)
class Trial:
    """What became of one synthetic study."""

    name: str
    """of the route, else of the handler"""
    weights: str = ""
    """the status of the weights that answered"""
    answer: str = ""
    """of the model, in words"""
    report: str = ""
    captures: str = ""
    seconds: str = "-"
    failure: str = ""
    """why the study was not read or its documents are not in the archive; '' where all is well"""


@dataclass(frozen=True, slots=True)
class Demonstration:
    """A running node, its archive, and who is told what happens."""

    settings: Settings
    ledger: Ledger
    folder: Path
    """the archive keeps its objects in `archive` of it, the sent files are in `sent` of it"""
    results: Path
    tell: Tell

    def trials(self, handlers: Sequence[str], seed: int) -> tuple[Trial, ...]:
        """Send a synthetic study of each handler, wait for every answer, and return what became of each study."""
        count = len(handlers)
        self.tell(f"{count} synthetic studies are made and sent to the node; each is read as soon as it is complete")
        studies = [self._sent(f"{number} of {count}: {name}", name, seed) for number, name in enumerate(handlers, 1)]
        return tuple(
            self._trial(f"{number} of {count}: {name}", name, study)
            for number, (name, study) in enumerate(zip(handlers, studies, strict=True), 1)
        )

    def _sent(self, subject: str, handler: str, seed: int) -> UID | NodeError:
        """Send a study as a modality sends it; return its UID, or why the node has no study."""
        try:
            with boundary(handler, "in demonstration()", ConfigError):
                study = self._send(subject, handler, seed)
        except NodeError as error:
            self.tell(f"not sent: {subject}: {error}")
            return error
        return study

    def _send(self, subject: str, name: str, seed: int) -> UID:
        study = f"demonstration of {name}, seed {seed}"
        synthetic = registry.handler(name, environment(self.settings)).demonstration(seed)
        folder = self.folder / "sent" / name
        paths = testing.write(synthetic.images, folder, study=study, positions_mm=synthetic.positions_mm)
        own = self.settings.node
        node = Peer(name="node", ae_title=own.ae_title, host="127.0.0.1", port=own.port)
        for answer in store.send(Link(node, "MODALITY"), [store.Outgoing.of(path) for path in paths]):
            if answer.error:
                raise answer.error
        self.tell(f"sent {subject}, {counted(len(paths), 'object')}")
        return UID(testing.uid(study))

    def _trial(self, subject: str, name: str, study: UID | NodeError) -> Trial:
        """Wait until the study is read and delivered, and tell how that ended."""
        if isinstance(study, NodeError):
            return Trial(name, failure=f"the study was not sent: {study}")
        self.tell(f"reading {subject}")
        job = self._finished_job(subject, study, name)
        if job is None:
            trial = Trial(name, failure=f"no answer within {_LIMIT_S:g} s; study {study}")
        else:
            trial = self._trial_of(job, name)
        self.tell(f"FAILED {subject}: {trial.failure}" if trial.failure else _answered(subject, trial))
        return trial

    def _trial_of(self, job: Job, name: str) -> Trial:
        if job.state is not JobState.REPORTED:
            words = {JobState.OUT_OF_SCOPE: "the model declined its own study", JobState.CANCELLED: "it was cancelled"}
            failure = ": ".join(filter(None, (words.get(job.state, ""), job.explanation)))
            return Trial(job.route, failure=failure or str(job.state), seconds=f"{job.seconds:.1f}")
        deliveries = self.ledger.deliveries(job.id)
        report, captures = self._result_files(name, self._archived(deliveries))
        undelivered = [delivery for delivery in deliveries if delivery.state is not DeliveryState.CONFIRMED]
        failure = ""
        if undelivered:
            failure = f"{counted(len(undelivered), 'document')} not in the archive: {undelivered[0].explanation}"
        elif not (report and captures):
            failure = f"job {job.id} has no report or no capture in the archive"
        return Trial(
            job.route,
            _status(job.result),
            headline(job.result),
            report,
            captures,
            f"{job.seconds:.1f}",
            failure,
        )

    def _archived(self, deliveries: Sequence[Delivery]) -> dict[DocumentKind, list[Path]]:
        """Return the paths of the documents that are in the folder of the archive."""
        paths: dict[DocumentKind, list[Path]] = {kind: [] for kind in DocumentKind}
        for delivery in deliveries:
            path = self.folder / "archive" / f"{delivery.document.ref.sop_instance_uid}.dcm"
            if delivery.state is DeliveryState.CONFIRMED and path.exists():
                paths[delivery.document.kind].append(path)
        return paths

    def _result_files(self, name: str, documents: Mapping[DocumentKind, Sequence[Path]]) -> tuple[str, str]:
        """Copy the report and write the captures as pictures; return the names of the report and of the pictures."""
        reports, pictures = [], []
        for path in documents[DocumentKind.STRUCTURED_REPORT]:
            reports.append(f"{name}.dcm")
            shutil.copyfile(path, self.results / reports[-1])
        for number, path in enumerate(documents[DocumentKind.SECONDARY_CAPTURE], start=1):
            pictures.append(f"{name}-{number}.png")
            Image.fromarray(dcmread(path).pixel_array).save(self.results / pictures[-1])
        return "\n".join(reports), "\n".join(pictures)

    def _finished_job(self, subject: str, study: UID, handler: str) -> Job | None:
        """Wait for the handler's job on a study and for its deliveries; return None if they do not end in time.

        Other routes may read the same study: several models read a chest CT.
        """
        start = last_line = time.monotonic()
        while (now := time.monotonic()) < start + _LIMIT_S:
            jobs = [job for job in self.ledger.jobs(study=study) if job.handler == handler]
            for job in jobs:
                deliveries = self.ledger.deliveries(job.id)
                if job.state not in _UNREAD and all(delivery.state in _ENDED for delivery in deliveries):
                    return job
            if now - last_line > _SILENCE_S:
                state = jobs[0].state if jobs else "waits until it is complete and its handler has started"
                self.tell(f"still at {subject} after {now - start:.0f} s: {state}")
                last_line = now
            time.sleep(_POLL_S)
        return None


def real_weights_first(handlers: Sequence[str], settings: Settings) -> tuple[str, ...]:
    """Return handlers by the status of their weights: those learned from patients before demonstrations.

    A handler that is not ready comes last: its study says why.
    """
    return tuple(sorted(handlers, key=lambda name: _rank(name, settings)))


def _rank(name: str, settings: Settings) -> int:
    try:
        models = environment(settings)
        with boundary(name, "in weights()", ConfigError):
            status = models.weights.status(registry.handler(name, models).weights())
    except NodeError:
        return 2
    return int(status is WeightsStatus.DEMONSTRATION)


def _status(result: str) -> str:
    return str(json.loads(result)["algorithm"]["weights_status"])


def _answered(subject: str, trial: Trial) -> str:
    return f"read {subject}, {trial.seconds} s, {trial.weights} weights: {trial.answer}"
