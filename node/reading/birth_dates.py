"""Whether a day of birth stands in a text, in any order of day, month and year, the month also as a word."""

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final

_NUMBER_OR_WORD: Final = re.compile(r"\d+|[^\W\d_]+")
_NO_LETTERS: Final = re.compile(r"[\W_]+")
# English, German, French, Spanish, Portuguese, Italian, Dutch and Russian, by their first letters without marks.
_MONTHS: Final = {
    name: number
    for number, names in enumerate(
        (
            "jan ene gen янв",
            "feb fev фев",
            "mar mae mrz mrt мар",
            "apr avr abr апр",
            "may mai mei mag maj маи мая",
            "jun juin giu июн",
            "jul juil lug июл",
            "aug aou ago авг",
            "sep set сен",
            "oct okt out ott окт",
            "nov ноя",
            "dec dez dic дек",
        ),
        start=1,
    )
    for name in names.split()
}
_LONGEST_MONTH, _SHORTEST_MONTH = 4, 3
# Chinese, Japanese, Korean; of an English day.
_OF_NUMBERS: Final = frozenset({"年", "月", "日", "년", "월", "일", "st", "nd", "rd", "th"})
# Beside the word of a month alone: "9 of 12" are two numbers.
_OF_MONTHS: Final = frozenset({"of", "de", "del", "do", "den", "the"})
_DIGITS_OF_A_DATE: Final = 8


def has_birth_date(text: str, birth: str) -> bool:
    """Return whether a day, as DICOM writes it, stands in a text without case and marks."""
    if len(birth) != _DIGITS_OF_A_DATE or not birth.isdigit():
        return False
    year, month, day = birth[:4], birth[4:6], birth[6:]
    if any(form in _NO_LETTERS.sub("", text) for form in (birth, day + month + year, month + day + year)):
        return True
    numbers = [*_numbers(_NUMBER_OR_WORD.findall(text))]
    triples = (tuple(word.lstrip("0") for word in numbers[start : start + 3]) for start in range(len(numbers)))
    years = (year, year[2:].lstrip("0"))
    days, months = day.lstrip("0"), month.lstrip("0")
    forms = {form for name in years for form in ((name, months, days), (days, months, name), (months, days, name))}
    return any(triple in forms for triple in triples)


def _numbers(words: Sequence[str]) -> Iterator[str]:
    """Yield words, months as numbers, without those that only join the parts of a date."""
    plain_words = [word for word in words if word not in _OF_NUMBERS]
    joining = {
        place
        for place, (word, following) in enumerate(pairwise(plain_words))
        if word in _OF_MONTHS and (_month(following) or (place and _month(plain_words[place - 1])))
    }
    for place, word in enumerate(plain_words):
        if place not in joining:
            yield str(_month(word) or word)


def _month(word: str) -> int | None:
    return _MONTHS.get(word[:_LONGEST_MONTH]) or _MONTHS.get(word[:_SHORTEST_MONTH])
