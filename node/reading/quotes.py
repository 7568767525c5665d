"""Whether words of a stranger name the patient of an image: by name, identifier or day of birth, however written."""

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Final

from pydicom import dcmread

from ainode.node.domain import Instance
from ainode.node.reading.birth_dates import has_birth_date
from ainode.node.reading.inflections import has_syllables, stem

_NAMES: Final = ("PatientName", "OtherPatientNames", "PatientBirthName", "PatientMotherBirthName")
_IDENTIFIERS: Final = ("PatientID", "OtherPatientIDs")
_BIRTH: Final = "PatientBirthDate"
_PARTS: Final = re.compile(r"[\W_]+")
# Shorter parts of a name, by themselves, are words of any sentence.
_SHORTEST_PART: Final = 3
# Shorter numbers, taken apart, are measurements: 12.3 is no 123.
_SHORTEST_NUMBER: Final = 6
# What decomposes into no letter and mark, and how German and Nordic names are written without their letters.
_PLAIN_LETTERS: Final = str.maketrans({"ø": "o", "ł": "l", "đ": "d", "æ": "ae", "œ": "oe"})
_SPELLED_OUT: Final = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ø": "oe", "å": "aa", "æ": "ae"})
# Russian, Ukrainian, Bulgarian and Serbian in Latin letters, after the marks have gone.
_LATIN: Final = str.maketrans(
    dict(zip("абвгдезиклмнопрстуфыэіґђјћє", "abvgdeziklmnoprstufyeigdjce", strict=True))
    | {"ж": "zh", "х": "kh", "ц": "ts", "ч": "ch", "ш": "sh", "щ": "shch", "ю": "yu", "я": "ya", "ъ": "", "ь": ""}  # noqa: RUF001
    | {"љ": "lj", "њ": "nj", "џ": "dz"}
)
# What the systems of Latin letters write differently: Yuriy, Iurii; Khan, Han; Sergeyev, Sergeev.
_ONE_SOUND: Final = (("kh", "h"), ("sch", "sh"), ("shch", "sh"), ("w", "v"), ("y", "i"), ("j", "i"))
# Cases and the female form of a Russian name, as `_sound` has them.
_LATIN_ENDINGS: Final = ("a", "u", "e", "i", "oi", "oiu", "om", "im", "ia", "iu", "oio", "aia", "uiu", "ogo", "omu")
_SAME_VOWELS: Final = re.compile(r"i+(?=[ei])")
_WITHOUT_SPACES: Final = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL")
# Digits one by one, such as "1 2 3 4 5"; 1.2 and 3,4 are measurements.
_SPELLED_NUMBER: Final = re.compile(r"(?<![\w.,])\d(?:[^\w.,]+\d(?!\w))+(?![.,]\d)")
_SHORTEST_SPELLED: Final = 4


def quotes_patient(text: str, source: Instance) -> bool:
    """Return whether a text has a part of the name, the identifier or the birth date of an instance's patient."""
    return quote_finder(source)(text)


def quote_finder(source: Instance) -> Callable[[str], bool]:
    """Return `quotes_patient` of an instance, whose file is read once for all texts."""
    keywords = (*_NAMES, *_IDENTIFIERS, _BIRTH)
    dataset = dcmread(source.path, stop_before_pixels=True, specific_tags=list(keywords))
    values = {keyword: str(dataset.get(keyword, "") or "") for keyword in keywords}
    groups = [group for keyword in _NAMES for group in values[keyword].split("=")]
    names = [name for group in groups for name in _spellings(group)]
    sounds = [_sound(latin) for group in groups for latin in _in_latin(group)]
    stems = _stems(part for name in names for part in _parts(name))
    parts = [_parts(name) for name in names]
    identifiers = [form for keyword in _IDENTIFIERS for form in _spellings(values[keyword])]

    def quotes(text: str) -> bool:
        return _has_sound(text, names, sounds) or any(
            _is_bent(words, stems)
            or has_syllables(words, parts)
            or _has_name(words, names)
            or _has_identifier(words, identifiers)
            or has_birth_date(words, values[_BIRTH])
            for words in _spellings(text)
        )

    return quotes


def _spellings(text: str) -> Iterator[str]:
    """Yield a text without case and marks on letters, as people write it where a keyboard lacks the letters."""
    # A soft hyphen parts no word; Arabic and other digits are numbers.
    shown = "".join(_plain_digit(char) for char in text if unicodedata.category(char) != "Cf")
    folded = unicodedata.normalize("NFC", shown).casefold()
    for plain in dict.fromkeys((folded.translate(_PLAIN_LETTERS), folded.translate(_SPELLED_OUT))):
        decomposed = unicodedata.normalize("NFKD", plain)
        yield unicodedata.normalize("NFC", "".join(char for char in decomposed if not unicodedata.combining(char)))


