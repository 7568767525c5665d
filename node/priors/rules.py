"""Which earlier studies may stand beside the current study, and which of their series; pure functions decide.

A study of another person beside the study of the patient would be worse than no prior. A study whose patient cannot be
compared is therefore refused.
"""

import heapq
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import NamedTuple

from ainode.node.archive.search import SeriesEntry, StudyEntry, StudyQuery
from ainode.node.deciding.patterns import compiled
from ainode.node.domain import UID, Patient
from ainode.node.imaging.anatomy import body_part
from ainode.node.routes import PriorRule

# An archive is asked for the series of so many studies, the newest, before the search ends without a prior.
_MAX_CANDIDATES = 50
_MAX_COMPANIONS = 10
# PS3.3 C.7.3.1.1.1: the Modality of Key Object Selections, of which some are rejection notes.
_KEY_OBJECT = "KO"


@dataclass(frozen=True, slots=True)
class StudyIdentity:
    """A study, its patient and its time: all that decides whether one study is a prior of another."""

    study_instance_uid: UID
    patient: Patient
    study_date: str
    study_time: str = ""


class Refusal(NamedTuple):
    """A study that is not used, and the reason."""

    study_instance_uid: UID
    reason: str
    other_patient: bool = False
    """The patient is another, or cannot be compared: the report says so, since the reader may expect the study."""


def patient_difference(candidate: Patient, current: Patient, *, allow_missing_birth_date: bool = False) -> str:
    """Return the reason why two patients may not be the same person, '' if there is none.

    The issuers of the Patient IDs are compared only where both patients have an issuer: archives and modalities name
    issuers differently, and the birth dates must be equal in any case. Where a birth date may be missing, the issuers
    must be equal.
    """
    if not current.patient_id or candidate.patient_id != current.patient_id:
        return "another Patient ID"
    if candidate.issuer and current.issuer and candidate.issuer != current.issuer:
        return "the same Patient ID of another issuer"
    if candidate.birth_date and current.birth_date:
        return "" if candidate.birth_date == current.birth_date else "another birth date"
    if allow_missing_birth_date:
        return "" if candidate.issuer == current.issuer else "no birth date, and not surely the same issuer"
    return "no birth date to compare"


def study_query(current: StudyIdentity, rule: PriorRule) -> StudyQuery | str:
    """Return the query for the priors of a study, or the reason why the study allows no query."""
    if not current.patient.patient_id or "\\" in current.patient.patient_id:
        return "the study has no usable Patient ID"
    if not current.patient.birth_date and not rule.allow_missing_birth_date:
        return "the study has no birth date to compare"
    last_date = _date(current.study_date)
    if last_date is None:
        return "the study has no Study Date"
    return StudyQuery(current.patient, last_date - timedelta(days=rule.max_age_days), last_date, rule.modality)


def usable_studies(
    candidates: Iterable[StudyEntry], current: StudyIdentity, rule: PriorRule
) -> tuple[tuple[StudyEntry, ...], tuple[Refusal, ...]]:
    """Return the studies that may be used, newest first, and a refusal for each other study.

    More studies are returned than the rule counts, since a study may have no series that fits. At most
    `_MAX_CANDIDATES` studies are in memory, however many the archive lists.
    """
    newest: list[tuple[str, str, UID, StudyEntry]] = []
    refusals = []
    study_uids = set()
    for study in candidates:
        if study.study_instance_uid in study_uids:
            continue
        study_uids.add(study.study_instance_uid)
        if refusal := _refusal(study, current, rule):
            refusals.append(refusal)
            continue
        entry = (study.study_date, study.study_time, study.study_instance_uid, study)
        if len(newest) < _MAX_CANDIDATES:
            heapq.heappush(newest, entry)
        else:
            entry = heapq.heappushpop(newest, entry)
            refusals.append(Refusal(entry[2], "newer ones are enough"))
    return tuple(entry[3] for entry in sorted(newest, reverse=True)), tuple(refusals)


def _refusal(study: StudyEntry, current: StudyIdentity, rule: PriorRule) -> Refusal | None:
    """Return the refusal of a study, None if the study may be used."""
    if mismatch := _mismatch(study, current, rule):
        return Refusal(study.study_instance_uid, mismatch)
    difference = patient_difference(
        study.patient, current.patient, allow_missing_birth_date=rule.allow_missing_birth_date
    )
    return Refusal(study.study_instance_uid, difference, other_patient=True) if difference else None


def _mismatch(study: StudyEntry, current: StudyIdentity, rule: PriorRule) -> str:
    """Return the reason why a study does not fit the rule by its date or modality, '' if the study fits."""
    study_date, current_date = _date(study.study_date), _date(current.study_date)
    modalities = {modality for modality in study.modalities if modality}
    if study.study_instance_uid == current.study_instance_uid:
        return "the study itself"
    if study_date is None or current_date is None:
        return "no Study Date"
    # Of two studies of one day, the Study Times decide; without a Study Time nobody knows which was first.
    if not (study_date < current_date or (study_date == current_date and "" < study.study_time < current.study_time)):
        return "not surely earlier"
    if current_date - study_date > timedelta(days=rule.max_age_days):
        return "too old"
    return "another modality" if rule.modality and modalities and modalities.isdisjoint(rule.modality) else ""


def series_to_fetch(
    series: Iterable[SeriesEntry], study: StudyEntry, rule: PriorRule, *, companions: tuple[str, ...] = ()
) -> tuple[SeriesEntry, ...]:
    """Return the image series that fit the rule, most instances first, then the series of the companion modalities.

    A series of an unnamed body part fits: the handler looks at the images. Without a fitting image series the answer
    is ().
    """
    series = tuple(series)
    images = sorted((entry for entry in series if _fits(entry, study, rule)), key=_most_instances_first)
    beside = [entry for entry in series if entry.modality in companions and entry not in images]
    return (*images[: rule.max_series], *beside[:_MAX_COMPANIONS]) if images else ()


def key_objects(series: Iterable[SeriesEntry]) -> tuple[SeriesEntry, ...]:
    """Return the series in which the rejection notes of a study are."""
    return tuple(entry for entry in series if entry.modality == _KEY_OBJECT)


def _most_instances_first(series: SeriesEntry) -> int:
    return -(series.instance_count or 0)


def _fits(series: SeriesEntry, study: StudyEntry, rule: PriorRule) -> bool:
    """Return whether a series has the modality, the body part and the tags of the rule."""
    attributes = {
        "Modality": series.modality,
        "BodyPartExamined": series.body_part,
        "SeriesDescription": series.description,
        "StudyDescription": study.description,
        "NumberOfSeriesRelatedInstances": "" if series.instance_count is None else series.instance_count,
    }
    names = body_part(attributes).names
    parts = {part.upper() for part in rule.body_part}
    return (
        (not rule.modality or series.modality in rule.modality)
        and (not parts or not names or not parts.isdisjoint(names))
        and all(compiled(pattern)(attributes.get(keyword)) for keyword, pattern in rule.tags.items())
    )


def _date(text: str) -> date | None:
    """Return the date of a Study Date (YYYYMMDD), None if the text is no date."""
    try:
        return datetime.strptime(text, "%Y%m%d").date()  # noqa: DTZ007 - a Study Date has no time zone
    except ValueError:
        return None
