"""Whether a code can be one: its scheme, its form, its check digit and its length. Pure."""

import re
from typing import Final

from ainode.node.domain import Code

# PS3.3 8.1: a scheme (SH) has 16 characters at the most, a meaning (LO) 64. A value of more than 16 goes into Long Code
# Value, which the reports do; more than 64 no viewer shows.
_SHORT, _LONG = 16, 64
_SNOMED: Final = re.compile(r"[1-9][0-9]{5,17}")
_DICOM: Final = re.compile(r"[0-9]{5,7}")
_LOINC: Final = re.compile(r"[1-9][0-9]{0,6}-[0-9]")
_UNIT: Final = re.compile(r"[!-~]+")
_PRIVATE: Final = re.compile(r"99[A-Za-z0-9_.-]{1,14}")
# Verhoeff's permutation of digits. SNOMED CT identifiers end with a Verhoeff check digit (SNOMED CT Release File
# Specification, Check-digit).
_PERMUTATION: Final = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)


def code_problem(code: Code) -> str:
    """Return why a code is none, '' for a code."""
    form = _form_problem(code)
    if form:
        return f"{_name(code)}: {form}"
    lengths = {"value": (code.value, _LONG), "scheme": (code.scheme, _SHORT), "meaning": (code.meaning, _LONG)}
    for part, (text, limit) in lengths.items():
        if not 0 < len(text) <= limit or "\\" in text or text != text.strip():
            return f"{_name(code)}: its {part} is empty, longer than {limit} characters, or has spaces at an end"
    return ""


def unit_problem(code: Code) -> str:
    """Return why a code is no unit, '' for a unit."""
    return code_problem(code) or ("" if code.scheme == "UCUM" else f"{_name(code)}: a unit is of UCUM")


def _name(code: Code) -> str:
    return f"({code.value}, {code.scheme}, {code.meaning})"


def _form_problem(code: Code) -> str:
    if code.scheme == "SCT":
        return "" if _SNOMED.fullmatch(code.value) and _is_verhoeff(code.value) else "no identifier of SNOMED CT"
    if code.scheme == "LN":
        return "" if _LOINC.fullmatch(code.value) and _is_luhn(code.value) else "no code of LOINC"
    if code.scheme == "DCM":
        return "" if _DICOM.fullmatch(code.value) else "no code of DICOM"
    if code.scheme == "UCUM":
        return "" if _UNIT.fullmatch(code.value) else "no unit of UCUM"
    return "" if _PRIVATE.fullmatch(code.scheme) else "its scheme is not SCT, DCM, LN, UCUM or a private one, 99…"


def _times(a: int, b: int) -> int:
    """Return the product in the dihedral group of ten elements."""
    if a < 5 and b < 5:  # noqa: PLR2004 - turns
        return (a + b) % 5
    if a < 5:  # noqa: PLR2004
        return 5 + (a + b) % 5
    return 5 + (a - b) % 5 if b < 5 else (a - b) % 5  # noqa: PLR2004


def _permuted(position: int, digit: int) -> int:
    """Return the digit after Verhoeff's permutation, as often as its position says."""
    for _ in range(position % 8):
        digit = _PERMUTATION[digit]
    return digit


def _is_verhoeff(digits: str) -> bool:
    check = 0
    for position, digit in enumerate(reversed(digits)):
        check = _times(check, _permuted(position, int(digit)))
    return check == 0


def _is_luhn(code: str) -> bool:
    """Return whether the last digit of a LOINC code is the check digit of the others (LOINC Users' Guide, mod 10)."""
    total = 0
    for position, digit in enumerate(reversed(code.replace("-", ""))):
        value = int(digit) * (2 if position % 2 else 1)
        total += value - 9 if value > 9 else value  # noqa: PLR2004
    return total % 10 == 0
