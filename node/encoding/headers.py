"""One pass over a Part 10 file: its header as plain values, an `Instance`, a `Study`.

The walk is our own because pydicom recurses into every sequence of undefined length, asked for or not (a bomb of
nested sequences ends in RecursionError), and warns with the value in the text. Only sequences that were asked for are
read, `_DEPTH` levels of them, and no pixel.
"""

import re
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice
from math import isfinite
from pathlib import Path

from pydicom.charset import python_encoding
from pydicom.datadict import dictionary_VR, tag_for_keyword

from ainode.node.domain import UID, Header, Instance, InstanceRef, Patient, Series, Study, Value, is_uid
from ainode.node.encoding.character_sets import known_terms, without_escapes
from ainode.node.encoding.elements import (
    DEFLATED,
    ITEM,
    Buffer,
    Element,
    Inflated,
    OutOfOrder,
    Plain,
    encoding_of,
    inside,
    outermost,
    walk,
)
from ainode.node.encoding.file_content import FileContent
from ainode.node.encoding.part10 import parse
from ainode.node.errors import CannotUnderstand

NODE_KEYWORDS = frozenset(
    """
    SOPClassUID SOPInstanceUID StudyInstanceUID SeriesInstanceUID
    Modality ImageType PresentationIntentType Manufacturer ManufacturerModelName ConversionType
    StudyDate StudyTime SeriesDate StudyDescription SeriesDescription ProtocolName
    SeriesNumber InstanceNumber AcquisitionNumber
    BodyPartExamined AnatomicRegionSequence SharedFunctionalGroupsSequence FrameAnatomySequence
    CodeValue LongCodeValue CodingSchemeDesignator CodeMeaning
    Laterality ImageLaterality ViewPosition ViewCodeSequence PatientOrientation
    Rows Columns NumberOfFrames SamplesPerPixel PhotometricInterpretation BitsStored PixelSpacing ImagerPixelSpacing
    ImagePositionPatient ImageOrientationPatient SliceThickness FrameOfReferenceUID ConvolutionKernel KVP
    AcquisitionDateTime AcquisitionDate AcquisitionTime ContentDate ContentTime SeriesTime IrradiationEventUID
    TemporalPositionIdentifier NominalPercentageOfCardiacPhase NominalCardiacTriggerDelayTime TriggerTime
    FilterType ReconstructionAlgorithm ReconstructionDiameter GantryDetectorTilt PatientPosition ContrastBolusStartTime
    ContrastBolusAgent ContrastBolusRoute ContrastBolusAdministrationRouteSequence
    DerivationDescription DerivationCodeSequence VolumeBasedCalculationTechnique
    RescaleIntercept RescaleSlope RescaleType Units SUVType CorrectedImage ModalityLUTSequence ModalityLUTType
    PixelAspectRatio NominalScannedPixelSpacing PresentationLUTShape SliceLocation SpacingBetweenSlices
    MultienergyCTProcessingSequence MultienergyCTCharacteristicsSequence MonoenergeticEnergyEquivalent
    MultienergyCTAcquisition BurnedInAnnotation LossyImageCompression LossyImageCompressionRatio
    QualityControlImage PatientSpeciesDescription PatientSpeciesCodeSequence
    ImagesInAcquisition NumberOfSeriesRelatedInstances NumberOfStudyRelatedInstances
    """.split()  # noqa: SIM905 - a table, not fifty lines
)
"""What routing, completeness and the order of slices need; nothing of it names a patient."""

