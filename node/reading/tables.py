"""A table of TOML that a person wrote, read key by key: what is missing, wrong or unknown is refused by its name."""

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Final

from ainode.node.domain import Code
from ainode.node.errors import ConfigError
from ainode.node.reading.codes import code_problem

_MISSING: Final = object()
# PS3.5 6.2: Code Value is SH, Code Meaning is LO.
_LONGEST_VALUE, _LONGEST_MEANING = 16, 64
_CODE_TEXTS = 3
_MOST_PIXELS = 8192


class Table:
    """The keys of a table; `refuse_unknown` names those that nobody asked for.

    Whatever returns the value of a key raises ConfigError if the value is not of the kind, or missing and needed.
    """

    def __init__(self, place: str, values: Mapping[str, object]) -> None:
        """Keep the keys; `place` begins each refusal, such as `models/hip/model.toml: [input]`."""
        self._place, self._values = place, values
        self._known: set[str] = set()

    def text(self, key: str, default: str | None = None, *, choices: Sequence[str] = ()) -> str:
        """Return a text that is not empty; one of the choices, if there are any."""
        value = self._value(key, default)
        if not isinstance(value, str) or (not value.strip() and value != default):
            raise self.wrong(key, "a text is needed")
        if choices and value not in choices:
            raise self.wrong(key, f"it is one of {', '.join(choices)}")
        return value

    def texts(self, key: str, default: tuple[str, ...] | None = None) -> tuple[str, ...]:
        """Return a list of texts, which is not empty where the key is needed."""
        value = self._value(key, default)
        is_missing = default is None and not value
        if (
            is_missing
            or not isinstance(value, list | tuple)
            or not all(isinstance(item, str) and item.strip() for item in value)
        ):
            raise self.wrong(key, 'a list of texts is needed, such as ["CT"]')
        return tuple(value)

    def flag(self, key: str, *, default: bool) -> bool:
        """Return true or false."""
        value = self._value(key, default)
        if not isinstance(value, bool):
            raise self.wrong(key, "true or false is needed")
        return value

    def number(self, key: str, default: float | None = None, *, least: float, most: float) -> float:
        """Return a number within bounds."""
        value = self._value(key, default)
        if not _is_number(value) or not least <= float(value) <= most:  # type: ignore[arg-type]
            raise self.wrong(key, f"a number from {least:g} to {most:g} is needed")
        return float(value)  # type: ignore[arg-type]

    def number_if_given(self, key: str, *, least: float, most: float) -> float | None:
        """Return a number within bounds; None where the key is absent."""
        self._known.add(key)
        return self.number(key, least=least, most=most) if key in self._values else None

    def whole(self, key: str, default: int | None = None, *, least: int, most: int) -> int:
        """Return a whole number within bounds."""
        value = self._value(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise self.wrong(key, f"a whole number from {least} to {most} is needed")
        return value

    def numbers(
        self, key: str, default: tuple[float, ...] | None = None, *, counts: Sequence[int]
    ) -> tuple[float, ...]:
        """Return a list of finite numbers, as many as one of the counts says."""
        value = self._value(key, default)
        if value is default and default is not None:
            return default
        if not isinstance(value, list | tuple) or len(value) not in counts or not all(map(_is_number, value)):
            raise self.wrong(
                key, f"a list of {_counts_text(counts)} {'number' if {*counts} == {1} else 'numbers'} is needed"
            )
        return tuple(map(float, value))

    def wholes(
        self,
        key: str,
        default: tuple[int, ...] | None = None,
        *,
        least: int,
        most: int,
        counts: Sequence[int] | None = None,
    ) -> tuple[int, ...]:
        """Return a list of whole numbers within the bounds, as many as one of the counts says, or as bounds allow."""
        numbers = self.numbers(key, default, counts=counts or range(most - least + 2))
        if not all(number == int(number) and least <= number <= most for number in numbers):
            raise self.wrong(key, f"whole numbers from {least} to {most} are needed")
        return tuple(map(int, numbers))

    def sizes(self, key: str, default: tuple[int, ...] | None = None, *, count: int) -> tuple[int, ...]:
        """Return a list of numbers of pixels."""
        return self.wholes(key, default, least=1, most=_MOST_PIXELS, counts=(count,))

    def code(self, key: str, default: Code | None = None) -> Code:
        """Return a code, written as value, scheme and meaning."""
        value = self._value(key, default)
        if isinstance(value, Code):
            return value
        texts = value if isinstance(value, list) and len(value) == _CODE_TEXTS else [None]
        if not all(isinstance(text, str) and text.strip() and "\\" not in text for text in texts):
            raise self.wrong(key, 'a code is needed: ["125605004", "SCT", "Fracture of bone"]')
        code = Code(*texts)
        if max(len(code.value), len(code.scheme)) > _LONGEST_VALUE or len(code.meaning) > _LONGEST_MEANING:
            raise self.wrong(key, "value and scheme have 16 characters at most, the meaning 64 (PS3.3 8.1)")
        if code.scheme == "SCT" and code_problem(code):
            raise self.wrong(key, "this is no identifier of SNOMED CT: a digit is wrong, or missing")
        return code

    def code_if_given(self, key: str) -> Code | None:
        """Return a code; None where the key is absent."""
        self._known.add(key)
        return self.code(key) if key in self._values else None

    def table(self, key: str) -> "Table":
        """Return a table within this table; without keys if it is absent."""
        return Table(f"{self._place}: [{key}]", self.mapping(key))

    def tables(self, key: str) -> "tuple[Table, ...]":
        """Return a list of tables; none if the key is absent."""
        value = self._value(key, [])
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise self.wrong(key, f"it is a list of tables: write each below [[{key}]]")
        return tuple(Table(f"{self._place}: {key} {n}", item) for n, item in enumerate(value, start=1))

    def mapping(self, key: str) -> "Mapping[str, object]":
        """Return a table within this table as it is, for somebody else to read; empty if it is absent."""
        value = self._value(key, {})
        if not isinstance(value, dict):
            raise self.wrong(key, f"it is a table: write its keys below [{key}]")
        return value

    def has(self, key: str) -> bool:
        """Return whether a key is there."""
        return key in self._values

    def allow(self, *keys: str) -> None:
        """Take keys that somebody else reads."""
        self._known.update(keys)

    def refuse_unknown(self) -> None:
        """Return if every key of the table was asked for.

        Raises: ConfigError that names the first other key, and the keys that are known.
        """
        if unknown := sorted(self._values.keys() - self._known):
            raise ConfigError(
                f"{self._place}: {unknown[0]} is no key here; the keys are {', '.join(sorted(self._known))}"
            )

    def wrong(self, key: str, requirement: str) -> ConfigError:
        """Return the refusal of a key's value."""
        return ConfigError(f"{self._place}: {key} = {_shown(self._values.get(key, _MISSING))}; {requirement}")

    def wrong_together(self, reason: str) -> ConfigError:
        """Return the refusal of keys that do not go together."""
        return ConfigError(f"{self._place}: {reason}")

    def _value(self, key: str, default: object) -> object:
        self._known.add(key)
        if key in self._values:
            return self._values[key]
        if default is None:
            raise ConfigError(f"{self._place}: {key} is missing")
        return default


def _counts_text(counts: Sequence[int]) -> str:
    return f"at most {counts[-1]}" if isinstance(counts, range) else " or ".join(map(str, dict.fromkeys(counts)))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def _shown(value: object) -> str:
    """Return a value as a refusal shows it."""
    text = "missing" if value is _MISSING else repr(value)
    return text if len(text) <= _LONGEST_MEANING else f"{text[:_LONGEST_MEANING]}…"
