"""UPS-RS as a user agent (PS3.18 11): search, retrieve, change the state, update, subscribe; no memory of its own.

A worklist answers a request that it cannot perform by 400 or 409. So these are answers here, and no errors; an error
says that nobody knows what the worklist did, or that it did nothing and is to be asked again.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from http import HTTPStatus
from itertools import islice
from typing import Any, Final
from urllib.parse import quote

from requests import Response, Session

from ainode.node.archive.comments import response_comment
from ainode.node.archive.dicom_json import datasets_of
from ainode.node.archive.qido import Search, matches
from ainode.node.archive.search import Deadline
from ainode.node.archive.web import WebLink
from ainode.node.archive.workitem import READY, SCHEDULED, Workitem, workitem_of
from ainode.node.domain import UID, is_uid
from ainode.node.errors import ArchiveUnreachable
from ainode.node.settings import WorklistTable

_TYPE: Final = "application/dicom+json"
_MAX_MATCHES: Final = 10_000
# PS3.6 table A-1: the UPS Global and the UPS Filtered Global Subscription SOP Instance.
_WORKLIST, _FILTERED = "1.2.840.10008.5.1.4.34.5", "1.2.840.10008.5.1.4.34.5.1"
_FIELDS: Final = ("ProcedureStepState", "InputReadinessState", "WorklistLabel", "ScheduledProcedureStepPriority",
                  "ScheduledProcedureStepStartDateTime")  # fmt: skip
# The query parameter has been named so since PS3.18 2025e, since 2019b, and since 2014c.
_NAMES: Final = ("Transaction-uid", "transaction-uid", "transaction")
# What does not tell whether the worklist performed a request, or that it will refuse it for good.
_PERFORMED: Final = frozenset({200, 201, 202, 204})
_REFUSED: Final = frozenset({400, 405, 409, 415, 422, 501})
_ABSENT: Final = frozenset({404, 410})
_NO_RESOURCE: Final = frozenset({404, 405})


class Form(Enum):
    """How a Transaction UID is given: whether in the body, and under which names in the query."""

    BOTH = (True, _NAMES)
    BODY = (True, ())
    QUERY = (False, _NAMES)
    NAME_OF_2025 = (False, _NAMES[:1])
    NAME_OF_2019 = (False, _NAMES[1:2])
    NAME_OF_2014 = (False, _NAMES[2:])


@dataclass(frozen=True, slots=True)
class Lock:
    """What the node changes an item with."""

    uid: UID
    transaction_uid: UID
    ae_title: str
    """of the node"""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a worklist says to a request."""

    status: int
    """of HTTP"""
    form: Form = Form.BOTH
    """that the worklist performed, or was asked in last"""
    words: str = ""
    """of the worklist, which may quote a patient: never in a log"""

    @property
    def is_performed(self) -> bool:
        """Return whether the worklist did what it was asked."""
        return self.status in _PERFORMED

    @property
    def is_absent(self) -> bool:
        """Return whether the worklist has no such workitem, or no longer has it."""
        return self.status in _ABSENT

    @property
    def is_deleted(self) -> bool:
        """Return whether the worklist knows that it had the workitem and has it no longer."""
        return self.status == HTTPStatus.GONE


@dataclass(frozen=True, slots=True)
class Absent:
    """A workitem that the worklist does not have."""

    is_deleted: bool
    """whether the worklist knows that it had the workitem; else it may as well be starting"""


def filters(table: WorklistTable) -> dict[str, str]:
    """Return the matching keys that tell the items of the node, whatever their state."""
    keys = {
        "WorklistLabel": table.label,
        "ScheduledWorkitemCodeSequence.CodeValue": table.workitem_code,
        "ScheduledStationNameCodeSequence.CodeValue": table.station_code,
    }
    return {key: value for key, value in keys.items() if value}


def is_for_node(workitem: Workitem, table: WorklistTable, ae_title: str) -> bool:
    """Return whether an item is scheduled, ready and one of the node's: a worklist may ignore a matching key.

    An item that is assigned to stations is for these alone; the code of the node is its AE title where none is given.
    """
    stations = {code.value for code in workitem.station_codes if code.value}
    is_assigned_here = (table.station_code or ae_title) in stations
    return (
        (workitem.state, workitem.readiness) == (SCHEDULED, READY)
        and table.label in ("", workitem.label)
        and (not table.workitem_code or table.workitem_code in {code.value for code in workitem.workitem_codes})
        and (is_assigned_here or not (stations or table.station_code))
    )


def search(link: WebLink, table: WorklistTable, most: int) -> tuple[Workitem, ...]:
    """Return the first items that are scheduled, ready and of the node; their inputs may be left out.

    Raises: ArchiveUnreachable, ArchiveRefused.
    """
    conditions = {"ProcedureStepState": SCHEDULED, "InputReadinessState": READY, **filters(table)}
    question = Search("UPS-RS for workitems", "workitems", "SOPInstanceUID", _MAX_MATCHES, conditions, _FIELDS)
    workitems = map(workitem_of, matches(link, question, Deadline.within(link.timeout_s)))
    return tuple(islice(filter(_may_be_claimed, workitems), most))


def _may_be_claimed(workitem: Workitem) -> bool:
    """Return whether what a search lists of an item speaks for it: a worklist may list every item that it has."""
    return is_uid(workitem.uid) and workitem.state in ("", SCHEDULED) and workitem.readiness in ("", READY)


