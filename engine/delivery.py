"""The way back from the engine's thread to the event loops that asked. Results are collected during a step
and handed over at its end, one call for each loop; a loop that has been closed meanwhile is no concern of
the other sessions."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self

from .work import Answer, Token


class Receiver(Protocol):
    """Who waits for a job. `give`, `fail` and `end` run on its loop; `cancelled` may be read and set from
    any thread."""

    loop: asyncio.AbstractEventLoop
    cancelled: bool

    def give(self, value: object) -> None: ...

    def fail(self, error: Exception) -> None: ...

    def end(self) -> None: ...


class Reply:
    """One awaited answer."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.cancelled = False
        self._future: asyncio.Future[Answer] = self.loop.create_future()

    async def wait(self) -> Answer:
        """The answer. If the waiting task is cancelled, work that has not begun is dropped; other work is
        completed."""
        try:
            return await self._future
        except asyncio.CancelledError:
            self.cancelled = True
            raise

    def give(self, value: object) -> None:
        if not self._future.done():
            self._future.set_result(value)  # type: ignore[arg-type]

    def fail(self, error: Exception) -> None:
        if not self._future.done():
            self._future.set_exception(error)

    def end(self) -> None:
        self._future.cancel()


class TokenChannel:
    """The engine's end of a stream: what was sampled and not yet read."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.cancelled = False
        self.ended = False
        self.error: Exception | None = None
        self.tokens: deque[Token] = deque()
        self._news = asyncio.Event()

    async def news(self) -> None:
        """Wait for the next token or the end."""
        self._news.clear()
        await self._news.wait()

    def give(self, value: object) -> None:
        self.tokens.append(value)  # type: ignore[arg-type]
        self._news.set()

    def fail(self, error: Exception) -> None:
        self.error = error
        self.end()

    def end(self) -> None:
        self.ended = True
        self._news.set()


class TokenStream:
    """Tokens of one decode, in order: an async iterator that ends after the last one, or raises what stopped
    the decode.

    The engine does not wait for the reader. A token is in the log from the moment it was sampled, so after
    an early end the log may hold a few more than were read: truncate to what was used. The decode stops
    within a step when the stream is closed, cancelled, no longer referenced (`break` in an `async for`),
    or when the reading task is cancelled; `aclose` returns once it has stopped. The engine holds the
    channel, never this object.
    """

    def __init__(self, channel: TokenChannel) -> None:
        self._channel = channel

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Token:
        channel = self._channel
        try:
            while not (channel.tokens or channel.ended or channel.cancelled):
                await channel.news()
        except asyncio.CancelledError:
            channel.cancelled = True
            raise
        if channel.cancelled:
            raise StopAsyncIteration
        if channel.tokens:
            return channel.tokens.popleft()
        error, channel.error = channel.error, None
        if error is not None:
            raise error
        raise StopAsyncIteration

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        self._channel.cancelled = True

    def cancel(self) -> None:
        """Ask the decode to stop; tokens not yet read are not delivered any more."""
        self._channel.cancelled = True

    async def aclose(self) -> None:
        """Stop the decode and wait until it has stopped, so that the log changes no more on its account."""
        self._channel.cancelled = True
        while not self._channel.ended:
            await self._channel.news()


class Outbox:
    """Deliveries of one round of the engine, sent together by `flush`."""

    def __init__(self) -> None:
        self._calls: dict[asyncio.AbstractEventLoop, list[Callable[[], None]]] = {}

    def post(self, loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
        """Have `call` run on `loop` after the next flush."""
        self._calls.setdefault(loop, []).append(call)

    def flush(self) -> None:
        """Hand everything over. A closed loop has nobody left who waits: what was for it is dropped."""
        calls, self._calls = self._calls, {}
        for loop, batch in calls.items():
            try:
                loop.call_soon_threadsafe(_run_all, batch)
            except RuntimeError:
                if not loop.is_closed():
                    raise


def _run_all(calls: list[Callable[[], None]]) -> None:
    for call in calls:
        call()
