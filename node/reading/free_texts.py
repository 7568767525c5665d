"""The free text of a DICOM object that a program made: no patient is named in it.

What an object states of patient and study in the places for it is held against the images by `statements.py`. Text
elsewhere that quotes the patient is left out, as in the words of a program; text that states another patient refuses
the object. Nobody looks into pictures and PDF documents.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from pydicom import Dataset, dcmread
from pydicom.dataelem import DataElement
from pydicom.multival import MultiValue

from ainode.node.domain import Instance
from ainode.node.reading.quotes import quote_finder
from ainode.node.reading.statements import is_statement, plain, statement_of_item

_TEXTS: Final = {"LO": 64, "SH": 16, "ST": 1024, "LT": 10240, "UC": 10240, "UT": 10240}
"""value representations of free text, and how many letters each may have at least (PS3.5 6.2)"""
_LEFT_OUT: Final = ("the program's words name the patient, and are left out", "left out")
# Names in the form of DICOM, and what is said to be a patient's.
_NAME: Final = re.compile(r"[^\W\d_]{2,}\^[^\W\d_]{2,}")
# What a person's name, identifier or day of birth follows, in English, German, French, Spanish, Portuguese, Italian,
# Dutch and Russian.
_LABELS: Final = (
    r"patient(?:['\u2019]?s)?[\s_-]*(?:name|id|identifier|birth[\s_-]*date|date of birth)",
    r"patienten[\s_-]*(?:name|id|nummer)|nom d[eu] (?:la )?patiente?|(?:nombre|nome) d(?:el|e la|o|a) paciente",
    r"nome d(?:el|ella) paziente|pati[eë]nt(?:naam|nummer)|naam (?:van de )?pati[eë]nt|имя пациент(?:а|ки)",  # noqa: RUF001
    r"date of birth|mrn|dob|geburtsdatum|date de naissance|fecha de nacimiento|data de nascimento|data di nascita",
    r"geboortedatum|дата рождения|(?:sur|family |last )name|(?:nach|familien)name|nom de famille|apellidos?",
    r"sobrenome|cognome|achternaam|фамилия",
)
_LABELED: Final = re.compile(rf"\b(?:{'|'.join(_LABELS)})\s*[:=#]\s*(\S.{{0,200}})", re.IGNORECASE)
_LETTERS: Final = r"(?:[^\W\d_]|['\u2019 -])"
# The bare word stands before names of models and series too: only what is written as surname, comma, given name counts.
_NAMED: Final = re.compile(
    rf"(?:^|[.;,|(])\s*(?:name|nom|nombre|nome|naam|имя)\s*[:=#]\s*({_LETTERS}+,\s*{_LETTERS}+)",
    re.IGNORECASE | re.MULTILINE,
)
_OF_A_CODE: Final = frozenset(("CodeValue", "LongCodeValue", "CodingSchemeDesignator", "CodingSchemeVersion"))
_STANDARD_SCHEMES: Final = frozenset(("SCT", "SRT", "SNM3", "DCM", "LN", "UCUM", "FMA", "UMLS", "RADLEX", "RFC5646"))


class StatesAnother(Exception):
    """A text states a patient who is not that of the images; its words are the keyword of the text."""


def leave_out_quotes(dataset: Dataset, sources: Sequence[Instance]) -> bool:
    """Put words of the node in the place of an object's texts that quote the patient; return whether there were any.

    A text that an image has in the same element may be repeated. Private elements do not leave, and are not looked at.

    Raises: StatesAnother.
    """
    quotes, image_texts = quote_finder(sources[0]), _image_texts(sources)
    answers: dict[str, bool] = {}
    is_any_left_out = False
    for item, element in _free_texts(dataset):
        texts = [str(value) for value in (element.value if isinstance(element.value, MultiValue) else [element.value])]
        new_texts = [text for text in texts if text and (element.keyword, plain(text)) not in image_texts]
        if any(_states_another(text, quotes) for text in new_texts):
            raise StatesAnother(element.keyword or str(element.tag))
        for text in new_texts:
            if text not in answers:
                answers[text] = quotes(text)
        if any(answers[text] for text in new_texts):
            long, short = _LEFT_OUT
            item[element.tag].value = long if len(long) <= _TEXTS[element.VR] else short
            is_any_left_out = True
    return is_any_left_out


def _states_another(text: str, quotes: Callable[[str], bool]) -> bool:
    """Return whether a text states somebody as a patient who is not the patient of the images."""
    named = (words for words in _NAMED.findall(text) if all(map(_has_capital, words.split(","))))
    stated = [*_NAME.findall(text), *_LABELED.findall(text), *named]
    return any(not quotes(words) for words in stated)


def _has_capital(text: str) -> bool:
    return any(letter.isupper() for letter in text)


def _image_texts(sources: Sequence[Instance]) -> set[tuple[str, str]]:
    """Return the texts of the first image of each series."""
    by_series = {source.ref.series_instance_uid: source for source in reversed(sources)}
    texts = set()
    for source in by_series.values():
        for element in dcmread(source.path, stop_before_pixels=True).iterall():
            if element.VR in _TEXTS:
                values = element.value if isinstance(element.value, MultiValue) else [element.value]
                texts |= {(element.keyword, plain(value)) for value in values}
    return texts


def _free_texts(dataset: Dataset) -> Iterator[tuple[Dataset, DataElement]]:
    """Yield each text that is no statement with a place of its own, and no code of a scheme of others."""
    if str(dataset.get("CodingSchemeDesignator", "")).upper() in _STANDARD_SCHEMES:
        return
    place = statement_of_item(dataset)
    for element in [*dataset]:
        if element.tag.is_private or (place and element.keyword == place) or element.keyword in _OF_A_CODE:
            continue
        if element.VR == "SQ":
            for item in element.value:
                yield from _free_texts(item)
        elif element.VR in _TEXTS and not is_statement(element):
            yield dataset, element
