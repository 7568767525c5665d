"""Values of headers in a reason: codes are told, somebody's words are not."""

import pytest

from ainode.node.imaging.free_text import as_code


@pytest.mark.parametrize(
    "code",
    ["LL", "LEFT LATERAL", "W_SPINE", "ORIGINAL/PRIMARY/CT_SOM7 SPI DUAL", "1.2.840.10008.5.1.4.1.1.2", "0.143", "99%"],
)
def test_a_code_is_told(code: str) -> None:
    assert as_code(code) == code


@pytest.mark.parametrize("words", ["Doe", "ZEBULON GRUDGENAME 17.2.1933", "DOE J. 17.2.1933", "SPINE OF MRS DOE TODAY"])
def test_words_are_not_told(words: str) -> None:
    assert as_code(words) == "no code"


def test_an_absent_value_is_said_to_be_absent() -> None:
    assert as_code("") == "absent"
