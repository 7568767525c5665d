"""A study as the headers of its files say it, held against what the index says."""

import logging
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from ainode.node import logs
from ainode.node.deciding.faults import attempt, may_pass, reason_of
from ainode.node.domain import UID, Instance, InstanceRef, Study
from ainode.node.encoding import headers
from ainode.node.errors import NodeError
from ainode.node.keeping.catalog import StoredInstance
from ainode.node.keeping.unread import Mismatch, UnreadReason
from ainode.node.routes import Check, Route, RouteDecision, mismatch_sentence

log = logging.getLogger(__name__)
# Of a thousand instances that differ, these tell as much.
_SHOWN_CHECKS: Final = 4
_KEYWORDS: Final[Mapping[str, str]] = {
    "study_instance_uid": "StudyInstanceUID",
    "series_instance_uid": "SeriesInstanceUID",
    "sop_class_uid": "SOPClassUID",
    "sop_instance_uid": "SOPInstanceUID",
}


@dataclass(frozen=True, slots=True)
class Unread:
    """An instance of the study whose header cannot be read, and why."""

    ref: InstanceRef
    reason: str

    def check(self) -> Check:
        """Return the condition that the instance does not fulfill."""
        sentence = f"{self.reason} (instance {self.ref.sop_instance_uid})"
        return Check("header", "a data set that can be read", sentence, passed=False)


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
    """A study, and those of its instances that are missing in it because nobody can read them."""

    study: Study
    unread: tuple[Unread, ...]

    @property
    def problem(self) -> str:
        """Return which instances are missing and why as one sentence, '' if none is."""
        if not self.unread:
            return ""
        shown = "; ".join(f"{item.ref.sop_instance_uid}: {item.reason}" for item in self.unread[:_SHOWN_CHECKS])
        total = len(self.unread) + len(self.study.instances)
        more = "; ..." if len(self.unread) > _SHOWN_CHECKS else ""
        return f"{len(self.unread)} of {total} instances cannot be read ({shown}{more}); send the study again"

    def decisions(self) -> tuple[RouteDecision, ...]:
        """Return the decision on the missing instances of each series, for the explanation of the study."""
        series = dict.fromkeys(item.ref.series_instance_uid for item in self.unread)
        return tuple(RouteDecision("any route", uid, self._checks(uid)) for uid in series)

    def _checks(self, series: UID) -> tuple[Check, ...]:
        of_series = [item for item in self.unread if item.ref.series_instance_uid == series]
        return tuple(item.check() for item in of_series[:_SHOWN_CHECKS])


def stored_study(
    stored: Sequence[StoredInstance],
    read: MutableMapping[Path, Instance],
    keywords: frozenset[str],
    *,
    is_patient: bool = False,
) -> ReadableStudy | SetAside:
    """Return the study of the files, after adding to `read` those that are not there yet.

    The study is set aside if no file can be read, or if one names another study, series or instance than the index: an
    earlier version indexed the file by other rules, or its bytes changed on disk. Nobody can say then whose the images
    are.

    Raises: a fault that waiting mends, and, if `is_patient`, a fault of a disk that may; ValueError without instances.
    """
    unread = []
    for entry in stored:
        if entry.path not in read:
            header = _header(entry, keywords, is_patient=is_patient)
            if isinstance(header, Unread):
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
    return ReadableStudy(headers.study((read[entry.path] for entry in whole), sources), tuple(unread))


def _header(entry: StoredInstance, keywords: frozenset[str], *, is_patient: bool) -> Instance | Unread:
    """Return the header of a file, or why nobody can read it."""
    faults: list[Exception] = []
    header = attempt(partial(headers.instance, entry.path, sha256=entry.sha256, keywords=keywords), faults.append)
    if header:
        return header
    (error,) = faults
    if is_patient and may_pass(error):
        raise error
    if not isinstance(error, NodeError | OSError):
        about = {"action": "header_unread", "sop_instance_uid": entry.ref.sop_instance_uid}
        log.error("header: %s", logs.raised_at(error), extra=about)
    return Unread(entry.ref, reason_of(error))


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
