"""How people name a study, read from the header of one of its files."""

from contextlib import suppress
from pathlib import Path
from typing import Final

from ainode.node.domain import SELF_TEST_PATIENT_ID, SYNTHETIC_PATIENT_ID, Study
from ainode.node.encoding import headers
from ainode.node.encoding.file_content import FileContent
from ainode.node.errors import CannotUnderstand
from ainode.node.keeping.patient_index import Labels, PatientIndex

_KEYWORDS: Final = frozenset(
    {"PatientName", "PatientID", "AccessionNumber", "StudyDescription", "SeriesDescription", "StudyDate"}
)


def label(study: Study, index: PatientIndex) -> None:
    """Keep the labels of a study; a file that cannot be read any more has no labels, and its reading says why."""
    with suppress(CannotUnderstand, OSError):
        index.write(study.study_instance_uid, labels_of(study))


def labels_of(study: Study) -> Labels:
    """Return the labels of a study by its first file; a study without a description has that of the series.

    Raises: CannotUnderstand; OSError.
    """
    values = _values(study.series[0].instances[0].path)
    return Labels(
        name=values.get("PatientName", ""),
        patient_id=values.get("PatientID", ""),
        accession_number=values.get("AccessionNumber", ""),
        description=values.get("StudyDescription") or values.get("SeriesDescription", ""),
        study_date=values.get("StudyDate", ""),
        modalities=" ".join(sorted({series.modality for series in study.series})),
        is_synthetic=values.get("PatientID") in {SYNTHETIC_PATIENT_ID, SELF_TEST_PATIENT_ID},
    )


def _values(path: Path) -> dict[str, str]:
    with path.open("rb", buffering=0) as file:
        _, header = headers.header(FileContent(file.fileno()), _KEYWORDS)
    return {keyword: value.strip() for keyword, value in header.items() if isinstance(value, str)}
