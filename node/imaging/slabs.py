"""Images that lie like axial slices and are none: localizers, renderings, projections, averages and maps of slices."""

import re
from collections.abc import Mapping

from ainode.node.domain import Instance
from ainode.node.imaging.free_text import as_code, unaccented

# Image Type (PS3.3 C.8.2.1.1.1): words of manufacturers for images that are no slices.
_NOT_SLICES = re.compile(
    r"(?<![a-z])(?:localizer|localiser|scout|topo(?:gram\w*)?|m?mpr|projection(?: image)?|screen save|csa 3d editor"
    r"|mean|average\w*|avg|ave|minimum|maximum|mxp|mnp|vr|volren\w*|curved|cpr|subtract\w*|sub|perfusion|iodine|dose\w*)(?![a-z])"
)
# Words for a slab of several slices, also in descriptions, in English, German, French, Spanish and Italian.
_SLAB = re.compile(
    r"(?<![a-z])(?:(?:max|min|mn|mx|ave?|avg|mean|r?m|s?tm)[\W_]?ips?|aip|pims?|[a-z]*averag\w*|avg|ave[\W_]?\d\w*"
    r"|(?:ray|rx)[\W_]?sum\w*|t?slabs?|sts|mittelwert\w*|mittelung\w*|gemittelt\w*|durchschnitt\w*|moyenn\w*|moy|promedi\w*"
    r"|mean|valore? medi[ao]|mediat[aoe]|(?:maxim|minim|max|min)\w*[\W_]?intens\w*"
    r"|(?:intens\w*|projection\w*|pro[yi]e[cz]+i?on\w*)[\W_](?:maxim|minim|massim)\w*|massima intens\w*"
    r"|(?:thora[xc]\w*|thx|lung\w{0,2}|chest|torax|torace|ax|axial|thick|thin)mips?"
    r"|mips?(?:thk|thick|thin|thora[xc]\w*|thx|lung\w{0,2}|chest|torax|torace|ax|axial)|vrt?|ssd|volume rend\w*"
    r"|curved|cpr|(?:virtual|virtuell\w*) (?:bronch|endo)\w*)(?![a-z])"
)
# Words for maps that are computed from slices: of two energies, of two phases, of a bolus.
_MAP = re.compile(
    r"(?<![a-z])(?:(?:iodine|iod[eo]?|jod|yodo|perfusion|perfusione)[\W_]?(?:map\w*|mapp[ae]|karte\w*|carte|only|density"
    r"|overlay|bild\w*)|(?:carte|mapa|mappa)[\W_](?:d[\W_]|de[\W_]|di[\W_])?(?:iod\w*|yodo|perfusion\w*)|pbv|subtra[ckzh]\w*|sottrazion\w*"
    r"|z[\W_]?eff\w*|electron[\W_]density|rho[\W_]?z)(?![a-z])"
)
# A word in the middle of another, as in `ThoraxMIP`.
_SLAB_IN_WORD = re.compile(r"(?<=[a-z])(?:MIP|MinIP|MaxIP)(?![a-z])")
# PS3.16: reformatting that bends, renderings, intensity projections; PS3.3 C.8.16.2.1.4 for the technique.
_SLAB_CODES = {
    "113073": "Curved multiplanar reformatting",
    "113074": "Volume rendering",
    "113075": "Surface rendering",
    "113078": "Maximum intensity projection",
    "113079": "Minimum intensity projection",
}
_SLAB_TECHNIQUES = frozenset({"MAX_IP", "MIN_IP", "VOLUME_RENDER", "SURFACE_RENDER"})


def slab_reason(instance: Instance) -> str:
    """Return what says that the image is no acquired slice, in words; '' for a slice.

    A description is not quoted: a word of it may be a name.
    """
    for value in instance.text("ImageType").split("\\"):
        words = unaccented(value)
        if _NOT_SLICES.search(words) or _SLAB.search(words):
            return f"Image Type says {as_code(value)!r}"
    for attribute, keyword in (
        ("Series Description", "SeriesDescription"),
        ("Derivation Description", "DerivationDescription"),
    ):
        text = instance.text(keyword)
        words = unaccented(text)
        if _SLAB.search(words) or _MAP.search(words) or _SLAB_IN_WORD.search(text):
            return f"{attribute} names a slab, a rendering or a map"
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
            f"Derivation Code is {_SLAB_CODES[value]!r}"
            for code in codes
            if (value := str(code.get("CodeValue", ""))) in _SLAB_CODES
        ),
        "",
    )
