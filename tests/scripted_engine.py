"""An engine whose model says what a script tells it, a checkpoint to go with it, and an event loop in virtual time, so that
a session's logic runs whole and fast: `run(scenario)`."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import cache
from types import SimpleNamespace
from typing import Any

from small_checkpoint import small_speech, small_tokenizer
from textpro.agent.events import Event
from textpro.agent.session import Session
from textpro.agent.session_settings import SessionSettings
from textpro.agent.tools import Toolbox
from textpro.engine import Append, Context, Decode, Entry, Token, Truncate
from textpro.engine.work import Appended, Changed
from textpro.models.chat import ChatFormat
from textpro.models.fusion import Fusion

TOKENIZER = small_tokenizer()
CHAT = ChatFormat(TOKENIZER, {})
Message = str | tuple[str | tuple[str, dict[str, Any]], ...]
"""What the model writes: words, or words and calls (name and arguments)."""


def ids_of(message: Message) -> tuple[int, ...]:
    """The message's tokens, without its end; calls stand on lines of their own."""
    ids: tuple[int, ...] = ()
    for piece in (message,) if isinstance(message, str) else message:
        if isinstance(piece, str):
            ids += CHAT.reply(piece)
        else:
            ids += (*(CHAT.after_turn_end() if ids else ()), *CHAT.call(*piece))
    return ids


class ScriptedEngine:
    """Takes the work that a reply makes, without a thread; each decode writes the next message of the script, each token
    in `token_ms`."""

    def __init__(self, script: Sequence[Message], token_ms: float = 1.0) -> None:
        self.script = list(script)
        self._token_ms = token_ms

    def open_context(self) -> Context:
        self.context = Context(100_000)
        return self.context

    def close_context(self, context: Context) -> None:
        context.closed = True

    async def run(self, item: Append | Truncate) -> Appended | Changed:
        await asyncio.sleep(0)
        if isinstance(item, Truncate):
            item.context.truncate(item.position)
            return Changed(item.context.length, 0.0)
        item.context.append(item.entries)
        return Appended(item.context.length, dict.fromkeys(item.probe, 0.5), 0.0)

    @asynccontextmanager
    async def stream(self, item: Decode) -> AsyncIterator[AsyncIterator[Token]]:
        ids = (*ids_of(self.script.pop(0) if self.script else "Well."), *item.stop_ids)
        yield self._tokens(item.context, ids)

    async def _tokens(self, context: Context, ids: Sequence[int]) -> AsyncIterator[Token]:
        for index, token in enumerate(ids):
            await asyncio.sleep(self._token_ms / 1000)
            context.append([Entry(token)])
            finish = "stop" if index == len(ids) - 1 else None
            yield Token(token, 0.0, index, context.length - 1, 0.0, finish)


@cache
def _speech() -> Any:
    return small_speech(len(TOKENIZER))


class ScriptedTalk:
    """A session whose model follows `script`, and what it said. Enter it with `async with`."""

    def __init__(
        self,
        tools: Sequence[Any] | None,
        *script: Message,
        config: dict[str, Any] | None = None,
        settings: SessionSettings | None = None,
        synthesizer: Any = None,
    ) -> None:
        self.engine = ScriptedEngine(script)
        checkpoint = SimpleNamespace(
            chat=CHAT, tokenizer=TOKENIZER, fusion=Fusion(), config=config or {}, speech=SimpleNamespace(config=_speech().config)
        )
        self.session = Session(self.engine, checkpoint, synthesizer, Toolbox(tools), settings or SessionSettings())
        self.events: list[Event] = []

    async def __aenter__(self) -> ScriptedTalk:
        await self.session.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.session.__aexit__()
        self.events += self.session.said()

    @property
    def history(self) -> str:
        """The context, spelled; without the space before a cut, which is a token of its own here."""
        return str(TOKENIZER.decode([entry.token_id for entry in self.session.entries])).replace(" <|cut_off|>", "<|cut_off|>")

    async def say(self, text: str) -> list[Event]:
        """A typed turn, answered to the end; gives its events."""
        await self.session.send_text(text)
        return await self.settled()

    async def settled(self) -> list[Event]:
        """Wait until nothing is at work; gives the events since the last look."""
        for _ in range(3):  # what a task says at its end is input again
            await self.session.settled()
            await asyncio.sleep(0)
        return self.look()

    def look(self) -> list[Event]:
        """The events since the last look."""
        fresh = self.session.said()
        self.events += fresh
        return fresh

    def of(self, *types: str) -> list[Event]:
        """All events so far of these types."""
        self.look()
        return [event for event in self.events if event.type in types]


class _Selector(selectors.SelectSelector):
    """Does not wait for a timer but moves the loop's time to it."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        ready = super().select(0 if timeout is not None else None)
        if not ready and timeout:
            self.now += timeout
        return ready


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    """Run a scenario in virtual time: sleeps and time limits are over as soon as everybody waits. Not for threads."""
    selector = _Selector()
    loop = asyncio.SelectorEventLoop(selector)
    loop.time = lambda: selector.now  # type: ignore[method-assign]
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(scenario())
