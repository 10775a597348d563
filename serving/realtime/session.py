"""What the Realtime codec orders, done with sessions of the runtime: one for the conversation, opened anew where the codec
says so, and one for each reply beside it. Commands are worked off in order by one task; events go back as they come.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ...agent.events import Event
from ...agent.tools import Tool, ToolFunction, tool, unchecked
from ...agent.turns import TurnSettings
from ...engine import Entry
from ...models.errors import TextProError
from ..session_log import SessionLog
from .codec import RealtimeCodec
from .history import as_object, entries_of
from .resuming import WHOLE_CONTEXT
from .wire import (
    Apply,
    Aside,
    Command,
    Decide,
    EndTurn,
    GiveResult,
    Hear,
    Output,
    Plan,
    Played,
    Respond,
    Say,
    Stop,
    StopAside,
)

if TYPE_CHECKING:
    from ...agent.runtime import Runtime
    from ...agent.session import Session

_log = logging.getLogger(__name__)
NEVER_MS = 3_600_000
"""Silence that ends a turn where the client says when it ends."""
MAX_REPLY_TOKENS = 160


@dataclass(frozen=True, slots=True)
class SessionDefaults:
    """What the server decides about sessions: its own tools, when turns end, how long a client's function may take."""

    tools: Sequence[ToolFunction | Tool] = ()
    turns: TurnSettings = field(default_factory=TurnSettings)
    prosody: bool = True
    follow_tone: bool = True
    client_tool_s: float = 300.0
    behind_ms: int | None = None


