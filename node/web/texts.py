"""What no text of a caller may have: the character NUL, which PostgreSQL does not keep."""

import re
from typing import Final

from starlette.types import Scope

NUL_REFUSED: Final = "the request has the character NUL, which belongs in no text; leave it out"
CHARSET_REFUSED: Final = "send text as UTF-8"
# As itself, in an address or the body of a form, and in JSON (RFC 8259 7).
_SIGNS: Final = (b"\0", b"%00", b"\\u0000")
_LONGEST: Final = max(map(len, _SIGNS))
_CHARSET: Final = re.compile(r"charset[^;]*", re.IGNORECASE)
_UTF_8: Final = re.compile(r"""charset=["']?utf-?8["']?\s*""", re.IGNORECASE)


def has_nul(scope: Scope) -> bool:
    """Return whether the address of a request has a NUL."""
    return "\0" in scope["path"] or any(sign in scope["query_string"] for sign in _SIGNS[:2])


def is_utf_8(content_type: str) -> bool:
    """Return whether a Content-Type names no other encoding of text than UTF-8: in UTF-7, `+AAA-` is a NUL."""
    return all(_UTF_8.fullmatch(charset) for charset in _CHARSET.findall(content_type))


class NulSearch:
    """Looks for NUL in a body of text that comes in pieces."""

    def __init__(self, content_type: str) -> None:
        """Take the Content-Type of the body: in multipart/form-data, a NUL stands as itself alone (RFC 7578)."""
        self._signs = _SIGNS[:1] if "/form-data" in content_type.lower() else _SIGNS
        self._end = b""

    def has_nul(self, piece: bytes) -> bool:
        """Return whether there is a NUL in a piece, or where it meets the piece before."""
        content = self._end + piece
        self._end = content[1 - _LONGEST :]
        return any(sign in content for sign in self._signs)
