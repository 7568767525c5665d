"""Earlier studies over DICOMweb: QIDO-RS searches, WADO-RS fetches, as a stream from the socket to the disk."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO

import requests

from ainode.node.archive.dicom_json import text, texts
from ainode.node.archive.multipart import boundary_of, parts
from ainode.node.archive.qido import Search, matches
from ainode.node.archive.search import (
    MAX_SERIES,
    MAX_STUDIES,
    Deadline,
    SeriesEntry,
    StudyEntry,
    StudyQuery,
    series_entry,
    study_entry,
)
from ainode.node.archive.web import WebLink
from ainode.node.disk import refuse_full
from ainode.node.domain import UID, is_uid
from ainode.node.errors import ArchiveUnreachable

_BLOCK_BYTES = 65_536
_MAX_FILES = 100_000
# So many bytes of a file are written before the next look at the free room of the disk.
_BYTES_BETWEEN_LOOKS = 1 << 26
# The stored transfer syntax (PS3.18 8.7.3.5.2): a new encoding costs time, and changes the bytes.
_ACCEPT_AS_STORED = 'multipart/related; type="application/dicom"; transfer-syntax=*'


class WebArchive:
    """The `search.Archive` that searches by QIDO-RS and fetches by WADO-RS."""

    def __init__(self, link: WebLink, *, min_free_bytes: int = 0) -> None:
        self._link = link
        self._min_free_bytes = min_free_bytes

    def studies(self, query: StudyQuery, deadline: Deadline) -> Iterator[StudyEntry]:
        """Yield the studies with the Patient ID and a date of the query; the caller checks the rest."""
        filters = {
            "PatientID": query.patient.patient_id,
            "StudyDate": f"{query.first_date:%Y%m%d}-{query.last_date:%Y%m%d}",
        }
        if len(query.modality) == 1:  # Several modalities would be several searches; the caller checks each study.
            filters["ModalitiesInStudy"] = query.modality[0]
        fields = ("ModalitiesInStudy", "StudyDescription", "IssuerOfPatientID", "PatientBirthDate")
        search = Search("QIDO-RS for studies", "studies", "StudyInstanceUID", MAX_STUDIES, filters, fields)
        for dataset in matches(self._link, search, deadline):
            if is_uid(text(dataset, "StudyInstanceUID")):
                yield study_entry(partial(text, dataset), texts(dataset, "ModalitiesInStudy"))

    def series(self, study_instance_uid: UID, deadline: Deadline) -> tuple[SeriesEntry, ...]:
        """Return the series of a study; a series without a valid UID is left out."""
        search = Search(
            "QIDO-RS for series",
            f"studies/{study_instance_uid}/series",
            "SeriesInstanceUID",
            MAX_SERIES,
            fields=("BodyPartExamined", "SeriesDescription", "NumberOfSeriesRelatedInstances"),
        )
        return tuple(
            series_entry(study_instance_uid, partial(text, dataset))
            for dataset in matches(self._link, search, deadline)
            if is_uid(text(dataset, "SeriesInstanceUID"))
        )

    def fetch(self, series: SeriesEntry, folder: Path, deadline: Deadline) -> None:
        """Write the instances of a series into `folder`; the file names are numbers in the order of the answer."""
        address = (
            f"{self._link.peer.dicomweb.rstrip('/')}/studies/{series.study_instance_uid}"
            f"/series/{series.series_instance_uid}"
        )
        with self._link.session("WADO-RS for a series", deadline, streamed=True) as session:
            for number, content in enumerate(instance_files(session, address)):
                if number == _MAX_FILES:
                    raise ArchiveUnreachable(
                        f"{self._link.peer.name}: sends more than {_MAX_FILES} instances of a series"
                    )
                refuse_full(folder, self._min_free_bytes)
                with (folder / f"{number:06d}.dcm").open("xb") as file:
                    self._write(file, content)

    def _write(self, file: BinaryIO, content: Iterator[bytes]) -> None:
        """Write one file, as long as the disk has room."""
        unwatched_bytes = 0
        for block in content:
            unwatched_bytes += file.write(block)
            if unwatched_bytes >= _BYTES_BETWEEN_LOOKS:
                refuse_full(Path(file.name).parent, self._min_free_bytes)
                unwatched_bytes = 0


def instance_files(session: requests.Session, address: str) -> Iterator[Iterator[bytes]]:
    """Yield the file of each instance at a WADO-RS address, as blocks; the session is a session of `WebLink`.

    The caller reads the blocks of a file before the next file. An answer that is not multipart is one file.

    Raises: ValueError if a multipart answer ends early or is malformed; requests.RequestException for other failures.
    """
    with session.get(address, headers={"Accept": _ACCEPT_AS_STORED}, stream=True) as response:
        response.raise_for_status()
        blocks = response.iter_content(_BLOCK_BYTES)
        boundary = boundary_of(response.headers.get("Content-Type", ""))
        # Some servers send one instance without multipart.
        yield from parts(blocks, boundary) if boundary else iter([blocks])
