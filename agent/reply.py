"""One reply: decode behind the user's turn, call tools, cut into clauses, speak them, keep the ledger.

The tokens go into the context as they are sampled. When the reply is cut off, the context is made to hold the words that
were heard, the calls that were begun with what came of them, and the cut-off mark: what the user knows and what was done.
A draft, made before the turn is surely over, writes text and speaks its first clause behind a closed gate and calls nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..engine import Append, Context, Decode, Engine, Entry, Sampling, Truncate
from ..models.chat import ChatFormat
from ..models.demo_tools import Call
from ..models.errors import InputError
from ..streaming.clauses import ClauseSplitter
from ..streaming.synthesis import AS_SET, Manner, Synthesizer
from .gate import Gate
from .late_results import OpenResponse
from .ledger import PlaybackLedger
from .tool_calls import MAX_TOOL_CALLS, ToolCalls, ToolRun, Waiting

FILLER_AFTER_MS = 800
"""How long a tool may take before its filler is spoken."""
GIVING_UP = "I could not do that."
"""Said by a model that goes on calling when it may not any more, and has said nothing else."""


@dataclass(slots=True)
class _Message:
    """One message of the reply. `opening` is what stands before its tokens `ids`, of which the first `words` are said;
    they begin at `text_at` of the reply's text, if any are. `calls` says where each begun call ends in `ids`."""

    opening: Sequence[int]
    closing: Sequence[int]
    ids: list[int] = field(default_factory=list)
    words: int = 0
    text_at: int | None = None
    calls: list[tuple[int, ToolRun]] = field(default_factory=list)

    @property
    def runs(self) -> tuple[ToolRun, ...]:
        return tuple(run for _, run in self.calls)


