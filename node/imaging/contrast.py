"""The contrast phase of a CT, as its headers state the phase in English, German, French, Spanish and Italian.

A device writes Contrast/Bolus Agent although no agent was given, or although the agent was drunk; a description names
the phase in the words of the technologist. A reason never quotes these words: `carter` is no arterial phase.
"""

import re
from collections.abc import Iterable, Mapping

from ainode.node.domain import Instance
from ainode.node.imaging.free_text import unaccented

_MEDIUM = "iv|km|kontrast|contrast|contraste|contrasto|mdc|mc|cm|ci|pdc|civ|cte|cont|con|ce|injection|injecte|inj|iode"
_ARTICLE = "(?:de|del|della|el|la|le|l|di|d|du|des|der|dem|the)"
# Words for a scan without contrast agent in a vein, real or computed from two energies.
_NATIVE = rf"""
    nati[vf]\w* | nat | unenh\w* | plain | blank | true\W?non\w* | non\W?ce | ncct | nect | nce? | vnca?
    | vue | tnc | vni
    | (?:no|non|kein\w*|ohne|sans|sin|senza|without|zero|pas|wo)[\W_]*(?:{_ARTICLE}[\W_]+)*(?:{_MEDIUM})\w*
    | (?:non|un)\W?(?:contrast|enh|inj)\w* | noncon\w* | ohne | sans | sin | senza | without | w[\W_]{{0,2}}o | w/?out
    | (?:pre|vor|avant|antes|prima|previo)[\W_]*(?:{_ARTICLE}[\W_]+)*(?:{_MEDIUM})\w* | pre(?=[\W\d_]*$|[\W_]*\d)
    | pre(?=[\W_]+(?:abd|liver|leber|foie|higado|fegato|pan[ck]rea|pelvi|thorax|chest))
    | (?:c|iv|km|cm|mdc|pdc|civ)(?:-|\s-(?=[\W_]*$)|\s?\(-\)|\s?minus)(?![a-z0-9]) | (?<!\w)-(?:c|km|mdc|iv) | \(-\)
    | s/\s?(?:[cm]|mdc|cte|civ|contrast\w*) | o\.?\s?km | unverst\w* | unkontrast\w* | kontrast(?:los|frei)\w*
    | leer(?:aufnahme\w*|serie\w*|scan\w*)? | basale? | dirett[ao] | simple | (?:a\s)?vacio | (?:a\s|en\s)?blanco?
    | bianco | spontane\w*
"""
_ARTERIAL = r"""
    [a-z]*arter\w* | art(?:phase|fase|serie)?\w? | fru?e?h\w* | early | precoce | cta | angio\w* | bolus\W?track\w*
    | aort\w* | [hle]ap | a[\W_]?(?:phase|fase) | pan[ck]rea\w*[\W_]*(?:parenchym\w*[\W_]*)?(?:phase|fase)
    | (?:phase|fase|temps)[\W_]*pan[ck]rea\w* | (?<![\d.,])[2-4]\d[\W_]?(?:s|se[ckg]\w*)(?![a-z0-9])
"""
_LATE = r"""
    delay\w* | late | excret\w* | equilib\w* | spat | spatphase\w* | spatven\w* | spate\w* | spaet\w* | tard\w*
    | ritard\w* | retard\w* | ne(?:ph|f)ro\w* | urogra\w* | uro\W?tard\w* | ausscheid\w* | washout | cortico\w*
    | eliminacion | escretori\w* | (?<![\d.,])(?:[2-9]|[1-5]\d)[\W_]?min(?:s|ut\w*)?
    | (?<![\d.,])(?:1[2-9]\d|[2-9]\d\d)[\W_]?(?:s|se[ckg]\w*)(?![a-z0-9])
"""
_VENOUS = r"portal\w* | porto\w* | venos\w* | venou[sx]\w* | veineu\w* | pv | pvp | pven\w* | ven"
PORTAL_VENOUS = "portal venous"
_PHASES = {"native": _NATIVE, "arterial": _ARTERIAL, "late": _LATE, PORTAL_VENOUS: _VENOUS}
_PATTERNS = {name: re.compile(rf"(?<![a-z])(?:{pattern})(?![a-z])", re.VERBOSE) for name, pattern in _PHASES.items()}
# What devices and technologists write into Contrast/Bolus Agent where nobody injected anything.
_NO_AGENT = re.compile(
    r"[\W_]*(?:(?:no|none|n0ne|non(?!\W?ion)|not|n|nil|null|nullo|nihil|nein|nicht(?!\W?ion)|n/?a|nan|x+|kein\w*|aucun\w*"
    r"|ningun\w*|nessun\w*|nada|niente|rien|pas|zero|unk\w*|unbekannt|inconnu|desconocido|sconosciuto|false|off"
    r"|s[\W_]?c(?:te)?|0+(?:[.,]0+)?\s?(?:ml|cc|cm3)?)(?![a-z0-9])"
    r"|(?:nacl|saline|kochsalz\w*|serum|suero|fisiologic\w*)[\W\d_]*$|$)"
)
_NO_VEIN = re.compile(
    r"(?<![a-z])(?:oral\w*|orale|per\s?os|p\.?o\.?|peroral\w*|enteral\w*|bucal|bebid[ao]|getrunken|rectal\w*|rektal\w*"
    r"|rettal\w*|enema|lavement|einlauf|clistere|irrig\w*|arthro\w*|intra\W?art\w*|intrat(?:h)?ec\w*|water|h2o|wasser|agua"
    r"|acqua|eau|barium|bario|baryt\w*|baso4|micropaque|e\W?z\W?(?:cat|paque|hd)|polibar\w*|volumen|gastro\w*|mannitol\w*|peg"
    r"|readi\W?cat|milk|milch|lait|leche|latte|trink\w*|bevanda|bocca|boca|bouche|boisson|effervesc\w*|air|luft|co2)(?![a-z])"
)
_VEIN = re.compile(r"(?<![a-z])(?:i\.?\s?v\.?|intraven\w*|endoven\w*|vein\w*|ven[ae])(?![a-z])")
# SNOMED CT and the retired SRT code of the intravenous route (PS3.16 CID 11).
_VEIN_CODES = frozenset({"47625008", "G-D101"})


