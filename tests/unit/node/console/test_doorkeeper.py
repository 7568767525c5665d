"""What ends with a visit."""

from collections.abc import AsyncIterator
from itertools import chain, repeat

import anyio
import anyio.lowlevel
from support import installed

installed("fastapi")

from fastapi import FastAPI, Request, Response  # noqa: E402
from fastapi.responses import StreamingResponse  # noqa: E402
from starlette.types import Message  # noqa: E402

from ainode.node.console.entry.access import Role, Visit  # noqa: E402
from ainode.node.console.entry.doorkeeper import Doorkeeper  # noqa: E402
from ainode.node.console.entry.looks import Looks  # noqa: E402


def application(events: list[str]) -> FastAPI:
    """Return an application with an answer without an end, and a visit that is over at the third look."""
    app, looks = FastAPI(), chain((True, True), repeat(False))  # noqa: FBT003

    def refused(_: Request, __: Exception) -> Response:
        return Response(status_code=403)

    async def visit_of(_: Request) -> Visit:
        return Visit("anna", Role.VIEWER, "token")

    async def is_open(_: Visit) -> bool:
        return next(looks)

    async def ticks() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"tick\n"
                await anyio.lowlevel.checkpoint()
        finally:
            events.append("the page looks no more")

    @app.get("/console/live")
    async def live() -> StreamingResponse:
        return StreamingResponse(ticks(), media_type="text/event-stream")

    app.state.visit_of, app.state.is_open = visit_of, is_open
    trail = Looks(lambda _: None, has_names=False)
    app.add_middleware(Doorkeeper, to_login=refused, refused=refused, looks=trail, look_s=0.0)
    return app


def test_a_live_page_ends_with_the_visit_and_without_an_error() -> None:
    events: list[str] = []
    messages: list[Message] = []
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "method": "GET",
        "path": "/console/live",
        "query_string": b"",
        "headers": [],
        "scheme": "http",
    }

    async def receive() -> Message:
        return await anyio.sleep_forever()  # type: ignore[func-returns-value]

    async def send(message: Message) -> None:
        messages.append(message)

    async def request() -> None:
        with anyio.fail_after(10):
            await application(events)(scope, receive, send)

    anyio.run(request)
    assert messages[1]["body"] == b"tick\n"
    assert not messages[-1]["more_body"]
    assert events == ["the page looks no more"]


def test_a_list_is_a_look_at_patients_where_the_list_shows_them() -> None:
    visit = Visit("anna", Role.VIEWER, "token")
    for has_names in (True, False):
        messages: list[object] = []
        looks = Looks(messages.append, has_names=has_names)
        for path in ("/console/", "/console/unread", "/console/", "/console/models"):
            looks.note(visit, "GET", path)
        assert len(messages) == 2 * has_names