class Reply:
    """Runs as a task of its own; what it has to say goes through `gate`.

    `begins` is what it begins with: what the waiting call of an earlier turn makes of it (`ToolCalls.answer`), or words to
    be said as they are. `behind_user` False: it follows no turn of the user. `seconds` is compute by stage, begun with that
    of the listening.
    """

    def __init__(
        self,
        engine: Engine,
        context: Context,
        chat: ChatFormat,
        calls: ToolCalls,
        synthesizer: Synthesizer | None,
        gate: Gate,
        turn_id: int,
        max_tokens: int,
        sampling: Sampling,
        listening: dict[str, float],
        begins: ToolRun | Waiting | str | None = None,
        behind_user: bool = True,
        manner: Manner = AS_SET,
    ) -> None:
        self._engine, self._context, self._chat, self._calls = engine, context, chat, calls
        self._synthesizer, self.turn_id, self._manner = synthesizer, turn_id, manner
        self._max_tokens, self._sampling = max_tokens, sampling
        self._clauses: asyncio.Queue[str | None] = asyncio.Queue()
        self._splitter = ClauseSplitter()
        self._base = context.length  # behind the user's turn
        self._held: list[int] = []  # tokens that are in the context behind it
        self._script = begins.question if isinstance(begins, Waiting) else begins if isinstance(begins, str) else None
        if isinstance(begins, ToolRun):
            decided = _Message((), chat.reply_close() if behind_user else (), calls=[(0, begins)])
            self._messages = [decided]
        else:
            opening = chat.reply_open() if behind_user else chat.reply_open()[len(chat.reply_close()) :]
            self._messages = [_Message(opening, chat.reply_close())]
        self._filled = False
        self.text = ""
        self.ledger = PlaybackLedger(synthesizer.sample_rate if synthesizer else 16_000)
        self.generated = False
        self.synthesized = synthesizer is None
        self.left_open: OpenResponse | None = None
        self.gate = gate
        self._open_clauses = 0
        self._text_rests = self._voice_rests = False
        self.at_rest = asyncio.Event()
        """A draft has gone as far as it may."""
        self.seconds: dict[str, float] = {**listening, "prefill": 0.0, "decode": 0.0}

    @property
    def base(self) -> int:
        """Where it begins in the context, behind the user's turn."""
        return self._base

    @property
    def has_called(self) -> bool:
        """Whether a tool was called."""
        return any(message.calls for message in self._messages)

    @property
    def is_heard(self) -> bool:
        """Whether the user knows any of it."""
        return self.gate.opened.is_set() and (self.ledger.played_ms > 0 if self._synthesizer else bool(self.text))

    def heard_text(self) -> str:
        """What the user knows of it."""
        return self.ledger.heard_text() if self._synthesizer else self.text

    @property
    def tokens(self) -> int:
        """How many tokens the model has written."""
        return sum(len(message.ids) for message in self._messages)

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
                if self._synthesizer:
                    self._synthesizer.cancel()
                speaking.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await speaking

    async def _generate(self) -> None:
        message = self._messages[0]
        await self._prefill(message.opening)
        if message.calls:
            await self._settle(message.runs[0])
            await self._prefill(message.closing)
            message = await self._respond(message)
        if self._script is not None:
            await self._ask(message, self._script)
        else:
            await self._converse(message)
        await self._prefill(self._chat.after_turn_end())
        self._flush()
        self.generated = self._text_rests = True
        self._note_rest()

    async def _converse(self, message: _Message) -> None:
        """Messages until one calls nothing, or one asks the user."""
        while calls := await self._decode(message):
            if self._calls.made(self.turn_id) > MAX_TOOL_CALLS:
                return await self._give_up(message)
            self._flush()
            await self._wait_for_gate(is_voice=False)
            for end, called in calls:
                run = self._calls.begin(called, self.turn_id, self.gate.say)
                message.calls.append((end, run))
                await self._settle(run)
            await self._prefill(self._chat.after_turn_end())
            message = await self._respond(message)
            if (waiting := self._calls.waiting) is not None:
                return await self._ask(message, waiting.question)

    async def _respond(self, message: _Message) -> _Message:
        """Tell the model what came of a message's calls; gives the message that follows."""
        await self._prefill(self._chat.responses([run.report for run in message.runs]))
        following = _Message((), self._chat.reply_close())
        self._messages.append(following)
        return following

    async def _settle(self, run: ToolRun) -> None:
        """Wait for a run that does not wait for the user; say its filler when it is slow, once in a reply."""
        filler = run.tool.filler if run.tool is not None and not self._filled else None
        if run.is_waiting or run.result is not None:
            return
        if filler:
            await asyncio.wait({run.finished}, timeout=FILLER_AFTER_MS / 1000)
            if run.result is None:
                self._filled = True
                self._add(f" {filler}" if self.text and not self.text[-1].isspace() else filler)
                self._flush()
        await asyncio.wait({run.finished})

    async def _ask(self, message: _Message, question: str) -> None:
        """Put a question of our own to the user, as words of the model."""
        await self._write(message, self._chat.reply(question))
        await self._prefill((self._chat.turn_end_id,))

    async def _give_up(self, message: _Message) -> None:
        """The model calls on although it may not: take that back, and let it have said something."""
        del message.ids[message.words :]
        await self._hold(self._words_as_heard(self.text)[0])
        if not self.text.strip():
            await self._write(message, self._chat.reply(GIVING_UP))
        await self._prefill((self._chat.turn_end_id,))

    async def _write(self, message: _Message, ids: Sequence[int]) -> None:
        await self._prefill(ids)
        message.ids += ids
        message.words = len(message.ids)
        self._grow(message, self._chat.text(message.ids), final=True)

    async def _decode(self, message: _Message) -> list[tuple[int, Call | InputError]]:
        """Decode one assistant message; gives its calls and where each ends."""
        stop = self._chat.turn_end_id
        stopped = False
        async with self._engine.stream(Decode(self._context, self._max_tokens, self._sampling, (stop,))) as tokens:
            async for token in tokens:
                self.seconds["decode"] += token.seconds
                self._held.append(token.id)
                if token.id == stop:
                    stopped = True
                    break
                message.ids.append(token.id)
                if not self._chat.is_call(message.ids):
                    message.words = len(message.ids)
                    self._grow(message, self._chat.text(message.ids))
        if not stopped:
            await self._prefill((stop,))
        calls = self._chat.calls(message.ids)
        if calls:
            message.words = min(message.words, calls[0][0])
        self._grow(message, self._chat.text(message.ids[: message.words]), final=True)
        return [(end, called) for _, end, called in calls]

    def _grow(self, message: _Message, text: str, final: bool = False) -> None:
        """The message's text is now `text`; characters that are not complete yet wait, and so does leading space."""
        text = text if final else text.rstrip("\ufffd")
        if message.text_at is None:
            if text.strip():
                gap = " " if self.text and not self.text[-1].isspace() and not text[0].isspace() else ""
                message.text_at = len(self.text) + len(gap)
                self._add(gap + text)
        elif delta := text[len(self.text) - message.text_at :]:
            self._add(delta)

    def _add(self, delta: str) -> None:
        self.text += delta
        self.gate.say("ReplyDelta", text=delta)
        self._spoken(self._splitter.push(delta))

    def _flush(self) -> None:
        self._spoken(self._splitter.flush())

    def _spoken(self, clauses: Sequence[str]) -> None:
        for clause in clauses:
            self._open_clauses += self._synthesizer is not None
            self._clauses.put_nowait(clause)

    async def _speak(self) -> None:
        assert self._synthesizer is not None
        while (clause := await self._clauses.get()) is not None:
            self.ledger.begin_clause(clause)
            if clause.strip():
                async for chunk in self._synthesizer.synthesize(clause, manner=self._manner):
                    self.ledger.add_audio(len(chunk.pcm), chunk.words)
                    self.gate.say("Audio", pcm=chunk.pcm, sample_rate=self._synthesizer.sample_rate, text=clause)
            self.ledger.end_clause()
            self._open_clauses -= 1
            if clause.strip():
                await self._wait_for_gate(is_voice=True)
        self.synthesized = True

    async def _wait_for_gate(self, *, is_voice: bool) -> None:
        """Here a draft ends: at its first call, and behind its first spoken clause."""
        self._voice_rests, self._text_rests = self._voice_rests or is_voice, self._text_rests or not is_voice
        self._note_rest()
        await self.gate.opened.wait()

    def _note_rest(self) -> None:
        if self._text_rests and (self._voice_rests or not self._open_clauses):
            self.at_rest.set()

    async def cut_off(self, heard: str) -> None:
        """Make the context hold the reply as heard, with the calls that were begun, the cut-off mark and the end of the
        turn. Calls that still run are owed to the model; if the reply ends with them, `left_open` says where."""
        wanted, response = self._words_as_heard(heard)
        for run in (run for message in self._messages for run in message.runs):
            if run.result is None and not run.is_waiting:
                self._calls.owe(run)
                self.left_open = response
        await self._hold((*wanted, self._chat.cut_off_id))
        await self._prefill(self._chat.reply_close())

    def _words_as_heard(self, heard: str) -> tuple[list[int], OpenResponse | None]:
        """The reply's tokens behind the user's turn, up to the end of what was heard or done; and the last response."""
        wanted: list[int] = []
        response: OpenResponse | None = None
        for message in self._messages:
            wanted += message.opening
            kept = self._kept(message, heard)
            wanted += message.ids[:kept]
            if not message.calls:
                break
            if kept < message.words:
                wanted.append(self._chat.cut_off_id)
            wanted += (*message.ids[message.words : message.calls[-1][0]], *message.closing)
            response = OpenResponse(self._base + len(wanted), message.runs)
            wanted += self._chat.responses([run.report for run in message.runs])
        return wanted, response

    def _kept(self, message: _Message, heard: str) -> int:
        """How many of a message's tokens were heard."""
        kept, room = 0, 0 if message.text_at is None else len(heard.rstrip()) - message.text_at
        while kept < message.words and len(self._chat.text(message.ids[: kept + 1]).rstrip()) <= room:
            kept += 1
        return kept

    async def _hold(self, wanted: Sequence[int]) -> None:
        """Make the context hold these tokens behind the user's turn, and nothing else."""
        kept = 0
        while kept < min(len(wanted), len(self._held)) and wanted[kept] == self._held[kept]:
            kept += 1
        await self._engine.run(Truncate(self._context, self._base + kept))
        del self._held[kept:]
        await self._prefill(wanted[kept:])

    async def _prefill(self, tokens: Sequence[int]) -> Any:
        done = await self._engine.run(Append(self._context, tuple(Entry(token) for token in tokens)))
        self._held += tokens
        self.seconds["prefill"] += done.seconds
        return done
