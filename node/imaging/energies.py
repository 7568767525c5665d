"""Whether a CT image shows attenuation as one X-ray spectrum makes it, or is computed from several energies."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from ainode.node.domain import Header, Instance
from ainode.node.imaging.free_text import as_code, unaccented

ONE_SPECTRUM: Final = "CT as scanned, or of 60 to 80 keV, is read"
"""what is read instead"""
# Units: keV. An image of about 70 keV looks as one of 120 kVp does (Matsumoto et al., Radiology 259 (2011) 257), and
# photon counting scanners make it for the routine.
_AS_ONE_SPECTRUM: Final = (60.0, 80.0)
# Image Type value 4 of images that are no attenuation (PS3.3 C.8.2.2, Multi-energy CT Image), whole, and what
# manufacturers write there.
_MATERIAL: Final = re.compile(
    r"(?<![a-z])(?:mat[\W_](?:specific|removed|fractional|modified|value[\W_]based)|vnc|vue|vni|iodine|water|calcium"
    r"|uric[\W_]acid|z[\W_]?eff\w*|eff[\W_]atomic\w*|electron[\W_]density|rho[\W_]?z?)(?![a-z])"
)
_MATERIAL_IN_WORDS: Final = re.compile(
    r"(?<![a-z])(?:vnc|virtual\w*[\W_](?:non|un|nativ)[\W_]?(?:contrast|enhanced|calcium)?\w*"
    r"|(?:iodine|water|calcium)[\W_]*\((?:iodine|water|calcium)\)|material[\W_]density)(?![a-z])"
)
_VIRTUAL: Final = re.compile(r"(?<![a-z])(?:vmi|mono(?:[\W_]?e\w*|[\W_]?plus|chromatic\w*)?)(?![a-z])")
_VIRTUAL_IN_WORDS: Final = re.compile(
    r"(?<![a-z])(?:vmi|mono(?:energ\w*|plus|chromatic\w*)|virtual[\W_]mono\w*)(?![a-z])"
)
_ENERGY: Final = re.compile(r"(?<!\d)(\d{2,3})(?:\.\d+)?[\W_]?kev(?![a-z])")
_ENERGY_KEYWORD: Final = "MonoenergeticEnergyEquivalent"


def energy_reason(instance: Instance) -> str:
    """Return what says that a CT image is computed from several X-ray energies, in words; '' if nothing says so.

    A virtual monoenergetic image of about 70 keV passes. Words of a Series Description count for derived images alone,
    an energy in keV for all; a description is not quoted.
    """
    if instance.text("Modality") != "CT":
        return ""
    values = instance.text("ImageType").split("\\")
    description = unaccented(instance.text("SeriesDescription"))
    words = description if values[0].strip().upper() == "DERIVED" else ""
    if material := next((value for value in values if _MATERIAL.search(unaccented(value))), ""):
        return f"Image Type says {as_code(material)!r}, a material and no attenuation as scanned"
    if _MATERIAL_IN_WORDS.search(words):
        return "Series Description names a material or a virtual image without contrast"
    image_type = unaccented("\\".join(values))
    is_virtual = _VIRTUAL.search(image_type) or _VIRTUAL_IN_WORDS.search(words)
    return _monoenergetic_reason(stated_energies(instance), is_virtual=bool(is_virtual))


def stated_energies(instance: Instance) -> Sequence[float]:
    """Return the energies in keV that an image is said to be of."""
    texts = (unaccented(instance.text("ImageType")), unaccented(instance.text("SeriesDescription")))
    stated = [float(value) for value in _values(instance.header, _ENERGY_KEYWORD) if isinstance(value, int | float)]
    return stated or [float(energy) for text in texts for energy in _ENERGY.findall(text)]


def _monoenergetic_reason(energies: Sequence[float], *, is_virtual: bool) -> str:
    low, high = _AS_ONE_SPECTRUM
    if other := next((energy for energy in energies if not low <= energy <= high), None):
        return f"it is a virtual monoenergetic image of {other:g} keV"
    return "it is a virtual monoenergetic image of an unknown energy" if is_virtual and not energies else ""


def _values(header: Header, keyword: str) -> Iterator[object]:
    """Yield the values of an element at every level."""
    for name, value in header.items():
        if name == keyword:
            yield value
        elif isinstance(value, tuple):
            for item in value:
                if isinstance(item, Mapping):
                    yield from _values(item, keyword)
