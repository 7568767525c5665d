"""Patient and study of a source as documents repeat them: what the source fills half is mended, or left out.

Source: PS3.3 C.7.1.1, C.7.2.1, C.7.2.2, C.7.1.3, C.7.2.3.
"""

from collections.abc import Iterable, Mapping

from pydicom import Dataset
from pydicom.datadict import dictionary_VR

from ainode.node.reports.macros import (
    Mender,
    copied,
    mended_items,
    universal_identifier,
    whole_code,
    whole_issuer,
    whole_reference,
)

# Whose images they are: copied as they are, even if a value breaks its VR.
_IDENTITY = ("PatientName", "PatientID", "IssuerOfPatientID")
# Attributes of the modules that are copied if they are valid. What stands nowhere in this file is not copied.
_PLAIN = """
    TypeOfPatientID PatientBirthDate PatientBirthTime PatientSex
    QualityControlSubject OtherPatientNames EthnicGroup PatientComments PatientSpeciesDescription
    PatientBreedDescription ResponsiblePerson ResponsiblePersonRole ResponsibleOrganization PatientIdentityRemoved
    DeidentificationMethod PatientBirthDateInAlternativeCalendar PatientDeathDateInAlternativeCalendar
    PatientAlternativeCalendar
    StudyDate StudyTime ReferringPhysicianName ConsultingPhysicianName StudyDescription
    PhysiciansOfRecord NameOfPhysiciansReadingStudy StudyID
    AdmittingDiagnosesDescription PatientAge PatientSize PatientBodyMassIndex MeasuredAPDimension
    MeasuredLateralDimension PatientWeight MedicalAlerts Allergies Occupation SmokingStatus AdditionalPatientHistory
    PregnancyStatus LastMenstrualDate PatientSexNeutered ReasonForVisit AdmissionID ServiceEpisodeID
    ServiceEpisodeDescription PatientState
    ClinicalTrialSponsorName ClinicalTrialProtocolID ClinicalTrialProtocolName ClinicalTrialSiteID ClinicalTrialSiteName
    ClinicalTrialSubjectID ClinicalTrialSubjectReadingID ClinicalTrialProtocolEthicsCommitteeName
    ClinicalTrialProtocolEthicsCommitteeApprovalNumber
    ClinicalTrialTimePointID ClinicalTrialTimePointDescription
    """.split()  # noqa: SIM905 - a table, not sixty lines
_ENUMERATED_VALUES = {
    "QualityControlSubject": ("YES", "NO"),
    "PatientIdentityRemoved": ("YES", "NO"),
    "SmokingStatus": ("YES", "NO", "UNKNOWN"),
    "PregnancyStatus": (1, 2, 3, 4),
    "PatientSexNeutered": ("ALTERED", "UNALTERED"),
}
_BREED = ("PatientBreedDescription", "PatientBreedCodeSequence", "BreedRegistrationSequence")
_SPECIES = ("PatientSpeciesDescription", "PatientSpeciesCodeSequence")
# Type 2C for an animal: present, possibly empty (PS3.3 C.7.1.1).
_OF_ANIMALS = (*_BREED, "ResponsiblePerson", "ResponsibleOrganization", "PatientSexNeutered")
_TRIAL = "ClinicalTrialSponsorName", "ClinicalTrialProtocolID"
_SUBJECT = "ClinicalTrialSubjectID", "ClinicalTrialSubjectReadingID"
_TRIAL_EMPTY = "ClinicalTrialProtocolName", "ClinicalTrialSiteID", "ClinicalTrialSiteName"
_COMMITTEE = "ClinicalTrialProtocolEthicsCommitteeName"
_APPROVAL = "ClinicalTrialProtocolEthicsCommitteeApprovalNumber"


def patient_and_study(header: Dataset) -> Dataset:
    """Return the attributes of patient, study and clinical trial that a document repeats, each valid by itself.

    What the source states whole is repeated as it is.
    """
    mended = copied(header, _PLAIN)
    for keyword in _IDENTITY:
        if keyword in header:
            mended.add(header[keyword])
    # Images that fulfill several requests have no Accession Number of the study: each request has its own.
    if "AccessionNumber" in header and header["AccessionNumber"].VM == 1:
        mended.add(header["AccessionNumber"])
    for keyword, values in _ENUMERATED_VALUES.items():
        if mended.get(keyword) not in (None, *values):
            del mended[keyword]
    for keyword, (mender, most) in _SEQUENCES.items():
        if items := mended_items(header, keyword, mender, most):
            setattr(mended, keyword, items)
    _mend_species(mended)
    _mend_patient(mended)
    _mend_trial(mended)
    return mended


def _mend_species(patient: Dataset) -> None:
    """Complete the attributes of an animal, or remove them where no species is stated."""
    if _any(patient, _SPECIES):
        for keyword in _OF_ANIMALS:
            if keyword not in patient:
                setattr(patient, keyword, [] if dictionary_VR(keyword) == "SQ" else "")
    else:
        _remove(patient, (*_SPECIES, *_BREED))


def _mend_patient(patient: Dataset) -> None:
    """Remove or complete attributes of the Patient Module that need each other."""
    if not (patient.get("ResponsiblePerson") and patient.get("ResponsiblePersonRole")):
        _remove(patient, ("ResponsiblePersonRole",))
        if patient.get("ResponsiblePerson"):
            # A new element: the one that is there is the header's, too.
            patient.add_new("ResponsiblePerson", "PN", "")
    dates = ("PatientBirthDateInAlternativeCalendar", "PatientDeathDateInAlternativeCalendar")
    if not (patient.get("PatientAlternativeCalendar") and _any(patient, dates)):
        _remove(patient, ("PatientAlternativeCalendar", *dates))
    if not patient.get("DeidentificationMethod"):
        _remove(patient, ("DeidentificationMethod",))
        if patient.get("PatientIdentityRemoved") == "YES" and "DeidentificationMethodCodeSequence" not in patient:
            patient.DeidentificationMethod = "not repeated from the source"


