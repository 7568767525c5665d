import typing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ainode.node.encoding.hl7 import Script, acknowledgment, codec_of, control_id_of, joined, repeated, segment
from ainode.node.settings import Hl7Table

CHARACTER_SETS = typing.get_args(Hl7Table.model_fields["character_set"].annotation)


@pytest.mark.parametrize("character_set", CHARACTER_SETS)
def test_every_character_set_of_the_settings_writes_ascii_as_it_is(character_set: str) -> None:
    assert Script(codec_of(character_set)).text("Cobb angle 42").encode(codec_of(character_set)) == b"Cobb angle 42"


def test_delimiters_and_ends_of_lines_are_escaped_and_nothing_is_lost() -> None:
    assert (
        Script("utf-8").text("a|b^c&d~e\\f\r\ng\x0b\x1c")
        == "a\\F\\b\\S\\c\\T\\d\\R\\e\\E\\f\\X0D\\\\X0A\\g\\X0B\\\\X1C\\"
    )


@pytest.mark.parametrize(
    ("character_set", "text", "written"),
    [
        ("8859/1", "Müller", b"M\xfcller"),
        ("UNICODE UTF-8", "Müller", b"M\xc3\xbcller"),
        ("ASCII", "Müller", b"M\\XC3BC\\ller"),
        ("8859/1", "山", b"\\XE5B1B1\\"),
        ("UNICODE UTF-8", "山", b"\xe5\xb1\xb1"),
        ("8859/15", "€", b"\xa4"),
        ("8859/1", "€", b"\\XE282AC\\"),
    ],
)
def test_what_a_character_set_lacks_is_the_hexadecimal_escape_of_its_bytes_in_utf_8(
    character_set: str, text: str, written: bytes
) -> None:
    codec = codec_of(character_set)
    assert Script(codec).text(text).encode(codec) == written


@given(st.text(), st.sampled_from(CHARACTER_SETS))
def test_no_text_makes_another_field_another_segment_or_the_end_of_a_frame(text: str, character_set: str) -> None:
    codec = codec_of(character_set)
    written = Script(codec).text(text).encode(codec)
    assert not set(written) & set(b"|^~&\r\n\x0b\x1c")


def test_a_segment_has_its_fields_by_their_numbers_and_no_empty_end() -> None:
    assert segment("PID", {1: "1", 5: "DOE^JANE", 9: ""}) == "PID|1||||DOE^JANE\r"
    assert segment("MSH", {3: "AINODE", 9: "ORU^R01"}) == "MSH|^~\\&|AINODE||||||ORU^R01\r"
    assert joined("7", "", "", "") == "7"
    assert repeated("a", "", "b") == "a~b"


def test_the_control_id_of_a_message_is_read_back() -> None:
    assert control_id_of(segment("MSH", {3: "A\\F\\B", 10: "C0FFEE", 12: "2.5.1"}).encode() + b"PID|1\r") == "C0FFEE"


def test_an_acknowledgment_says_code_message_words_and_error() -> None:
    answer = acknowledgment(
        b"MSH|^~\\&|R\rMSA|AE|C0FFEE|no patient\rERR||PID^1|204^Unknown key^HL70357|E|||x|ask us\r", "utf-8"
    )
    assert (answer.code, answer.control_id, answer.error_code) == ("AE", "C0FFEE", "204")
    assert answer.text == "no patient / ask us / x"


@pytest.mark.parametrize(
    "content",
    [b"MSH|^~\\&\rMSA|AE|1|||| 207\r".replace(b" 207", b"207"), b"MSH|^~\\&\rMSA|AE|1\rERR|PID^1^3^207&locked\r"],
)
def test_the_error_is_found_where_older_versions_have_it(content: bytes) -> None:
    assert acknowledgment(content, "utf-8").error_code == "207"


def test_an_acknowledgment_may_have_separators_of_its_own_and_line_feeds() -> None:
    answer = acknowledgment(b"MSH#^~\\&#R\nMSA#aa#1\n", "utf-8")
    assert (answer.code, answer.control_id, answer.text, answer.error_code) == ("AA", "1", "", "")


@pytest.mark.parametrize("content", [b"", b"MSA|AA|1\r", b"MSH|^~\\&|R\r", b"HTTP/1.1 200 OK\r\n", b"MSH\rMSA|AA|1"])
def test_what_is_no_acknowledgment_is_none(content: bytes) -> None:
    with pytest.raises(ValueError, match="no MSH, or no MSA"):
        acknowledgment(content, "utf-8")


@given(st.binary())
def test_no_bytes_break_the_reading_of_an_acknowledgment(content: bytes) -> None:
    try:
        acknowledgment(content, "utf-8")
    except ValueError as error:
        assert str(error) == "no MSH, or no MSA"  # noqa: PT017 - most bytes are none
