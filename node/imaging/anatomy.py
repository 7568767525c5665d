"""Which body part is this? Codes first, then Body Part Examined, then whole words of the descriptions; pure.

A part is named by its defined term for Body Part Examined (PS3.16 Annex L); `PARENTS` says of what it is a part, so
that a route for SPINE reads CSPINE. Words count only whole and the longest phrase wins: `thoracic spine` is TSPINE, not
CHEST; `PHARMA` has no ARM in it.
"""

import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ainode.node.domain import Header, Value

# Source: PS3.16 CID 4 and Annex L for the terms; grouping is ours, by what one image of the part shows.
_GROUPS = {
    "SPINE": "CSPINE TSPINE LSPINE SSPINE COCCYX CTSPINE TLSPINE LSSPINE WHOLESPINE",
    "CHEST": "LUNG HEART RIB STERNUM MEDIASTINUM CHESTABDOMEN CHESTABDPELVIS NECKCHEST NECKCHESTABDPELV WHOLEBODY",
    "ABDOMEN": "PANCREAS LIVER KIDNEY SPLEEN STOMACH COLON GALLBLADDER ABDOMENPELVIS CHESTABDOMEN CHESTABDPELVIS "
    "NECKCHESTABDPELV WHOLEBODY",
    "PELVIS": "HIP SIJOINT BLADDER PROSTATE UTERUS OVARY ABDOMENPELVIS CHESTABDPELVIS NECKCHESTABDPELV WHOLEBODY",
    "HEAD": "BRAIN SKULL FACE ORBIT SINUS JAW TEETH EAR HEADNECK",
    "NECK": "THYROID LARYNX HEADNECK NECKCHEST NECKCHESTABDPELV",
    "EXTREMITY": "SHOULDER CLAVICLE SCAPULA HUMERUS ARM ELBOW FOREARM WRIST HAND FINGER THUMB "
    "HIP FEMUR THIGH LEG KNEE PATELLA TIBFIB ANKLE CALCANEUS FOOT TOE",
}
PARTS = frozenset(_GROUPS) | {part for parts in _GROUPS.values() for part in parts.split()} | {"BREAST", "SKIN"}
"""Every name that a route may use."""
PARENTS: Mapping[str, tuple[str, ...]] = {
    part: tuple(group for group, parts in _GROUPS.items() if part in parts.split()) for part in PARTS
}

# SNOMED CT codes of PS3.16 CID 4, 4009 and 4031, and the retired SRT codes of the same concepts (PS3.16 Annex K and
# pydicom 3.0's table); the last three of the second line are what CID 4 had before 2020.
_CODES = {
    "SPINE": "421060004 T-D04FF T-11500 280717001 110517009 T-11011",
    "CSPINE": "122494005 T-11501",
    "TSPINE": "122495006 T-11502",
    "LSPINE": "122496007 T-11503",
    "SSPINE": "54735007 T-11AD0 1217254007",
    "COCCYX": "64688005 T-11BF0",
    "CTSPINE": "1217257000",
    "TLSPINE": "1217256009",
    "LSSPINE": "1217253001",
    "CHEST": "816094009 51185008 T-D3000 43799004 T-D3200",
    "LUNG": "39607008 T-28000",
    "HEART": "80891009 T-32000",
    "RIB": "113197003 T-11300",
    "STERNUM": "56873002 T-11210",
    "MEDIASTINUM": "72410000 T-D3300",
    "CHESTABDOMEN": "416550000 R-FAB55",
    "CHESTABDPELVIS": "416775004 R-FAB56",
    "NECKCHEST": "417437006 R-FAB52",
    "NECKCHESTABDPELV": "416319003 R-FAB54",
    "WHOLEBODY": "38266002 T-D0010",
    "ABDOMEN": "818981001 113345001 T-D4000",
    "ABDOMENPELVIS": "818982008 818987002 416949008 R-FAB57",
    "PANCREAS": "15776009 T-65000",
    "LIVER": "10200004 T-62000",
    "KIDNEY": "64033007 T-71000",
    "SPLEEN": "78961009 T-C3000",
    "STOMACH": "69695003 T-57000",
    "COLON": "71854001 T-59300",
    "GALLBLADDER": "28231008 T-63000",
    "PELVIS": "816092008 12921003 T-D6000 816989007",
    "SIJOINT": "39723000 T-15680",
    "BLADDER": "89837001 T-74000",
    "PROSTATE": "41216001 T-92000",
    "UTERUS": "35039007 T-83000",
    "OVARY": "15497006 T-87000",
    "HEAD": "69536005 T-D1100",
    "HEADNECK": "774007 T-D1000",
    "BRAIN": "12738006 T-A0100",
    "SKULL": "89546000 T-11100",
    "FACE": "89545001 T-D1200 91397008 T-11196",
    "ORBIT": "363654007 T-D14AE",
    "SINUS": "2095001 T-22000",
    "JAW": "661005 T-D1213 91609006 T-11180 70925003 T-11170",
    "TEETH": "38199008 T-54010",
    "NECK": "45048000 T-D1600",
    "THYROID": "69748006 T-B6000",
    "LARYNX": "4596009 T-24100",
    "BREAST": "76752008 T-04000",
    "EXTREMITY": "66019005 T-D0300 53120007 T-D8000 61685007 T-D9000",
    "SHOULDER": "16982005 T-D2220",
    "CLAVICLE": "51299004 T-12310",
    "SCAPULA": "79601000 T-12280",
    "HUMERUS": "85050009 T-12410",
    "ARM": "40983000 T-D8200",
    "ELBOW": "16953009 T-15430",
    "FOREARM": "14975008 T-D8500",
    "WRIST": "74670003 T-15460",
    "HAND": "85562004 T-D8700",
    "FINGER": "7569003 T-D8800",
    "THUMB": "76505004 T-D8810",
    "HIP": "29836001 T-D2500 24136001 T-15710",
    "FEMUR": "71341001 T-12710",
    "THIGH": "68367000 T-D9100",
    "LEG": "30021000 T-D9400",
    "KNEE": "72696002 T-D9200",
    "PATELLA": "64234005 T-12730",
    "ANKLE": "70258002 T-15750",
    "CALCANEUS": "80144004 T-12770",
    "FOOT": "56459004 T-D9700",
    "TOE": "29707007 T-D9800",
    "SKIN": "39937001 T-01000",
}
_SCHEMES = frozenset({"SCT", "SRT", "SNM3", "99SDM"})  # PS3.16 8.1; 99SDM is what early devices wrote for SNM3

