"""One reply: decode behind the user's turn, call tools, cut into clauses, speak them, keep the ledger.

The tokens go into the context as they are sampled. When the reply is cut off, the context is truncated to the tokens whose
text was heard and closed with the cut-off mark, so the next turn reads exactly what the user knows.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any

from ..engine import Append, Context, Decode, Engine, Entry, Sampling, Truncate
from ..models.chat import ChatFormat
from ..models.demo_tools import Call
from ..models.errors import InputError
from ..streaming.clauses import ClauseSplitter
from ..streaming.synthesis import Synthesizer
from .ledger import PlaybackLedger
from .tools import Toolbox

MAX_TOOL_CALLS = 4
"""Calls in one reply before the model is made to speak."""


class Reply:
    """Runs as a task of its own; what it has to say goes through `say(event name, fields)`.

    `seconds` is compute by stage, begun with that of the listening; `first_ms` the time to the first text and sound.
    """

    def __init__(
        self,
        engine: Engine,
        context: Context,
        chat: ChatFormat,
        toolbox: Toolbox,
        synthesizer: Synthesizer | None,
        say: Callable[..., None],
        max_tokens: int,
        sampling: Sampling,
        listening: dict[str, float],
    ) -> None:
        self._engine, self._context, self._chat, self._toolbox = engine, context, chat, toolbox
        self._synthesizer = synthesizer
        self._max_tokens, self._sampling = max_tokens, sampling
        self._clauses: asyncio.Queue[str | None] = asyncio.Queue()
        self._splitter = ClauseSplitter()
        self._ids: list[int] = []
        self._base = context.length  # behind the user's turn
        self._start: int | None = None  # where the running message begins
        self._said_before = ""  # text of the messages before it
        self.text = ""
        self.ledger = PlaybackLedger(synthesizer.sample_rate if synthesizer else 16_000)
        self.generated = False
        self.synthesized = synthesizer is None
        self.say = say
        self.seconds: dict[str, float] = {**listening, "prefill": 0.0, "decode": 0.0}
        self._began = perf_counter()
        self.first_ms: dict[str, float] = {}

    def _say(self, kind: str, /, **values: object) -> None:
        if kind in ("ReplyDelta", "Audio"):
            self.first_ms.setdefault(kind, (perf_counter() - self._began) * 1000)
        self.say(kind, **values)

    async def run(self) -> None:
        """Generate and speak to the end. Cancelling it is how a reply is cut off; then call `cut_off`."""
        speaking = asyncio.create_task(self._speak()) if self._synthesizer else None
        try:
            await self._generate()
            self._clauses.put_nowait(None)
            if speaking:
                await speaking
        finally:
            if speaking and not speaking.done():
                speaking.cancel()
                if self._synthesizer:
                    self._synthesizer.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await speaking

    async def _generate(self) -> None:
        await self._prefill(self._chat.reply_open())
        for round_ in range(MAX_TOOL_CALLS + 1):
            call = await self._decode()
            if call is None or round_ == MAX_TOOL_CALLS:
                break
            call_id = uuid.uuid4().hex[:12]
            self._say("ToolCall", call_id=call_id, name=call.name, arguments=dict(call.arguments))
            result = await self._toolbox.run(call)
            self._say("ToolResult", call_id=call_id, name=call.name, result=result)
            await self._prefill((*self._chat.after_turn_end(), *self._chat.response(result)))
        await self._prefill(self._chat.after_turn_end())
        self._spoken(self._splitter.flush())
        self.generated = True

    async def _decode(self) -> Call | None:
        """Decode one assistant message; gives the call if it is one."""
        self._ids, self._start, self._said_before = [], self._context.length, self.text
        stop = self._chat.turn_end_id
        stopped = False
        async with self._engine.stream(Decode(self._context, self._max_tokens, self._sampling, (stop,))) as tokens:
            async for token in tokens:
                self.seconds["decode"] += token.seconds
                if token.id == stop:
                    stopped = True
                    break
                self._ids.append(token.id)
                if not self._chat.is_call(self._ids):
                    self._grow(self._chat.text(self._ids))
        if not stopped:
            await self._prefill((stop,))
        if self._chat.is_call(self._ids):
            try:
                parsed = self._chat.parse(self._ids)
            except InputError as error:
                parsed = Call("unreadable", {"error": str(error)})
            return parsed if isinstance(parsed, Call) else None
        self._grow(self._chat.text(self._ids), final=True)
        return None

    def _grow(self, text: str, final: bool = False) -> None:
        """The reply's text is now `text`; characters that are not complete yet wait."""
        text = self._said_before + (text if final else text.rstrip("\ufffd"))
        delta = text[len(self.text) :]
        if delta:
            self.text = text
            self._say("ReplyDelta", text=delta)
            self._spoken(self._splitter.push(delta))

    def _spoken(self, clauses: Sequence[str]) -> None:
        for clause in clauses:
            self._clauses.put_nowait(clause)

    async def _speak(self) -> None:
        assert self._synthesizer is not None
        while (clause := await self._clauses.get()) is not None:
            if not clause.strip():
                continue
            self.ledger.begin_clause(clause)
            async for chunk in self._synthesizer.synthesize(clause):
                self.ledger.add_audio(len(chunk.pcm), chunk.words)
                self._say("Audio", pcm=chunk.pcm, sample_rate=self._synthesizer.sample_rate, text=clause)
            self.ledger.end_clause()
        self.synthesized = True

    async def cut_off(self, heard: str) -> None:
        """Make the context hold the reply as heard, the cut-off mark and the end of the turn."""
        opening: Sequence[int] = ()
        if self._start is None:  # nothing was decoded yet
            opening, keep = self._chat.reply_open(), self._base
        else:
            kept, room = 0, len(heard.rstrip()) - len(self._said_before)
            while kept < len(self._ids) and len(self._chat.text(self._ids[: kept + 1]).rstrip()) <= room:
                kept += 1
            keep = self._start + kept
        await self._engine.run(Truncate(self._context, min(keep, self._context.length)))
        await self._prefill((*opening, self._chat.cut_off_id, self._chat.turn_end_id, *self._chat.after_turn_end()))

    async def _prefill(self, tokens: Sequence[int]) -> Any:
        done = await self._engine.run(Append(self._context, tuple(Entry(token) for token in tokens)))
        self.seconds["prefill"] += done.seconds
        return done