def _mend_trial(study: Dataset) -> None:
    """Complete the modules of a clinical trial, or remove them where sponsor, protocol or subject is missing."""
    for keyword in (*_SUBJECT, _COMMITTEE, _APPROVAL):
        if not study.get(keyword):
            _remove(study, (keyword,))
    if not (_COMMITTEE in study and _APPROVAL in study):
        _remove(study, (_COMMITTEE, _APPROVAL))
    if all(study.get(keyword) for keyword in _TRIAL) and _any(study, _SUBJECT):
        for keyword in _TRIAL_EMPTY:
            if keyword not in study:
                setattr(study, keyword, "")
    else:
        _remove(study, (*_TRIAL, *_TRIAL_EMPTY, *_SUBJECT, _COMMITTEE, _APPROVAL))
    if "ClinicalTrialTimePointDescription" in study and "ClinicalTrialTimePointID" not in study:
        study.ClinicalTrialTimePointID = ""


def _qualifiers(item: Dataset) -> Dataset:
    """Return the qualifiers of an issuer of patient identifiers (PS3.3 10.15)."""
    qualifiers = universal_identifier(item)
    qualifiers.update(copied(item, ("IdentifierTypeCode",)))
    for keyword, mender in (
        ("AssigningFacilitySequence", whole_issuer),
        ("AssigningJurisdictionCodeSequence", whole_code),
        ("AssigningAgencyOrDepartmentCodeSequence", whole_code),
    ):
        if items := mended_items(item, keyword, mender, 1):
            setattr(qualifiers, keyword, items)
    return qualifiers


def _other_identifier(item: Dataset) -> Dataset:
    """Return another identifier of the patient; an identifier without a type is text, as it is written as text."""
    other = copied(item, ("PatientID", "IssuerOfPatientID", "TypeOfPatientID"))
    if "PatientID" not in other:
        return Dataset()
    if "TypeOfPatientID" not in other:
        other.TypeOfPatientID = "TEXT"
    if qualifiers := mended_items(item, "IssuerOfPatientIDQualifiersSequence", _qualifiers, 1):
        other.IssuerOfPatientIDQualifiersSequence = qualifiers
    return other


def _person(item: Dataset) -> Dataset:
    """Return a person who has a code and an institution (PS3.3 10.1)."""
    keywords = ("InstitutionName", "InstitutionAddress", "InstitutionalDepartmentName", "PersonAddress")
    person = copied(item, (*keywords, "PersonTelephoneNumbers", "PersonTelecomInformation"))
    for keyword in (
        "PersonIdentificationCodeSequence",
        "InstitutionCodeSequence",
        "InstitutionalDepartmentTypeCodeSequence",
    ):
        if items := mended_items(item, keyword, whole_code):
            setattr(person, keyword, items)
    is_whole = "PersonIdentificationCodeSequence" in person and _any(
        person, ("InstitutionName", "InstitutionCodeSequence")
    )
    return person if is_whole else Dataset()


def _registration(item: Dataset) -> Dataset:
    registration = copied(item, ("BreedRegistrationNumber",))
    if codes := mended_items(item, "BreedRegistryCodeSequence", whole_code, 1):
        registration.BreedRegistryCodeSequence = codes
    return registration if len(registration) == 2 else Dataset()  # noqa: PLR2004 - number and code


# Keyword to the mender of its items, and the number of items that the standard allows.
_SEQUENCES: Mapping[str, tuple[Mender, int | None]] = {
    "ReferencedPatientSequence": (whole_reference, 1),
    "IssuerOfPatientIDQualifiersSequence": (_qualifiers, 1),
    "OtherPatientIDsSequence": (_other_identifier, None),
    "PatientSpeciesCodeSequence": (whole_code, 1),
    "PatientBreedCodeSequence": (whole_code, None),
    "BreedRegistrationSequence": (_registration, None),
    "DeidentificationMethodCodeSequence": (whole_code, None),
    "IssuerOfAccessionNumberSequence": (whole_issuer, 1),
    "ReferringPhysicianIdentificationSequence": (_person, 1),
    "ConsultingPhysicianIdentificationSequence": (_person, None),
    "ProcedureCodeSequence": (whole_code, None),
    "PhysiciansOfRecordIdentificationSequence": (_person, None),
    "PhysiciansReadingStudyIdentificationSequence": (_person, None),
    "ReferencedStudySequence": (whole_reference, None),
    "RequestingServiceCodeSequence": (whole_code, 1),
    "ReasonForPerformedProcedureCodeSequence": (whole_code, None),
    "AdmittingDiagnosesCodeSequence": (whole_code, None),
    "PatientSizeCodeSequence": (whole_code, None),
    "ReasonForVisitCodeSequence": (whole_code, None),
    "IssuerOfAdmissionIDSequence": (whole_issuer, 1),
    "IssuerOfServiceEpisodeIDSequence": (whole_issuer, 1),
}


def _any(data_set: Dataset, keywords: Iterable[str]) -> bool:
    return any(data_set.get(keyword) for keyword in keywords)


def _remove(data_set: Dataset, keywords: Iterable[str]) -> None:
    for keyword in keywords:
        data_set.pop(keyword, None)
