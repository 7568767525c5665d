"""De-identified copies of images by the Basic Application Level Confidentiality Profile (PS3.15 E.1).

Each attribute at every depth, each UID and each byte of the pixel data is held against what may leave; what nobody can
tell does not.
"""

import hashlib
import hmac
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from importlib.metadata import version
from typing import Final

from pydicom import Dataset
from pydicom._uid_dict import UID_dictionary
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement
from pydicom.dataset import FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import (
    UID,
    CTImageStorage,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    EnhancedPETImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
    LegacyConvertedEnhancedMRImageStorage,
    LegacyConvertedEnhancedPETImageStorage,
    MRImageStorage,
    NuclearMedicineImageStorage,
    PositronEmissionTomographyImageStorage,
)

from ainode.node.encoding.part10 import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from ainode.node.offline.attribute_actions import EDITION, LIBRARY, Action, action_for
from ainode.node.offline.codestream_comments import UnknownBytes
from ainode.node.offline.copied_pixels import copied_pixels

# Of these alone an original image comes straight from a detector, without a letter in its pixels; a Secondary Capture
# or a picture in color that says so is a screen.
LETTERS: Final = "may have letters in its pixels"
_WITHOUT_LETTERS: Final = frozenset(
    {
        *(CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage),
        *(MRImageStorage, EnhancedMRImageStorage, LegacyConvertedEnhancedMRImageStorage),
        *(PositronEmissionTomographyImageStorage, EnhancedPETImageStorage, LegacyConvertedEnhancedPETImageStorage),
        NuclearMedicineImageStorage,
    }
)
_DETECTORS: Final = frozenset({"CT", "MR", "NM", "PT"})
_SCREENS: Final = ("SCREEN", "CAPTURE", "REPORT")
_GRAYS: Final = frozenset({"MONOCHROME1", "MONOCHROME2"})
# HL7's arc of public schemes of codes, as SNOMED CT's (PS3.16 table 8-1)
_CODING_SCHEMES: Final = "2.16.840.1.113883.6."
_FARTHEST_SHIFT_DAYS: Final = 3650
_DAY_LENGTH: Final = 8
# Whole values alone (PS3.5 6.2): what is more than a day or a time may be a name.
_DAY: Final = re.compile(r"\d{8}", re.ASCII)
_MOMENT: Final = re.compile(r"\d{8}(\d{2}(\d{2}(\d{2}(\.\d{1,6})?)?)?)?([+-]\d{4})?", re.ASCII)
_TIME: Final = re.compile(r"\d{2}(\d{2}(\d{2}(\.\d{1,6})?)?)? *", re.ASCII)
# With small letters and the signs that makers write in code strings; PS3.5 6.2 has capitals, digits, space, underscore.
_CODE_STRING: Final = re.compile(r"[A-Za-z0-9 _/.+-]{0,16}", re.ASCII)
_DUMMY_TEXT: Final = "REMOVED"
# What says how the bytes of Pixel Data are to be read: an image without one of them would be read wrongly.
_OF_PIXELS: Final = (
    *("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "SamplesPerPixel"),
    *("PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames", "RescaleSlope", "RescaleIntercept"),
)
_NAMES: Final = ("PatientName", "PatientBirthName", "OtherPatientNames", "PatientMotherBirthName")
_NUMBERS: Final = ("PatientID", "OtherPatientIDs", "AccessionNumber", "PatientBirthDate")
_SHORTEST_WORD: Final = 3
_WORD: Final = re.compile(r"\w+")
_DUMMIES: Final[Mapping[str, str | int]] = {
    "AS": "000Y",
    "DA": "19000101",
    "DT": "19000101000000",
    "TM": "000000",
    "UR": "urn:removed",
    **dict.fromkeys(("AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UT"), _DUMMY_TEXT),
    **dict.fromkeys(("DS", "IS"), "0"),
    **dict.fromkeys(("FD", "FL", "SL", "SS", "SV", "UL", "US", "UV"), 0),
}


@dataclass(frozen=True, slots=True)
class Pseudonyms:
    """Words for patients and UIDs, the same for the same key: who has the key alone can find who is meant."""

    key: bytes
    shifts_dates: bool = False
    """whether dates stay, moved by the same number of days for all images of a patient (option of E.3.6)"""

    def patient(self, dataset: Dataset) -> str:
        """Return the word for the patient of an image; a study without a Patient ID is a patient of its own."""
        identifier = str(dataset.get("PatientID") or "").strip()
        issuer = str(dataset.get("IssuerOfPatientID") or "").strip()
        parts = (identifier, issuer) if identifier else (str(dataset.StudyInstanceUID),)
        return f"P{self._digest('patient', *parts).hex()[:12]}"

    def uid(self, uid: str) -> str:
        """Return the UID that stands for a UID (PS3.5 B.2)."""
        return f"2.25.{int.from_bytes(self._digest('uid', uid)[:16], 'big')}"

    def shift(self, patient: str) -> timedelta:
        """Return by how much the dates of a patient move."""
        digest = int.from_bytes(self._digest("days", patient)[:8], "big")
        return timedelta(days=-1 - digest % _FARTHEST_SHIFT_DAYS)

    def _digest(self, *parts: str) -> bytes:
        return hmac.new(self.key, "\0".join(parts).encode(), hashlib.sha256).digest()


def refusal(dataset: Dataset, *, pixels_were_seen: bool = False) -> str:
    """Return why no copy of the object may leave, '' if one may.

    The profile leaves pixels as they are. An image may leave if it says that no letters are in it, if it is an original
    image of a modality that burns none in, or if a person has looked at the pixels.
    """
    if "PixelData" not in dataset:
        return "is no image"
    if pixels_were_seen:
        return ""
    if str(dataset.get("RecognizableVisualFeatures") or "") == "YES":
        return "shows a person who can be recognized (Recognizable Visual Features)"
    stated = str(dataset.get("BurnedInAnnotation") or "")
    doubt = "" if stated else _doubt(dataset)
    if stated == "NO" or not (stated or doubt):
        return ""
    cause = "not NO" if stated else f"absent, and {doubt}"
    return f"{LETTERS} (Burned In Annotation is {cause})"


def _doubt(dataset: Dataset) -> str:
    """Return why an image may be no original image of a detector, '' if it is one."""
    image_type = [str(value) for value in dataset.get("ImageType") or ()]
    is_original = image_type[:2] == ["ORIGINAL", "PRIMARY"]
    conditions = (
        (dataset.get("SOPClassUID") in _WITHOUT_LETTERS, "its SOP class is of images that may have letters"),
        (dataset.get("Modality") in _DETECTORS, f"its Modality is none of {', '.join(sorted(_DETECTORS))}"),
        (is_original, "its Image Type does not begin with ORIGINAL, PRIMARY"),
        (not any(word in value for value in image_type for word in _SCREENS), "its Image Type names a screen"),
        ("ConversionType" not in dataset, "it has a Conversion Type"),
        (dataset.get("PhotometricInterpretation") in _GRAYS, "its Photometric Interpretation is not of grays"),
    )
    return next((words for holds, words in conditions if not holds), "")


def deidentified(dataset: Dataset, pseudonyms: Pseudonyms) -> Dataset:
    """Return a copy of an image without what names the patient; the stored pixels and their transfer syntax stay.

    Raises: UnknownBytes, whose words quote no value, if the node cannot tell what some bytes are; ValueError, and
    others of pydicom, if a value cannot be read.
    """
    patient = pseudonyms.patient(dataset)
    shift = pseudonyms.shift(patient) if pseudonyms.shifts_dates else None
    copy = _Cleaning(pseudonyms, shift, _words_of_patient(dataset)).dataset(dataset)
    if any(keyword in dataset and keyword not in copy for keyword in _OF_PIXELS):
        raise UnknownBytes("describes its pixels by values of another kind (VR) than the standard's")
    copy.add(copied_pixels(dataset))
    copy.PatientID = copy.PatientName = patient
    copy.PatientIdentityRemoved = "YES"
    copy.DeidentificationMethod = [f"PS3.15 E.1, {EDITION}", f"{LIBRARY} {version(LIBRARY)}", "ainode"]
    profiles = [codes.DCM.BasicApplicationConfidentialityProfile]
    if shift is not None:
        profiles.append(codes.DCM.RetainLongitudinalTemporalInformationModifiedDatesOption)
    copy.DeidentificationMethodCodeSequence = [_item(code) for code in profiles]
    copy.LongitudinalTemporalInformationModified = "REMOVED" if shift is None else "MODIFIED"
    copy.preamble = bytes(128)
    copy.file_meta = FileMetaDataset()
    copy.file_meta.TransferSyntaxUID = dataset.file_meta.TransferSyntaxUID
    copy.file_meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    copy.file_meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    return copy


@dataclass(frozen=True, slots=True)
class _Cleaning:
    """What becomes of the values of one image; a shift keeps dates, moved, and times."""

    pseudonyms: Pseudonyms
    shift: timedelta | None
    words_of_patient: frozenset[str]

    def dataset(self, dataset: Dataset) -> Dataset:
        """Return the data set, or an item of it, as the profile wants it."""
        cleaned = Dataset()
        for tag in sorted(dataset.keys()):
            action = action_for(tag)
            if action is not Action.REMOVE and (element := self._element(dataset[tag], action)):
                cleaned.add(element)
        return cleaned

    def _element(self, element: DataElement, action: Action) -> DataElement | None:
        """Return an element as the profile wants it, None if it goes."""
        if not _has_its_vr(element):
            return None
        if element.VR == "SQ":
            return self._sequence(element, action)
        if action is Action.KEEP:
            return element
        if action is Action.EMPTY or action is Action.REPLACE:
            return self._replaced(element, action)
        change = {
            Action.KEEP_CODE_STRING: lambda text: text if _CODE_STRING.fullmatch(text) else _DUMMY_TEXT,
            Action.KEEP_TEXT: lambda text: _DUMMY_TEXT if self._names_patient(text) else text,
            Action.REPLACE_TEXT: lambda text: _DUMMY_TEXT if text else text,
            Action.REPLACE_UID: self._uid,
        }[action]
        return DataElement(element.tag, element.VR, _each(element.value, change))

    def _sequence(self, element: DataElement, action: Action) -> DataElement | None:
        """Return a sequence without the items of which nothing may stay; None if no item stays of those it had."""
        if action is Action.EMPTY:
            return DataElement(element.tag, "SQ", [])
        if action is not Action.KEEP:
            return None
        items = [cleaned for item in element.value if (cleaned := self.dataset(item)) or not item]
        return DataElement(element.tag, "SQ", items) if items or not element.value else None

    def _replaced(self, element: DataElement, action: Action) -> DataElement | None:
        """Return a value that moved by the shift, is empty, or is a dummy; None if its kind has no dummy."""
        if self.shift is not None and (moved := _moved(element, self.shift)):
            return DataElement(element.tag, element.VR, moved)
        if action is Action.EMPTY:
            return DataElement(element.tag, element.VR, None)
        dummy = _DUMMIES.get(element.VR)
        return None if dummy is None else DataElement(element.tag, element.VR, dummy)

    def _uid(self, uid: str) -> str:
        """Return a UID of the standard as it is (a scheme of codes, a well-known frame), another for each other one."""
        is_public = uid in UID_dictionary or uid.startswith(_CODING_SCHEMES)
        return uid if is_public else self.pseudonyms.uid(uid)

    def _names_patient(self, text: str) -> bool:
        return not self.words_of_patient.isdisjoint(_WORD.findall(text.casefold()))


def _has_its_vr(element: DataElement) -> bool:
    """Return whether an element has the VR of the dictionary: another may hide a sequence or a name."""
    vr = dictionary_VR(element.tag)
    return vr == element.VR or element.VR in vr.split(" or ")


def _words_of_patient(dataset: Dataset) -> frozenset[str]:
    """Return the words of the names of a patient and of the numbers, in small letters, without initials."""
    names, numbers = (
        _WORD.findall(" ".join(str(dataset.get(keyword) or "") for keyword in keywords).casefold())
        for keywords in (_NAMES, _NUMBERS)
    )
    words = [*names, *(word for word in numbers if not word.isalpha())]  # "LUNG-12" is no reason to miss a lung
    return frozenset(word for word in words if len(word) >= _SHORTEST_WORD)


def _each(value: object, change: Callable[[str], str]) -> object:
    """Return the changed value, or each of several; an empty value stays empty."""
    if isinstance(value, (list, tuple)) or (not isinstance(value, str) and hasattr(value, "__iter__")):
        return [change(str(part)) for part in value]
    return change(str(value)) if value else None


def _moved(element: DataElement, shift: timedelta) -> object:
    """Return a date moved by the shift, or a time as it is; None if it is no date, no time, or of a birth."""
    if element.keyword.startswith("PatientBirth") or not element.value:
        return None
    whole = {"DA": _DAY, "DT": _MOMENT, "TM": _TIME}.get(element.VR)
    if whole is None:
        return None

    def moved(text: str) -> str:
        if not whole.fullmatch(text):
            raise ValueError("is no whole date or time")
        if element.VR == "TM":
            return text
        day = date.fromisoformat(text[:_DAY_LENGTH]) + shift
        return f"{day:%Y%m%d}{text[_DAY_LENGTH:]}"

    try:
        return _each(element.value, moved)
    except (ValueError, OverflowError):  # no date at all, a year alone, or words beside it
        return None


def _item(code: Code) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code.value, code.scheme_designator, code.meaning
    return item
