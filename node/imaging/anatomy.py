"""The body part of an image: by its codes first, then by Body Part Examined, then by the words of its descriptions.

The name of a part is the part's defined term for Body Part Examined (PS3.16 Annex L). `PARENTS` names the larger parts
that contain a part, so that a route for SPINE reads CSPINE. Only whole words count, and the longest phrase wins:
`thoracic spine` is TSPINE, not CHEST; `PHARMA` does not name ARM.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from ainode.node.domain import Header, Value
from ainode.node.imaging.free_text import unaccented
from ainode.node.routes import PART_UNKNOWN

# Source: PS3.16 CID 4 and Annex L for the terms. The groups are the node's own: an image of the part shows the group.
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
"""Every body part that a route may name."""
PARENTS: Mapping[str, tuple[str, ...]] = {
    part: tuple(group for group, parts in _GROUPS.items() if part in parts.split()) for part in PARTS
}
"""The larger parts that contain each part."""

# SNOMED CT codes of PS3.16 CID 4, 4009 and 4031, and the retired SRT codes of the same concepts (PS3.16 Annex K and
# pydicom 3.0's table); the last three codes of the first line stood in CID 4 before 2020.
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
_SCHEMES = frozenset({"SCT", "SRT", "SNM3", "99SDM"})  # PS3.16 8.1; early devices wrote 99SDM for SNM3

# Phrases that people write for a part, without accents, in English, German, French, Spanish and Italian, and terms of
# Body Part Examined beside the part's own; commas separate the phrases.
_PHRASES = {
    # Phrases that hold the name of a part but name no part; `face` is French for the frontal view.
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
_LABELS = {"AnatomicRegionSequence": "Anatomic Region", "BodyPartExamined": "Body Part Examined"}
_DESCRIPTION_NAMES = ("Series Description", "Protocol Name", "Study Description")
# Parts that reach over several segments of the spine.
_SEGMENTS = {
    "CTSPINE": "CSPINE TSPINE",
    "TLSPINE": "TSPINE LSPINE",
    "LSSPINE": "LSPINE SSPINE",
    "WHOLESPINE": _GROUPS["SPINE"],
}


def _words(text: str) -> tuple[str, ...]:
    """Return the words of a text in lower case, without accents."""
    return tuple(re.findall(r"[a-z0-9]+", unaccented(text)))


_PART_BY_CODE = {code: part for part, codes in _CODES.items() for code in codes.split()}
_PART_BY_TERM = {part.lower(): part for part in PARTS}
_PART_BY_PHRASE = {(term,): part for term, part in _PART_BY_TERM.items()} | {
    _words(phrase): part for part, phrases in _PHRASES.items() for phrase in phrases.split(",")
}
_LONGEST_PHRASE = max(map(len, _PART_BY_PHRASE))


@dataclass(frozen=True, slots=True)
class BodyPart:
    """The body parts that an image shows, and the header value that names the parts."""

    parts: tuple[str, ...]
    """in the order in which the header names the parts; empty where the header names no part"""
    attribute: str
    """keyword of the attribute that names the parts"""
    term: str
    """code or words of the attribute that name the parts"""

    @property
    def names(self) -> frozenset[str]:
        """Return the names of the parts and of the larger parts that contain them."""
        return frozenset(self.parts).union(*(PARENTS[part] for part in self.parts))

    def __str__(self) -> str:
        """Return the parts and the header value that names them, for an explanation."""
        if not self.parts:
            return PART_UNKNOWN
        return f"{' and '.join(self.parts)} ({self.attribute}: {self.term})"


def _phrases_by_part(text: str) -> dict[str, str]:
    """Return each part that the text names, with the phrase that names the part.

    At each word the longest phrase is taken, and no word counts twice.
    """
    words, start = _words(text), 0
    phrases: dict[str, str] = {}
    while start < len(words):
        candidates = (words[start : start + length] for length in range(_LONGEST_PHRASE, 0, -1))
        phrase = next((candidate for candidate in candidates if candidate in _PART_BY_PHRASE), ())
        if phrase:
            phrases.setdefault(_PART_BY_PHRASE[phrase], " ".join(phrase))
        start += len(phrase) or 1
    return {part: phrase for part, phrase in phrases.items() if part}


def _region_codes(header: Header) -> Iterator[Header]:
    """Yield the items of Anatomic Region Sequence: those of the image, then those shared by all frames."""
    datasets: list[Value] = [header]
    for keyword in ("SharedFunctionalGroupsSequence", "FrameAnatomySequence"):
        sequences = [dataset[keyword] for dataset in datasets if isinstance(dataset, Mapping) and keyword in dataset]
        datasets += [item for sequence in sequences if isinstance(sequence, tuple) for item in sequence]
    for dataset in datasets:
        codes = dataset.get("AnatomicRegionSequence", ()) if isinstance(dataset, Mapping) else ()
        yield from (code for code in (codes if isinstance(codes, tuple) else ()) if isinstance(code, Mapping))


def _part_by_code(header: Header) -> BodyPart | None:
    """Return the part of the first region code that is known, or whose meaning names a part."""
    for code in _region_codes(header):
        value, scheme, meaning = (
            str(code.get(key, "")) for key in ("CodeValue", "CodingSchemeDesignator", "CodeMeaning")
        )
        if scheme in _SCHEMES and value in _PART_BY_CODE:
            return BodyPart((_PART_BY_CODE[value],), "AnatomicRegionSequence", f"{value} {scheme}")
        if phrases := _phrases_by_part(meaning):
            return BodyPart(tuple(phrases), "AnatomicRegionSequence", ", ".join(phrases.values()))
    return None


def _part_by_body_part_examined(header: Header) -> BodyPart | None:
    """Return the part that Body Part Examined names by a defined term or in words."""
    value = str(header.get("BodyPartExamined", ""))
    term = "".join(_words(value))
    if term in _PART_BY_TERM:
        return BodyPart((_PART_BY_TERM[term],), "BodyPartExamined", value)
    phrases = _phrases_by_part(value)
    return BodyPart(tuple(phrases), "BodyPartExamined", ", ".join(phrases.values()).upper()) if phrases else None


def body_part(header: Header) -> BodyPart:
    """Return the part that the codes name, else Body Part Examined, else the first description that names a part.

    Source: PS3.3 10.5 (Anatomic Region Sequence), PS3.16 CID 4, Annex L (Body Part Examined).
    """
    if part := _part_by_code(header) or _part_by_body_part_examined(header):
        return part
    for keyword in _DESCRIPTIONS:
        value = header.get(keyword, "")
        if isinstance(value, str) and (phrases := _phrases_by_part(value)):
            return BodyPart(tuple(phrases), keyword, ", ".join(phrases.values()))
    return BodyPart((), "BodyPartExamined", str(header.get("BodyPartExamined", "")))


def contradiction(header: Header) -> str:
    """Return in words that the label of an image and every description name different parts; '' if they do not.

    Where one description agrees with the label, or no description names a part, nothing contradicts.
    """
    label = _part_by_code(header) or _part_by_body_part_examined(header)
    phrases = {
        name: _phrases_by_part(str(header.get(keyword, "")))
        for keyword, name in zip(_DESCRIPTIONS, _DESCRIPTION_NAMES, strict=True)
    }
    named = {name: parts for name, parts in phrases.items() if parts}
    if label is None or not named or any(_overlap(label.parts, parts) for parts in named.values()):
        return ""
    texts = ", ".join(f"{name} says {' and '.join(parts)}" for name, parts in named.items())
    return f"{_LABELS[label.attribute]} says {' and '.join(label.parts)}, but {texts}; look which part is shown"


def _overlap(parts: Iterable[str], others: Iterable[str]) -> bool:
    """Return whether a part is another part, contains it, or shares a segment of the spine with it."""
    return any(_covered(part) & _covered(other) for part in parts for other in others)


def _covered(part: str) -> frozenset[str]:
    """Return a part with the parts that it contains."""
    contained = f"{_GROUPS.get(part, '')} {_SEGMENTS.get(part, '')}".split()
    return frozenset((part, *contained))
