"""Which earlier study may stand beside the current one, and which of its series; pure, and nothing else decides it.

A study of another person beside the right one would be worse than none: whatever cannot be compared is refused.
"""

import heapq
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import NamedTuple

from ainode.node.archive.search import Patient, SeriesEntry, StudyEntry, StudyQuery
from ainode.node.deciding.patterns import compiled
from ainode.node.domain import (
    UID,
)
from ainode.node.imaging.anatomy import body_part
from ainode.node.routes import PriorRule

# So many studies, the newest, are asked for their series before we say that none fits.
_LOOKED_AT = 50
_COMPANIONS = 10


@dataclass(frozen=True, slots=True)
class Current:
    """The study to read, as far as priors depend on it."""

    study_instance_uid: UID
    patient: Patient
    study_date: str
    study_time: str = ""


class Refused(NamedTuple):
    """A study that is not used, and why."""

    study_instance_uid: UID
    reason: str
    other_patient: bool = False
    """or one that cannot be told from another: said in the report, for somebody expects it there"""


def difference(found: Patient, current: Patient, *, allow_missing_birth_date: bool = False) -> str:
    """Return what keeps two from being the same patient, '' if nothing does.

    Two issuers are compared where both are named: archives and modalities differ in naming theirs, and the birth date
    has to be equal anyway; where it may be missing, the issuers have to be equal.
    """
    if not current.patient_id or found.patient_id != current.patient_id:
        return "another Patient ID"
    if found.issuer and current.issuer and found.issuer != current.issuer:
        return "the same Patient ID of another issuer"
    if found.birth_date and current.birth_date:
        return "" if found.birth_date == current.birth_date else "another birth date"
    if allow_missing_birth_date:
        return "" if found.issuer == current.issuer else "no birth date, and not surely the same issuer"
    return "no birth date to compare"


def query(current: Current, rule: PriorRule) -> StudyQuery | str:
    """Return what to ask an archive for, or why nothing can be asked."""
    if not current.patient.patient_id or "\\" in current.patient.patient_id:
        return "the study has no usable Patient ID"
    if not current.patient.birth_date and not rule.allow_missing_birth_date:
        return "the study has no birth date to compare"
    until = _day(current.study_date)
    if until is None:
        return "the study has no Study Date"
    return StudyQuery(current.patient, until - timedelta(days=rule.max_age_days), until, rule.modality)


def relevant(
    candidates: Iterable[StudyEntry], current: Current, rule: PriorRule
) -> tuple[tuple[StudyEntry, ...], tuple[Refused, ...]]:
    """Return the newest studies that may be used, newest first, and the others, each with its reason.

    More are returned than the rule wants, since not each has a series that fits; however many come in, few stay.
    """
    newest: list[tuple[str, str, UID, StudyEntry]] = []
    refused = []
    seen = set()
    for one in candidates:
        if one.study_instance_uid in seen:
            continue
        seen.add(one.study_instance_uid)
        if why := _refusal(one, current, rule):
            refused.append(why)
            continue
        entry = (one.study_date, one.study_time, one.study_instance_uid, one)
        if len(newest) < _LOOKED_AT:
            heapq.heappush(newest, entry)
        else:
            entry = heapq.heappushpop(newest, entry)
            refused.append(Refused(entry[2], "newer ones are enough"))
    return tuple(entry[3] for entry in sorted(newest, reverse=True)), tuple(refused)


def _refusal(one: StudyEntry, current: Current, rule: PriorRule) -> Refused | None:
    if unfit := _unfit(one, current, rule):
        return Refused(one.study_instance_uid, unfit)
    other = difference(one.patient, current.patient, allow_missing_birth_date=rule.allow_missing_birth_date)
    return Refused(one.study_instance_uid, other, other_patient=True) if other else None


def _unfit(one: StudyEntry, current: Current, rule: PriorRule) -> str:
    day, today = _day(one.study_date), _day(current.study_date)
    modalities = {modality for modality in one.modalities if modality}
    if one.study_instance_uid == current.study_instance_uid:
        return "the study itself"
    if day is None or today is None:
        return "no Study Date"
    # of the same day only where the times tell
    if not (day < today or (day == today and "" < one.study_time < current.study_time)):
        return "not surely earlier"
    if today - day > timedelta(days=rule.max_age_days):
        return "too old"
    return "another modality" if rule.modality and modalities and modalities.isdisjoint(rule.modality) else ""


def wanted(
    series: Iterable[SeriesEntry], study: StudyEntry, rule: PriorRule, *, companions: tuple[str, ...] = ()
) -> tuple[SeriesEntry, ...]:
    """Return the series to fetch: images that fit, those with the most instances first, then their companions.

    A body part that nobody names fits: the handler looks at the images itself. () if no images fit.
    """
    series = tuple(series)
    images = sorted((one for one in series if _fits(one, study, rule)), key=lambda one: -(one.instances or 0))
    beside = [one for one in series if one.modality in companions and one not in images]
    return (*images[: rule.max_series], *beside[:_COMPANIONS]) if images else ()


def _fits(one: SeriesEntry, study: StudyEntry, rule: PriorRule) -> bool:
    said = {
        "Modality": one.modality,
        "BodyPartExamined": one.body_part,
        "SeriesDescription": one.description,
        "StudyDescription": study.description,
        "NumberOfSeriesRelatedInstances": "" if one.instances is None else one.instances,
    }
    names = body_part(said).names
    parts = {part.upper() for part in rule.body_part}
    return (
        (not rule.modality or one.modality in rule.modality)
        and (not parts or not names or not parts.isdisjoint(names))
        and all(compiled(pattern)(said.get(keyword)) for keyword, pattern in rule.tags.items())
    )


def _day(text: str) -> date | None:
    try:
        return datetime.strptime(text, "%Y%m%d").date()  # noqa: DTZ007 - a Study Date has no time zone
    except ValueError:
        return None
