"""What a de-identified copy does with each attribute: by the table of PS3.15 E.1, and by a short list of what it lacks.

The table of attributes and actions is edition 2026c's, as dicom-anonymizer keeps it. It has neither all retired
attributes nor all free text, nor each UID. So what it does not name stays only where it describes the image, its
geometry, its acquisition or its codes, and is no free text.
Where the table leaves a choice that depends on the kind of object (X/Z, X/D, X/Z/D), the value goes and the attribute
stays.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from functools import cache
from importlib import import_module
from typing import Final

from pydicom.datadict import dictionary_has_tag, dictionary_is_retired, dictionary_keyword, dictionary_VR
from pydicom.tag import BaseTag

from ainode.node.errors import ConfigError, installation

EDITION: Final = "2026c"
LIBRARY: Final = "dicom-anonymizer"

# First and last element of the attributes outside of the table that may stay (PS3.6).
_ABOUT_THE_IMAGE: Final[tuple[tuple[int, int, int], ...]] = (
    (0x0008, 0x0005, 0x0008),  # character set, kind of image
    (0x0008, 0x0016, 0x001C),  # SOP class
    (0x0008, 0x0060, 0x0070),  # modality, conversion, presentation intent, manufacturer
    (0x0008, 0x0100, 0x0107),  # codes
    (0x0008, 0x010B, 0x010F),  # groups and schemes of codes
    (0x0008, 0x0117, 0x0121),  # longer codes, the same in other schemes
    (0x0008, 0x1032, 0x103F),  # coded procedure and series
    (0x0008, 0x1090, 0x1090),  # model of the machine
    (0x0008, 0x1115, 0x1115),  # references to series, images and frames
    (0x0008, 0x1134, 0x1167),
    (0x0008, 0x1199, 0x1199),
    (0x0008, 0x1250, 0x1250),
    (0x0008, 0x2112, 0x2144),  # sources, stages, views, frames
    (0x0008, 0x2218, 0x2230),  # anatomy
    (0x0008, 0x3001, 0x3012),  # other representations, irradiation, radiopharmaceutical
    (0x0008, 0x9007, 0x9460),  # frames and what they were made of
    (0x0018, 0x0000, 0xFFFF),  # acquisition
    (0x0020, 0x0000, 0xFFFF),  # place in series and space
    (0x0022, 0x0000, 0xFFFF),  # ophthalmology
    (0x0028, 0x0000, 0xFFFF),  # pixels
    (0x0040, 0x0302, 0x0318),  # dose of a radiograph
    (0x0040, 0x0518, 0x0520),  # container of a specimen
    (0x0040, 0x0560, 0x0560),  # specimen
    (0x0040, 0x0710, 0x08EA),  # slide coordinates, units of measurement
    (0x0040, 0x8302, 0x8303),  # dose of a radiograph
    (0x0040, 0x9092, 0x9225),  # what the pixel values are
    (0x0040, 0xA040, 0xA043),  # coded names and values
    (0x0040, 0xA160, 0xA170),
    (0x0040, 0xA300, 0xA30A),
    (0x0048, 0x0000, 0xFFFF),  # microscopy
    (0x0052, 0x0000, 0xFFFF),  # intravascular
    (0x0054, 0x0000, 0xFFFF),  # nuclear medicine
    (0x0062, 0x0000, 0xFFFF),  # segments
    (0x0066, 0x0000, 0xFFFF),  # algorithms of segments
    (0x0070, 0x0080, 0x0081),  # label of a segmentation
    (0x2050, 0x0000, 0xFFFF),  # shape of a presentation LUT
    (0x3002, 0x0000, 0xFFFF),  # radiotherapy images, doses, and what they refer to
    (0x3004, 0x0000, 0xFFFF),
    (0x300A, 0x0000, 0xFFFF),
    (0x300C, 0x0000, 0xFFFF),
    (0x300E, 0x0002, 0x0002),
    (0x5200, 0x0000, 0xFFFF),  # functional groups
)
# Free text that is a word of the maker or of a scheme of codes, and that tells how the image is to be read.
_TECHNICAL_TEXTS: Final = frozenset(
    {
        *("CodeValue", "LongCodeValue", "CodingSchemeDesignator", "CodingSchemeVersion", "CodeMeaning"),
        *("Manufacturer", "ManufacturerModelName", "SoftwareVersions", "DetectorManufacturerName"),
        *("DetectorManufacturerModelName", "ReceiveCoilName", "TransmitCoilName", "SequenceName", "PulseSequenceName"),
        *("ImagedNucleus", "ConvolutionKernel", "ContrastBolusRoute", "Radiopharmaceutical"),
        *("RadiopharmaceuticalRoute", "FilterType", "CollimatorGridName", "PlateType", "PhosphorType"),
        *("AcquisitionDeviceProcessingCode", "AttenuationCorrectionMethod", "ReconstructionMethod"),
        *("ScatterCorrectionMethod", "DetectorLinesOfResponseUsed", "RescaleType", "ModalityLUTType", "StackID"),
        *("PositionReferenceIndicator", "OpticalPathIdentifier", "SegmentLabel"),
    }
)
_TEXT_VRS: Final = frozenset({"LO", "LT", "SH", "ST", "UC", "UT"})
# Names, addresses, days, times, and bytes of which nobody says what they are.
_RISKY_VRS: Final = frozenset({"AE", "DA", "DT", "PN", "TM", "UN", "UR"})
_BYTE_VRS: Final = frozenset({"OB", "OW"})
_PIXEL_DESCRIPTION: Final = 0x0028
"""group; its bytes are lookup tables and color profiles"""


class Action(Enum):
    """What becomes of a value."""

    KEEP = auto()
    """the value stays; the items of a sequence are held against the table"""
    KEEP_CODE_STRING = auto()
    """the value stays if it has the letters of a code string"""
    KEEP_TEXT = auto()
    """the value stays unless it names the patient"""
    REMOVE = auto()
    EMPTY = auto()
    REPLACE = auto()
    REPLACE_TEXT = auto()
    """each word becomes a dummy; no value stays none"""
    REPLACE_UID = auto()
    """a UID that the standard does not define becomes another"""


# A sequence that the table would fill with dummies is removed: images need none of them.
_ACTIONS: Final = {
    "X_TAGS": Action.REMOVE,
    "Z_TAGS": Action.EMPTY,
    "X_Z_TAGS": Action.EMPTY,
    "D_TAGS": Action.REPLACE,
    "Z_D_TAGS": Action.REPLACE,
    "X_D_TAGS": Action.REPLACE,
    "X_Z_D_TAGS": Action.REPLACE,
    "U_TAGS": Action.REPLACE_UID,
    "X_Z_U_STAR_TAGS": Action.KEEP,
}


@dataclass(frozen=True, slots=True)
class _Table:
    """The table of attributes: an action for a tag, and for the tags that are alike under a mask (60xx)."""

    actions: Mapping[tuple[int, int], Action]
    repeating: tuple[tuple[tuple[int, int, int, int], Action], ...]

    def action(self, tag: BaseTag) -> Action:
        """Return what the profile asks for; what nobody knows goes."""
        if tag.is_private or not dictionary_has_tag(tag):
            return Action.REMOVE
        for (group, number, group_mask, number_mask), action in self.repeating:
            if (tag.group ^ group) & group_mask == 0 and (tag.element ^ number) & number_mask == 0:
                return action
        return self.actions.get((tag.group, tag.element)) or _outside_of_the_table(tag)


@cache
def action_for(tag: BaseTag) -> Action:
    """Return what becomes of an attribute, at any depth.

    Raises: ConfigError if the package that has the table is missing.
    """
    return _table().action(tag)


@cache
def _table() -> _Table:
    try:
        rows = import_module(f"dicomanonymizer.dicom_anonymization_databases.dicomfields_{EDITION}")
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"the package {LIBRARY}, which has the profile, is missing; {installation('export')}"
        ) from error
    pairs = [(tag, action) for name, action in _ACTIONS.items() for tag in getattr(rows, name)]
    return _Table(
        # group, element; an image needs no Referenced Study Sequence, and no empty one may be there
        {tag: action for tag, action in pairs if len(tag) == 2} | {(0x0008, 0x1110): Action.REMOVE},  # noqa: PLR2004
        tuple((tag, action) for tag, action in pairs if len(tag) > 2),  # noqa: PLR2004
    )


def _outside_of_the_table(tag: BaseTag) -> Action:
    """Return what becomes of a standard attribute that the table does not name."""
    vrs = set(dictionary_VR(tag).split(" or "))
    is_about_the_image = any(tag.group == group and low <= tag.element <= high for group, low, high in _ABOUT_THE_IMAGE)
    if not is_about_the_image or dictionary_is_retired(tag) or vrs & _RISKY_VRS:
        return Action.REMOVE
    keyword = dictionary_keyword(tag)
    if "UI" in vrs:
        is_class = "SOPClass" in keyword or keyword.endswith("TransferSyntaxUID")
        return Action.KEEP if is_class else Action.REPLACE_UID
    if vrs & _TEXT_VRS:
        return Action.KEEP_TEXT if keyword in _TECHNICAL_TEXTS else Action.REPLACE_TEXT
    if "CS" in vrs:
        return Action.KEEP_CODE_STRING
    return Action.REMOVE if vrs & _BYTE_VRS and tag.group != _PIXEL_DESCRIPTION else Action.KEEP
