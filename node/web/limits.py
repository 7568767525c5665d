"""The limit on the length of a request's body, for every path except those that receive instances."""

from typing import Final

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_MAX_BYTES: Final = 65_536


class ShortBodies:
    """Middleware that answers 413 to a body longer than the limit; the spool limits each uploaded file."""

    def __init__(self, app: ASGIApp, *, except_below: str) -> None:
        self._app, self._except_below = app, except_below

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on; reading its body beyond the limit raises status 413."""
        if scope["type"] != "http" or scope["path"].startswith(self._except_below):
            await self._app(scope, receive, send)
            return
        received_bytes = 0

        async def limited_receive() -> Message:
            nonlocal received_bytes
            message = await receive()
            received_bytes += len(message.get("body", b""))
            if received_bytes > _MAX_BYTES:
                raise HTTPException(413, f"the body is longer than {_MAX_BYTES} bytes")
            return message

        await self._app(scope, limited_receive, send)
