"""What a search of FHIR R4 asks for: parameters of an address as conditions on kept reports.

Source: FHIR R4, 3.1.1 (search).
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import urlencode

from ainode.node.domain import JobState, is_uid
from ainode.node.encoding.fhir import UIDS, Json
from ainode.node.keeping.report_search import WITHDRAWN, ReportFilter

MOST: Final = 100
_PAGE: Final = 20
_JOB: Final = re.compile(r"[0-9a-f]{32}")
_STATES: Final = {
    "partial": JobState.REPORTED,
    "cancelled": JobState.OUT_OF_SCOPE,
    "entered-in-error": WITHDRAWN,
}
_STATUSES: Final = frozenset(
    {*_STATES, "registered", "preliminary", "final", "amended", "corrected", "appended", "unknown"}
)
_TIME: Final = re.compile(
    r"(eq|ne|gt|ge|lt|le)?(\d{4})(?:-(\d\d)(?:-(\d\d)(?:T(\d\d):(\d\d)(?::(\d\d)(?:\.\d+)?)?(Z|[+-]\d\d:\d\d)?)?)?)?"
)
PATIENT_NAMES: Final = ("subject:identifier", "patient:identifier", "subject.identifier", "patient.identifier")
_STUDY_NAMES: Final = ("imaging-study", "imaging-study:identifier", "study", "study:identifier")
NAMES: Final = ("_id", "identifier", *PATIENT_NAMES, *_STUDY_NAMES, "issued", "date", "status", "_count", "_after")
_SHAPING: Final = frozenset(
    {
        *("_format", "_pretty", "_sort", "_total", "_summary", "_elements", "_include", "_revinclude", "_contained"),
        *("_containedType", "_score"),
    }
)
"""parameters that say how an answer looks, and not which reports are in it"""
_NOTHING: Final = "-"
"""a value that no report has"""
Pairs = Sequence[tuple[str, str]]


class WrongSearch(Exception):
    """The parameters of a search cannot be understood; `code` is of the value set issue-type."""

    def __init__(self, words: str, code: str = "invalid") -> None:
        super().__init__(words)
        self.code = code


@dataclass(frozen=True, slots=True)
class Search:
    """What is asked for: conditions on rows, conditions on headers, and the page."""

    report_filter: ReportFilter
    patients: tuple[tuple[tuple[str | None, str], ...], ...] = field(default=(), repr=False)
    """each is met by one of its pairs of system and value; a system of None is any"""
    days: tuple[tuple[str, str, str], ...] = ()
    """comparison, first and last day of a period, YYYYMMDD, which the day of the study meets"""
    count: int = _PAGE
    after: str = ""
    understood: Pairs = ()
    """the parameters that counted"""

    @property
    def needs_headers(self) -> bool:
        """Return whether the rows of the database do not suffice."""
        return bool(self.patients or self.days)

    def takes(self, subject: Json, day: str) -> bool:
        """Return whether a report with this subject and day of its study, YYYYMMDD, is asked for."""
        identifier = subject.get("identifier", {})
        system, value = identifier.get("system", ""), identifier.get("value", "")
        pairs = ({(None, value), (system, value)} for _ in self.patients)
        is_patient = all(
            bool(value) and not found.isdisjoint(some) for found, some in zip(pairs, self.patients, strict=True)
        )
        return is_patient and all(day and _meets(day, *condition) for condition in self.days)

    def query(self, after: str = "") -> str:
        """Return the parameters that counted, of the page that begins after a job."""
        pairs = [pair for pair in self.understood if pair[0] != "_after"]
        return urlencode([*pairs, *([("_after", after)] if after else [])])


def search_of(pairs: Pairs, *, handling: str = "") -> Search:
    """Return what an address asks for.

    A condition that is not understood, or has no value, is refused: without the condition, reports of other patients
    would be in the answer. Who prefers `lenient` handling gets it left out; `strict` refuses all that is unknown.
    Raises: WrongSearch.
    """
    understood = [(name, value) for name, value in pairs if name in NAMES and value]
    known = {*NAMES, "_format"} if handling == "strict" else {*NAMES, *_SHAPING}
    wrong = sorted({name for name, value in pairs if name not in known or (name in NAMES and not value)})
    if wrong and handling != "lenient":
        raise WrongSearch(
            f"search parameters that are unknown or have no value: {', '.join(wrong)}; known: {', '.join(NAMES)}",
            "not-supported",
        )

    def values(*names: str) -> list[str]:
        return [value for name, value in understood if name in names]

    return Search(
        report_filter=ReportFilter(
            jobs=_alternatives(values("_id"), _job),
            reports=_alternatives(values("identifier"), _uid),
            studies=_alternatives(values(*_STUDY_NAMES), _uid),
            states=_alternatives(values("status"), _state),
            times=tuple(bound for value in values("issued") for bound in _bounds(value)),
        ),
        patients=tuple(tuple(map(_patient, _parts(value, ","))) for value in values(*PATIENT_NAMES)),
        days=tuple(map(_day, values("date"))),
        count=_count(values("_count")),
        after=next(iter(values("_after")), ""),
        understood=tuple(understood),
    )


def _alternatives(values: Sequence[str], normalized: Callable[[str], str]) -> list[str]:
    """Return of what one has to be met; a parameter that stands twice is met by what both allow."""
    sets = [[normalized(part) for part in _split(value)] for value in values]
    if not sets:
        return []
    common = [value for value in sets[0] if all(value in others for others in sets[1:])]
    return common or [_NOTHING]


def _split(value: str) -> list[str]:
    """Return alternatives, which commas part."""
    return [_plain(part) for part in _parts(value, ",")]


def _parts(value: str, separator: str) -> list[str]:
    """Return what a separator parts; a backslash takes the meaning of what follows (FHIR R4, 3.1.1.4.7)."""
    parts = [""]
    for piece in re.findall(r"\\.|[^\\]|\\$", value, re.DOTALL):
        if piece == separator:
            parts.append("")
        else:
            parts[-1] += piece
    return parts


def _plain(text: str) -> str:
    return re.sub(r"\\([,|$\\])", r"\1", text)


def _job(value: str) -> str:
    return value if _JOB.fullmatch(value) else _NOTHING


def _uid(value: str) -> str:
    """Return the UID of a token: `urn:dicom:uid|urn:oid:1.2`, `urn:oid:1.2` or `1.2`."""
    system, _, text = value.rpartition("|")
    uid = text.removeprefix("urn:oid:")
    return uid if system in {"", UIDS} and is_uid(uid) else _NOTHING


def _state(value: str) -> str:
    code = value.rpartition("|")[2]
    if code not in _STATUSES:
        raise WrongSearch("status is no code of DiagnosticReport.status", "code-invalid")
    return _STATES.get(code, _NOTHING)


def _patient(value: str) -> tuple[str | None, str]:
    """Return system and value of a token, None for any system; a bar in either has a backslash before it."""
    *system, text = _parts(value, "|")
    return (_plain("|".join(system)) if system else None), _plain(text)


def _count(values: Sequence[str]) -> int:
    text = next(iter(values), str(_PAGE))
    if not re.fullmatch(r"\d{1,6}", text):
        raise WrongSearch("_count is no number")
    return min(int(text), MOST)


def _period(value: str) -> tuple[str, datetime, datetime]:
    """Return prefix, begin and end of a time that is as exact as it is written; without an offset it is of UTC."""
    match = _TIME.fullmatch(value)
    if match is None:
        raise WrongSearch("a date or time is none that FHIR knows, such as ge2026-01-31")
    prefix, year, month, day, hour, minute, second, zone = match.groups()
    offset = zone.replace("Z", "+00:00") if zone else "+00:00"
    try:
        begin = datetime.fromisoformat(
            f"{year}-{month or '01'}-{day or '01'}T{hour or '00'}:{minute or '00'}:{second or '00'}{offset}"
        )
        end = _end(begin, [month, day, hour, second])
    except (ValueError, OverflowError) as error:
        raise WrongSearch("a date or time is on no calendar") from error
    return prefix or "eq", begin.astimezone(UTC), end.astimezone(UTC)


def _end(begin: datetime, stated: Sequence[str | None]) -> datetime:
    month, day, hour, second = stated
    if month is None:
        return begin.replace(year=begin.year + 1)
    if day is None:
        return (begin + timedelta(days=31)).replace(day=1)
    if hour is None:
        return begin + timedelta(days=1)
    return begin + (timedelta(seconds=1) if second else timedelta(minutes=1))


def _bounds(value: str) -> list[tuple[str, datetime]]:
    prefix, begin, end = _period(value)
    bounds = {
        "eq": [(">=", begin), ("<", end)],
        "gt": [(">=", end)],
        "ge": [(">=", begin)],
        "lt": [("<", begin)],
        "le": [("<", end)],
    }
    if prefix not in bounds:
        raise WrongSearch("issued knows eq, gt, ge, lt and le", "not-supported")
    return bounds[prefix]


def _day(value: str) -> tuple[str, str, str]:
    """Return a condition on the day of a study: the day alone counts, in whatever zone it is."""
    match = re.match(r"[a-z]*[\d-]+", value)
    prefix, begin, end = _period(match[0] if match else value)
    return prefix, f"{begin:%Y%m%d}", f"{end - timedelta(days=1):%Y%m%d}"


def _meets(day: str, prefix: str, first: str, last: str) -> bool:
    return {
        "eq": first <= day <= last,
        "ne": not first <= day <= last,
        "gt": day > last,
        "ge": day >= first,
        "lt": day < first,
        "le": day <= last,
    }[prefix]
