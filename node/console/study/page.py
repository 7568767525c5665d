"""The page of a study: how it went through the node, what was answered, what was sent, and its files."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime
from hashlib import sha256
from typing import Annotated, Any, Final

from fastapi import APIRouter, HTTPException, Query, Request, Response

from ainode.node.audit.messages import accessed, study_subject
from ainode.node.console.answers import Answer, answer_of, headline, score_tables
from ainode.node.console.entry.access import Role, Viewer
from ainode.node.console.judgements.judging import OPINIONS, Panels
from ainode.node.console.memos import Memos
from ainode.node.console.pages import render
from ainode.node.console.parts import Parts, StudyUid
from ainode.node.console.rendering.header_rows import NOT_SHOWN
from ainode.node.console.states import state_words
from ainode.node.console.study.actions import add_actions
from ainode.node.console.study.images import first_series
from ainode.node.console.study.judged import judged_events
from ainode.node.console.study.meanings import match_reasons
from ainode.node.console.study.series_names import names_of
from ainode.node.console.study.timeline import JobCourse, fruitless_check, timeline
from ainode.node.console.study.workitems import workitem_events
from ainode.node.console.worklist.actions import REASONS
from ainode.node.deciding.explanations import later_routes, of_rejection
from ainode.node.domain import UID, UID_PATTERN, DeliveryState, JobState, Presence
from ainode.node.errors import CannotRender
from ainode.node.jobs.leftovers import leftover_words, leftovers
from ainode.node.keeping.catalog import StoredInstance
from ainode.node.keeping.job_events import JobEvents
from ainode.node.keeping.patient_index import Labels, PatientIndex, naming
from ainode.node.keeping.records import Delivery, Job
from ainode.node.keeping.study_records import KeptCompletion, KeptSeries, StudyRecords
from ainode.node.keeping.workitems import OPEN, Workitems
from ainode.node.routes import Route
from ainode.node.settings import ConsoleTable
from ainode.node.web.state import study_status

_Seen = Annotated[str, Query(max_length=16)]
_Instance = Annotated[str, Query(pattern=rf"^({UID_PATTERN})?$")]
_MOVING: Final = frozenset({DeliveryState.WAITING, DeliveryState.CHECKING, DeliveryState.SENT})
_MOST_DESCRIBED: Final = 40
"""series whose headers are read for one page"""
_DESCRIBED: Final = {
    "(0008,0060)": "modality",
    "(0018,0015)": "body_part",
    "(0020,0011)": "number",
    "(0008,103E)": "description",
}
_UNQUOTED: Final = "words that may name the patient; `ainode jobs` shows them"
# The order of the answers; what has no verdict comes last.
_PRESENCES: Final = (Presence.PRESENT, Presence.INDETERMINATE, Presence.ABSENT, "")
_STATE_KINDS: Final = {
    "announced": "busy",
    "receiving": "busy",
    "no_route": "warn",
    "rejected": "warn",
    "reading": "busy",
    "reported": "plain",
    "out_of_scope": "warn",
    "failed": "bad",
    "cancelled": "warn",
}


def router(parts: Parts) -> APIRouter:
    """Return the routes of the page."""
    routes = APIRouter()
    memos = Memos()
    page = StudyPage(parts, memos)
    routes.add_api_route("/studies/{study}", page.show)
    routes.add_api_route("/studies/{study}/progress", page.progress)
    routes.add_api_route("/studies/{study}/series", page.series)
    routes.add_api_route("/studies/{study}/metadata", page.metadata)
    add_actions(routes, parts, memos)
    return routes


def viewer_links(table: ConsoleTable, study: str) -> tuple[tuple[str, str], ...]:
    """Return the name and the address of each configured viewer of a study."""
    templates = ("OHIF", table.ohif), ("Stone Web Viewer", table.stone), ("Weasis", table.weasis)
    return tuple((name, template.replace("{study}", study)) for name, template in templates if template)


def heirs_of(routes: Sequence[Route], reading_routes: Collection[str]) -> Mapping[str, list[str]]:
    """Return handler -> its routes that have not read the study, which may read it in the place of one that is gone."""
    heirs: dict[str, list[str]] = {}
    for route in routes:
        if route.name not in reading_routes:
            heirs.setdefault(route.handler, []).append(route.name)
    return heirs


def _is_moving(jobs: Sequence[Job], deliveries: Mapping[str, Sequence[Delivery]]) -> bool:
    """Return whether the node is at work on a job, or on the documents of one."""
    return any(
        job.state in {JobState.WAITING, JobState.READING}
        or (
            job.state is not JobState.SUPERSEDED
            and any(item.state in _MOVING and not item.settled for item in deliveries.get(job.id, ()))
        )
        for job in jobs
    )


def _digest(jobs: Sequence[Job], completions: Sequence[KeptCompletion]) -> str:
    """Return what tells an open page that the answers may be others, or that the study was checked again."""
    words = [*(f"{job.id} {job.state}" for job in jobs), str(len(completions))]
    return sha256(" ".join(words).encode()).hexdigest()[:16]


def _without_words(delivery: Delivery) -> Delivery:
    return replace(
        delivery,
        archive_comment=delivery.archive_comment and _UNQUOTED,
        proof_comment=delivery.proof_comment and _UNQUOTED,
    )


def _day(text: str) -> date | None:
    """Return a Study Date, None if it is none."""
    try:
        return datetime.strptime(text, "%Y%m%d").date()  # noqa: DTZ007 - a date has no zone
    except ValueError:
        return None


class StudyPage:
    """The page of a study, and the parts of the page that are loaded later."""

    def __init__(self, parts: Parts, memos: Memos) -> None:
        """Show what an action did from `memos`."""
        self._memos = memos
        self._parts, self._records, self._panels = parts, StudyRecords(parts.engine), Panels(parts)
        self._index = PatientIndex(parts.engine, naming(parts.settings))

    def show(self, request: Request, study: StudyUid, visit: Viewer, image: _Instance = "") -> Response:
        """Return the page, with a series in the slice viewer; the trail names the person who looked at the study."""
        values = self._values(UID(study))
        details = {"part": "page of the console"}
        self._parts.web.record(accessed(visit.person, study_subject(study, {"": values["instance_count"]}, details)))
        described = "described" in request.query_params
        rows = self._series_rows(UID(study), is_described=described)
        images = [item for item, _ in rows if item.has_images]
        if image not in {item.series_instance_uid for item in images}:
            jobs = [answer.job for answer in values["answers"]]
            image = first_series(UID(study), images, jobs, self._parts.catalog)
        memo = self._memos.text(request.query_params.get("memo", "")) or ""
        shown: dict[str, Any] = {"series": rows, "described": described, "image": image, "is_update": False}
        shown |= {"memo": memo, "cancel_reasons": REASONS}
        return render(request, "study.html", **values, **shown)

    def progress(self, request: Request, study: StudyUid, _: Viewer, seen: _Seen = "") -> Response:
        """Return the timeline alone, for an open page; the whole page anew when a job is in another state."""
        values = self._values(UID(study))
        page = render(request, "_study_timeline.html", **values)
        if seen != values["seen"]:
            page.headers["HX-Refresh"] = "true"
        return page

    def series(self, request: Request, study: StudyUid, _: Viewer) -> Response:
        """Return the series with what their headers say, and their list above the viewer."""
        rows = self._series_rows(UID(study), is_described=True)
        return render(request, "_study_series.html", study=study, series=rows, described=True, is_update=True)

    def metadata(self, request: Request, study: StudyUid, visit: Viewer, instance: _Instance = "") -> Response:
        """Return the header of an instance, by default of one of the first series."""
        uid = instance or next((row.middle for row in self._records.series(UID(study))), "")
        stored = self._parts.catalog.versions([uid]).get((UID(study), UID(uid)))
        if stored is None or not stored.path.exists():
            raise HTTPException(404, f"study {study}: the node does not hold instance {uid}; the archive has it")
        is_anonymous = self._is_anonymous or visit.role < Role.READER
        rows, problem = self._header(stored, is_anonymous=is_anonymous)
        is_part = "hx-request" in request.headers
        template = "_study_metadata.html" if is_part else "study_metadata.html"
        values: dict[str, Any] = {"study": study, "instance": uid, "rows": rows, "problem": problem}
        return render(request, template, **values, is_anonymous=is_anonymous)

    @property
    def _is_anonymous(self) -> bool:
        """Return whether the pages leave out what may name the patient."""
        return self._parts.settings.console.patient != "full"

    def _deliveries(self, job: Job) -> tuple[Delivery, ...]:
        """Return the deliveries of a job; the words of an archive may quote a Patient ID."""
        deliveries = self._parts.ledger.deliveries(job.id)
        return tuple(map(_without_words, deliveries)) if self._is_anonymous else tuple(deliveries)

    def _header(self, stored: StoredInstance, *, is_anonymous: bool) -> tuple[list[dict[str, Any]], str]:
        try:
            return self._parts.rendering.header(stored.path, is_anonymous=is_anonymous), ""
        except CannotRender as error:
            return [], str(error)

    def _values(self, study: UID) -> dict[str, Any]:
        """Return what the templates of the page show.

        Raises: HTTPException 404 if nobody sent or announced the study.
        """
        parts, records = self._parts, self._records
        completions, reception = records.completions(study), records.reception(study)
        jobs, history = parts.ledger.jobs(study=study), parts.ledger.history(study)
        status = study_status(study, parts.catalog, parts.ledger, parts.announcements)
        if status is None and not (completions or history):
            raise HTTPException(
                404,
                f"study {study}: nobody sent or announced the study here; send it, or look at the UID",
            )
        deliveries = {job.id: self._deliveries(job) for job in jobs}
        headlines = {job.id: headline(job.result, job.reason) for job in jobs}
        panels = {job.id: self._panels.of(job) for job in jobs}
        panels |= {past_job.id: self._panels.of(past_job) for past_job in history}
        workitems = Workitems(parts.engine).of_study(study)
        others = [event for panel in panels.values() for event in judged_events(panel)]
        others += workitem_events(workitems)
        state = status.state if status else "reported"
        explanation = parts.catalog.explanation(study)
        is_rejected = parts.catalog.is_rejected(study)
        labels = self._index.shown([study]).get(study, Labels())
        announcement = parts.announcements.of(study)
        is_checking = bool(reception and announcement and announcement.is_asked)
        day = _day(labels.study_date)
        events = timeline(completions, reception, self._courses(jobs, deliveries, explanation), others)
        reasons = (*headlines.values(), *(event.detail for event in events), status.reason if status else "")
        series_of_explanation = (decision["series_instance_uid"] for decision in explanation or ())
        return {
            "study": study,
            "state": state,
            "state_kind": _STATE_KINDS[state],
            "reason": status.reason if status and state != "reported" else "",
            # Of a rejected study the problem is the reason.
            "problem": status.problem if status and state != "rejected" else "",
            "reception": reception,
            "is_removed": reception is None and bool(completions or jobs or history),
            "instance_count": reception.instance_count if reception else 0,
            "other_weights": parts.settings.console.other_weights,
            "retention_days": parts.settings.node.retention_days,
            "viewers": viewer_links(parts.settings.console, study),
            "events": events,
            "uid_names": names_of(
                (*reasons, *series_of_explanation),
                study,
                records.series(study),
                parts.catalog,
                has_words=not self._is_anonymous,
            ),
            "is_moving": is_checking
            or bool(reception and not reception.is_routed)
            or _is_moving(jobs, deliveries)
            or any(item.state in OPEN for item in workitems)
            or any(panel.awaits_addendum for panel in panels.values()),
            "is_checking": is_checking,
            "unchanged": None if is_checking else fruitless_check(completions, jobs),
            "seen": _digest(jobs, completions),
            "labels": labels,
            "day": day,
            "answers": self._answers(jobs, day),
            "modes": {route.name: route.mode for route in parts.settings.routes},
            "heirs_of": heirs_of(parts.settings.routes, {job.route for job in jobs}),
            "peer_names": {peer.name for peer in parts.settings.with_self_test().peers},
            "others": self._others(study),
            "opinions": OPINIONS,
            "panels": panels,
            "earlier": [job for job in jobs if job.state is JobState.SUPERSEDED],
            "headlines": headlines,
            "history": history,
            "score_tables": score_tables([*jobs, *history]),
            "history_headlines": {entry.id: headline(entry.result, entry.reason) for entry in history},
            "explanation": of_rejection(explanation or ()) if is_rejected else explanation,
            "later_routes": later_routes(explanation or (), parts.settings.routes),
        }

    def _courses(
        self,
        jobs: Sequence[Job],
        deliveries: Mapping[str, Sequence[Delivery]],
        explanation: Sequence[Mapping[str, Any]] | None,
    ) -> list[JobCourse]:
        events = JobEvents(self._parts.engine).of(job.id for job in jobs)
        reasons = match_reasons(explanation)
        return [
            JobCourse(
                job,
                deliveries[job.id],
                events.get(job.id, ()),
                headline(job.result, "" if job.withdrawn_at else job.reason),
                reasons.get(job.route, ""),
                leftover_words(self._parts.ledger, job),
            )
            for job in jobs
        ]

    def _answers(self, jobs: Sequence[Job], day: date | None) -> tuple[Answer, ...]:
        """Return the answers that count: what nobody gets last; what is present first, what has no verdict last."""
        ledger = self._parts.ledger
        live_jobs = [job for job in reversed(jobs) if job.state is not JobState.SUPERSEDED]
        answers = [
            replace(
                answer_of(job, ledger.documents(job.id), self._deliveries(job), day), leftovers=leftovers(ledger, job)
            )
            for job in live_jobs
        ]
        return tuple(sorted(answers, key=lambda answer: (bool(answer.job.mark), _PRESENCES.index(answer.presence))))

    def _others(self, study: UID) -> list[tuple[UID, Labels, date | None, list[tuple[str, str]]]]:
        """Return the other studies of the patient, each with the route and the answer of its jobs."""
        uids = self._index.of_same_patient(study)
        labels = self._index.shown(uids)
        return [
            (
                uid,
                labels[uid],
                _day(labels[uid].study_date),
                [
                    (
                        f"{job.route} ({job.mark})" if job.mark else job.route,
                        headline(job.result, job.reason) or state_words(job.state),
                    )
                    for job in self._parts.ledger.jobs(study=uid)
                    if job.state is not JobState.SUPERSEDED
                ],
            )
            for uid in uids
        ]

    def _series_rows(self, study: UID, *, is_described: bool) -> list[tuple[KeptSeries, dict[str, str]]]:
        """Return each series, with what the header of its middle instance says if that is wanted."""
        series = self._records.series(study)
        stored = self._parts.catalog.versions(item.middle for item in series[:_MOST_DESCRIBED]) if is_described else {}
        return [(item, self._description(stored.get((study, item.middle)))) for item in series]

    def _description(self, stored: StoredInstance | None) -> dict[str, str]:
        if stored is None:
            return {}
        try:
            rows = self._parts.rendering.header(stored.path, is_anonymous=self._is_anonymous)
        except CannotRender as error:
            return {"problem": str(error)}
        known = (row for row in rows if row["tag"] in _DESCRIBED and not row["depth"] and row["value"] != NOT_SHOWN)
        return {_DESCRIBED[row["tag"]]: row["value"] for row in known}