class RealtimeSession:
    """The sessions behind one connection. `send` takes what the codec gives for an event; it must not block. `entries` are the
    turns of a conversation that goes on."""

    def __init__(
        self,
        runtime: Runtime,
        codec: RealtimeCodec,
        defaults: SessionDefaults,
        send: Callable[[list[Output]], None],
        now_ms: Callable[[], float],
        entries: tuple[Entry, ...] = (),
    ) -> None:
        self._runtime, self._codec, self._defaults = runtime, codec, defaults
        self._send, self._now_ms = send, now_ms
        self._commands: deque[Command] = deque()
        self._news = asyncio.Event()
        self._session: Session | None = None
        self._entries, self._system_length = entries, 0
        self._pump: asyncio.Task[None] | None = None
        self._asides: dict[str, asyncio.Task[None]] = {}
        self._later: set[asyncio.Task[None]] = set()
        self._results: dict[int, asyncio.Future[str]] = {}
        self._keys = itertools.count(1)
        self.waiting_ms = 0.0
        """Audio that waits to be heard."""

    def put(self, command: Command) -> None:
        """The next command."""
        if isinstance(command, Hear):
            self.waiting_ms += len(command.pcm) * 1000 / command.rate
        self._commands.append(command)
        self._news.set()

    async def run(self) -> None:
        """Work the commands off until cancelled. CapacityError where no session can be opened."""
        try:
            while True:
                while self._commands:
                    await self._do(self._commands.popleft())
                self._news.clear()
                await self._news.wait()
        finally:
            await self._close()

    def log(self, model: str) -> SessionLog:
        """The conversation as it stands; `model` names the checkpoint."""
        self._drain()
        log, reach = self._codec.remember()
        return replace(log, model=model, entries=self._rows(reach))

    def _rows(self, reach: int | None) -> tuple[Entry, ...]:
        """Closed turns out of what the model reads now, instructions left out; see `Resuming.remember` for `reach`."""
        if self._session is None:
            return self._entries
        if reach is None:
            return self._session.history
        rows = self._session.entries[self._system_length : None if reach == WHOLE_CONTEXT else reach]
        close = self._runtime.checkpoint.chat.reply_close()
        is_closed = tuple(entry.token_id for entry in rows[len(rows) - len(close) :]) == tuple(close)
        return rows if not rows or is_closed else (*rows, *(Entry(token) for token in close))

    async def _do(self, command: Command) -> None:
        try:
            if isinstance(command, Apply):
                await self._open(command)
            elif isinstance(command, Aside):
                self._asides[command.response_id] = asyncio.create_task(self._beside(command))
            elif isinstance(command, StopAside):
                if (task := self._asides.pop(command.response_id, None)) is not None and task is not asyncio.current_task():
                    task.cancel()
            elif isinstance(command, GiveResult):
                if (waiting := self._results.get(command.key)) is not None and not waiting.done():
                    waiting.set_result(command.output)
            elif self._session is not None:
                await self._lead(self._session, command)
        except TextProError as error:
            if isinstance(command, Apply):
                raise
            self._send(self._codec.refused(command, error))
        finally:
            if isinstance(command, Hear):
                self.waiting_ms -= len(command.pcm) * 1000 / command.rate

    async def _lead(self, session: Session, command: Command) -> None:
        match command:
            case Hear():
                await session.send_audio(command.pcm, command.rate)
            case EndTurn():
                await session.commit()
                task = asyncio.create_task(self._after_turn(session, command.item_id))
                self._later.add(task)
                task.add_done_callback(self._later.discard)
            case Say():
                await session.send_text(command.text)
            case Respond():
                await session.respond()
            case Played():
                session.played(command.total_ms)
            case Stop():
                await session.interrupt(command.turn_id)
            case Decide():
                await session.confirm(command.call_id, command.accepted)

    async def _open(self, apply: Apply) -> None:
        history = self._entries if apply.keep else ()
        if self._session is not None:
            await self._session.settled()
            self._drain()
            if not self._codec.can_apply(apply):
                return
            history = self._session.history if apply.keep else ()
            await self._close_session()
        turns = entries_of(apply.turns, self._runtime.checkpoint.chat)
        session = self._make(apply.plan, (*history, *turns), None)
        await session.__aenter__()
        self._session, self._entries = session, ()
        self._system_length = len(session.entries) - len(session.history)
        self._codec.applied(apply)
        self._pump = asyncio.create_task(self._read(session))

    def _make(self, plan: Plan, history: tuple[Any, ...], aside: str | None) -> Session:
        own = [given if isinstance(given, Tool) else tool(given) for given in self._defaults.tools]
        theirs = [self._client_tool(spec, aside) for spec in plan.tools]
        names = {known.name for known in theirs}
        return self._runtime.session(
            plan.instructions,
            [*theirs, *(known for known in own if known.name not in names)],
            prosody=plan.prosody and self._defaults.prosody,
            playback="acknowledged",
            turns=turns_of(plan, self._defaults.turns),
            follow_tone=self._defaults.follow_tone,
            speak=plan.speak,
            auto_reply=plan.auto_reply,
            max_reply_tokens=min(plan.max_tokens or MAX_REPLY_TOKENS, MAX_REPLY_TOKENS),
            history=history,
            behind_ms=self._defaults.behind_ms,
        )

    def _client_tool(self, spec: dict[str, Any], aside: str | None) -> Tool:
        """A function that runs at the client: the call goes out, the result comes back as an item."""
        name = str(spec["name"])

        async def call(**arguments: Any) -> dict[str, object]:
            if aside is None:
                self._drain()
            key = next(self._keys)
            waiting = self._results[key] = asyncio.get_running_loop().create_future()
            try:
                self._send(self._codec.client_call(name, json.dumps(arguments, ensure_ascii=False), key, aside))
                return as_object(await waiting)
            finally:
                del self._results[key]

        return Tool(
            name=name,
            description=str(spec.get("description") or ""),
            parameters=spec.get("parameters") or {"type": "object", "properties": {}},
            function=call,
            check=unchecked,
            time_limit_s=self._defaults.client_tool_s,
            filler=None,
        )

    async def _read(self, session: Session) -> None:
        async for event in session:
            self._observe(event)

    def _drain(self) -> None:
        """Take what the session has said and nobody has read."""
        if self._session is not None:
            for event in self._session.said():
                self._observe(event)

    def _observe(self, event: Event) -> None:
        self._send(self._codec.observe(event, self._now_ms()))

    async def _after_turn(self, session: Session, item_id: str | None) -> None:
        await session.settled()
        if session is self._session:
            self._drain()
            self._send(self._codec.turn_ended(item_id))

    async def _beside(self, aside: Aside) -> None:
        def take(event: Event) -> None:
            self._send(self._codec.observe_aside(aside.response_id, event))

        try:
            history = entries_of(aside.turns, self._runtime.checkpoint.chat)
            async with self._make(replace(aside.plan, manual=True, auto_reply=False), history, aside.response_id) as session:
                await session.respond()
                async for event in session:
                    take(event)
        except TextProError as error:
            self._send(self._codec.aside_failed(aside.response_id, str(error)))

    async def _close_session(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.__aexit__(None, None, None)
        if (pump := self._pump) is not None:
            pump.cancel()
            await asyncio.wait({pump})  # which does not take it for the pump's end when it is cancelled itself
            self._pump = None
            if not pump.cancelled():
                pump.result()

    async def _close(self) -> None:
        tasks = [*self._asides.values(), *self._later]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._close_session()


def turns_of(plan: Plan, base: TurnSettings) -> TurnSettings:
    """When turns end, for a session of this plan."""
    if plan.manual:
        return replace(base, endpointing="vad", end_silence_ms=NEVER_MS)
    if plan.end_silence_ms is not None:
        soft = min(base.soft_end_silence_ms, plan.end_silence_ms)
        return replace(base, endpointing="vad", soft_end_silence_ms=soft, end_silence_ms=plan.end_silence_ms)
    if plan.max_wait_ms is not None:
        return replace(base, unsure_silence_ms=max(plan.max_wait_ms, base.sure_silence_ms))
    return base