def phase(instance: Instance) -> str:
    """Return the contrast phase that Series Description names, else Protocol Name; '' if none names a phase.

    Of several phases a phase other than portal venous counts.
    """
    return next((name for name, _ in _named_phases(instance)), "")


def absent_agent(instances: Iterable[Instance]) -> str:
    """Return that no header names an agent, in words; '' if a header does."""
    is_named = any(instance.text("ContrastBolusAgent") for instance in instances)
    return "" if is_named else "Contrast/Bolus Agent is absent"


def other_phase(instances: Iterable[Instance]) -> str:
    """Return why images are not of the portal venous phase, in words; '' if nothing says so.

    Where no image names an agent, the agent tells nothing.
    """
    images = tuple(instances)
    agents = [] if absent_agent(images) else images
    reasons = (*map(_no_agent, agents), *map(_other_phase, images))
    return next(filter(None, reasons), "")


def _no_agent(instance: Instance) -> str:
    words = unaccented(instance.text("ContrastBolusAgent")).strip()
    if _NO_AGENT.match(words) or _PATTERNS["native"].search(words):
        return "Contrast/Bolus Agent says that there is none"
    if _NO_VEIN.search(words) and not _VEIN.search(words):
        return "Contrast/Bolus Agent is none that is given into a vein"
    return ""


def _other_phase(instance: Instance) -> str:
    if _is_other_route(instance):
        return "Contrast/Bolus Route is not a vein"
    return next(
        (f"{attribute} names the {name} phase" for name, attribute in _named_phases(instance) if name != PORTAL_VENOUS),
        "",
    )


def _is_other_route(instance: Instance) -> bool:
    """Return whether the header names a route of the agent that is not a vein."""
    text = unaccented(instance.text("ContrastBolusRoute"))
    if _NO_VEIN.search(text) and not _VEIN.search(text):
        return True
    items = instance.header.get("ContrastBolusAdministrationRouteSequence", ())
    codes = [item for item in (items if isinstance(items, tuple) else ()) if isinstance(item, Mapping)]
    if any(str(code.get("CodeValue", "")) in _VEIN_CODES for code in codes):
        return False
    return any(code.get("CodeValue") for code in codes)


def _named_phases(instance: Instance) -> list[tuple[str, str]]:
    """Return each phase of the first text that names one, with the attribute.

    Image Type names the native image that is computed from two energies.
    """
    image_type = " ".join(instance.text("ImageType").split("\\")[2:])
    texts = (
        ("Series Description", instance.text("SeriesDescription")),
        ("Protocol Name", instance.text("ProtocolName")),
    )
    phases = [
        [(name, attribute) for name, pattern in _PATTERNS.items() if pattern.search(unaccented(text))]
        for attribute, text in texts
    ]
    virtual = re.search(r"(?<![a-z])(?:vnc|vue|vni|tnc)(?![a-z])", unaccented(image_type))
    computed = [("native", "Image Type")] if virtual else []
    return computed + next((names for names in phases if names), [])
