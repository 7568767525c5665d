"""The body of a request as a worker thread reads it."""

from collections.abc import AsyncIterator, Iterator

from anyio import from_thread


def blocks(stream: AsyncIterator[bytes]) -> Iterator[bytes]:
    """Yield the blocks of a body in a worker thread, each read only after the block before is taken care of."""

    async def next_block() -> bytes | None:
        return await anext(stream, None)

    while (block := from_thread.run(next_block)) is not None:
        yield block
