"""The words of an archive: Error Comment, Warning headers, bodies; kept with a delivery, and never logged.

An archive may quote a Patient ID in what it answers. Therefore an `ArchiveError` holds the words beside its message, as
`comment`, and only the ledger, `ainode jobs`, `ainode doctor`, `ainode send` and the web interface show the words.
"""

import html
import re
import unicodedata
from typing import Final

from requests import Response

_MAX_CHARACTERS: Final = 300
_MAX_BODY_BYTES: Final = 65_536
# What a browser does not show either.
_HIDDEN: Final = re.compile(r"<(script|style)\b.*?</\1\s*>|<!--.*?-->|<[^<>]*>", re.DOTALL | re.IGNORECASE)


def comment(text: str) -> str:
    """Return words of an archive as one bounded line without control and formatting characters."""
    visible = "".join(" " if unicodedata.category(character)[0] == "C" else character for character in text)
    line = " ".join(visible.split())
    return line if len(line) <= _MAX_CHARACTERS else f"{line[: _MAX_CHARACTERS - 1]}…"


def error_comment(answer: object) -> str:
    """Return the Error Comment (0000,0902) of the answer to a DIMSE request, '' if absent."""
    value = getattr(answer, "ErrorComment", None) or ""
    return comment(value if isinstance(value, str) else "\\".join(map(str, value)))


def warning_comment(response: Response) -> str:
    """Return the Warning headers of an answer, '' if absent."""
    return comment(response.headers.get("Warning", ""))


def response_comment(response: Response) -> str:
    """Return the Warning headers and the body of an answer as a person would read them."""
    body = response.content[:_MAX_BODY_BYTES].decode(_codec(response), "replace")
    if "json" not in response.headers.get("Content-Type", ""):
        body = html.unescape(_HIDDEN.sub(" ", body))
    return comment(f"{response.headers.get('Warning', '')} {body}")


def _codec(response: Response) -> str:
    """Return the codec of a body, UTF-8 where the header names none that Python knows."""
    try:
        "".encode(codec := response.encoding or "utf-8")
    except LookupError:
        return "utf-8"
    return codec
