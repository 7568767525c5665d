"""The documents of judgements: composed in a process of their own, kept, and then sent as any document of the job.

A thread works as long as a document is due. What is due stands in the database, so a kill loses nothing.
"""

import base64
import logging
import platform
import threading
from collections.abc import Iterator, Sequence
from typing import Any, Final

from ainode.node import __version__
from ainode.node.console.assistant.client import Assistant
from ainode.node.disk import sha256_of, write_durably
from ainode.node.domain import (
    UID,
    AssessmentRequest,
    Document,
    DocumentContext,
    DocumentKind,
    InstanceRef,
    SentMessage,
)
from ainode.node.errors import CannotRender, DatabaseUnavailable
from ainode.node.identity import correction_uid, device_uid, on_clock, wishes
from ainode.node.keeping.judgements import Judgements, KeptJudgement
from ainode.node.keeping.ledger import Ledger
from ainode.node.keeping.records import KeptDocument
from ainode.node.settings import Settings

log = logging.getLogger(__name__)
TASK: Final = "assess"
_LIMIT_S: Final = 60.0
_PAUSES_S: Final = (2.0, 10.0, 60.0)
_STOP_S: Final = 2.0


class Addenda:
    """Composes the documents of judgements."""

    def __init__(self, settings: Settings, ledger: Ledger, judgements: Judgements, assistant: Assistant) -> None:
        """Take up what is due from before."""
        self._settings, self._ledger, self._judgements, self._assistant = settings, ledger, judgements, assistant
        self._codes = settings.console.codes.codes()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._is_woken = False
        self._stopping = threading.Event()
        if judgements.due():
            self.wake()

    def wake(self) -> None:
        """Compose what is due, and return at once."""
        with self._lock:
            self._is_woken = True
            if self._thread is None and not self._stopping.is_set():
                self._thread = threading.Thread(target=self._run, name="addenda", daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """Begin no further document; the next start composes what is due."""
        self._stopping.set()
        if thread := self._thread:
            thread.join(_STOP_S)

    def document(self, entry: KeptJudgement) -> Document:
        """Return the document of a judgement for archives, in the words of the file that leaves.

        Raises: CannotRender with the reason why there is none.
        """
        return self._documents(entry)[0]

    def _documents(self, entry: KeptJudgement) -> tuple[Document, ...]:
        """Return the document for archives, then one for each listener that was told of the report.

        Raises: CannotRender with the reason why there is none.
        """
        request = self._request(entry)
        answer: dict[str, Any] = self._assistant.ask(TASK, limit_s=_LIMIT_S, request=request)
        return tuple(map(_decoded, answer["documents"]))

    def _request(self, entry: KeptJudgement) -> AssessmentRequest:
        job = entry.judgement.job
        documents = self._ledger.documents(job)
        reports = [document for document in documents if document.kind is DocumentKind.STRUCTURED_REPORT]
        if not reports:
            raise CannotRender(f"job {job}: the report is no longer in the node; the archive has it")
        report = reports[-1]
        if not report.path.exists() or sha256_of(report.path) != report.sha256:
            raise CannotRender(f"job {job}: the report on disk is gone or changed; `ainode replay` makes it anew")
        replaced = self._judgements.replaced_addendum(entry)
        predecessors = tuple(document.ref for document in documents if document.ref.sop_instance_uid == replaced)
        settings = self._settings
        context = DocumentContext(
            created=on_clock(settings, entry.judged_at),
            states_offset=bool(settings.node.time_zone),
            device_uid=device_uid(settings, platform.node()),
            device_name=settings.node.name,
            software_versions=(f"ainode {__version__}",),
            configuration_hash="",
            predecessors=predecessors,
        )
        return AssessmentRequest(
            entry.judgement,
            entry.statement,
            entry.id,
            report.ref,
            report.path,
            context,
            self._codes,
            tuple(self._sent(documents)),
        )

    def _sent(self, documents: Sequence[KeptDocument]) -> Iterator[SentMessage]:
        """Yield what a judgement goes on from: of an HL7 listener its first message, of a FHIR server its last.

        A message whose place a correction has is none of them.
        """
        of_listeners: dict[str, list[KeptDocument]] = {}
        for document in documents:
            if document.kind.is_message and document.path.exists() and sha256_of(document.path) == document.sha256:
                of_listeners.setdefault(document.destination, []).append(document)
        for name, sent in of_listeners.items():
            uids = {message.ref.sop_instance_uid for message in sent}
            messages = [message for message in sent if correction_uid(message.ref.sop_instance_uid) not in uids]
            message = messages[-1 if messages[0].kind is DocumentKind.BUNDLE else 0]
            yield SentMessage(message.kind, name, message.ref.sop_instance_uid, message.path)

    def _run(self) -> None:
        try:
            self._work()
        finally:
            # After a fault of the node, too: the next judgement starts another thread.
            with self._lock:
                if self._thread is threading.current_thread():
                    self._thread = None

    def _work(self) -> None:
        attempts: dict[int, int] = {}
        while not self._stopping.is_set():
            try:
                for entry in self._judgements.due():
                    self._compose(entry, attempts)
                if self._has_ended():
                    return
            except (DatabaseUnavailable, OSError) as error:
                log.warning("addenda wait: %s", error, extra={"action": "addenda_wait"})
                self._stopping.wait(_PAUSES_S[-1])

    def _has_ended(self) -> bool:
        """Return whether nothing is due; then the thread is over, and a later judgement starts another."""
        with self._lock:
            if self._is_woken:
                self._is_woken = False
            elif not self._judgements.due():
                self._thread = None
                return True
        return False

    def _compose(self, entry: KeptJudgement, attempts: dict[int, int]) -> None:
        """Compose one document and commit it with its deliveries; give up after a few attempts."""
        about = {"action": "addendum", "job": entry.judgement.job}
        try:
            documents = self._documents(entry)
        except CannotRender as error:
            attempt = attempts[entry.id] = attempts.get(entry.id, 0) + 1
            if attempt > len(_PAUSES_S):
                self._judgements.give_up(entry.id, str(error))
                log.error("addendum given up: %s", error, extra=about)  # noqa: TRY400 - the words are all
                return
            log.warning("addendum failed: %s", error, extra=about)
            self._stopping.wait(_PAUSES_S[attempt - 1])
            return
        kept_documents = [self._kept(entry, document) for document in documents]
        names = [peer.name for peer in self._settings.peers]
        if self._ledger.append(kept_documents, entry.id, wishes=wishes(self._settings, names)):
            log.info("addendum composed", extra=about)
        else:
            self._judgements.give_up(entry.id, "a newer reading replaced the one that was judged, or it was withdrawn")

    def _kept(self, entry: KeptJudgement, document: Document) -> KeptDocument:
        """Write a document to the disk, where it is not there yet."""
        job, ref = entry.judgement.job, document.ref
        path = self._settings.data / "documents" / job / f"{ref.sop_instance_uid}{document.kind.suffix}"
        if not path.exists():
            write_durably(path, document.content)
        return KeptDocument(job, ref, document.kind, path, sha256_of(path), document.destination)


def _decoded(values: dict[str, Any]) -> Document:
    ref = InstanceRef(*map(UID, values["ref"]))
    content = base64.b64decode(values["content"])
    return Document(DocumentKind(values["kind"]), ref, content, values["destination"])
