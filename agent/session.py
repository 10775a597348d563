"""One conversation: audio or text in, typed events out. One task works off the inputs in order, so nothing interleaves.

Everything about the user's turn is driven by the detector's 32 ms decisions and happens at their place in the audio,
however the audio arrived. The reply runs as a task of its own, so that audio is heard while the agent speaks.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from ..engine import Append, Context, Engine, Entry
from ..models.checkpoint import Checkpoint
from ..models.errors import InputError, TextProError
from ..streaming.audio import check_sample_rate, mono_from_array
from ..streaming.clock import SAMPLES_PER_MS
from ..streaming.interleaver import Interleaver
from ..streaming.reply_prosody import manner_of_reply
from ..streaming.resample import ResampleStream
from ..streaming.synthesis import AS_SET, Manner, Synthesizer
from . import events
from .late_results import LateResults
from .listener import Listener
from .reply import Reply
from .session_settings import SessionSettings
from .tool_calls import ToolCalls
from .tools import Toolbox
from .turns import Decision, TurnMachine, TurnState

_log = logging.getLogger(__name__)
MAX_INPUTS = 512
"""Pieces of input that may wait; a caller that is faster waits in `send_audio`."""


@dataclass(frozen=True, slots=True, eq=False)
class _Sound:
    samples: NDArray[np.float32]
    sample_rate: int


@dataclass(frozen=True, slots=True)
class _Typed:
    text: str


@dataclass(frozen=True, slots=True)
class _Decided:
    call_id: str
    accepted: bool


_Input = _Sound | _Typed | _Decided | Literal["commit", "interrupt", "end_audio", "check"]


class Session:
    """Made by `Runtime.session`. Iterate it for events; send from any task of the same event loop."""

    def __init__(
        self,
        engine: Engine,
        checkpoint: Checkpoint,
        synthesizer: Synthesizer | None,
        toolbox: Toolbox,
        settings: SessionSettings,
    ) -> None:
        self._engine, self._checkpoint, self._settings = engine, checkpoint, settings
        self._synthesizer, self._toolbox = synthesizer, toolbox
        self._calls = ToolCalls(toolbox)
        self._inbox: asyncio.Queue[_Input] = asyncio.Queue(MAX_INPUTS)
        self._outbox: asyncio.Queue[events.Event | None] = asyncio.Queue()
        self._machine = TurnMachine(settings.turns)
        self._resampler: ResampleStream | None = None
        self._reply: Reply | None = None
        self._reply_task: asyncio.Task[None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._turn_id = self._revision = 0
        self._p_end = 0.0
        self._eager = False
        self._now_ms = 0
        self._onset = 0
        self._realtime_factor: float | None = None

    async def __aenter__(self) -> Self:
        self._context: Context = self._engine.open_context()
        self._listener = Listener(self._engine, self._checkpoint, self._settings.prosody)
        self._interleaver = Interleaver(self._engine, self._context, self._checkpoint.chat, self._checkpoint.fusion)
        self._late = LateResults(self._engine, self._context, self._checkpoint.chat, self._calls)
        if system := self._toolbox.system(self._settings.instructions, self._checkpoint):
            await self._engine.run(Append(self._context, tuple(Entry(token) for token in system)))
        self._history_end = self._context.length  # where the user's next turn begins
        self._task = asyncio.create_task(self._work())
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in (self._reply_task, self._task):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        if self._synthesizer is not None:
            self._synthesizer.cancel()
        await self._calls.aclose()
        self._engine.close_context(self._context)
        self._outbox.put_nowait(None)

    async def __aiter__(self) -> AsyncIterator[events.Event]:
        while (event := await self._outbox.get()) is not None:
            yield event

    @property
    def entries(self) -> tuple[Entry, ...]:
        """The conversation as the backbone reads it: tokens, and markers with their prosody vectors. A copy."""
        return self._context.entries

    async def send_audio(self, samples: NDArray[np.generic], sample_rate: int) -> None:
        """Samples int16 or float [n] or [n, channels]. Waits while too much is unheard. AudioError if not usable."""
        await self._put(_Sound(mono_from_array(samples), check_sample_rate(sample_rate)))

    async def send_text(self, text: str) -> None:
        """A whole turn, typed. InputError if it holds no words."""
        if not self._checkpoint.chat.words(text):
            raise InputError(f"the typed turn {text!r} holds no words: send some text")
        await self._put(_Typed(text))

    async def commit(self) -> None:
        """End the turn now."""
        await self._put("commit")

    async def interrupt(self) -> None:
        """Cut the reply off now."""
        await self._put("interrupt")

    async def confirm(self, call_id: str, accepted: bool) -> None:
        """Decide a call that waits for the user's yes (`ConfirmationRequest`), as a button does. InputError if it does
        not wait, or not any more."""
        waiting = self._calls.waiting
        if waiting is None or waiting.run.call_id != call_id:
            raise InputError(f"no call {call_id!r} waits for a decision: answer the last confirmation_request, once")
        await self._put(_Decided(call_id, accepted))

    async def end_audio(self) -> None:
        """No more audio comes; an open turn ends now."""
        await self._put("end_audio")

    def played(self, total_ms: float) -> None:
        """The transport has played the first `total_ms` of the current reply's audio."""
        if self._reply is not None:
            self._reply.ledger.played(total_ms)
            if self._reply.synthesized and self._reply.ledger.is_played and not self._inbox.full():
                self._inbox.put_nowait("check")

    async def settled(self) -> None:
        """Wait until all input has been worked off and no model or voice is at work on a reply."""
        joined = asyncio.ensure_future(self._inbox.join())
        if self._task is not None:
            await asyncio.wait([joined, self._task], return_when=asyncio.FIRST_COMPLETED)
        joined.cancel()
        if self._reply_task is not None:
            await asyncio.wait([self._reply_task])

    def said(self) -> list[events.Event]:
        """The events that wait to be read, taken out; for a caller that does not iterate."""
        waiting = []
        while not self._outbox.empty():
            if (event := self._outbox.get_nowait()) is not None:
                waiting.append(event)
        return waiting

    async def _put(self, item: _Input) -> None:
        if self._task is None or self._task.done():
            raise TextProError("this session has ended: its last event says why; open a new one")
        await self._inbox.put(item)

    def _say(self, kind: str, /, **values: object) -> None:
        stamp = {"t_ms": self._now_ms, "turn_id": self._turn_id, "revision": self._revision}
        self._outbox.put_nowait(getattr(events, kind)(**{**stamp, **values}))

    async def _work(self) -> None:
        while True:
            item = await self._inbox.get()
            try:
                await self._handle(item)
            except Exception as error:
                self._fail(error)
                return
            finally:
                self._inbox.task_done()

    def _fail(self, error: Exception) -> None:
        """The session ends with a reason; nobody else's does."""
        self._calls.close()
        if not isinstance(error, TextProError):
            _log.exception("a session failed", exc_info=error)
        reason = str(error) if isinstance(error, TextProError) else f"{type(error).__name__}: {error}"
        self._say("Failed", reason=reason)
        self._outbox.put_nowait(None)

    async def _handle(self, item: _Input) -> None:
        match item:
            case _Sound():
                await self._hear(item)
            case _Typed():
                await self._typed(item.text)
            case _Decided():
                if (waiting := self._calls.waiting) is not None and waiting.run.call_id == item.call_id:
                    waiting.decision = item.accepted
            case "interrupt":
                await self._interrupt()
            case "commit" | "end_audio":
                if item == "end_audio" and self._resampler is not None:
                    await self._advance(self._resampler.flush())
                    self._resampler = None
                for decision in self._machine.force_end():
                    await self._act(decision)
            case "check":
                pass
        await self._finish_reply()
        await self._carry_out()

    async def _hear(self, sound: _Sound) -> None:
        if self._resampler is not None and self._resampler.input_rate != sound.sample_rate:
            await self._advance(self._resampler.flush())
            self._resampler = None
        if self._resampler is None:
            self._resampler = ResampleStream(sound.sample_rate)
        await self._advance(self._resampler.push(sound.samples))

    async def _advance(self, samples: NDArray[np.float32]) -> None:
        for heard in self._listener.listen(samples):
            self._now_ms = heard.now_samples // SAMPLES_PER_MS
            self._say("VoiceActivity", probability=heard.probability, speaking=heard.speaking)
            if heard.speech_start is not None:
                decision = self._machine.speech_started(heard.speech_start // SAMPLES_PER_MS)
                self._onset = heard.speech_start
                await self._act(decision)
            if heard.speech_end is not None:
                self._machine.speech_ended(heard.speech_end // SAMPLES_PER_MS)
            while decision := self._machine.advance(self._now_ms):
                await self._act(decision)
            if self._machine.state is TurnState.SPEAKING and self._listener.block_ready:
                await self._tick()

    async def _act(self, decision: Decision | None) -> None:
        match decision:
            case Decision.START:
                self._turn_id, self._revision = self._turn_id + 1, 0
                self._listener.open(self._onset)
                self._say("TurnStart", start_ms=self._listener.start_samples // SAMPLES_PER_MS)
            case Decision.SOFT_END:
                await self._soft_end()
            case Decision.RESUME:
                if self._eager:  # a soft end without words was never said
                    self._revision += 1
                    self._say("TurnResumed")
                self._tell(self._listener.resume())
            case Decision.END:
                await self._end_turn()

    async def _tick(self) -> None:
        """Recognize what is new; bring complete groups into the context unless the agent is speaking."""
        self._tell(await self._listener.tick())
        if self._reply is None and self._listener.tokens:
            await self._interleaver.stream(self._listener.tokens, self._listener.vectors)
        elif self._reply is not None and len(self._listener.words) >= 2:
            await self._interrupt()

    async def _soft_end(self) -> None:
        self._tell(await self._listener.finish())
        self._eager = bool(self._listener.tokens)
        if not self._eager:
            return
        if self._reply is not None:
            await self._interrupt()
        synced = await self._interleaver.complete(self._listener.tokens, self._listener.vectors)
        self._listener.stages["interleave"] += synced.seconds
        self._p_end = synced.p_end or 0.0
        self._say("EagerTurnEnd", text=self._listener.text, p_end=self._p_end)

    async def _end_turn(self) -> None:
        tokens, text = self._listener.tokens, self._listener.text
        if not tokens:
            await self._interleaver.drop()
            self._listener.close()
            self._say("TurnDropped", reason="no words were recognized")
            return
        self._say("TurnEnd", text=text, p_end=self._p_end)
        self._interleaver.close()
        self._listener.close()
        manner = manner_of_reply(*self._listener.tone) if self._settings.follow_tone else AS_SET
        await self._start_reply(self._listener.stages, self._listener.realtime_factor, text, manner)

    async def _typed(self, text: str) -> None:
        ids = self._checkpoint.chat.words(text)
        await self._interrupt()
        self._turn_id, self._revision = self._turn_id + 1, 0
        await self._interleaver.open()
        synced = await self._interleaver.complete(ids, None)
        self._say("TurnEnd", text=self._checkpoint.chat.text(ids).strip(), p_end=synced.p_end or 0.0)
        self._interleaver.close()
        await self._start_reply({}, None, text)

    async def _carry_out(self) -> None:
        """Once the client has decided on a waiting call and nobody speaks a turn: answer without a turn of the user."""
        waiting = self._calls.waiting
        if waiting is not None and waiting.decision is not None and self._machine.state is TurnState.IDLE:
            await self._interrupt()
            await self._start_reply({}, None, None)

    async def _start_reply(
        self, listening: dict[str, float], realtime_factor: float | None, words: str | None, manner: Manner = AS_SET
    ) -> None:
        """Answer the user's turn, which said `words`, or with None a decision of the client."""
        await self._late.place(self._history_end)
        say = partial(self._say, turn_id=self._turn_id, revision=self._revision)
        reply = Reply(
            self._engine,
            self._context,
            self._checkpoint.chat,
            self._calls,
            self._synthesizer,
            say,
            self._turn_id,
            self._settings.max_reply_tokens,
            self._settings.sampling,
            listening,
            begins=self._calls.answer(words, self._turn_id, say),
            behind_user=words is not None,
            manner=manner,
        )
        self._realtime_factor = realtime_factor
        self._reply = reply
        self._reply_task = asyncio.create_task(self._run_reply(reply))

    async def _run_reply(self, reply: Reply) -> None:
        try:
            await reply.run()
            if self._settings.playback == "assumed":
                reply.ledger.played(reply.ledger.audio_ms)
            self._inbox.put_nowait("check")
        except Exception as error:
            self._fail(error)
            if self._task is not None:
                self._task.cancel()

    async def _finish_reply(self) -> None:
        """Say that the reply is over once all of it was generated, spoken and played."""
        reply = self._reply
        if reply is None or not (reply.generated and reply.synthesized and reply.ledger.is_played):
            return
        self._reply, self._history_end = None, self._context.length
        reply.say("ReplyDone", text=reply.text, heard_text=reply.text, interrupted=False)
        self._measure(reply)

    async def _interrupt(self) -> None:
        """Cut the reply off: silence first, then make the context hold what was heard."""
        reply, task = self._reply, self._reply_task
        if reply is None or task is None:
            return
        task.cancel()
        if self._synthesizer is not None:
            self._synthesizer.cancel()
        self._calls.interrupt()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        self._reply = None
        heard = reply.ledger.heard_text() if self._synthesizer else reply.text
        await reply.cut_off(heard)
        self._late.open, self._history_end = reply.left_open, self._context.length
        reply.say("Interrupt", heard_text=heard)
        reply.say("ReplyDone", text=reply.text, heard_text=heard, interrupted=True)
        self._measure(reply)

    def _tell(self, report: list[tuple[str, dict[str, object]]]) -> None:
        for name, values in report:
            self._say(name, **values)

    def _measure(self, reply: Reply) -> None:
        reply.say(
            "Metrics",
            stages_ms={name: round(seconds * 1000, 2) for name, seconds in reply.seconds.items()},
            first_text_ms=reply.first_ms.get("ReplyDelta"),
            first_audio_ms=reply.first_ms.get("Audio"),
            realtime_factor=self._realtime_factor,
        )