def _plain_digit(char: str) -> str:
    return str(unicodedata.decimal(char)) if char.isdecimal() else char


def _in_latin(text: str) -> Iterator[str]:
    """Yield the Latin forms of a text in Cyrillic letters; nothing of another."""
    for spelling in _spellings(text):
        if (latin := spelling.translate(_LATIN)) != spelling:
            yield latin


def _sound(latin: str) -> str:
    """Return a text as all systems of Latin letters would write it."""
    for written, common in _ONE_SOUND:
        latin = latin.replace(written, common)
    return _SAME_VOWELS.sub("", latin)


def _has_sound(text: str, names: Sequence[str], sounds: Sequence[str]) -> bool:
    """Return whether a name in Cyrillic letters stands in a text in Latin ones, or the other way round."""
    in_latin = [*_in_latin(text)]
    is_heard = bool(sounds) and any(_has_name(_sound(words), sounds) for words in (*_spellings(text), *in_latin))
    # A name in Latin letters is a name of any language, and is held by its letters alone.
    return is_heard or any(_has_name(words, names) for words in in_latin)


def _stems(names: Iterable[str]) -> frozenset[str]:
    """Return the stems of names in Cyrillic letters, also as Latin letters write them."""
    stems = {stem(name) for name in names if name.translate(_LATIN) != name}
    long = {name for name in stems if len(name) > _SHORTEST_PART}
    return frozenset(long | {_sound(name.translate(_LATIN)) for name in long})


def _is_bent(text: str, stems: frozenset[str]) -> bool:
    """Return whether a word of the text is a name in Cyrillic letters in another case or gender, in either letters."""
    if not stems:
        return False
    words = _parts(text)
    bent = {stem(word) for word in words}
    for word in words:
        sound = _sound(word)
        bent |= {sound.removesuffix(ending) for ending in _LATIN_ENDINGS if sound.endswith(ending)}
    return not stems.isdisjoint(bent)


def _parts(text: str) -> list[str]:
    return [part for part in _PARTS.split(text) if part]


def _has_name(text: str, names: Iterable[str]) -> bool:
    """Return whether a part of a name is a word of the text, or short parts of it stand side by side."""
    words = _parts(text)
    singular = {*words, *(word.removesuffix("s") for word in words)}
    for parts in map(_parts, names):
        long = {part for part in parts if len(part) >= _SHORTEST_PART}
        if long & singular or any({*pair} <= {*parts} and len({*pair}) > 1 for pair in pairwise(words)):
            return True
        whole = ("".join(parts), "".join(reversed(parts)))
        if any(not name.isascii() and len(name) > 1 and name in "".join(words) for name in whole):
            return True
        if any(_is_without_spaces(part) and len(part) > 1 and part in "".join(words) for part in parts):
            return True
        # Parts written together, or one taken apart: O'Brien as OBrien, Müller as Mül-ler or M ü l l e r.
        joined = {*whole, *(first + second for first, second in pairwise(parts)), *long}
        if any(len(name) > _SHORTEST_PART and _stands_in(words, name) for name in joined):
            return True
    return False


def _is_without_spaces(part: str) -> bool:
    """Return whether a part of a name is of a script that puts no space between words."""
    return all(unicodedata.name(char, "").startswith(_WITHOUT_SPACES) for char in part)


def _stands_in(words: Sequence[str], whole: str) -> bool:
    """Return whether words that follow one another, written together, are a whole."""
    return any(_begins(words[start:], whole) for start in range(len(words)))


def _has_identifier(text: str, identifiers: Iterable[str]) -> bool:
    """Return whether an identifier stands in the text, also with other separators."""
    words = _parts(text)
    for parts in map(_parts, identifiers):
        if any(part.isdigit() and len(part) >= _SHORTEST_PART and part in text.replace("-", "") for part in parts):
            return True
        whole = "".join(parts)
        if len(whole) >= _SHORTEST_SPELLED and whole in map(_digits, _SPELLED_NUMBER.findall(text)):
            return True
        shortest = _SHORTEST_NUMBER if whole.isdigit() else _SHORTEST_PART
        if len(whole) >= shortest and _stands_in(words, whole):
            return True
        if any(len(part) >= _SHORTEST_PART and part in words for part in parts):
            return True
    return False


def _digits(spelled: str) -> str:
    return "".join(_parts(spelled))


def _begins(words: Sequence[str], whole: str) -> bool:
    """Return whether the first words, written together, are a whole."""
    joined = ""
    for word in words:
        joined += word
        if len(joined) >= len(whole):
            break
    return joined == whole