def retrieve(link: WebLink, uid: UID) -> Workitem | Absent:
    """Return a workitem.

    Raises: ArchiveUnreachable, ArchiveRefused.
    """
    with link.session("UPS-RS for a workitem", Deadline.within(link.timeout_s)) as session:
        response = session.get(_address(link, uid), headers={"Accept": _TYPE, "Cache-Control": "no-cache"})
        if response.status_code in _ABSENT:
            return Absent(response.status_code == HTTPStatus.GONE)
        response.raise_for_status()
        datasets = datasets_of(response.content, response.headers.get("Content-Type", ""))
        if len(datasets) != 1:
            raise ValueError("not one workitem")
    workitem = workitem_of(datasets[0])
    if workitem.uid not in ("", uid):
        raise ArchiveUnreachable(f"{link.peer.name}: answers with another workitem than it was asked for")
    return workitem


def change_state(link: WebLink, lock: Lock, state: str, first: Form = Form.BOTH) -> Answer:
    """Ask for a state: IN PROGRESS claims the item for the Transaction UID, which ends it as COMPLETED or CANCELED.

    A worklist that has no such resource may have it with the requester's AE title at its end, as dcm4chee does.

    Raises: ArchiveUnreachable, ArchiveRefused: the worklist may have changed the state all the same.
    """
    dataset, address = {"00741000": {"vr": "CS", "Value": [state]}}, _address(link, lock.uid) + "/state"
    answer = _in_a_form(link, "PUT", address, dataset, lock.transaction_uid, first)
    if answer.status in _NO_RESOURCE:
        address = f"{address}/{quote(lock.ae_title, safe='')}"
        answer = _in_a_form(link, "PUT", address, dataset, lock.transaction_uid, first)
    return answer


def update(link: WebLink, lock: Lock, dataset: Mapping[str, Any], first: Form = Form.BOTH) -> Answer:
    """Change attributes of a claimed item: only who has its Transaction UID may.

    Raises: ArchiveUnreachable, ArchiveRefused.
    """
    return _in_a_form(link, "POST", _address(link, lock.uid), dataset, lock.transaction_uid, first)


def subscribe(link: WebLink, ae_title: str, conditions: Mapping[str, str]) -> str:
    """Subscribe to the items that meet conditions, or to all items; return the address of the event channel.

    A worklist without filtered subscriptions is asked for all items.

    Raises: ArchiveUnreachable, ArchiveRefused.
    """
    parameters = {"filter": ",".join(f"{key}={value}" for key, value in conditions.items())}
    with link.session("UPS-RS to subscribe", Deadline.within(link.timeout_s)) as session:
        for resource in (_FILTERED, _WORKLIST) if conditions else (_WORKLIST,):
            address = _subscription(link, resource, ae_title)
            response = session.post(address, params=parameters if resource == _FILTERED else None)
            if response.ok or response.status_code not in _REFUSED | _ABSENT | {HTTPStatus.FORBIDDEN}:
                break
        response.raise_for_status()
    if not (channel := response.headers.get("Content-Location") or response.headers.get("Location", "")):
        raise ArchiveUnreachable(f"{link.peer.name}: subscribes, and names no event channel (Content-Location)")
    return channel


def unsubscribe(link: WebLink, ae_title: str) -> None:
    """End both subscriptions of an AE title; a subscription that the worklist does not have is none to end.

    Raises: ArchiveUnreachable, ArchiveRefused.
    """
    with link.session("UPS-RS to unsubscribe", Deadline.within(link.timeout_s)) as session:
        for resource in (_FILTERED, _WORKLIST):
            response = session.delete(_subscription(link, resource, ae_title))
            if response.status_code not in _REFUSED | _ABSENT | {HTTPStatus.FORBIDDEN}:
                response.raise_for_status()


def _address(link: WebLink, uid: str = "") -> str:
    return "/".join(filter(None, (link.peer.dicomweb.rstrip("/"), "workitems", uid)))


def _subscription(link: WebLink, resource: str, ae_title: str) -> str:
    return f"{_address(link, resource)}/subscribers/{quote(ae_title, safe='')}"


def _in_a_form(
    link: WebLink, method: str, address: str, dataset: Mapping[str, Any], transaction_uid: UID, first: Form
) -> Answer:
    """Make a request in the form that worked before, then in each other form as long as the request is called bad.

    A worklist that performed a request does not call it bad.
    """
    with link.session("UPS-RS for a workitem", Deadline.within(link.timeout_s)) as session:
        for form in (first, *(form for form in Form if form is not first)):
            response = _request(session, method, address, dataset, transaction_uid, form)
            if response.status_code != HTTPStatus.BAD_REQUEST:
                break
        if response.status_code not in _PERFORMED | _REFUSED | _ABSENT:
            response.raise_for_status()
            raise ValueError("neither performed nor refused")
        return Answer(response.status_code, form, response_comment(response))


def _request(
    session: Session, method: str, address: str, dataset: Mapping[str, Any], transaction_uid: UID, form: Form
) -> Response:
    in_body, names = form.value
    lock = {"00081195": {"vr": "UI", "Value": [transaction_uid]}} if in_body else {}
    content = json.dumps([{**dataset, **lock}]).encode()
    headers = {"Content-Type": _TYPE, "Accept": _TYPE}
    parameters = [(name, transaction_uid) for name in names]
    return session.request(method, address, params=parameters, data=content, headers=headers)


def first_of(workitems: Sequence[Workitem]) -> Iterator[Workitem]:
    """Yield the items in the order in which they are to be done: by priority, then by the time they are due."""
    yield from sorted(workitems, key=lambda item: (not item.is_urgent, item.priority == "LOW", item.start, item.uid))
