"""HL7 v2 messages as text: segments of escaped fields, and what an acknowledgment says (HL7 2.5.1, chapter 2).

Nothing is dropped: a delimiter, a control character, or a character that the character set lacks becomes an escape.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

FIELD: Final = "|"
_COMPONENT, _REPETITION, _ESCAPE, _SUBCOMPONENT = "^", "~", "\\", "&"
_ENCODING_CHARACTERS: Final = _COMPONENT + _REPETITION + _ESCAPE + _SUBCOMPONENT
_ESCAPES: Final = {FIELD: "\\F\\", _COMPONENT: "\\S\\", _SUBCOMPONENT: "\\T\\", _REPETITION: "\\R\\", _ESCAPE: "\\E\\"}
"""HL7 2.5.1, 2.7.1"""
_END: Final = "\r"
_HEADER: Final = "MSH"
_CODECS: Final = {"ASCII": "ascii", "UNICODE UTF-8": "utf-8"}
# HL7 table 0357: the numbers of errors have three digits.
_ERROR_DIGITS: Final = 3


def codec_of(character_set: str) -> str:
    """Return Python's codec of a name of HL7 table 0211."""
    return _CODECS.get(character_set) or f"iso{character_set.replace('/', '_').lower()}"


@dataclass(frozen=True, slots=True)
class Script:
    """The character set in which a message is written."""

    codec: str

    def text(self, value: str) -> str:
        """Return a value as it stands in a field.

        What the character set lacks is the hexadecimal escape of its bytes in UTF-8 (HL7 2.5.1, 2.7.5).
        """
        return "".join(map(self._character, value))

    def fitting(self, field: str) -> str:
        """Return an escaped field of another message, with an escape for each character that this set lacks."""
        return "".join(
            character if character.encode(self.codec, "ignore") else self._character(character) for character in field
        )

    def components(self, *values: str) -> str:
        """Return the components of a field; those that are empty at the end are left out."""
        return _joined(_COMPONENT, map(self.text, values))

    def subcomponents(self, *values: str) -> str:
        """Return the subcomponents of a component, which `joined` takes as it is."""
        return _joined(_SUBCOMPONENT, map(self.text, values))

    def _character(self, character: str) -> str:
        if character in _ESCAPES:
            return _ESCAPES[character]
        # C0, DEL and C1: two of them frame messages, and one ends segments.
        is_control = character < " " or "\x7f" <= character <= "\x9f"
        if is_control or not character.encode(self.codec, "ignore"):
            return f"\\X{character.encode('utf-8', 'surrogatepass').hex().upper()}\\"
        return character


def joined(*components: str) -> str:
    """Return components that are escaped already as a field."""
    return _joined(_COMPONENT, components)


def repeated(*fields: str) -> str:
    """Return repetitions of a field; empty ones are left out."""
    return _REPETITION.join(filter(None, fields))


def segment(name: str, fields: Mapping[int, str]) -> str:
    """Return a segment; `fields` has escaped fields by their number in the standard, from 1, of MSH from 3."""
    last = max(fields)
    if name == _HEADER:  # MSH-1 is the separator itself
        values = [_ENCODING_CHARACTERS, *(fields.get(number, "") for number in range(3, last + 1))]
    else:
        values = [fields.get(number, "") for number in range(1, last + 1)]
    return line_of([name, *values])


def _joined(separator: str, values: Iterable[str]) -> str:
    return separator.join(values).rstrip(separator)


@dataclass(frozen=True, slots=True)
class Acknowledgment:
    """What a listener answers to a message."""

    code: str
    """MSA-1: AA, AE, AR, CA, CE or CR"""
    control_id: str
    """MSA-2: MSH-10 of the message that is answered"""
    text: str
    """the listener's own words, which may quote a patient: never in a log"""
    error_code: str
    """of HL7 table 0357, '' where the listener names none"""


Fields: TypeAlias = list[str]
"""a segment's fields by their number, its name as number 0; of MSH one less"""


def codec_in(message: bytes) -> str:
    """Return the codec of a message of ours, by MSH-18."""
    return codec_of(_header_of(message)[17])


def control_id_of(message: bytes) -> str:
    """Return MSH-10 of a message of ours."""
    return _header_of(message)[9]


def _header_of(message: bytes) -> Fields:
    return message.partition(_END.encode())[0].decode("ascii", "replace").split(FIELD)


def segments_of(message: bytes) -> list[Fields]:
    """Return the segments of a message of ours."""
    return [fields_of(line) for line in message.decode(codec_in(message)).split(_END) if line]


def fields_of(line: str) -> Fields:
    """Return the fields of a segment."""
    return line.removesuffix(_END).split(FIELD)


def field_at(fields: Fields, number: int) -> str:
    """Return a field of a segment, '' behind its end."""
    return fields[number] if number < len(fields) else ""


def with_field(fields: Fields, number: int, value: str) -> Fields:
    """Return a segment with another value in a field, which may be behind its end."""
    whole = [*fields, *[""] * (number + 1 - len(fields))]
    return [*whole[:number], value, *whole[number + 1 :]]


def line_of(fields: Fields) -> str:
    """Return a segment of escaped fields as it stands in a message."""
    return _joined(FIELD, fields) + _END


def acknowledgment(content: bytes, codec: str) -> Acknowledgment:
    """Return what an answer says; `codec` decodes it, and bytes that are none of its characters become U+FFFD.

    Raises: ValueError if the answer is no HL7 message, or has no MSA.
    """
    lines = content.decode(codec, "replace").replace("\n", _END).split(_END)
    segments = {line[:3]: line for line in reversed(lines) if line}
    header, answer = segments.get(_HEADER, ""), segments.get("MSA", "")
    if len(header) <= len(_HEADER) or not answer:
        message = "no MSH, or no MSA"
        raise ValueError(message)
    separator = header[3]
    fields = [*answer.split(separator), "", "", "", "", "", ""]
    error = [*segments.get("ERR", "").split(separator), *([""] * 8)]
    words = dict.fromkeys(filter(None, (fields[3], error[8], error[7])))
    # ERR-3; MSA-6 and the fourth component of ERR-1 before version 2.5.
    places = (error[3], fields[6], (error[1].split(_COMPONENT) + [""] * 4)[3])
    codes = (place.replace(_SUBCOMPONENT, _COMPONENT).split(_COMPONENT)[0] for place in places)
    code = next((code for code in codes if code.isdigit() and len(code) == _ERROR_DIGITS), "")
    return Acknowledgment(fields[1].strip().upper(), fields[2].strip(), " / ".join(words), code)
