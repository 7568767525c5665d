"""`GET /metrics`: what Prometheus asks for, with a token as any other caller."""

from collections.abc import Callable
from typing import Any, Final

from anyio import CapacityLimiter, to_thread
from fastapi import Depends, FastAPI, HTTPException, Response
from fastapi.responses import PlainTextResponse

_WAITING: Final = 4
PATH: Final = "/metrics"


_MEDIA_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


def add_metrics(app: FastAPI, text: Callable[[], str], caller: Callable[..., Any]) -> None:
    """Add the page; one caller is answered at a time, and `caller` is the dependency of who needs a token."""
    limit = CapacityLimiter(1)

    @app.get(PATH, tags=["node"], dependencies=[Depends(caller)], response_class=PlainTextResponse)
    async def metrics() -> Response:
        """Return the metrics of the node for Prometheus."""
        if limit.statistics().tasks_waiting >= _WAITING:
            raise HTTPException(503, "too many callers wait for the metrics")
        content = await to_thread.run_sync(text, limiter=limit)
        return Response(content, media_type=_MEDIA_TYPE)
