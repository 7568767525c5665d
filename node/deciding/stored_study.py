"""A study as the headers of its files say it, held against what the index says."""

import logging
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ainode.node.domain import UID, Instance, InstanceRef, Study
from ainode.node.encoding import headers
from ainode.node.errors import CannotUnderstand
from ainode.node.keeping.catalog import StoredInstance
from ainode.node.routes import Check, Route, RouteDecision

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
class SetAside:
    """Why a study is read by no route, whatever its images are."""

    checks: tuple[Check, ...]
    series_instance_uids: tuple[UID, ...]

    def __str__(self) -> str:
        """Return the first reason as one sentence."""
        check = self.checks[0]
        return f"{check.attribute} should be {check.expected} but is {check.found}; send the study again"

    def decisions(self, routes: Iterable[Route]) -> tuple[RouteDecision, ...]:
        """Return the decision of every route on every series, for the explanation of the study."""
        return tuple(
            RouteDecision(route.name, uid, self.checks) for route in routes for uid in self.series_instance_uids
        )


def stored_study(
    stored: Sequence[StoredInstance], read: MutableMapping[Path, Instance], keywords: frozenset[str]
) -> Study | SetAside | None:
    """Return the study of the files, after adding to `read` those that are not there yet.

    A header that cannot be read is logged and left out; None if the disk gives none. The study is set aside if the
    data sets of all are broken, or if one names another study, series or instance than the index: an earlier version
    indexed the file by other rules, or its bytes changed on disk. Nobody can say then whose the images are.
    """
    broken = [check for entry in stored if entry.path not in read and (check := _read(entry, read, keywords))]
    whole = [entry for entry in stored if entry.path in read]
    differing = [check for entry in whole for check in _differences(entry.ref, read[entry.path].ref)]
    if differing or (broken and not whole):
        series = tuple(dict.fromkeys(entry.ref.series_instance_uid for entry in stored))
        return SetAside(tuple(differing or broken)[:_SHOWN_CHECKS], series)
    sources = tuple(dict.fromkeys(entry.calling_ae_title for entry in stored))
    return headers.study((read[entry.path] for entry in whole), sources) if whole else None


def _read(entry: StoredInstance, read: MutableMapping[Path, Instance], keywords: frozenset[str]) -> Check | None:
    """Add the header of a file; return what is wrong with its data set."""
    uid = entry.ref.sop_instance_uid
    try:
        read[entry.path] = headers.instance(entry.path, sha256=entry.sha256, keywords=keywords)
    except (CannotUnderstand, OSError) as error:
        log.warning("header: %s", error, extra={"action": "header_unread", "sop_instance_uid": uid})
        if isinstance(error, CannotUnderstand):
            return Check("header", "a data set that can be read", f"{error} (instance {uid})", passed=False)
    return None


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
