"""`GET /fhir/DiagnosticReport`: the answers of the node for a system that asks for them by FHIR R4.

A page of a search by patient or by the day of the study reads headers of reports, of so many at most: it may hold fewer
than were asked for, and the next page goes on.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from fastapi import APIRouter, Request, Response
from pydicom import Dataset, dcmread
from pydicom.config import disable_value_validation

from ainode.node import __version__
from ainode.node.audit.messages import Message, exported, study_subject
from ainode.node.disk import sha256_of
from ainode.node.encoding.fhir import MEDIA_TYPE, Json, instant, without_empty
from ainode.node.imaging.decoding import BROKEN_FILE
from ainode.node.keeping.report_search import KeptReport, ReportFilter, ReportSearch
from ainode.node.web.fhir_search import NAMES, PATIENT_NAMES, Search, WrongSearch, search_of
from ainode.node.web.report_resources import report_resource, subject

_REPORTS: Final = "/fhir/DiagnosticReport"
_BATCH: Final = 100
_MOST_HEADERS: Final = 2_000
# In an address the + of a media type may have become a space.
_FORMATS: Final = frozenset(
    {"json", "application/json", "text/json", MEDIA_TYPE, "application/fhir json", "application/*", "*/*"}
)
_HEADER: Final = ["PatientID", "IssuerOfPatientID", "IssuerOfPatientIDQualifiersSequence", "StudyDate"]
_TYPES: Final = {"_id": "token", "identifier": "token", "issued": "date", "date": "date", "status": "token"}


@dataclass(frozen=True, slots=True)
class _Page:
    reports: tuple[KeptReport, ...]
    next_after: str
    """the job after which the next page begins, '' on the last page"""


class FhirReports:
    """The requests of FHIR; whoever has a token may read every report that leaves the node."""

    def __init__(self, search: ReportSearch, record: Callable[[Message], None]) -> None:
        self._search, self._record = search, record
        self._started = datetime.now(UTC)

    def router(self) -> APIRouter:
        """Return the routes of the requests."""
        router = APIRouter()
        router.add_api_route("/fhir/metadata", self.metadata, response_class=Response)
        router.add_api_route(_REPORTS, self.search, response_class=Response)
        router.add_api_route(f"{_REPORTS}/{{identifier}}", self.read, response_class=Response)
        return router

    def metadata(self, request: Request) -> Response:
        """Return the CapabilityStatement: DiagnosticReport of FHIR 4.0.1, read and search."""
        return _refused_format(request) or _answer(_statement(_base(request), self._started))

    def search(self, request: Request) -> Response:
        """Return the newest reports that the parameters of FHIR ask for, as a searchset Bundle.

        A report of a shadow route, and one that is withheld, is in none.
        """
        if refusal := _refused_format(request):
            return refusal
        try:
            search = search_of(request.query_params.multi_items(), handling=_handling(request))
            page = self._page(search)
        except WrongSearch as error:
            return _failure(400, error.code, str(error))
        return _answer(self._bundle(request, search, page))

    def read(self, request: Request, identifier: str) -> Response:
        """Return a report; its identifier is that of the job."""
        if refusal := _refused_format(request):
            return refusal
        reports = self._search.page(ReportFilter(jobs=[identifier]), after="", limit=1)
        if not reports:
            successor = self._search.successor(identifier)
            if successor is not None:
                place = f"DiagnosticReport/{successor} has its place" if successor else "no report has its place"
                return _failure(410, "deleted", f"it is superseded and does not hold: {place}")
            return _failure(404, "not-found", "no report has this id, or it stays in the node")
        resource = self._resource(request, reports[0])
        if resource is None:
            return _failure(410, "deleted", _gone(reports[0]))
        return _answer(resource)

    def _page(self, search: Search) -> _Page:
        """Return the reports of a page: as many as are asked for, or as are among so many headers."""
        if not search.count:
            return _Page((), "")
        reports: list[KeptReport] = []
        after, read = search.after, 0
        while read < _MOST_HEADERS:
            size = _BATCH if search.needs_headers else search.count + 1
            rows = self._search.page(search.report_filter, after=after, limit=size)
            for row in rows:
                if len(reports) == search.count:
                    return _Page(tuple(reports), reports[-1].job)
                if not search.needs_headers or _is_asked_for(search, row):
                    reports.append(row)
            if len(rows) < size:
                return _Page(tuple(reports), "")
            after, read = rows[-1].job, read + len(rows)
        return _Page(tuple(reports), after)

    def _bundle(self, request: Request, search: Search, page: _Page) -> Json:
        address = f"{_base(request)}{_REPORTS.removeprefix('/fhir')}"
        links = [{"relation": "self", "url": f"{address}?{search.query(search.after)}"}]
        if page.next_after:
            links.append({"relation": "next", "url": f"{address}?{search.query(page.next_after)}"})
        entries = [self._entry(request, address, report) for report in page.reports]
        total = None if search.needs_headers else self._search.count(search.report_filter)
        return without_empty(
            {"resourceType": "Bundle", "type": "searchset", "total": total, "link": links, "entry": entries}
        )

    def _entry(self, request: Request, address: str, report: KeptReport) -> Json:
        resource = self._resource(request, report)
        if resource is None:
            outcome = _outcome("warning", "incomplete", _gone(report))
            return {"resource": outcome, "search": {"mode": "outcome"}}
        return {"fullUrl": f"{address}/{report.job}", "resource": resource, "search": {"mode": "match"}}

    def _resource(self, request: Request, report: KeptReport) -> Json | None:
        """Return a report, which the audit trail knows of; None if its file is gone or changed."""
        if not report.path.exists() or sha256_of(report.path) != report.sha256:
            return None
        client = request.client.host if request.client else ""
        study = study_subject(report.ref.study_instance_uid, {report.ref.sop_class_uid: 1})
        self._record(exported(request.state.caller, client, study))
        result: Mapping[str, Any] = json.loads(report.result) if report.result else {}
        return report_resource(report, _dataset(report), result)


def _is_asked_for(search: Search, report: KeptReport) -> bool:
    try:
        header = _dataset(report, _HEADER)
    except BROKEN_FILE:  # nobody can tell whose it is: the answer says that it lacks this report
        return True
    return search.takes(subject(header), str(header.get("StudyDate") or ""))


def _dataset(report: KeptReport, keywords: Sequence[str] | None = None) -> Dataset:
    with disable_value_validation():
        return dcmread(report.path, specific_tags=list(keywords) if keywords else None)


def _gone(report: KeptReport) -> str:
    return f"the report of job {report.job} is gone or changed on the disk of the node"


def _handling(request: Request) -> str:
    """Return what the caller prefers where a search is not understood: `strict`, `lenient`, or '' (RFC 7240)."""
    preference = re.search(r"\bhandling\s*=\s*\"?(strict|lenient)\b", request.headers.get("prefer", "").lower())
    return preference[1] if preference else ""


def _refused_format(request: Request) -> Response | None:
    """Return the refusal of a caller that takes no JSON; None of others. `_format` has precedence over Accept.

    Source: FHIR R4, RESTful API, 3.1.0.1.9 (Content Types and encodings) and 3.1.0.1.11 (_format).
    """
    wanted = request.query_params.get("_format") or request.headers.get("accept") or MEDIA_TYPE
    ranges = [media_range.lower().split(";") for media_range in wanted.split(",")]
    if any(name.strip() in _FORMATS and not _is_excluded(parameters) for name, *parameters in ranges):
        return None
    words = "the node writes JSON alone: ask with _format=json, or with Accept: application/fhir+json"
    return _failure(406, "not-supported", words)


def _is_excluded(parameters: Sequence[str]) -> bool:
    """Return whether the weight of a media range excludes it (RFC 9110, 12.4.2)."""
    return any(re.fullmatch(r"q=0(\.0*)?", parameter.strip()) for parameter in parameters)


def _base(request: Request) -> str:
    return f"{str(request.base_url).rstrip('/')}/fhir"


def _statement(base: str, date: datetime) -> Json:
    parameters = [{"name": name, "type": _TYPES[name]} for name in NAMES if name in _TYPES]
    parameters += [{"name": name.partition(":")[0], "type": "reference"} for name in PATIENT_NAMES[:2]]
    parameters.append({"name": "imaging-study", "type": "reference", "documentation": "by Study Instance UID"})
    resource = {
        "type": "DiagnosticReport",
        "interaction": [{"code": "read"}, {"code": "search-type"}],
        "searchParam": parameters,
    }
    return {
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": instant(date),
        "kind": "instance",
        "software": {"name": "ainode", "version": __version__},
        "implementation": {"description": "the answers of a DICOM AI node", "url": base},
        "fhirVersion": "4.0.1",
        "format": ["json"],
        "rest": [{"mode": "server", "security": {"description": "bearer token"}, "resource": [resource]}],
    }


def _outcome(severity: str, code: str, words: str) -> Json:
    issue = {"severity": severity, "code": code, "diagnostics": words}
    return {"resourceType": "OperationOutcome", "issue": [issue]}


def _failure(status: int, code: str, words: str) -> Response:
    return _answer(_outcome("error", code, words), status)


def _answer(resource: Json, status: int = 200) -> Response:
    content = json.dumps(resource, ensure_ascii=False, separators=(",", ":"))
    return Response(content, status, media_type=MEDIA_TYPE)
