"""The sentences of a program in one line, without those that name the patient."""

import unicodedata
from collections.abc import Mapping
from typing import Final

from ainode.node.domain import Instance
from ainode.node.reading.quotes import quotes_patient

MOST_TEXT: Final = 200
_CUT: Final = " [...]"
# A name is looked for in more than is shown: of a name at the end, a part would be shown.
_MOST_SEARCHED: Final = 2000


def sentence_of(value: object, source: Instance) -> str:
    """Return a text of the program in one line; words of the node where the text quotes the patient of an image."""
    if not isinstance(value, str):
        return ""
    shown = (letter for letter in value[:_MOST_SEARCHED] if unicodedata.category(letter) != "Cf")
    printable = "".join(letter if letter.isprintable() else " " for letter in shown)
    text = " ".join(printable.split())
    if quotes_patient(text, source):
        return "the program's words name the patient, and are left out"
    return shortened(text)


def shortened(text: str) -> str:
    """Return a text, which says at its end if it is not whole."""
    return text if len(text) <= MOST_TEXT else f"{text[: MOST_TEXT - len(_CUT)]}{_CUT}"


def notification(words: Mapping[str, object]) -> object:
    """Return the summary of a module of mercure (docs of mercure, Module Development: notifications)."""
    content = words.get("__mercure_notification")
    return content.get("text") if isinstance(content, dict) else None
