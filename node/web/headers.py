"""What a caller accepts, and the headers that protect an answer, unless the answer has its own."""

import re
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

PROTECTION: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}

_PAGE_OR_JSON: Final = ("text/html", "application/json", "application/*", "*/*")


def media_ranges(accept_header: str) -> list[str]:
    """Return the media ranges that a caller accepts, the preferred first (RFC 9110 12.5.1)."""
    ranges = [media_range.strip() for media_range in accept_header.lower().split(",")]
    return sorted(filter(_weight, ranges), key=_weight, reverse=True)


def _weight(media_range: str) -> float:
    """Return the weight of a media range (RFC 9110 12.4.2)."""
    weight = re.search(r";\s*q=([01](\.\d*)?)", media_range)
    return float(weight[1]) if weight else 1.0


def prefers_html(accept_header: str) -> bool:
    """Return whether a caller would rather have a page than JSON; a caller that takes anything would not."""
    names = (media_range.partition(";")[0].rstrip() for media_range in media_ranges(accept_header))
    return next((name == "text/html" for name in names if name in _PAGE_OR_JSON), False)


class DefaultHeaders:
    """Middleware: adds the headers that an answer lacks."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in PROTECTION.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_with_headers)
