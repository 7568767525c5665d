"""A study as the headers of its files say it, held against what the index says."""

import logging
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final, TypeVar, cast

from ainode.node import logs
from ainode.node.deciding.faults import attempt, may_pass, reason_of
from ainode.node.domain import UID, Instance, InstanceRef, Study, refs
from ainode.node.encoding import headers
from ainode.node.errors import NodeError
from ainode.node.imaging.rejections import Rejection, is_key_object, rejection
from ainode.node.keeping.catalog import StoredInstance
from ainode.node.keeping.unread import Mismatch, UnreadReason
from ainode.node.routes import Check, Route, RouteDecision, mismatch_sentence

T = TypeVar("T")
log = logging.getLogger(__name__)
ANY_ROUTE: Final = "any route"
"""stands for the name of a route in what the node says of an instance, whatever the routes are"""
# Of a thousand instances that differ, these tell as much.
_SHOWN_CHECKS: Final = 4
_KEYWORDS: Final[Mapping[str, str]] = {
    "study_instance_uid": "StudyInstanceUID",
    "series_instance_uid": "SeriesInstanceUID",
    "sop_class_uid": "SOPClassUID",
    "sop_instance_uid": "SOPInstanceUID",
}


@dataclass(frozen=True, slots=True)
class Missing:
    """An instance that arrived and is not in the study that is read, by a condition that it does not fulfill."""

    ref: InstanceRef
    attribute: str
    expected: str
    reason: str

    def check(self) -> Check:
        """Return the condition, as explanations show it."""
        sentence = f"{self.reason} (instance {self.ref.sop_instance_uid})"
        return Check(self.attribute, self.expected, sentence, passed=False)

    def mismatch(self) -> Mismatch:
        """Return why the study is not read as the list of unread studies keeps it."""
        check, series = self.check(), self.ref.series_instance_uid
        return Mismatch(UnreadReason.NO_ROUTE, "", series, check.attribute, check.expected, check.found)


def _unread(ref: InstanceRef, reason: str) -> Missing:
    return Missing(ref, "header", "a data set that can be read", reason)


def _rejected(ref: InstanceRef, note: Rejection) -> Missing:
    return Missing(ref, "rejection notes", "images that no note rejects", f"rejected by {note}")


@dataclass(frozen=True, slots=True)
class SetAside:
    """Why a study is read by no route, whatever its images are."""

    checks: tuple[Check, ...]
    series_instance_uids: tuple[UID, ...]

    def __str__(self) -> str:
        """Return the first reason as one sentence."""
        check = self.checks[0]
        return f"{mismatch_sentence('', check.attribute, check.expected, check.found)}; send the study again"

    def mismatch(self) -> Mismatch:
        """Return the first reason as the list of unread studies keeps it."""
        check, series = self.checks[0], self.series_instance_uids[0]
        return Mismatch(UnreadReason.SET_ASIDE, "", series, check.attribute, check.expected, check.found)

    def decisions(self, routes: Iterable[Route]) -> tuple[RouteDecision, ...]:
        """Return the decision of every route on every series, for the explanation of the study."""
        return tuple(
            RouteDecision(route.name, uid, self.checks) for route in routes for uid in self.series_instance_uids
        )


@dataclass(frozen=True, slots=True)
class ReadableStudy:
    """A study, and those of its instances that are missing in it: nobody can read them, or a note rejects them."""

    study: Study
    arrived: Study
    """the study with the rejected instances"""
    unread: tuple[Missing, ...]
    rejections: Mapping[UID, Rejection]
    """SOP Instance UID -> what rejects the instance, also where the node does not have it"""

    @property
    def rejected(self) -> tuple[Missing, ...]:
        """Return the instances that arrived and are missing in the study as a note rejects them."""
        return tuple(
            _rejected(instance.ref, self.rejections[instance.ref.sop_instance_uid])
            for instance in self.arrived.instances
            if is_rejected(instance, self.rejections)
        )

    @property
    def problem(self) -> str:
        """Return which instances are missing and why as one sentence, '' if none is."""
        return "; ".join(filter(None, (self._unread_sentence(), self._rejected_sentence())))

    def _rejected_sentence(self) -> str:
        if not (rejected := self.rejected):
            return ""
        notes = "; ".join(dict.fromkeys(str(self.rejections[item.ref.sop_instance_uid]) for item in rejected))
        total = sum(not is_key_object(instance.ref) for instance in self.arrived.instances)
        verb = "is" if len(rejected) == 1 else "are"
        return f"{len(rejected)} of {total} instances {verb} not read, as rejected by {notes}"

    def _unread_sentence(self) -> str:
        if not self.unread:
            return ""
        shown = "; ".join(f"{item.ref.sop_instance_uid}: {item.reason}" for item in self.unread[:_SHOWN_CHECKS])
        total = len({*(item.ref for item in self.unread), *refs(self.arrived.instances)})
        more = "; ..." if len(self.unread) > _SHOWN_CHECKS else ""
        return f"{len(self.unread)} of {total} instances cannot be read ({shown}{more}); send the study again"

    def decisions(self) -> tuple[RouteDecision, ...]:
        """Return the decision on the missing instances of each series, for the explanation of the study."""
        missing = (*self.unread, *self.rejected)
        series = dict.fromkeys(item.ref.series_instance_uid for item in missing)
        return tuple(RouteDecision(ANY_ROUTE, uid, _checks(missing, uid)) for uid in series)


