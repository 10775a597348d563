"""A session's engine, voice and tools, seen through a `Timekeeper` that decides when each answer may be used.

The simulator's timekeeper charges virtual time for it, a recorder writes down that it came, a replay holds it back until
its recorded turn. The relays change neither what is asked nor what is answered, and every piece of work has one ticket,
numbered in the order of asking: from the same inputs a session asks in the same order.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol, cast

from ..streaming.synthesis import AS_SET, Manner, SpeechChunk, Synthesizer
from .tools import Tool, Toolbox

if TYPE_CHECKING:
    from ..engine import Context, Engine, EngineStats, Token
    from ..engine.work import Decode


class Timekeeper(Protocol):
    """Is told of every piece of work outside the session's event loop."""

    def asked(self, kind: str, size: int) -> int:
        """Work was asked for: `size` entries, characters or samples, 1 where that means nothing. Gives its ticket."""
        ...

    async def answered(self, ticket: int, value: object) -> None:
        """Its answer is there; returns when the session may have it. Called once, or `dropped` is."""
        ...

    def dropped(self, ticket: int) -> None:
        """Nobody waits for it any more, it failed, or there is no answer."""
        ...

    def queued(self, count: int) -> int:
        """The session looks at how much work waits in the engine, `count` pieces; gives what it is to see."""
        ...


class _Work:
    """One ticket, which is given back however the work ends."""

    def __init__(self, keeper: Timekeeper, kind: str, size: int = 1) -> None:
        self._keeper, self._open = keeper, True
        self._ticket = keeper.asked(kind, size)

    async def answered(self, value: object) -> None:
        self._open = False
        await self._keeper.answered(self._ticket, value)

    def close(self) -> None:
        if self._open:
            self._open = False
            self._keeper.dropped(self._ticket)


class RelayedEngine:
    """The part of an `Engine` that a session uses."""

    def __init__(self, engine: Engine, keeper: Timekeeper) -> None:
        self._engine, self._keeper = engine, keeper

    @property
    def admission(self) -> Any:
        """The engine's own."""
        return self._engine.admission

    @property
    def tick_ms(self) -> int:
        """Ticks do not stretch: the engine's load is not kept."""
        return 0

    def open_context(self) -> Context:
        """A new context."""
        return self._engine.open_context()

    def close_context(self, context: Context) -> None:
        """End a context."""
        self._engine.close_context(context)

    def stats(self) -> EngineStats:
        """What the engine did so far, and what waits as the keeper has it."""
        stats = self._engine.stats()
        return replace(stats, queued=self._keeper.queued(stats.queued))

    async def run(self, item: Any, *urgency: Any) -> Any:
        """Do a piece of work."""
        work = _Work(self._keeper, type(item).__name__.lower(), max(1, len(getattr(item, "entries", ()))))
        try:
            answer = await self._engine.run(item, *urgency)
            await work.answered(answer)
            return answer
        finally:
            work.close()

    @asynccontextmanager
    async def stream(self, item: Decode) -> AsyncIterator[AsyncIterator[Token]]:
        """Decode; each token is a piece of work, and so is the end."""
        tokens = self._engine.stream(item)
        try:
            yield self._tokens(tokens)
        finally:
            work = _Work(self._keeper, "close")  # the engine ends its step first
            try:
                await tokens.aclose()
                await work.answered(None)
            finally:
                work.close()

    async def _tokens(self, tokens: AsyncIterator[Token]) -> AsyncIterator[Token]:
        while True:
            work = _Work(self._keeper, "token")
            try:
                token = await anext(tokens, None)
                if token is None:
                    return
                await work.answered(token)
            finally:
                work.close()
            yield token


class RelayedVoice:
    """A synthesizer; each chunk is a piece of work."""

    def __init__(self, voice: Synthesizer, keeper: Timekeeper) -> None:
        self._voice, self._keeper = voice, keeper

    @property
    def sample_rate(self) -> int:
        """Samples per second of every chunk."""
        return self._voice.sample_rate

    async def synthesize(self, text: str, *, manner: Manner = AS_SET) -> AsyncGenerator[SpeechChunk, None]:
        """Speak `text`."""
        chunks = self._voice.synthesize(text, manner=manner)
        first = True
        try:
            while True:
                work = _Work(self._keeper, "first chunk" if first else "chunk", len(text))
                try:
                    chunk = await anext(chunks, None)
                    await work.answered(chunk)
                finally:
                    work.close()
                if chunk is None:
                    return
                first = False
                yield chunk
        finally:
            await chunks.aclose()

    def cancel(self) -> None:
        """Silence at once."""
        self._voice.cancel()


def relayed_engine(engine: Engine, keeper: Timekeeper) -> Engine:
    """The engine as a session takes it."""
    return cast("Engine", RelayedEngine(engine, keeper))


def relayed_tools(toolbox: Toolbox, keeper: Timekeeper) -> Toolbox:
    """The same tools; each run is a piece of work. A tool that fails is an answer too: its exception."""

    def relayed(tool: Tool) -> Tool:
        async def run(*args: Any, **kwargs: Any) -> Any:
            work = _Work(keeper, f"tool {tool.name}")
            try:
                try:
                    value = await tool.run((args, kwargs))
                except Exception as error:
                    await work.answered(error)
                    raise
                await work.answered(value)
                return value
            finally:
                work.close()

        def begin(*args: Any, **kwargs: Any) -> Any:
            return run(*args, **kwargs)

        return replace(tool, function=run if tool.is_async else begin)  # one that may block is still known as such

    return Toolbox([relayed(toolbox.get(name)) for name in toolbox.names])
