"""C-FIND in the Study Root model: which instances an archive lists; no query asks for a patient attribute."""

import contextlib
import logging
from collections.abc import Collection, Iterable, Iterator, Sequence

from pydicom.dataset import Dataset
from pynetdicom.association import Association
from pynetdicom.presentation import build_context

from ainode.node.archive.comments import error_comment
from ainode.node.archive.dimse import Link
from ainode.node.domain import UID, InstanceRef
from ainode.node.errors import ArchiveError, ArchiveRefused
from ainode.node.identity import MADE_UID_PREFIX, MANUFACTURER
from ainode.node.reports.series import is_number_of_node

log = logging.getLogger(__name__)

# PS3.6 table A-1, Study Root Query/Retrieve Information Model - FIND.
_STUDY_ROOT = "1.2.840.10008.5.1.4.1.2.2.1"
_CONTEXTS = (build_context(_STUDY_ROOT),)


def confirm_by_query(link: Link, references: Sequence[InstanceRef]) -> frozenset[UID]:
    """Return the SOP Instance UIDs of `references` that the archive lists.

    One query asks for all instances of a series, since some archives ignore a list of SOP Instance UIDs in a query.
    What is not listed there is asked for by its own UID: the archive may file an instance under another study.

    Raises: ArchiveUnreachable; ArchiveRefused if the archive has no query service: change `confirm` of the [[peer]].
    """
    series = dict.fromkeys((ref.study_instance_uid, ref.series_instance_uid) for ref in references)
    with link.associate(_CONTEXTS) as association:
        listed_uids = {
            str(answer.get("SOPInstanceUID", ""))
            for study_instance_uid, series_instance_uid in series
            for answer in _find(link, association, _image_query(study_instance_uid, series_instance_uid))
        }
    uids = {ref.sop_instance_uid for ref in references}
    return frozenset(uid for uid in uids if uid in listed_uids or _is_listed_anywhere(link, uid))


def _is_listed_anywhere(link: Link, sop_instance_uid: UID) -> bool:
    """Return whether the archive lists an instance in any study.

    The query has no keys of the levels above (PS3.4 C.4.1.3.2.1, relational), which an archive may refuse in any way.
    """
    query = Dataset()
    query.QueryRetrieveLevel = "IMAGE"
    query.StudyInstanceUID = query.SeriesInstanceUID = None
    query.SOPInstanceUID = sop_instance_uid
    try:
        with link.associate(_CONTEXTS) as association:
            for answer in _find(link, association, query):
                if str(answer.get("SOPInstanceUID", "")) == sop_instance_uid:
                    return True
                association.abort()  # the archive ignores the key, and lists whatever it has
                return False
    except ArchiveError as error:
        log.info("no query by the SOP Instance UID alone: %s", error, extra={"action": "query_refused"})
    return False


def expected_count(link: Link, study_instance_uid: UID, own_documents: Collection[InstanceRef] = ()) -> int | None:
    """Return how many instances of a study the peer has, without the documents of nodes; None if it does not tell.

    `own_documents` are those in the ledger. Others are known by their series: another node made them, or this node
    before it lost its database or removed the job.
    A modality often has no query service and does not listen: a failure is only logged.
    """
    known_uids = {ref.sop_instance_uid for ref in own_documents}
    try:
        with link.associate(_CONTEXTS) as association:
            count = _count(_find(link, association, _study_query(study_instance_uid)), study_instance_uid)
            if count is None:
                return None
            series_of_nodes = _series_of_nodes(link, association, study_instance_uid)
            own_uids = {
                uid
                for series_instance_uid in series_of_nodes.union(ref.series_instance_uid for ref in own_documents)
                for uid in _listed_uids(link, association, study_instance_uid, series_instance_uid)
                if series_instance_uid in series_of_nodes or uid in known_uids
            }
    except ArchiveError as error:
        log.info(
            "no expected count: %s", error, extra={"action": "count_unknown", "study_instance_uid": study_instance_uid}
        )
        return None
    return count - len(own_uids)


def _series_of_nodes(link: Link, association: Association, study_instance_uid: UID) -> frozenset[UID]:
    """Return the series of a study that a node made; none of an archive that refuses to list the series."""
    with contextlib.suppress(ArchiveRefused):
        answers = _find(link, association, _series_query(study_instance_uid))
        return frozenset(UID(str(answer.get("SeriesInstanceUID", ""))) for answer in answers if _is_of_node(answer))
    return frozenset()


def _is_of_node(series: Dataset) -> bool:
    """Return whether a node made a series; an archive that does not list the Manufacturer lists number and UID."""
    number = str(series.get("SeriesNumber", ""))
    is_numbered = number.isascii() and number.isdecimal() and is_number_of_node(int(number))
    is_named = is_numbered and str(series.get("SeriesInstanceUID", "")).startswith(MADE_UID_PREFIX)
    return is_named or str(series.get("Manufacturer", "")).strip() == MANUFACTURER


def _listed_uids(
    link: Link, association: Association, study_instance_uid: UID, series_instance_uid: UID
) -> Iterator[UID]:
    """Yield the instances that the archive lists of a series, and none of another that it lists beside them."""
    for answer in _find(link, association, _image_query(study_instance_uid, series_instance_uid)):
        uid = str(answer.get("SOPInstanceUID", ""))
        if uid and answer.get("SeriesInstanceUID", series_instance_uid) == series_instance_uid:
            yield UID(uid)


def _count(answers: Iterable[Dataset], study_instance_uid: UID) -> int | None:
    """Return the Number of Study Related Instances (0020,1208) of the study, None if no answer has it."""
    counts = [
        str(answer.get("NumberOfStudyRelatedInstances", ""))
        for answer in answers
        if str(answer.get("StudyInstanceUID", "")) == study_instance_uid
    ]
    return next((int(count) for count in counts if count.isdecimal()), None)


def _study_query(study_instance_uid: UID) -> Dataset:
    query = Dataset()
    query.QueryRetrieveLevel = "STUDY"
    query.StudyInstanceUID = study_instance_uid
    query.NumberOfStudyRelatedInstances = None
    return query


def _series_query(study_instance_uid: UID) -> Dataset:
    query = Dataset()
    query.QueryRetrieveLevel = "SERIES"
    query.StudyInstanceUID = study_instance_uid
    query.SeriesInstanceUID = query.SeriesNumber = query.Manufacturer = None
    return query


def _image_query(study_instance_uid: UID, series_instance_uid: UID) -> Dataset:
    """Return an IMAGE level query with the unique keys of the levels above it (PS3.4 C.4.1.2.1)."""
    query = Dataset()
    query.QueryRetrieveLevel = "IMAGE"
    query.StudyInstanceUID = study_instance_uid
    query.SeriesInstanceUID = series_instance_uid
    query.SOPInstanceUID = None
    return query


def _find(link: Link, association: Association, query: Dataset) -> Iterator[Dataset]:
    """Yield the matches of one query."""
    for status, identifier in association.send_c_find(query, _STUDY_ROOT):
        if identifier is not None:
            yield identifier
        elif status.get("Status") not in {0xFF00, 0xFF01}:
            link.check(status.get("Status"), "the query for instances", error_comment(status))
