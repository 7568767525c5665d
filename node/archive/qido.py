"""QIDO-RS as a client (PS3.18 10.6): search page by page, whatever a server allows, and confirm what was stored."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from itertools import islice
from typing import Final, NamedTuple

from requests import Response, Session

from ainode.node.archive.dicom_json import JsonDataset, datasets_of, text
from ainode.node.archive.search import Deadline
from ainode.node.archive.web import NotThere, ServerFailed, WebLink
from ainode.node.domain import UID, InstanceRef
from ainode.node.errors import ArchiveRefused, ArchiveUnreachable

# The limit of one study; a dynamic CT has some ten thousand instances.
_MAX_INSTANCES: Final = 100_000
# The time limit of a whole search, where the caller has none, and how many pages may repeat what was listed before.
_MAX_SEARCH_S: Final = 3600.0
_MAX_REPETITIONS: Final = 10
# In this order: some servers know the first alone, some the second.
_ACCEPTED: Final = ("application/dicom+json", 'multipart/related; type="application/dicom+xml"')
# How a server refuses a limit, an offset or a field that it does not like, or fails at it.
_REFUSALS: Final = frozenset({400, 413, 414, 422})
_FAILURES: Final = frozenset({500, 501})
# How a server says that there is nothing behind its last page.
_ENDS: Final = frozenset({404, 416})


class _Terms(NamedTuple):
    """The terms of a request that a server may refuse."""

    limit: int | None
    has_fields: bool


# From what most servers allow to what no server can refuse. Servers are known that allow 100 or 200 matches a page.
_TERMS: Final = (
    *(_Terms(100, has_fields=True), _Terms(100, has_fields=False)),
    *(_Terms(limit, has_fields=True) for limit in (50, 25, 12, 6, 3, 1, None)),
    _Terms(None, has_fields=False),
)


@dataclass(frozen=True, slots=True)
class Search:
    """What is searched for; the address of the request may hold a Patient ID, `name` does not."""

    name: str
    path: str
    key: str
    """keyword of the UID of a match"""
    max_matches: int
    filters: Mapping[str, str] | None = None
    fields: Sequence[str] = ()
    """keywords of attributes that a match must have beside those of PS3.18 10.6.3.3"""


def matches(link: WebLink, search: Search, deadline: Deadline | None = None) -> Iterator[JsonDataset]:
    """Yield each match of a search once; matches with the same key are one match.

    The search ends with a page without a new match, since a server may lower or ignore the limit of a page. A server
    that ignores the offset is asked once for everything.

    Raises: ArchiveUnreachable, also above the largest number of matches; ArchiveRefused.
    """
    keys: set[str] = set()
    place, repetitions = _Place(_TERMS), 0
    deadline = deadline or Deadline.within(_MAX_SEARCH_S)
    while True:
        with link.session(search.name, deadline) as session:
            page, place = _page(session, link, search, place)
        new_matches = {text(dataset, search.key): dataset for dataset in page if text(dataset, search.key) not in keys}
        keys |= new_matches.keys()
        yield from new_matches.values()
        if len(keys) > search.max_matches:
            raise ArchiveUnreachable(f"{link.peer.name}: lists more than {search.max_matches} matches of {search.name}")
        repetitions += 2 * len(new_matches) < len(page)
        if repetitions > _MAX_REPETITIONS:
            raise ArchiveUnreachable(f"{link.peer.name}: repeats itself at {search.name}")
        limit = place.terms[0].limit
        if limit is None or len(page) > limit or not page:
            return
        if new_matches:
            place = place._replace(offset=place.offset + len(page), is_after_short_page=len(page) < limit)
        elif len(page) < limit:
            return
        else:  # the server ignores the offset, and may have more than a page
            place = _Place(_TERMS[-2:])


class _Place(NamedTuple):
    """The place of a page in a search, and the terms that the server did not refuse so far."""

    terms: tuple[_Terms, ...]
    offset: int = 0
    is_after_short_page: bool = False


def _page(session: Session, link: WebLink, search: Search, place: _Place) -> tuple[list[JsonDataset], _Place]:
    """Return one page, and the place with the terms that the server did not refuse.

    A server that refuses every page behind the first is asked for everything.

    Raises: ValueError if the answer has no data sets; requests.RequestException.
    """
    address = f"{link.peer.dicomweb.rstrip('/')}/{search.path}"
    for number, terms in enumerate(place.terms):
        response = _get(session, address, _parameters(search, terms, place.offset))
        if place.offset and response.status_code in _ENDS:
            return [], place
        if response.status_code not in _REFUSALS | _FAILURES:
            return _datasets(response), place._replace(terms=place.terms[number:])
        if place.is_after_short_page and response.status_code in _REFUSALS:
            return [], place  # there is nothing behind the last page, and the server refuses to look there
    if place.offset:
        return _page(session, link, search, _Place(_TERMS[-2:]))
    response.raise_for_status()
    raise ValueError("no terms")


def _get(session: Session, address: str, parameters: list[tuple[str, str]]) -> Response:
    """Ask once; ask again where the server does not answer in the form that is accepted first."""
    for media_type in _ACCEPTED:
        response = session.get(address, params=parameters, headers={"Accept": media_type})
        if response.status_code != HTTPStatus.NOT_ACCEPTABLE:
            break
    return response


def _parameters(search: Search, terms: _Terms, offset: int) -> list[tuple[str, str]]:
    fields = search.fields if terms.has_fields else ()
    return [
        *(search.filters or {}).items(),
        *(("includefield", field) for field in fields),
        *([("limit", str(terms.limit))] if terms.limit else ()),
        *([("offset", str(offset))] if offset else ()),
    ]


def _datasets(response: Response) -> list[JsonDataset]:
    """Return the data sets of an answer.

    Raises: ValueError if the answer has none; requests.HTTPError.
    """
    response.raise_for_status()
    return datasets_of(response.content, response.headers.get("Content-Type", ""))


def confirm_by_query(link: WebLink, references: Sequence[InstanceRef]) -> frozenset[UID]:
    """Return the SOP Instance UIDs of `references` that the archive lists.

    Each series is one search. What is not listed there is searched for by its own UID: the archive may file an instance
    under another study.

    Raises: ArchiveUnreachable; ArchiveRefused if the archive has no QIDO-RS: change `confirm` of the [[peer]].
    """
    uids = {ref.sop_instance_uid for ref in references}
    series = dict.fromkeys((ref.study_instance_uid, ref.series_instance_uid) for ref in references)
    listed_uids: set[str] = set()
    absences: list[NotThere] = []
    for series_uids in series:
        try:
            listed_uids |= {sop_instance_uid for _, sop_instance_uid in instance_uids(link, *series_uids)}
        except NotThere as error:  # so some archives answer for a series that they do not have
            absences.append(error)
    is_answered = len(absences) < len(series)
    for uid in sorted(uids - listed_uids):
        try:
            listed_uids |= _uid_listed_anywhere(link, uid)
            is_answered = True
        except (NotThere, ServerFailed, ArchiveRefused):
            continue
    if not is_answered and absences:
        raise absences[0]
    return frozenset(uids & listed_uids)


def _uid_listed_anywhere(link: WebLink, sop_instance_uid: UID) -> set[str]:
    """Return the UID of an instance if the archive lists the instance in any study.

    Raises: ArchiveUnreachable; ArchiveRefused, NotThere, ServerFailed if the archive searches in one study at a time.
    """
    filters = {"SOPInstanceUID": sop_instance_uid}
    search = Search("QIDO-RS for an instance", "instances", "SOPInstanceUID", _MAX_INSTANCES, filters)
    # A server that ignores the filter lists other instances: the first tells.
    return {text(dataset, "SOPInstanceUID") for dataset in islice(matches(link, search), 1)}


def echo(link: WebLink) -> None:
    """Verify the address and the credentials of the service: search for a study that does not exist.

    Raises: ArchiveUnreachable, ArchiveRefused.
    """
    with link.session("QIDO-RS") as session:
        address = f"{link.peer.dicomweb.rstrip('/')}/studies"
        session.get(address, params={"StudyInstanceUID": "2.25.0", "limit": "1"}).raise_for_status()


def instance_uids(
    link: WebLink, study_instance_uid: UID, series_instance_uid: UID | None = None, *, deadline: Deadline | None = None
) -> Iterator[tuple[str, str]]:
    """Yield the Series and the SOP Instance UID of each instance of a study or series; an absent UID is ''.

    Raises: ArchiveUnreachable, ArchiveRefused.
    """
    series = f"/series/{series_instance_uid}" if series_instance_uid else ""
    search = Search(
        "QIDO-RS for instances",
        f"studies/{study_instance_uid}{series}/instances",
        "SOPInstanceUID",
        _MAX_INSTANCES,
        fields=() if series_instance_uid else ("SeriesInstanceUID",),
    )
    for dataset in matches(link, search, deadline):
        yield text(dataset, "SeriesInstanceUID"), text(dataset, "SOPInstanceUID")
