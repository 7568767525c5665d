"""What is wrong with a form or an address, in words for whoever typed it: the label of the field, and a sentence."""

from collections.abc import Callable, Mapping
from typing import Any, Final

# Names of fields whose label on the pages is another word.
_LABELS: Final = {
    "about": "Words of the line",
    "attribute": "Condition",
    "code": "Declined because",
    "handler": "Model",
    "high": "Probability to",
    "instance": "SOP Instance UID",
    "job": "Reading",
    "low": "Probability from",
    "number": "Number",
    "presence": "Answer",
    "series": "Series Instance UID",
    "since": "From",
    "study": "Study Instance UID",
    "uid": "SOP Instance UID",
    "until": "To",
    "weights": "Weights, sha256",
}
_OWN_WORDS: Final = "Value error, "
"""stands before the words of a check of ours, as pydantic tells it"""
# The kinds of errors of pydantic that the fields of a page can have.
_SENTENCES: Final[Mapping[str, Callable[[Mapping[str, Any]], str]]] = {
    "string_too_long": lambda limits: f"it has more than {limits['max_length']} letters; shorten it",
    "greater_than_equal": lambda limits: f"it is less than {limits['ge']}; give a larger number",
    "less_than_equal": lambda limits: f"it is more than {limits['le']}; give a smaller number",
    "int_parsing": lambda _: "it is no whole number; give one such as 1",
    "literal_error": lambda _: "it is none of the list; choose one of it",
    "missing": lambda _: "it is missing; load the page again",
}
_MISWRITTEN: Final = "it is not written as such a value is; correct it, or load the page again"


def field_sentence(problem: Mapping[str, Any]) -> str:
    """Return the label of a field and what is wrong with its value, without the value."""
    name = str(problem["loc"][-1])
    label = _LABELS.get(name, name.replace("_", " ").capitalize())
    if problem["msg"].startswith(_OWN_WORDS):
        return f"{label}: {problem['msg'].removeprefix(_OWN_WORDS)}"
    words = _SENTENCES.get(problem["type"])
    return f"{label}: {words(problem.get('ctx', {})) if words else _MISWRITTEN}"
