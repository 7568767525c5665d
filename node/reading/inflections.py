"""Names as a sentence bends or writes them: Russian and Ukrainian cases, and the two scripts of Japanese syllables."""

import re
from collections.abc import Iterable, Sequence
from typing import Final

# Cases of nouns and adjectives, longest first, without marks on letters.
_ENDINGS: Final = (
    *("ого", "его", "ому", "ему", "ыми", "ими", "ами", "ями"),  # noqa: RUF001
    *("ою", "ею", "ах", "ях", "ам", "ям", "ом", "ем", "ым", "им"),  # noqa: RUF001
    *("ои", "еи", "ыи", "ии", "ая", "яя", "ую", "юю"),
    *("ие", "ые", "ия", "ию", "а", "я", "у", "ю", "ы", "и", "е", "о", "ь", "і"),  # noqa: RUF001
)
# Shorter stems are words of any sentence: the name Lev in its cases is "left".
_SHORTEST_STEM: Final = 4
# U+30A1 to U+30F6: the syllables of katakana lie as those of hiragana, 96 code points behind.
_HIRAGANA: Final = {code: code - 0x60 for code in range(0x30A1, 0x30F7)}
_KATAKANA: Final = re.compile(r"[\u30a1-\u30f6]+")
_SHORTEST_SYLLABLES: Final = 3


def stem(word: str) -> str:
    """Return a word in Cyrillic letters without the ending of its case; a word that would be too short as it is."""
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= _SHORTEST_STEM:
            return word.removesuffix(ending)
    return word


def in_hiragana(text: str) -> str:
    """Return a text whose katakana is hiragana."""
    return text.translate(_HIRAGANA)


def has_syllables(text: str, names: Iterable[Sequence[str]]) -> bool:
    """Return whether a name, given in its parts, stands in a text in the other script of Japanese syllables.

    Words of medicine are katakana: a whole run of it is held against the name, and hiragana against parts of katakana.
    """
    runs = {in_hiragana(run) for run in _KATAKANA.findall(text)}
    for parts in names:
        whole = {in_hiragana("".join(parts)), in_hiragana("".join(reversed(parts)))}
        long = [part for part in parts if len(part) >= _SHORTEST_SYLLABLES]
        if runs & {*whole, *map(in_hiragana, long)}:
            return True
        if any(in_hiragana(part) in text for part in long if _KATAKANA.fullmatch(part)):
            return True
    return False