# Words as people write them, accents folded, in English, German, French, Spanish, Italian (and Body Part Examined's own
# terms beside the part's name); phrases are separated by commas.
_WORDS = {
    # A part's name in what is none; `face` is French for the frontal view.
    "": "c arm, head first, feet first, foot first, de face, face profil, face et profil",
    "SPINE": "spine, spinal, spinal column, vertebra, vertebrae, vertebral column, wirbelsaule, wirbelsaeule, "
    "wirbel, rachis, colonne, colonne vertebrale, columna, columna vertebral, raquis, colonna, colonna "
    "vertebrale, rachide",
    "CSPINE": "c spine, c sp, cerv spine, cervical spine, cervicalspine, hws, halswirbel, halswirbelsaule, "
    "halswirbelsaeule, rachis cervical, colonne cervicale, columna cervical, raquis cervical, colonna "
    "cervicale, rachide cervicale",
    "TSPINE": "t spine, d spine, th spine, thor spine, dspine, thoracic spine, dorsal spine, thoracicspine, bws, "
    "brustwirbel, brustwirbelsaule, brustwirbelsaeule, rachis dorsal, rachis thoracique, colonne dorsale, "
    "colonne thoracique, columna dorsal, columna toracica, raquis dorsal, colonna dorsale, colonna "
    "toracica, rachide dorsale, rachide toracico",
    "LSPINE": "l spine, lumb spine, lumbar spine, lumbarspine, lumbar, lws, lendenwirbel, lendenwirbelsaule, "
    "lendenwirbelsaeule, rachis lombaire, colonne lombaire, columna lumbar, raquis lumbar, colonna "
    "lombare, rachide lombare, lombaire",
    "SSPINE": "sacrum, sacral spine, kreuzbein, os sacrum, sacro",
    "COCCYX": "coccyx, steissbein, coxis, coccige",
    "CTSPINE": "cervical and thoracic spine, cervicothoracic spine, cervico thoracic spine, rachis cervico dorsal",
    "TLSPINE": "tl spine, thoracic and lumbar spine, thoracic lumbar spine, thoracolumbar spine, thoraco lumbar "
    "spine, dorsolumbar spine, rachis dorso lombaire, columna dorsolumbar, colonna dorso lombare",
    "LSSPINE": "ls spine, lumbosacral spine, lumbo sacral spine, lumbosacral, rachis lombo sacre, columna "
    "lumbosacra, colonna lombosacrale, colonna lombo sacrale",
    "WHOLESPINE": "whole spine, full spine, total spine, entire spine, scoliosis, ganzwirbelsaule, "
    "wirbelsaulenganzaufnahme, rachis entier, columna completa, telerachide",
    "CHEST": "chest, thorax, thoracic, thoracique, torax, torace, toracico, chest wall",
    "LUNG": "lung, lungs, lunge, pulmonary, poumon, poumons, pulmon, pulmones, polmone, polmoni",
    "HEART": "heart, cardiac, coronary, herz, coeur, corazon, cuore",
    "RIB": "rib, ribs, rippen, rippe, cotes, costillas, coste",
    "STERNUM": "sternum, brustbein, esternon, sterno",
    "MEDIASTINUM": "mediastinum",
    "CHESTABDOMEN": "chest abdomen",
    "CHESTABDPELVIS": "chest to pelvis, chest abdomen pelvis, chest abd pelvis, cap",
    "NECKCHEST": "neck chest",
    "NECKCHESTABDPELV": "neck chest abdomen pelvis",
    "WHOLEBODY": "whole body, total body, ganzkorper, ganzkoerper, corps entier, cuerpo entero, corpo intero",
    "ABDOMEN": "abdomen, abd, abdominal, kub, bauch, addome, ventre",
    "ABDOMENPELVIS": "abdomen pelvis, abd pelvis, abdomen and pelvis",
    "PANCREAS": "pancreas, pankreas, pancreatic, bauchspeicheldruse",
    "LIVER": "liver, hepatic, leber, foie, higado, fegato",
    "KIDNEY": "kidney, kidneys, renal, niere, nieren, reins, rinon, rinones, reni",
    "SPLEEN": "spleen, milz, bazo, milza",
    "STOMACH": "stomach, magen, estomac, estomago, stomaco",
    "COLON": "colon, dickdarm",
    "GALLBLADDER": "gallbladder, gallenblase",
    "PELVIS": "pelvis, pelvic, becken, bassin, bacino",
    "HIP": "hip, hips, hip joint, femoral neck, femoral head, hufte, huefte, huftgelenk, hanche, cadera, anca",
    "SIJOINT": "si joint, si joints, sacroiliac, sacroiliac joint, isg",
    "BLADDER": "bladder, harnblase, vessie, vejiga, vescica",
    "PROSTATE": "prostate, prostata",
    "UTERUS": "uterus",
    "OVARY": "ovary, ovaries",
    "HEAD": "head, kopf, schadel, schaedel, tete, cabeza, testa, cranium, cranial",
    "HEADNECK": "head and neck, head neck",
    "BRAIN": "brain, cerebral, gehirn, hirn, cerveau, cerebro, cervello, encephale",
    "SKULL": "skull, crane, craneo, cranio",
    "FACE": "facial, facial bones, gesicht, gesichtsschadel, cara, massif facial",
    "ORBIT": "orbit, orbits, orbita, orbite",
    "SINUS": "sinus, sinuses, paranasal sinuses, nnh, nasennebenhohlen, senos paranasales, seni paranasali",
    "JAW": "jaw, mandible, maxilla, tmj, kiefer, unterkiefer, oberkiefer, mandibule, mandibula, mandibola",
    "TEETH": "teeth, tooth, dental, zahn, zahne, zaehne, dents, dientes, denti",
    "EAR": "ear, ears, felsenbein, iac",
    "NECK": "neck, hals, cou, cuello, collo",
    "THYROID": "thyroid, schilddruse, thyroide, tiroides, tiroide",
    "LARYNX": "larynx, kehlkopf",
    "BREAST": "breast, breasts, mammography, mammographie, mammogramm, seins, mama, mammella",
    "EXTREMITY": "extremity, upper extremity, lower extremity, extremitat, extremitaet, upper limb, lower limb",
    "SHOULDER": "shoulder, shoulders, schulter, epaule, hombro, spalla",
    "CLAVICLE": "clavicle, schlusselbein, schluesselbein, clavicule, clavicula, clavicola",
    "SCAPULA": "scapula, schulterblatt, omoplate, escapula, scapola",
    "HUMERUS": "humerus, oberarm, humero, omero",
    "ARM": "arm, arms, upper arm, bras, brazo, braccio",
    "ELBOW": "elbow, elbows, radial head, ellbogen, ellenbogen, coude, codo, gomito",
    "FOREARM": "forearm, unterarm, avant bras, antebrazo, avambraccio, radius, ulna",
    "WRIST": "wrist, wrists, handgelenk, poignet, muneca, polso, scaphoid",
    "HAND": "hand, hands, hande, haende, la main, main droite, main gauche, mains, mano, mani, manos",
    "FINGER": "finger, fingers, doigt, dedo, dedos, dito",
    "THUMB": "thumb, daumen, pouce, pulgar, pollice",
    "FEMUR": "femur, femora, oberschenkel, femore",
    "THIGH": "thigh, cuisse, muslo, coscia",
    "LEG": "leg, legs, lower leg, unterschenkel, bein, beine, jambe, pierna, gamba",
    "KNEE": "knee, knees, knie, kniegelenk, genou, genoux, rodilla, ginocchio, ginocchia",
    "PATELLA": "patella, kniescheibe, rotule, rotula",
    "TIBFIB": "tibia, fibula, tib fib, distal tibia, perone",
    "ANKLE": "ankle, ankles, sprunggelenk, osg, cheville, tobillo, caviglia",
    "CALCANEUS": "calcaneus, heel, os calcis, fersenbein, calcaneum, calcaneo",
    "FOOT": "foot, feet, fuss, fusse, fuesse, pied, pieds, pie, pies, piede, piedi",
    "TOE": "toe, toes, zeh, zehe, zehen, orteil, alluce",
    "SKIN": "skin, dermoscopy, dermatoscopy, dermoscopic, haut, peau, piel, pelle",
}
_DESCRIPTIONS = ("SeriesDescription", "ProtocolName", "StudyDescription")


