"""How much a caller may send: small questions everywhere but where instances are uploaded."""

from typing import Final

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_MOST_BYTES: Final = 65_536


class ShortBodies:
    """Answers 413 to a body that is longer than any question; uploads are bounded by the spool, file by file."""

    def __init__(self, app: ASGIApp, *, except_below: str) -> None:
        self._app, self._except_below = app, except_below

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with a body that ends at the limit."""
        if scope["type"] != "http" or scope["path"].startswith(self._except_below):
            await self._app(scope, receive, send)
            return
        received = 0

        async def bounded() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > _MOST_BYTES:
                raise HTTPException(413, "the body is longer than any question has to be")
            return message

        await self._app(scope, bounded, send)
