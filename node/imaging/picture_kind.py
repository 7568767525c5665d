"""Images in a study that are no pictures: detector values, localizers, screens, uncorrected PET, spectral CT."""

from collections.abc import Collection
from typing import Final, Literal

from ainode.node.domain import SECONDARY_CAPTURES, Instance
from ainode.node.imaging.energies import ONE_SPECTRUM, energy_reason
from ainode.node.imaging.free_text import as_code

FOR_PROCESSING: Final = "for_processing"
LOCALIZER: Final = "localizer"
SECONDARY_CAPTURE: Final = "secondary_capture"
UNCORRECTED: Final = "uncorrected"
MULTI_ENERGY: Final = "multi_energy"
NO_PICTURE: Final = "no-picture"
"""the code of the refusals"""
KINDS: Final = (FOR_PROCESSING, LOCALIZER, SECONDARY_CAPTURE, UNCORRECTED, MULTI_ENERGY)
"""what is no picture to read, unless somebody says that it is read, too"""

# PS3.4 B.5: DX, mammography, intra-oral and breast projection images For Processing.
_RAW_CLASSES: Final = frozenset(
    {
        "1.2.840.10008.5.1.4.1.1.1.1.1",
        "1.2.840.10008.5.1.4.1.1.1.2.1",
        "1.2.840.10008.5.1.4.1.1.1.3.1",
        "1.2.840.10008.5.1.4.1.1.13.1.5",
    }
)
LOCALIZER_WORDS: Final = frozenset(
    {"LOCALIZER", "LOCALISER", "SCOUT", "SURVIEW", "SURVEY", "TOPOGRAM", "TOPOGRAMM", "SCANOGRAM"}
)
"""value 3 of Image Type (PS3.3 C.8.2.1.1.1), and what vendors write instead"""
_SCREEN_WORDS: Final = frozenset({"SCREEN SAVE", "SCREEN_SAVE", "SCREENSAVE", "SCREENSHOT", "SCREEN SHOT"})
CROSS_SECTIONAL: Final = frozenset({"CT", "MR", "PT"})
"""modalities of which a localizer is no image to read; a "scout film" in radiography is one"""
# Modalities whose images have SOP classes of their own. Photographs of all kinds come as captures, too.
_MEASURED: Final = CROSS_SECTIONAL | {"NM", "CR", "DX", "RG", "MG", "RF", "XA", "IO", "PX"}
# PS3.3 C.8.6.1.1: of film, of a camera or a device, and of a scanner for pictures. Others are of a screen or a drawing.
_DIGITIZED: Final = frozenset({"DF", "DI", "DV", "SI"})
_WORKSTATION: Final = "WSD"


def no_picture(instance: Instance) -> tuple[str, Literal["no-picture"]] | None:
    """Return reason and code of a refusal of an image that is no picture to read; None of a picture."""
    refused = refused_kind(instance)
    return (refused[1], NO_PICTURE) if refused else None


def refused_kind(instance: Instance, also: Collection[str] = ()) -> tuple[str, str] | None:
    """Return what an image is, of `KINDS`, and why it is not read; None of a picture.

    `also` are the kinds that are read, too.
    """
    reasons = {
        FOR_PROCESSING: _raw_reason(instance),
        LOCALIZER: _localizer_reason(instance),
        SECONDARY_CAPTURE: capture_reason(instance),
        UNCORRECTED: _attenuation_reason(instance),
        MULTI_ENERGY: _several_energies_reason(instance),
    }
    return next(((kind, text) for kind, text in reasons.items() if text and kind not in also), None)


def _raw_reason(instance: Instance) -> str:
    intent = " ".join(instance.text("PresentationIntentType").upper().split())
    if intent != "FOR PROCESSING" and instance.ref.sop_class_uid not in _RAW_CLASSES:
        return ""
    return "it holds the raw values of a detector (FOR PROCESSING); the image FOR PRESENTATION is read"


def _localizer_reason(instance: Instance) -> str:
    words = [word.strip().upper() for word in instance.text("ImageType").split("\\")[2:]]
    is_localizer = instance.text("Modality") in CROSS_SECTIONAL and LOCALIZER_WORDS & set(words)
    return "it is a localizer by Image Type; the images that it plans are read" if is_localizer else ""


def screen_reason(instance: Instance) -> str:
    """Return what says that an image is what a screen of a viewer showed, in words; '' if nothing says so."""
    screen = _SCREEN_WORDS & {word.strip().upper() for word in instance.text("ImageType").split("\\")}
    return f"Image Type says {as_code(min(screen))}: what a screen showed; the image itself is read" if screen else ""


def capture_reason(instance: Instance) -> str:
    """Return what says that an image is, or may be, what a screen showed, in words; '' if nothing says so."""
    if reason := screen_reason(instance):
        return reason
    modality, kind = instance.text("Modality"), instance.text("ConversionType").strip().upper()
    if instance.ref.sop_class_uid in SECONDARY_CAPTURES and modality in _MEASURED and kind not in _DIGITIZED:
        image = f"a Secondary Capture ({f'Conversion Type {as_code(kind)}' if kind else 'without Conversion Type'})"
    elif kind == _WORKSTATION and modality in CROSS_SECTIONAL:
        image = f"an image that a workstation made (Conversion Type {kind})"
    else:
        return ""
    return f"it is {image}, which may be what a screen showed; the image itself is read"


def _attenuation_reason(instance: Instance) -> str:
    """Return why a PET is not read whose header lists corrections (PS3.3 C.8.9.1.1.7), and not that of attenuation."""
    corrections = {word.strip().upper() for word in instance.text("CorrectedImage").split("\\")} - {""}
    if instance.text("Modality") != "PT" or not corrections or "ATTN" in corrections:
        return ""
    return "by Corrected Image its attenuation is not corrected; the corrected series is read"


def _several_energies_reason(instance: Instance) -> str:
    reason = energy_reason(instance)
    return f"{reason}; {ONE_SPECTRUM}" if reason else ""
