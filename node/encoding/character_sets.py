"""Which character set the text of a data set is in; headers and documents follow one rule.

Terms that are misspelled are corrected. Text without a known term is UTF-8 where it is valid UTF-8, else ISO 8859-1.
"""

import re
from collections.abc import Iterable

from pydicom.charset import python_encoding

UTF_8, LATIN_1 = "ISO_IR 192", "ISO_IR 100"
# Terms without code extensions: what follows them does not count (PS3.3 C.12.1.1.2).
_ALONE = frozenset({UTF_8, "GB18030", "GBK"})
# PS3.5 6.1.2.5.3; in a decoded text no escape sequence has a meaning.
_ESCAPE_SEQUENCE = re.compile(r"\x1b[$()*+,\-./]{1,2}[@-~]")
# Names of programming languages and of other standards for character sets without escape sequences.
_OTHER_NAMES = {
    "GB2312": "GB18030",
    "GB 2312": "GB18030",
    "GB_2312-80": "GB18030",
    "EUC-CN": "GB18030",
    "ISO_IR 58": "GB18030",
    "EUC-KR": "ISO 2022 IR 149",
    "EUC_KR": "ISO 2022 IR 149",
    "ISO_IR 149": "ISO 2022 IR 149",
}
_SPELLING = re.compile(r"ISO[ _-]*(2022)?[ _-]*IR[ _-]*(\d+)", re.IGNORECASE)


def known_terms(terms: Iterable[str]) -> tuple[str, ...]:
    """Return the terms of Specific Character Set that are known, as the standard spells them; () where none is.

    The first term may be empty: the default repertoire, which the other terms extend.
    """
    spelled = [_spelled(term) for term in terms]
    decodable = [term for number, term in enumerate(spelled) if term in python_encoding and (term or not number)]
    if decodable and decodable[0] in _ALONE:
        return (decodable[0],)
    return tuple(decodable) if any(decodable) else ()


def undeclared_term(texts: Iterable[bytes]) -> str:
    """Return the term for texts of a data set that names no known character set."""
    try:
        for text in texts:
            text.decode()
    except UnicodeDecodeError:
        return LATIN_1
    return UTF_8


def without_escapes(text: str) -> str:
    """Return a decoded text without the escape sequences that codecs leave in it, as those of ISO 2022 IR 58."""
    return _ESCAPE_SEQUENCE.sub("", text) if "\x1b" in text else text


def _spelled(term: str) -> str:
    plain = term.strip(" \0")
    if match := _SPELLING.fullmatch(plain):
        plain = f"ISO 2022 IR {match[2]}" if match[1] else f"ISO_IR {match[2]}"
    return _OTHER_NAMES.get(plain.upper(), plain.upper())
