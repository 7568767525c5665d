"""What a person may judge of an answer, and the judgements so far: the panel on the page of a study."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Final

from fastapi import Depends, Form, HTTPException, Response
from fastapi.responses import RedirectResponse

from ainode.node.audit.messages import accessed, study_subject
from ainode.node.console.answers import headline
from ainode.node.console.entry.access import Reader, Visit
from ainode.node.console.judgements.addenda import Addenda
from ainode.node.console.parts import JobId, Parts, StudyUid
from ainode.node.domain import UID, Code, Correction, JobState, Judgement, Opinion, Presence
from ainode.node.keeping.judgements import AddendumState, Judgements, KeptJudgement
from ainode.node.keeping.records import Job, PastJob

OPINIONS: Final[Mapping[str, tuple[str, str]]] = {
    Opinion.ACCEPT: ("accepted", "good"),
    Opinion.CHANGE: ("changed", "warn"),
    Opinion.REJECT: ("rejected", "bad"),
}
"""an opinion in words, and the color of its badge"""


@dataclass(frozen=True, slots=True)
class Subject:
    """A finding of a result, or the whole result, and what persons say of it."""

    finding: str
    """tracking identifier; '' for the whole result"""
    statement: str
    presence: str
    measurements: tuple[tuple[str, str], ...] = ()
    """name and unit"""
    judgements: tuple[KeptJudgement, ...] = ()
    """the newest first; the first counts"""


@dataclass(frozen=True, slots=True)
class Panel:
    """The judgements of one answer."""

    job: str
    subjects: tuple[Subject, ...]
    reasons: Sequence[Code]
    may_be_judged: bool
    has_addendum: bool
    """whether a judgement leaves as a document"""

    @property
    def rows(self) -> tuple[Subject, ...]:
        """Return the subjects that are shown: where the only finding is the whole result, the finding alone."""
        whole, *findings = self.subjects
        is_the_same = [finding.statement for finding in findings] == [whole.statement]
        return tuple(findings) if is_the_same and not whole.judgements else self.subjects

    @property
    def judgement_count(self) -> int:
        """Return how many judgements there are."""
        return sum(len(subject.judgements) for subject in self.subjects)

    @property
    def awaits_addendum(self) -> bool:
        """Return whether the document of a judgement is not composed yet."""
        return any(entry.addendum == AddendumState.DUE for subject in self.subjects for entry in subject.judgements)

    def reason(self, value: str) -> str:
        """Return a reason in words."""
        return reason_words(self.reasons, value)


def reason_words(reasons: Sequence[Code], value: str) -> str:
    """Return a reason in words; a reason that is no longer in the list, as its code."""
    return next((code.meaning for code in reasons if code.value == value), value)


class Fields:
    """What the form of a judgement sends."""

    def __init__(  # noqa: PLR0913, PLR0917 - the fields of the form
        self,
        opinion: Annotated[Opinion, Form()],
        finding: Annotated[str, Form(max_length=400)] = "",
        presence: Annotated[str, Form(max_length=16)] = "",
        measurement: Annotated[str, Form(max_length=400)] = "",
        value: Annotated[str, Form(max_length=40)] = "",
        label: Annotated[str, Form(max_length=2_000)] = "",
        reason: Annotated[str, Form(max_length=16)] = "",
        comment: Annotated[str, Form(max_length=2_000)] = "",
    ) -> None:
        """Take the fields of the form."""
        self.opinion, self.finding, self.presence, self.measurement = opinion, finding, presence, measurement
        self.value, self.label, self.reason, self.comment = value, label.strip(), reason, comment.strip()

    def judgement(self, job: str, person: str) -> Judgement:
        """Return the judgement of a person.

        Raises: ValueError with what is missing or contradicts itself.
        """
        return Judgement(job, self.finding, self.opinion, person, self._correction(), self.reason, self.comment)

    def _correction(self) -> Correction:
        if self.opinion is not Opinion.CHANGE:
            return Correction()
        try:
            value = float(self.value.replace(",", ".")) if self.value else None
        except ValueError as error:
            message = "the corrected value is no number; write it as 12.5"
            raise ValueError(message) from error
        presence = Presence(self.presence) if self.presence else None
        return Correction(presence, self.measurement if value is not None else "", value, self.label)


class Panels:
    """Shows the judgements of answers."""

    def __init__(self, parts: Parts) -> None:
        self._judgements = Judgements(parts.engine)
        self._reasons = parts.settings.console.codes.codes().reasons
        self.is_sent = parts.settings.console.addendum == "assessment"
        """whether a judgement of a report that left is a document, too"""

    def of(self, job: Job | PastJob) -> Panel:
        """Return the panel of an answer."""
        has_addendum = self.is_sent and isinstance(job, Job) and bool(job.destinations)
        entries = self._judgements.of_job(job.id)
        return panel_of(job, entries, reasons=self._reasons, has_addendum=has_addendum)


class Judging:
    """Takes judgements of answers."""

    def __init__(self, parts: Parts, addenda: Addenda) -> None:
        self._parts, self._addenda = parts, addenda
        self._judgements, self._panels = Judgements(parts.engine), Panels(parts)

    def judge(self, study: StudyUid, job: JobId, fields: Annotated[Fields, Depends()], visit: Reader) -> Response:
        """Keep a judgement, and show the answer again."""
        row = self._job(study, job)
        panel = self._panels.of(row)
        subject = next((item for item in panel.subjects if item.finding == fields.finding), None)
        if subject is None:
            raise HTTPException(404, f"job {job}: the answer has no such finding; load the page of the study again")
        try:
            judgement = fields.judgement(job, visit.person)
        except ValueError as error:
            raise HTTPException(422, f"The judgement was not taken: {error}.") from error
        if judgement.correction.measurement and judgement.correction.measurement not in dict(subject.measurements):
            raise HTTPException(422, "The judgement was not taken: no such measurement; choose one of the list.")
        if judgement.reason and judgement.reason not in {code.value for code in panel.reasons}:
            raise HTTPException(422, "The judgement was not taken: choose a reason of the list.")
        self._judgements.keep(
            judgement,
            datetime.now(UTC),
            statement=subject.statement,
            presence=subject.presence,
            has_addendum=panel.has_addendum,
        )
        self._record(visit, study, judgement)
        if panel.has_addendum:
            self._addenda.wake()
        return RedirectResponse(f"/console/studies/{study}#judgement-{job}", 303)

    def _record(self, visit: Visit, study: str, judgement: Judgement) -> None:
        """Write into the audit trail who judged which answer how, and nothing that the person wrote."""
        details = {"part": "judgement", "job": judgement.job, "opinion": judgement.opinion.value}
        self._parts.web.record(accessed(visit.person, study_subject(study, {}, details)))

    def _job(self, study: str, job: str) -> Job | PastJob:
        """Return the job that is judged.

        Raises: HTTPException 404; 409 for a job that a newer one superseded, or whose result does not hold any more.
        """
        past = {entry.id: entry for entry in self._parts.ledger.history(UID(study))}
        try:
            row: Job | PastJob = past[job] if job in past else self._parts.ledger.job(job)
        except LookupError as error:
            raise HTTPException(404, f"job {job}: the node has no such answer; see the page of the study") from error
        if row.study_instance_uid != study or not _is_answer(row):
            raise HTTPException(404, f"study {study} has no answer {job} that can be judged; see the page of the study")
        if row.state is JobState.SUPERSEDED:
            raise HTTPException(409, "A newer reading replaced this one; judge the newer one on the page of the study.")
        if not _holds(row):
            words = row.reason or f"the reading is {row.state}"
            raise HTTPException(409, f"The judgement was not taken: the answer does not hold ({words}).")
        return row


def panel_of(
    job: Job | PastJob, judgements: Sequence[KeptJudgement], *, reasons: Sequence[Code], has_addendum: bool
) -> Panel:
    """Return the panel of an answer with its judgements, oldest first; a panel without subjects for a refusal."""
    by_finding: dict[str, list[KeptJudgement]] = {}
    for entry in reversed(judgements):
        by_finding.setdefault(entry.judgement.finding, []).append(entry)
    values = json.loads(job.result) if _is_answer(job) else {}
    subjects = _subjects(values, job.result, by_finding) if values else ()
    return Panel(job.id, subjects, reasons, _holds(job), has_addendum)


def _holds(job: Job | PastJob) -> bool:
    """Return whether a result is the last word of its route; a reported job has a reason once it is withdrawn."""
    return job.state is JobState.REPORTED and not job.reason


def _is_answer(job: Job | PastJob) -> bool:
    return bool(job.result) and "out_of_scope" not in json.loads(job.result)


def _subjects(
    values: Mapping[str, Any], result: str, judgements: Mapping[str, Sequence[KeptJudgement]]
) -> tuple[Subject, ...]:
    """Return the whole result, and each finding by its name."""
    verdict = values.get("verdict") or {}
    statements = iter(verdict.get("statements", ()))
    whole = Subject("", headline(result), verdict.get("presence") or "", (), tuple(judgements.get("", ())))
    findings = []
    for finding in values.get("findings", ()):
        name, own_verdict = finding["name"], finding.get("verdict") or {}
        # Older nodes wrote it of verdicts alone; a candidate without a verdict has a statement, too.
        presence = finding.get("presence") or own_verdict.get("presence") or ""
        statement = next(statements, name) if presence else name
        measurements = tuple((item["name"], item["unit"]) for item in finding.get("measurements", ()))
        history = tuple(judgements.get(name, ()))
        findings.append(Subject(name, statement, presence, measurements, history))
    return whole, *findings