_PATIENT_ATTRIBUTES = ("PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientName", "PatientSex")
_QUALIFIERS, _UNIVERSAL_ID = "IssuerOfPatientIDQualifiersSequence", "UniversalEntityID"
_PATIENT_KEYWORDS = frozenset((*_PATIENT_ATTRIBUTES, _QUALIFIERS, _UNIVERSAL_ID))
_PIXELS = 0x7FE00000  # first tag of the pixel data group: the header ends here
_CHARACTER_SET = 0x00080005
_DEFAULT_CODEC = "iso8859"  # what pydicom takes for no Specific Character Set
_NUMBERS = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "FL": "f", "FD": "d", "UV": "Q", "SV": "q"}
_WHOLE_TEXT = frozenset({"ST", "LT", "UT", "UR"})  # a backslash in them is text, PS3.5 6.2
_TEXT = frozenset({"AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "PN", "SH", "TM", "UC", "UI"}) | _WHOLE_TEXT
# Bounds against hostile headers; real ones met here: 3 levels, 64 kB.
_DEPTH = 4
_ITEMS = 256
_VALUE_BYTES = 65_536
_INFLATED_BYTES = 16 * 1024**2


@cache
def _fields(keywords: frozenset[str]) -> Mapping[int, tuple[str, str]]:
    """Return tag to (keyword, VR) for every DICOM keyword; the dictionary's VR counts, not the file's."""
    tags = {tag: keyword for keyword in keywords if (tag := tag_for_keyword(keyword)) is not None}
    return {tag: (keyword, dictionary_VR(tag)[:2]) for tag, keyword in tags.items()}


def _number(text: str) -> Value:
    """Return IS or DS text as a number, and as it stands where it is none."""
    if re.fullmatch(r"[+-]?\d{1,12}", text):
        return int(text)
    try:
        number = float(text)
    except ValueError:
        return text
    return number if isfinite(number) and "_" not in text else text  # Python reads 1_0 as a number, DICOM does not


def _decoded(raw: bytes, codec: str) -> str:
    """Return text, whatever the bytes; UTF-8 that nobody declared is met often enough to be tried first."""
    try:
        return without_escapes(raw.decode("utf-8" if codec == _DEFAULT_CODEC else codec))
    except UnicodeDecodeError:
        return raw.decode(codec, errors="replace")


def _plain(raw: bytes, vr: str, order: str, codec: str) -> "Value | None":
    """Return a value of one VR; None for bulk, and for what has no plain form."""
    if vr in _NUMBERS:
        count = len(raw) // struct.calcsize("<" + _NUMBERS[vr])
        numbers = struct.unpack_from(f"{order}{count}{_NUMBERS[vr]}", raw)
        values: tuple[Value, ...] = tuple(number if isfinite(number) else str(number) for number in numbers)
    elif vr in _TEXT:
        text = _decoded(raw, codec)
        parts = [text] if vr in _WHOLE_TEXT else text.split("\\")
        stripped = tuple(part.strip(" \0\t\r\n") for part in parts)
        values = tuple(map(_number, stripped)) if vr in ("IS", "DS") else stripped
    else:
        return None
    return values[0] if len(values) == 1 else values or ""


@dataclass(frozen=True, slots=True)
class _Reading:
    """What stays the same during one pass."""

    content: Buffer
    fields: Mapping[int, tuple[str, str]]
    codec: str
    most_items: int
    """items of one sequence that are read; the others are left out"""

    def header(self, elements: Iterable[Element]) -> Header:
        """Return those of the outermost elements that were asked for."""
        values: dict[str, Value] = {}
        for element in outermost(elements):
            keyword, vr = self.fields.get(element.tag, ("", ""))
            value = self._value(element, vr) if keyword else None
            if value is not None:
                values[keyword] = value
        return values

    def _value(self, element: Element, vr: str) -> "Value | None":
        if vr == "SQ":
            return self._items(element) if element.depth < 2 * _DEPTH else None
        if element.length > _VALUE_BYTES:
            return None
        raw = bytes(self.content[element.begin : element.begin + element.length])
        return _plain(raw, vr, element.encoding.order, self.codec)

    def _items(self, sequence: Element) -> tuple[Header, ...]:
        items = outermost(_readable(inside(self.content, sequence)))
        return tuple(self.header(_readable(inside(self.content, item))) for item in islice(items, self.most_items))


def _readable(elements: Iterator[Element]) -> Iterator[Element]:
    """Yield the elements up to the pixels, or to where the data set is damaged.

    Raises: OutOfOrder, for then the elements before may not be the ones that count.
    """
    try:
        for element in elements:
            if _PIXELS <= element.tag < ITEM and not element.depth:
                return
            yield element
    except OutOfOrder:
        raise
    except CannotUnderstand:
        return


def _codec(content: Buffer, elements: Iterable[Element]) -> str:
    """Return the Python codec of the data set: of the last known term, for the later terms extend the first."""
    leading = islice(outermost(elements), 3)  # at most group length and one more stand before it
    spans = [(element.begin, element.begin + element.length) for element in leading if element.tag == _CHARACTER_SET]
    raw = b"".join(content[begin:end] for begin, end in spans)
    terms = known_terms(raw.decode("ascii", errors="replace").split("\\"))
    return python_encoding[terms[-1]] if terms else _DEFAULT_CODEC


def header(data: Buffer, keywords: frozenset[str] = NODE_KEYWORDS, *, most_items: int = _ITEMS) -> tuple[UID, Header]:
    """Return the Transfer Syntax UID and the asked-for elements of a Part 10 file, at every level.

    Of a sequence with more than `most_items` items the first are returned. A truncated or damaged data set gives what
    stands before the damage.
    Raises: CannotUnderstand if it is not Part 10, has an element twice or out of order, or cannot be inflated.
    Source: PS3.5 7 (data set), PS3.10 7 (file format).
    """
    origin, begin = parse(data)
    syntax_uid = origin.transfer_syntax_uid
    if not syntax_uid:
        raise CannotUnderstand("the file names no Transfer Syntax UID (0002,0010); export it again as Part 10")
    if syntax_uid in DEFLATED:
        data, begin = Inflated(data, begin).read(0, _INFLATED_BYTES), 0
    source = Plain(data, begin)
    encoding = encoding_of(source, syntax_uid)
    reading = _Reading(data, _fields(keywords), _codec(data, _readable(walk(source, encoding))), most_items)
    return syntax_uid, reading.header(_readable(walk(source, encoding)))


def _uid(values: Header, keyword: str) -> UID:
    """Return one of the identifiers of an instance.

    Raises: CannotUnderstand if it is absent or no UID (PS3.5 9.1); the value itself is not repeated.
    """
    value = values.get(keyword, "")
    if not (isinstance(value, str) and is_uid(value)):
        raise CannotUnderstand(f"the data set has no valid {keyword}; correct it at the sender and send it again")
    return UID(value)


def instance(path: Path, *, sha256: str, size: int | None = None, keywords: frozenset[str] = NODE_KEYWORDS) -> Instance:
    """Return what the file at `path` holds, without its pixels; `keywords` are read beside the node's own.

    Raises: CannotUnderstand if it is not Part 10 or does not say which instance of which series and study it is;
    OSError.
    """
    size_bytes = path.stat().st_size if size is None else size
    if not size_bytes:
        raise CannotUnderstand("the file is empty; send it again")
    with path.open("rb", buffering=0) as file:
        data = FileContent(file.fileno())
        transfer_syntax_uid, values = header(data, keywords | NODE_KEYWORDS | _PATIENT_KEYWORDS)
    # Kept apart from the header, which explanations quote; a route that asks for an attribute has it in both.
    patient_id, issuer, birth_date, name, sex = (
        str(values.get(keyword, "")).strip() for keyword in _PATIENT_ATTRIBUTES
    )
    patient = Patient(patient_id, issuer, birth_date, _universal_issuer(values), name, sex)
    values = {keyword: value for keyword, value in values.items() if keyword not in _PATIENT_KEYWORDS - keywords}
    uids = ("StudyInstanceUID", "SeriesInstanceUID", "SOPClassUID", "SOPInstanceUID")
    ref = InstanceRef(*(_uid(values, keyword) for keyword in uids))
    return Instance(ref, transfer_syntax_uid, path, sha256, size_bytes, values, patient)


def _universal_issuer(values: Header) -> str:
    """Return the Universal Entity ID of the issuer of the Patient ID, '' if absent."""
    items = values.get(_QUALIFIERS)
    first = items[0] if isinstance(items, tuple) and items else {}
    return str(first.get(_UNIVERSAL_ID, "")) if isinstance(first, Mapping) else ""


def _order(member: Instance, keyword: str, uid: UID) -> tuple[float, UID]:
    """Return a sorting key: the number, else last; ties by UID so that the order is always the same."""
    number = member.header.get(keyword)
    return (number if isinstance(number, int | float) else float("inf"), uid)


def _series(instances: Iterable[Instance]) -> Series:
    ordered = sorted(instances, key=lambda member: _order(member, "InstanceNumber", member.ref.sop_instance_uid))
    return Series(ordered[0].ref.series_instance_uid, ordered[0].text("Modality"), tuple(ordered))


def study(instances: Iterable[Instance], sources: tuple[str, ...] = ()) -> Study:
    """Return the study of the instances: series by Series Number, instances by Instance Number.

    Of several files of one instance the first by path counts; files of different patients all count.
    Raises: ValueError if there are none, or they are of several studies.
    """
    by_series: dict[UID, list[Instance]] = {}
    unique: dict[tuple[UID, UID, Patient], Instance] = {}
    for member in sorted(instances, key=lambda member: member.path):
        # A name that was corrected makes no second instance.
        identity = replace(member.patient, name="", sex="")
        key = (member.ref.study_instance_uid, member.ref.sop_instance_uid, identity)
        unique.setdefault(key, member)
    for member in unique.values():
        by_series.setdefault(member.ref.series_instance_uid, []).append(member)
    series = sorted(
        map(_series, by_series.values()),
        key=lambda group: _order(group.instances[0], "SeriesNumber", group.series_instance_uid),
    )
    uids = {member.ref.study_instance_uid for group in series for member in group.instances}
    if len(uids) != 1:
        raise ValueError(f"the instances are of {len(uids)} studies, not of one")
    return Study(uids.pop(), tuple(series), sources)
