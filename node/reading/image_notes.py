"""What the headers say of the images that were read and may change the answer, in the report's words; pure."""

import re
from collections.abc import Callable, Sequence
from typing import Final

from pydicom.uid import JPEGBaseline8Bit, JPEGExtended12Bit

from ainode.node.domain import UID, Instance, Result, Study
from ainode.node.imaging.energies import stated_energies
from ainode.node.imaging.picture_kind import CROSS_SECTIONAL

# The pictures that the shipped weights learned from are compressed by up to so much: 525 CT slices, 328 radiographs of
# the spine and 800 photographs of skin. The other sets that they learned from are without loss.
_LEARNED_SLICES, _LEARNED_RADIOGRAPHS, _LEARNED_COLORS = 9.0, 15.0, 37.0
# JPEG that always loses something, whatever Lossy Image Compression says.
_LOSSY_SYNTAXES: Final = frozenset(map(UID, (JPEGBaseline8Bit, JPEGExtended12Bit)))


def image_notes(result: Result, study: Study) -> tuple[tuple[str, str], ...]:
    """Return a parameter for each thing that images that were read have; none where no header says any.

    Source: PS3.3 C.7.6.1 (0028,0301), C.7.6.1.1.5 (0028,2110) and (0028,2112), C.8.2.1 (0018,9361),
    C.7.3.1.1.2 (0018,5100).
    """
    read = {ref.sop_instance_uid for ref in result.evidence}
    images = [instance for instance in study.instances if instance.ref.sop_instance_uid in read]
    return tuple(note for describe in (_writing, _compression, _energies, _position) for note in describe(images))


def _writing(images: Sequence[Instance]) -> tuple[tuple[str, str], ...]:
    count = _count(images, lambda image: image.text("BurnedInAnnotation").strip().upper() == "YES")
    text = "Burned In Annotation (0028,0301) is YES: writing in the pixels may change the answer"
    return (("writing in the image", f"{text} ({count})"),) if count else ()


def _compression(images: Sequence[Instance]) -> tuple[tuple[str, str], ...]:
    count = _count(images, _is_beyond_what_was_learned)
    if not count:
        return ()
    ratios = [ratio for image in images if (ratio := _ratio(image))]
    by = f"by up to {max(ratios):g} to 1" if ratios else "by a ratio that no header states"
    text = f"with loss, {by}: more than the pictures that models learned from, and may change the answer"
    return (("compression", f"{text} ({count})"),)


def _energies(images: Sequence[Instance]) -> tuple[tuple[str, str], ...]:
    count = _count(images, _is_of_unknown_energy)
    text = "Multi-energy CT Acquisition (0018,9361) is YES, and nothing says of which energies the image is"
    return (("energies", f"{text} ({count})"),) if count else ()


def _position(images: Sequence[Instance]) -> tuple[tuple[str, str], ...]:
    count = _count(images, lambda image: image.text("Modality") == "CT" and _lies_otherwise(image))
    text = "Patient Position (0018,5100) is prone or on a side; models learned from patients on their backs"
    return (("patient position", f"{text} ({count})"),) if count else ()


def _count(images: Sequence[Instance], has: Callable[[Instance], bool]) -> str:
    """Return of how many images something holds, in words; '' of none."""
    number = sum(map(has, images))
    return f"{number} of {len(images)} images read" if number else ""


def _is_beyond_what_was_learned(image: Instance) -> bool:
    is_lossy = image.text("LossyImageCompression").strip() == "01" or image.transfer_syntax_uid in _LOSSY_SYNTAXES
    if image.text("Modality") in CROSS_SECTIONAL:
        learned = _LEARNED_SLICES
    else:
        learned = _LEARNED_COLORS if image.text("SamplesPerPixel") == "3" else _LEARNED_RADIOGRAPHS
    ratio = _ratio(image)
    return is_lossy and (ratio is None or ratio > learned)


def _ratio(image: Instance) -> float | None:
    """Return the largest ratio of successive compressions; None if the header states none."""
    ratios = re.findall(r"\d+(?:\.\d+)?", image.text("LossyImageCompressionRatio"))
    return max(map(float, ratios), default=None)


def _lies_otherwise(image: Instance) -> bool:
    """Return whether a patient lies prone or on a side, by the letters behind head or feet first."""
    return image.text("PatientPosition").strip().upper()[2:] in {"P", "DR", "DL"}


def _is_of_unknown_energy(image: Instance) -> bool:
    is_of_several = image.text("MultienergyCTAcquisition").strip().upper() == "YES"
    return image.text("Modality") == "CT" and is_of_several and not stated_energies(image)
