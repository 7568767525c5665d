"""Whether the images of a workitem are of its patient: by those that are stored, else by what their archive lists."""

from typing import Final

from ainode.node.archive.dicom_json import text
from ainode.node.archive.qido import Search, matches
from ainode.node.archive.search import Deadline
from ainode.node.archive.web import WebLink
from ainode.node.domain import UID, Patient
from ainode.node.encoding import headers
from ainode.node.errors import ArchiveError, CannotUnderstand
from ainode.node.keeping.catalog import Catalog

# A study has one patient; in an Orthanc it may have several.
_MAX_PATIENTS: Final = 100


def is_another(candidate: Patient, stated: Patient) -> bool:
    """Return whether two statements name two patients; an identifier or an issuer that is missing proves nothing.

    Universal identifiers of issuers are compared where both are given: systems name one issuer differently.
    """
    if not (candidate.patient_id and stated.patient_id):
        return False
    if candidate.patient_id != stated.patient_id:
        return True
    if candidate.universal_issuer and stated.universal_issuer:
        return candidate.universal_issuer != stated.universal_issuer
    return bool(candidate.issuer and stated.issuer) and candidate.issuer != stated.issuer


def stored_patient(catalog: Catalog, study: UID) -> Patient | None:
    """Return the patient of the first image of a study; None if no image is here, or its file cannot be read."""
    stored = next(iter(catalog.instances(study)), None)
    if stored is None:
        return None
    try:
        return headers.instance(stored.path, sha256=stored.sha256).patient
    except (CannotUnderstand, OSError):
        return None


def listed_patients(link: WebLink, study: UID, within_s: float) -> tuple[Patient, ...]:
    """Return the patients that an archive lists for a study; none where the archive does not answer or say."""
    filters, fields = {"StudyInstanceUID": study}, ("PatientID", "IssuerOfPatientID")
    search = Search("QIDO-RS for the patient", "studies", "PatientID", _MAX_PATIENTS, filters, fields)
    try:
        datasets = tuple(matches(link, search, Deadline.within(within_s)))
    except ArchiveError:
        return ()
    return tuple(
        Patient(text(dataset, "PatientID"), text(dataset, "IssuerOfPatientID"))
        for dataset in datasets
        if text(dataset, "StudyInstanceUID") == study
    )
