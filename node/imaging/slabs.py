"""Images that lie like axial slices and are none: localizers, renderings, projections and averages of slices."""

import re
from collections.abc import Mapping

from ainode.node.domain import Instance
from ainode.node.imaging.free_text import unaccented

# Image Type, from the third value on (PS3.3 C.8.2.1.1.1): words of manufacturers for images that are no slices.
_NOT_SLICES = re.compile(
    r"(?<![a-z])(?:localizer|localiser|scout|topogram\w*|mpr|projection image|screen save|csa 3d editor|mean|average\w*"
    r"|avg|ave)(?![a-z])"
)
# Words for a slab of several slices, also in descriptions, in English, German, French, Spanish and Italian.
_SLAB = re.compile(
    r"(?<![a-z])(?:(?:max|min|mn|ave?|avg|mean|m)[\W_]?ips?|averag\w*|avg|ray[\W_]?sum\w*|t?slabs?"
    r"|mittelwert\w*|gemittelt\w*|moyenn\w*|promedi\w*|valore? medi[ao]|mediat[aoe]|(?:maxim|minim)\w* intens\w*"
    r"|intens\w* (?:maxim|minim|massim)\w*|massima intens\w*|vrt|ssd|volume rend\w*)(?![a-z])"
)
# A word in the middle of another, as in `ThoraxMIP`.
_SLAB_IN_WORD = re.compile(r"(?<=[a-z])(?:MIP|MinIP|MaxIP)(?![a-z])")
# PS3.16: reformatting that bends, renderings, intensity projections; PS3.3 C.8.16.2.1.4 for the technique.
_SLAB_CODES = frozenset({"113073", "113074", "113075", "113078", "113079"})
_SLAB_TECHNIQUES = frozenset({"MAX_IP", "MIN_IP", "VOLUME_RENDER", "SURFACE_RENDER"})


def slab_reason(instance: Instance) -> str:
    """Return what says that the image is no acquired slice, in words; '' for a slice."""
    for value in instance.text("ImageType").split("\\")[2:]:
        words = unaccented(value)
        if _NOT_SLICES.search(words) or _SLAB.search(words):
            return f"Image Type says {value!r}"
    for attribute, keyword in (
        ("Series Description", "SeriesDescription"),
        ("Derivation Description", "DerivationDescription"),
    ):
        text = instance.text(keyword)
        if match := _SLAB.search(unaccented(text)) or _SLAB_IN_WORD.search(text):
            return f"{attribute} says {match[0].strip()!r}"
    technique = instance.text("VolumeBasedCalculationTechnique")
    if technique in _SLAB_TECHNIQUES:
        return f"Volume Based Calculation Technique is {technique}"
    return _derivation(instance)


def _derivation(instance: Instance) -> str:
    """Return the derivation that makes no slice, in words; '' if no derivation code says so."""
    items = instance.header.get("DerivationCodeSequence", ())
    codes = [item for item in (items if isinstance(items, tuple) else ()) if isinstance(item, Mapping)]
    return next(
        (
            f"Derivation Code is {code.get('CodeMeaning', '')!r}"
            for code in codes
            if str(code.get("CodeValue", "")) in _SLAB_CODES
        ),
        "",
    )