def _checks(missing: Iterable[Missing], series: UID) -> tuple[Check, ...]:
    of_series = [item for item in missing if item.ref.series_instance_uid == series]
    return tuple(item.check() for item in of_series[:_SHOWN_CHECKS])


def stored_study(
    stored: Sequence[StoredInstance],
    read: MutableMapping[Path, Instance],
    keywords: frozenset[str],
    *,
    is_patient: bool = False,
) -> ReadableStudy | SetAside:
    """Return the study of the files, after adding to `read` those that are not there yet.

    What a rejection note of the study names is not in the study; the notes themselves stay. A note that nobody can read
    is unread as any other instance. The study is set aside if no file can be read, or if one names another study,
    series or instance than the index: an earlier version indexed the file by other rules, or its bytes changed on disk.
    Nobody can say then whose the images are.

    Raises: a fault that waiting mends, and, if `is_patient`, a fault of a disk that may; ValueError without instances.
    """
    unread = []
    for entry in stored:
        if entry.path not in read:
            header = _header(entry, keywords, is_patient=is_patient)
            if isinstance(header, Missing):
                unread.append(header)
            else:
                read[entry.path] = header
    whole = [entry for entry in stored if entry.path in read]
    differing = [check for entry in whole for check in _differences(entry.ref, read[entry.path].ref)]
    if differing or not whole:
        series = tuple(dict.fromkeys(entry.ref.series_instance_uid for entry in stored))
        checks = differing or [item.check() for item in unread]
        return SetAside(tuple(checks[:_SHOWN_CHECKS]), series)
    sources = tuple(dict.fromkeys(entry.calling_ae_title for entry in stored))
    notes, unread_notes = rejections([read[entry.path] for entry in whole], is_patient=is_patient)
    arrived = headers.study((read[entry.path] for entry in whole), sources)
    return ReadableStudy(_without_rejected(arrived, notes), arrived, (*unread, *unread_notes), notes)


def rejections(
    instances: Iterable[Instance], *, is_patient: bool = False
) -> tuple[Mapping[UID, Rejection], tuple[Missing, ...]]:
    """Return by SOP Instance UID what rejects an instance of a study, and the notes that nobody can read.

    Raises: as `stored_study`.
    """
    rejections_by_uid: dict[UID, Rejection] = {}
    unread = []
    for instance in instances:
        if not is_key_object(instance.ref):
            continue
        note = _read(partial(rejection, instance.path, instance.ref), instance.ref, is_patient=is_patient)
        if isinstance(note, Missing):
            unread.append(note)
        elif note:
            rejections_by_uid = {**dict.fromkeys(note.sop_instance_uids, note), **rejections_by_uid}
    return rejections_by_uid, tuple(unread)


def is_rejected(instance: Instance, notes: Mapping[UID, Rejection]) -> bool:
    """Whether a note rejects an instance; the notes themselves stay in the study, whatever another note says."""
    return instance.ref.sop_instance_uid in notes and not is_key_object(instance.ref)


def _without_rejected(study: Study, notes: Mapping[UID, Rejection]) -> Study:
    """Return the study without the rejected instances; at least the note is left."""
    groups = (
        replace(series, instances=tuple(item for item in series.instances if not is_rejected(item, notes)))
        for series in study.series
    )
    return replace(study, series=tuple(series for series in groups if series.instances))


def _header(entry: StoredInstance, keywords: frozenset[str], *, is_patient: bool) -> Instance | Missing:
    """Return the header of a file, or why nobody can read it."""
    read_header = partial(headers.instance, entry.path, sha256=entry.sha256, keywords=keywords)
    return _read(read_header, entry.ref, is_patient=is_patient)


def _read(read_file: Callable[[], T], ref: InstanceRef, *, is_patient: bool) -> T | Missing:
    """Return what is read of an instance, or why nobody can read it."""
    faults: list[Exception] = []
    content = attempt(read_file, faults.append)
    for error in faults:
        if is_patient and may_pass(error):
            raise error
        if not isinstance(error, NodeError | OSError):
            about = {"action": "header_unread", "sop_instance_uid": ref.sop_instance_uid}
            log.error("header: %s", logs.raised_at(error), extra=about)
        return _unread(ref, reason_of(error))
    return cast("T", content)


def _differences(indexed: InstanceRef, header: InstanceRef) -> Iterable[Check]:
    for name, keyword in _KEYWORDS.items():
        expected, uid = getattr(indexed, name), getattr(header, name)
        if expected != uid:
            yield Check(
                keyword,
                f"{expected} as indexed",
                f"{uid} in the file of instance {indexed.sop_instance_uid}",
                passed=False,
            )
