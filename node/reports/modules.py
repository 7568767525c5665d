"""Patient and study of a source as documents repeat them: what the source fills half is mended, or left out.

Archives and modalities leave items empty, identifiers without their type and codes without a value. A document must not
repeat that: an archive that validates refuses the document (PS3.3 C.7.1.1, C.7.2.1, C.7.2.2, C.7.1.3, C.7.2.3).
"""

from collections.abc import Callable, Iterable, Mapping

from pydicom import Dataset
from pydicom.config import RAISE
from pydicom.datadict import dictionary_VR
from pydicom.valuerep import validate_value

from ainode.node.domain import is_uid

Mender = Callable[[Dataset], Dataset]

# Attributes of the modules that are copied as they are. An attribute that stands nowhere in this file is not copied.
_PLAIN = """
    PatientName PatientID IssuerOfPatientID TypeOfPatientID PatientBirthDate PatientBirthTime PatientSex
    QualityControlSubject OtherPatientNames EthnicGroup PatientComments PatientSpeciesDescription
    PatientBreedDescription ResponsiblePerson ResponsiblePersonRole ResponsibleOrganization PatientIdentityRemoved
    DeidentificationMethod PatientBirthDateInAlternativeCalendar PatientDeathDateInAlternativeCalendar
    PatientAlternativeCalendar
    StudyDate StudyTime AccessionNumber ReferringPhysicianName ConsultingPhysicianName StudyDescription
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
    "PatientSexNeutered": ("", "ALTERED", "UNALTERED"),
}
_UNIVERSAL_TYPES = ("DNS", "EUI64", "ISO", "URI", "UUID", "X400", "X500")
_CODE_TEXTS = ("CodeValue", "LongCodeValue", "URNCodeValue")
_CONTEXT = ("ContextIdentifier", "MappingResource", "ContextGroupVersion")
_BREED = ("PatientBreedDescription", "PatientBreedCodeSequence", "BreedRegistrationSequence")
_SPECIES = ("PatientSpeciesDescription", "PatientSpeciesCodeSequence")
# Type 2C for an animal: present, possibly empty (PS3.3 C.7.1.1).
_OF_ANIMALS = (*_BREED, "ResponsiblePerson", "ResponsibleOrganization", "PatientSexNeutered")
_TRIAL = "ClinicalTrialSponsorName", "ClinicalTrialProtocolID"
_SUBJECT = "ClinicalTrialSubjectID", "ClinicalTrialSubjectReadingID"
_TRIAL_EMPTY = "ClinicalTrialProtocolName", "ClinicalTrialSiteID", "ClinicalTrialSiteName"
_COMMITTEE = "ClinicalTrialProtocolEthicsCommitteeName"
_APPROVAL = "ClinicalTrialProtocolEthicsCommitteeApprovalNumber"
_MAX_CODE_LENGTH = 16  # characters of an SH


def patient_and_study(header: Dataset) -> Dataset:
    """Return the attributes of patient, study and clinical trial that a document repeats, each valid by itself.

    What the source states whole is repeated as it is.
    """
    mended = _copied(header, _PLAIN)
    for keyword, values in _ENUMERATED_VALUES.items():
        if mended.get(keyword) not in (None, *values):
            del mended[keyword]
    for keyword, (mender, most) in _SEQUENCES.items():
        if items := _items(header, keyword, mender, most):
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
            patient.ResponsiblePerson = ""
    dates = ("PatientBirthDateInAlternativeCalendar", "PatientDeathDateInAlternativeCalendar")
    if not (patient.get("PatientAlternativeCalendar") and _any(patient, dates)):
        _remove(patient, ("PatientAlternativeCalendar", *dates))
    if not patient.get("DeidentificationMethod"):
        _remove(patient, ("DeidentificationMethod",))
        if patient.get("PatientIdentityRemoved") == "YES" and "DeidentificationMethodCodeSequence" not in patient:
            patient.DeidentificationMethod = "not stated by the source"


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


def _items(holder: Dataset, keyword: str, mender: Mender, most: int | None = None) -> list[Dataset]:
    """Return the mended items of a sequence; none if there are more than `most`, or an item has nothing to mend.

    A sequence with fewer items than that of the source would contradict the source.
    """
    items = [mender(item) for item in holder.get(keyword) or ()]
    return items if all(items) and len(items) <= (most or len(items)) else []


def _code(item: Dataset) -> Dataset:
    """Return a code with value, scheme and meaning, and with its context group where that is whole (PS3.3 8)."""
    # A value that is too long for an SH is written where long values belong.
    value = next((text for text in (str(item.get(keyword) or "").strip() for keyword in _CODE_TEXTS) if text), "")
    is_urn = value == _text(item, "URNCodeValue")
    code = _copied(item, ("CodingSchemeDesignator", "CodeMeaning", "CodingSchemeVersion"), empty=False)
    if not (value and "CodeMeaning" in code and ("CodingSchemeDesignator" in code or is_urn)):
        return Dataset()
    keyword = "URNCodeValue" if is_urn else "CodeValue" if len(value) <= _MAX_CODE_LENGTH else "LongCodeValue"
    setattr(code, keyword, value)
    context = _copied(item, _CONTEXT, empty=False)
    if len(context) == len(_CONTEXT):
        code.update(context)
        code.update(_copied(item, ("ContextUID", "MappingResourceUID", "MappingResourceName"), empty=False))
    return code


def _issuer(item: Dataset) -> Dataset:
    """Return an issuer with its local name, its universal identifier, or both (PS3.3 10.14)."""
    issuer = _copied(item, ("LocalNamespaceEntityID",), empty=False)
    issuer.update(_universal(item))
    return issuer


def _universal(item: Dataset) -> Dataset:
    identifier = _copied(item, ("UniversalEntityID", "UniversalEntityIDType"), empty=False)
    is_whole = "UniversalEntityID" in identifier and identifier.get("UniversalEntityIDType") in _UNIVERSAL_TYPES
    return identifier if is_whole else Dataset()


def _qualifiers(item: Dataset) -> Dataset:
    """Return the qualifiers of an issuer of patient identifiers (PS3.3 10.15)."""
    qualifiers = _universal(item)
    qualifiers.update(_copied(item, ("IdentifierTypeCode",), empty=False))
    for keyword, mender in (
        ("AssigningFacilitySequence", _issuer),
        ("AssigningJurisdictionCodeSequence", _code),
        ("AssigningAgencyOrDepartmentCodeSequence", _code),
    ):
        if items := _items(item, keyword, mender, 1):
            setattr(qualifiers, keyword, items)
    return qualifiers


def _other_identifier(item: Dataset) -> Dataset:
    """Return another identifier of the patient; an identifier without a type is text, as it is written as text."""
    other = _copied(item, ("PatientID", "IssuerOfPatientID", "TypeOfPatientID"), empty=False)
    if "PatientID" not in other:
        return Dataset()
    if "TypeOfPatientID" not in other:
        other.TypeOfPatientID = "TEXT"
    if qualifiers := _items(item, "IssuerOfPatientIDQualifiersSequence", _qualifiers, 1):
        other.IssuerOfPatientIDQualifiersSequence = qualifiers
    return other


def _person(item: Dataset) -> Dataset:
    """Return a person who has a code and an institution (PS3.3 10.1)."""
    keywords = ("InstitutionName", "InstitutionAddress", "InstitutionalDepartmentName", "PersonAddress")
    person = _copied(item, (*keywords, "PersonTelephoneNumbers", "PersonTelecomInformation"), empty=False)
    for keyword in (
        "PersonIdentificationCodeSequence",
        "InstitutionCodeSequence",
        "InstitutionalDepartmentTypeCodeSequence",
    ):
        if items := _items(item, keyword, _code):
            setattr(person, keyword, items)
    is_whole = "PersonIdentificationCodeSequence" in person and _any(
        person, ("InstitutionName", "InstitutionCodeSequence")
    )
    return person if is_whole else Dataset()


def _reference(item: Dataset) -> Dataset:
    """Return a reference with both of its UIDs (PS3.3 10.8)."""
    reference = _copied(item, ("ReferencedSOPClassUID", "ReferencedSOPInstanceUID"), empty=False)
    is_whole = len(reference) == 2 and all(is_uid(str(element.value)) for element in reference)  # noqa: PLR2004 - two UIDs
    return reference if is_whole else Dataset()


def _registration(item: Dataset) -> Dataset:
    registration = _copied(item, ("BreedRegistrationNumber",), empty=False)
    if codes := _items(item, "BreedRegistryCodeSequence", _code, 1):
        registration.BreedRegistryCodeSequence = codes
    return registration if len(registration) == 2 else Dataset()  # noqa: PLR2004 - number and code


# Keyword to the mender of its items, and the number of items that the standard allows.
_SEQUENCES: Mapping[str, tuple[Mender, int | None]] = {
    "ReferencedPatientSequence": (_reference, 1),
    "IssuerOfPatientIDQualifiersSequence": (_qualifiers, 1),
    "OtherPatientIDsSequence": (_other_identifier, None),
    "PatientSpeciesCodeSequence": (_code, 1),
    "PatientBreedCodeSequence": (_code, None),
    "BreedRegistrationSequence": (_registration, None),
    "DeidentificationMethodCodeSequence": (_code, None),
    "IssuerOfAccessionNumberSequence": (_issuer, 1),
    "ReferringPhysicianIdentificationSequence": (_person, 1),
    "ConsultingPhysicianIdentificationSequence": (_person, None),
    "ProcedureCodeSequence": (_code, None),
    "PhysiciansOfRecordIdentificationSequence": (_person, None),
    "PhysiciansReadingStudyIdentificationSequence": (_person, None),
    "ReferencedStudySequence": (_reference, None),
    "RequestingServiceCodeSequence": (_code, 1),
    "ReasonForPerformedProcedureCodeSequence": (_code, None),
    "AdmittingDiagnosesCodeSequence": (_code, None),
    "PatientSizeCodeSequence": (_code, None),
    "ReasonForVisitCodeSequence": (_code, None),
    "IssuerOfAdmissionIDSequence": (_issuer, 1),
    "IssuerOfServiceEpisodeIDSequence": (_issuer, 1),
}


def _copied(holder: Dataset, keywords: Iterable[str], *, empty: bool = True) -> Dataset:
    """Return the elements of these keywords; without `empty`, elements that are empty or break their VR stay out."""
    copied = Dataset()
    for keyword in keywords:
        if keyword in holder and (empty or _text(holder, keyword)):
            copied.add(holder[keyword])
    return copied


def _text(item: Dataset, keyword: str) -> str:
    """Return the text of an element; '' where the element is absent, or its value breaks the rules of its VR."""
    value = item.get(keyword)
    texts = [str(part) for part in value] if isinstance(value, list | tuple) else [str(value or "")]
    try:
        for text in texts:
            validate_value(dictionary_VR(keyword), text, RAISE)
    except ValueError:
        return ""
    return "\\".join(texts).strip()


def _any(data_set: Dataset, keywords: Iterable[str]) -> bool:
    return any(data_set.get(keyword) for keyword in keywords)


def _remove(data_set: Dataset, keywords: Iterable[str]) -> None:
    for keyword in keywords:
        data_set.pop(keyword, None)