def _words(text: str) -> tuple[str, ...]:
    """Return the words of a text, lower case, accents folded."""
    folded = unicodedata.normalize("NFKD", text.lower().replace("ß", "ss"))
    bare = "".join(one for one in folded if not unicodedata.combining(one))
    return tuple(re.findall(r"[a-z0-9]+", bare))


_BY_CODE = {code: part for part, codes in _CODES.items() for code in codes.split()}
_BY_TERM = {part.lower(): part for part in PARTS}
_BY_PHRASE = {(term,): part for term, part in _BY_TERM.items()} | {
    _words(phrase): part for part, phrases in _WORDS.items() for phrase in phrases.split(",")
}
_LONGEST = max(map(len, _BY_PHRASE))


@dataclass(frozen=True, slots=True)
class BodyPart:
    """Which part an image shows, and why."""

    parts: tuple[str, ...]
    """as found, in the order of reading; empty where nothing says it"""
    attribute: str
    """the attribute that decided"""
    found: str
    """the code or the words in it that decided"""

    @property
    def names(self) -> frozenset[str]:
        """Return the parts and everything they are a part of."""
        return frozenset(self.parts).union(*(PARENTS[part] for part in self.parts))

    def __str__(self) -> str:
        """Return a phrase for an explanation."""
        if not self.parts:
            return "unknown: no anatomic code, Body Part Examined or description names a part"
        return f"{' and '.join(self.parts)} ({self.attribute}: {self.found})"


