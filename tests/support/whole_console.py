"""A console whose every page has something to show, with long UIDs, names, titles and errors; nothing is read."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from conformance.made import CONTEXT, EVERYTHING, source, sources_of
from conformance.test_verdicts import VERDICTS, judged

from ainode.node import reports
from ainode.node.console.entry.access import Role
from ainode.node.domain import UID, Code, Document, InstanceRef, JobState, Judgement, Opinion, OutOfScope, TimePoint
from ainode.node.keeping.announcements import Announcement
from ainode.node.keeping.catalog import Completion, StoredInstance
from ainode.node.keeping.judgements import Judgements
from ainode.node.keeping.patient_index import Labels, Naming, PatientIndex
from ainode.node.keeping.people import People
from ainode.node.keeping.records import Job, KeptDocument, Outcome
from ainode.node.keeping.unread import Mismatch, UnreadReason
from ainode.node.routes import Route, RouteMode
from ainode.node.settings import ConsoleTable, Peer
from support.files import instance_ref
from support.web_bench import Bench

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
HANDLER = "spine_radiograph"
DESTINATIONS = tuple(f"archive-{place}" for place in ("radiology", "cardiology", "orthopedics", "research", "backup"))
PATIENT = Labels(
    name="ZQFAMILY^Zqgiven",
    patient_id="ZQ-ID",
    accession_number="ZQ-ACCESSION",
    description="ZQ description",
    study_date="20260203",
    modalities="DX",
)
HEADER = {
    "PatientName": PATIENT.name,
    "PatientID": PATIENT.patient_id,
    "OtherPatientIDs": "ZQ-OTHER",
    "PatientBirthDate": "19010203",
    "AccessionNumber": PATIENT.accession_number,
    "StudyID": "ZQ-STUDY",
    "StudyDescription": PATIENT.description,
    "SeriesDescription": "ZQ series",
    "ProtocolName": "ZQ protocol",
    "RequestedProcedureDescription": "ZQ procedure",
    "PerformedProcedureStepDescription": "ZQ step",
    "ReferringPhysicianName": "ZQREFERRER",
    "ImageComments": "ZQ comment",
    "StudyDate": PATIENT.study_date,
}
QUOTATION = "Patient ID ZQ-ID of ZQFAMILY does not match"
"""what an archive says of a document"""
FAULT = (
    f"series {'1.2.826.0.1.3680043.8.498.' + '7' * 38}: 3 of 120 slices are missing between z = -41.0 and -38.0 mm, in "
    "/var/lib/ainode/spool/incoming/2026/03/04/05/06/a-folder-with-a-name-that-has-no-end.dcm; resend the series"
)


def long_uid(*parts: object) -> UID:
    """Return a UID of 64 characters, the most that a UID may have."""
    digits = str(int(hashlib.sha256(repr(parts).encode()).hexdigest(), 16))
    return UID(f"1.2.826.0.1.3680043.8.498.{digits}"[:64])


READ, FAILED, UNMATCHED, DECLINED, RECEIVED, ANNOUNCED, CANCELLED = (
    long_uid(name) for name in ("read", "failed", "unmatched", "declined", "received", "announced", "cancelled")
)


@contextmanager
def whole_console(folder: Path, console: ConsoleTable) -> Iterator[Bench]:
    """Start a console, and fill every page."""
    peers = [
        Peer(name=name, ae_title=f"{name.upper()[8:13]}_ARCHIVE_XYZ"[:16], host="127.0.0.1", port=1)
        for name in DESTINATIONS
    ]
    spine = Route(HANDLER, HANDLER, ("DX", "CR"), ("SPINE", "TSPINE"), tags={"Manufacturer": "*phantoms*"})
    routes = (
        replace(spine, name="spine-of-every-department", destinations=DESTINATIONS),
        replace(spine, name="spine-shadow", mode=RouteMode.SHADOW),
    )
    bench = Bench(folder / "node", console=console, peers=tuple(peers), routes=routes)
    _fill(bench, folder)
    try:
        yield bench
    finally:
        bench.web.stop()
        bench.parts.stop()
        bench.engine.dispose()


def _fill(bench: Bench, folder: Path) -> None:
    index = PatientIndex(bench.engine, Naming.FULL)  # as if the configuration had been laxer before
    for study in (READ, FAILED, UNMATCHED, DECLINED, CANCELLED):
        index.write(study, PATIENT)
    _read(bench, folder)
    for study in (FAILED, UNMATCHED, DECLINED, RECEIVED, CANCELLED):
        _receive(bench, study, folder / "source.dcm")
    _end(bench, FAILED, Outcome(JobState.FAILED, "", FAULT, 1.0))
    refusal = OutOfScope(f"the study shows no spine: {FAULT}", "wrong-body-part")
    summary = reports.result_json(refusal, CONTEXT)
    _end(bench, DECLINED, Outcome(JobState.OUT_OF_SCOPE, summary, refusal.reason, 1.0))
    _open(bench, CANCELLED)
    bench.ledger.move(_job(CANCELLED), JobState.CANCELLED, reason="cancelled by the operator: sent by mistake", at=NOW)
    mismatch = Mismatch(
        UnreadReason.NO_ROUTE, "spine-shadow", long_uid("series"), "BodyPartExamined", "SPINE or TSPINE", "absent"
    )
    check = {"attribute": "BodyPartExamined", "expected": "SPINE or TSPINE", "found": "absent", "passed": False}
    decision = {"route": "spine-shadow", "series_instance_uid": long_uid("series"), "checks": [check] * 3}
    content = bench.catalog.content(UNMATCHED)
    bench.catalog.mark_routed(UNMATCHED, content=content, explanation=[decision], mismatch=mismatch)
    bench.announcements.announce(Announcement(ANNOUNCED, NOW, NOW, peer=DESTINATIONS[0]))
    people = People(bench.engine)
    for role in Role:
        people.add(f"somebody-with-a-long-name-{role.word}", role, "correct horse battery staple", NOW)


def _receive(bench: Bench, study: UID, path: Path) -> None:
    ref = InstanceRef(study, long_uid(study, 1), UID("1.2.840.10008.5.1.4.1.1.1.1"), long_uid(study, 1, 1))
    bench.catalog.index([StoredInstance(ref, UID("1.2.840.10008.1.2.1"), "ff" * 32, 1, path, "MODALITY_OF_16CH", NOW)])


def _job(study: UID) -> str:
    return hashlib.sha256(study.encode()).hexdigest()[:32]


def _open(bench: Bench, study: UID) -> None:
    at = NOW + timedelta(minutes=int(study[-2:]))
    job = Job(_job(study), study, "spine-of-every-department", HANDLER, {}, NOW, at, DESTINATIONS)
    assert bench.ledger.open(job)


def _end(bench: Bench, study: UID, outcome: Outcome) -> None:
    _open(bench, study)
    bench.ledger.move(_job(study), JobState.READING, at=NOW)
    if outcome.state is JobState.FAILED:
        bench.ledger.move(_job(study), JobState.FAILED, reason=outcome.reason, at=NOW)
    else:
        assert bench.ledger.report(bench.ledger.job(_job(study)), (), outcome)


def _read(bench: Bench, folder: Path) -> None:
    """Put a study, its job and its documents into the node, as a reading and its deliveries leave them."""
    uids = {"StudyInstanceUID": READ, "SeriesInstanceUID": long_uid(1), "SOPInstanceUID": long_uid(1, 1)}
    path = source(folder, **HEADER, **uids)
    ref, content = instance_ref(path), path.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    bench.catalog.index(
        [StoredInstance(ref, UID("1.2.840.10008.1.2.1"), sha256, len(content), path, "MODALITY_OF_16CH", NOW)]
    )
    completion = Completion(
        NOW + timedelta(seconds=10), "10.0 s without a further image, as for a sender whose pauses are not known yet"
    )
    checks = [{"attribute": "Modality", "expected": "DX or CR", "found": "DX", "passed": True}]
    decision = {"route": "spine-of-every-department", "series_instance_uid": ref.series_instance_uid, "checks": checks}
    images = bench.catalog.content(READ)
    bench.catalog.mark_routed(READ, content=images, explanation=[decision], completion=completion)
    course = tuple(
        TimePoint("nodule 1", long_uid(days), days, {"attention": 0.5, "diameter in mm": 9 - days / 100})
        for days in (180.0, 0.0)
    )
    verdicts = judged(path, next(iter(VERDICTS.values())), boxes=3)
    measure = Code("LONG", "99TEST", "Probability of malignancy of the nodule, after a calibration")
    findings = tuple(
        replace(finding, measurements=tuple(replace(item, concept=measure) for item in finding.measurements))
        for finding in verdicts.findings
    )
    result = replace(
        verdicts, findings=findings, scores={"probability": 0.9, "network a probability": 0.25}, course=course
    )
    summary = reports.result_json(result, CONTEXT)
    outcome = Outcome(JobState.REPORTED, summary, "", 9_999.0, {"compose": 1.0}, NOW)
    documents = _kept(bench, _job(READ), reports.documents(result, sources_of(path), EVERYTHING))
    for name, contents, kept_documents in (("ab" * 16, {}, ()), (_job(READ), images, documents)):
        at = NOW + timedelta(seconds=len(contents))
        job = Job(name, READ, "spine-of-every-department", HANDLER, contents, NOW, at, DESTINATIONS)
        assert bench.ledger.open(job)
        bench.ledger.move(name, JobState.READING, at=NOW + timedelta(days=12))
        assert bench.ledger.report(job, kept_documents, outcome)
    _deliver(bench)
    comment = "seen on the light box; a_word_that_is_longer_than_the_screen_of_a_phone_is_wide_and_has_no_space"
    judgement = Judgement(
        _job(READ), "", Opinion.REJECT, "somebody-with-a-long-name-reader", reason="other", comment=comment
    )
    Judgements(bench.engine).keep(judgement, NOW, statement="abnormal", presence="present", has_addendum=False)


def _kept(bench: Bench, job: str, documents: tuple[Document, ...]) -> list[KeptDocument]:
    kept = []
    for document in documents:
        path = bench.folder / "documents" / job / f"{document.ref.sop_instance_uid}.dcm"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(document.content)
        kept.append(KeptDocument(job, document.ref, document.kind, path, hashlib.sha256(document.content).hexdigest()))
    return kept


def _deliver(bench: Bench) -> None:
    """Let an archive confirm, one warn, one refuse; the others wait."""
    for delivery in bench.ledger.deliveries(_job(READ)):
        if delivery.destination == DESTINATIONS[0]:
            bench.ledger.outbox.sent(delivery, status=0, comment="", at=NOW)
            bench.ledger.outbox.confirmed(delivery, proof="query", at=NOW)
        elif delivery.destination == DESTINATIONS[1]:
            bench.ledger.outbox.sent(delivery, status=0xB000, comment=QUOTATION, at=NOW)
        elif delivery.destination == DESTINATIONS[2]:
            bench.ledger.outbox.refused(delivery, status=0xA700, comment=QUOTATION, error=FAULT, at=NOW)
