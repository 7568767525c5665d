"""The callers of the web interface in the audit trail: one record an hour, not one a request."""

import time
from collections.abc import Callable
from typing import Final

from ainode.node.audit.messages import Message, Participant, authenticated

_SPAN_S: Final = 3600.0
_MAX_CALLERS: Final = 1_024
# As often as the log has a line for one address within a minute.
_RECORDED_COUNTS: Final = frozenset(10**exponent for exponent in range(12))


class Logins:
    """Records the first request of a caller from an address within an hour, and the requests without a valid token."""

    def __init__(self, record: Callable[[Message], None]) -> None:
        """Record by `record`."""
        self._record = record
        self._until_s: dict[tuple[str, str], float] = {}

    def accepted(self, caller: str, address: str) -> None:
        """Note a request with the token of a caller."""
        now_s = time.monotonic()
        if self._until_s.get((caller, address), 0.0) > now_s:
            return
        if len(self._until_s) >= _MAX_CALLERS:
            self._until_s.clear()
        self._until_s[caller, address] = now_s + _SPAN_S
        self._record(authenticated(Participant(caller, address=address, is_requestor=True)))

    def refused(self, address: str, count: int) -> None:
        """Note a request without a valid token, the `count`th from an address within a minute."""
        if count in _RECORDED_COUNTS:
            caller = Participant("unknown", address=address, is_requestor=True)
            self._record(authenticated(caller, f"no valid token (number {count} within a minute)"))
