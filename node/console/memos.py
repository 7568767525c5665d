"""Texts that a page needs once more, and that must stand in no address: searches for a patient, what an action did."""

import secrets
import threading
from collections import OrderedDict
from typing import Final

_IDENTIFIER_BYTES: Final = 9


class Memos:
    """Texts in memory by an identifier that says nothing; the oldest are forgotten, and all of them with the node."""

    def __init__(self, most: int = 500) -> None:
        self._most = most
        self._texts: OrderedDict[str, str] = OrderedDict()
        self._lock = threading.Lock()

    def keep(self, text: str) -> str:
        """Keep a text; return its identifier."""
        identifier = secrets.token_urlsafe(_IDENTIFIER_BYTES)
        with self._lock:
            self._texts[identifier] = text
            while len(self._texts) > self._most:
                self._texts.popitem(last=False)
        return identifier

    def text(self, identifier: str) -> str | None:
        """Return the text, None if it was forgotten."""
        with self._lock:
            return self._texts.get(identifier)