def _spoken(text: str) -> dict[str, str]:
    """Return part to phrase for every part that whole words of the text name; the longest phrase takes its words."""
    words, at = _words(text), 0
    found: dict[str, str] = {}
    while at < len(words):
        ahead = (words[at : at + length] for length in range(_LONGEST, 0, -1))
        phrase = next((one for one in ahead if one in _BY_PHRASE), ())
        if phrase:
            found.setdefault(_BY_PHRASE[phrase], " ".join(phrase))
        at += len(phrase) or 1
    return {part: phrase for part, phrase in found.items() if part}


def _regions(header: Header) -> Iterator[Header]:
    """Yield the anatomic region codes: of the image, or of the frames of a multi-frame image."""
    holders: list[Value] = [header]
    for outer in ("SharedFunctionalGroupsSequence", "FrameAnatomySequence"):
        inner = [holder[outer] for holder in holders if isinstance(holder, Mapping) and outer in holder]
        holders += [item for items in inner if isinstance(items, tuple) for item in items]
    for holder in holders:
        codes = holder.get("AnatomicRegionSequence", ()) if isinstance(holder, Mapping) else ()
        yield from (code for code in (codes if isinstance(codes, tuple) else ()) if isinstance(code, Mapping))


def _coded(header: Header) -> BodyPart | None:
    for code in _regions(header):
        value, scheme, meaning = (
            str(code.get(key, "")) for key in ("CodeValue", "CodingSchemeDesignator", "CodeMeaning")
        )
        if scheme in _SCHEMES and value in _BY_CODE:
            return BodyPart((_BY_CODE[value],), "AnatomicRegionSequence", f"{value} {scheme}")
        if spoken := _spoken(meaning):
            return BodyPart(tuple(spoken), "AnatomicRegionSequence", ", ".join(spoken.values()))
    return None


def _examined(header: Header) -> BodyPart | None:
    value = str(header.get("BodyPartExamined", ""))
    term = "".join(_words(value))
    parts = (_BY_TERM[term],) if term in _BY_TERM else tuple(_spoken(value))
    return BodyPart(parts, "BodyPartExamined", value) if parts else None


def body_part(header: Header) -> BodyPart:
    """Return which part the image shows: the first of code, Body Part Examined, descriptions that names one.

    Source: PS3.3 10.5 (Anatomic Region Sequence), PS3.16 CID 4, Annex L (Body Part Examined).
    """
    if known := _coded(header) or _examined(header):
        return known
    for keyword in _DESCRIPTIONS:
        value = header.get(keyword, "")
        if isinstance(value, str) and (spoken := _spoken(value)):
            return BodyPart(tuple(spoken), keyword, ", ".join(spoken.values()))
    return BodyPart((), "BodyPartExamined", str(header.get("BodyPartExamined", "")))
