"""One conversation: audio or text in, typed events out. One task works off the inputs in order, so nothing interleaves.

Everything about the user's turn is driven by the detector's 32 ms decisions and happens at their place in the audio,
however the audio arrived. Who has the floor is the business of `floor.py`; the reply runs as a task of its own, so that audio
is heard while the agent speaks.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from ..engine import Append, Context, Engine, Entry
from ..models.checkpoint import Checkpoint
from ..models.errors import InputError, TextProError
from ..streaming.audio import check_sample_rate, mono_from_array
from ..streaming.clock import SAMPLES_PER_MS
from ..streaming.echo_path import EchoPath
from ..streaming.resample import ResampleStream
from ..streaming.synthesis import Synthesizer
from . import events
from .floor import Floor
from .history_room import make_room
from .listener import Listener
from .reply_desk import ReplyDesk
from .session_settings import SessionSettings, settings_of_turns
from .tool_calls import ToolCalls
from .tools import Toolbox
from .turns import TurnMachine
from .user_turn import UserTurn

_log = logging.getLogger(__name__)
MAX_INPUTS = 512
"""Pieces of input that may wait; a caller that is faster waits in `send_audio`."""
FRAME_ENTRIES = 64
"""What stands around a turn's words and its reply: openings, ends, a tool's call and its result, if short."""
LONG_TEXT = 5_000
"""Characters of a typed turn from which on its tokens take milliseconds."""


@dataclass(frozen=True, slots=True, eq=False)
class _Sound:
    samples: NDArray[np.float32]
    sample_rate: int

    @property
    def duration_ms(self) -> float:
        return 1000 * len(self.samples) / self.sample_rate


@dataclass(frozen=True, slots=True)
class _Typed:
    text: str
    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Decided:
    call_id: str
    accepted: bool


@dataclass(frozen=True, slots=True)
class _Interrupted:
    turn_id: int | None


@dataclass(frozen=True, slots=True)
class _Played:
    total_ms: float
    sent_samples: int


_Input = _Sound | _Typed | _Decided | _Interrupted | _Played | Literal["commit", "end_audio", "check", "greet", "respond"]


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
        self._turns = settings_of_turns(settings.turns, checkpoint.config)
        self._resampler: ResampleStream | None = None
        self._echo = None if settings.echo.mode == "off" else EchoPath(settings.echo)
        self._task: asyncio.Task[None] | None = None
        self._now_ms = 0
        self._sent_ms = 0.0  # sound that was sent so far
        self._waiting_ms = 0.0  # and of it, in the inbox

    async def __aenter__(self) -> Self:
        engine, checkpoint, settings = self._engine, self._checkpoint, self._settings
        self._context: Context = engine.open_context()
        self._listener = Listener(engine, checkpoint, settings.prosody, settings.listening)
        self._user = UserTurn(engine, self._context, checkpoint, self._listener, self._say)
        system = tuple(Entry(token) for token in self._toolbox.system(settings.instructions, checkpoint))
        if system or settings.history:
            try:
                await engine.run(Append(self._context, (*system, *(replace(entry, position=None) for entry in settings.history))))
            except BaseException:  # who could not enter is not told to leave, so the slot is given back here
                engine.close_context(self._context)
                self._listener.release()
                raise
        self._history_start = len(system)
        self._desk = ReplyDesk(
            engine, self._context, checkpoint, self._calls, self._synthesizer, settings, self._say, self._wake, self._fail_all
        )
        self._floor = Floor(
            self._listener, self._user, self._desk, self._calls, TurnMachine(self._turns), settings, self._say, engine
        )
        self._task = asyncio.create_task(self._work())
        self._task.add_done_callback(lambda _: self._listener.release())
        if settings.greeting is not None:
            self._inbox.put_nowait("greet")
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            await self._desk.aclose()
            if self._task is not None:
                self._task.cancel()
                await asyncio.wait({self._task})
            if self._synthesizer is not None:
                self._synthesizer.cancel()
            await self._calls.aclose()
        finally:  # also where closing is cancelled
            if self._task is not None:
                self._task.cancel()
            self._engine.close_context(self._context)
            self._outbox.put_nowait(None)

    async def __aiter__(self) -> AsyncIterator[events.Event]:
        while (event := await self._outbox.get()) is not None:
            yield event

    @property
    def entries(self) -> tuple[Entry, ...]:
        """The conversation as the backbone reads it: tokens, and markers with their prosody vectors. A copy."""
        return self._context.entries

    @property
    def history(self) -> tuple[Entry, ...]:
        """The same without instructions and without what is going on now; a new session can begin with it."""
        return self._context.entries[self._history_start : self._desk.history_end]

    async def send_audio(self, samples: NDArray[np.generic], sample_rate: int) -> None:
        """Samples int16 or float [n] or [n, channels]. Waits while too much is unheard. AudioError if not usable."""
        sound = _Sound(mono_from_array(samples), check_sample_rate(sample_rate))
        await self._put(sound)
        self._sent_ms += sound.duration_ms  # behind it: a caller that gives up has sent nothing
        self._waiting_ms += sound.duration_ms

    async def send_text(self, text: str) -> None:
        """A whole turn, typed. A turn that is being spoken ends first, with the words it has. InputError if `text` holds no
        words, or more tokens than fit beside the instructions and a reply."""
        if not isinstance(text, str):
            raise InputError(f"a typed turn is a {type(text).__name__}: expected a string")
        self._check_begun()
        words = self._checkpoint.chat.words
        # The tokens of a long text take tens of milliseconds, for which no session's sound should wait.
        ids = words(text) if len(text) < LONG_TEXT else await asyncio.to_thread(words, text)
        if not ids:
            raise InputError(f"the typed turn {text[:40]!r} holds no words: send some text")
        if len(ids) > (most := self._context.capacity - self._history_start - self._beside_turn):
            beginning = f"the typed turn {text[:40]!r}..."
            raise InputError(f"{beginning} has {len(ids)} tokens: at most {most} are taken, so send it in parts")
        await self._put(_Typed(text, ids))

    async def commit(self) -> None:
        """End the turn now."""
        await self._put("commit")

    async def interrupt(self, turn_id: int | None = None) -> None:
        """Cut the reply off now; one to another turn than `turn_id` goes on, as when that turn was answered meanwhile."""
        await self._put(_Interrupted(turn_id))

    async def respond(self) -> None:
        """Have the agent speak now: on the user's last turn where `auto_reply` is off, or once more. While a reply is given,
        nothing happens."""
        await self._put("respond")

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

    def played(self, total_ms: float, estimated: bool = False) -> None:
        """The transport has played the first `total_ms` of the current reply's audio, or estimates so."""
        if (reply := self._desk.reply) is not None:
            reply.ledger.played(total_ms, estimated)
            if self._echo is not None and not self._inbox.full():  # in its place among the sounds, however far they wait
                self._inbox.put_nowait(_Played(total_ms, round(self._sent_ms * SAMPLES_PER_MS)))
            if reply.synthesized and reply.ledger.is_played:
                self._wake()

    async def settled(self) -> None:
        """Wait until all input has been worked off and no model or voice is at work on a reply."""
        joined = asyncio.ensure_future(self._inbox.join())
        if self._task is not None:
            await asyncio.wait([joined, self._task], return_when=asyncio.FIRST_COMPLETED)
        joined.cancel()
        await self._desk.settled()

    def said(self) -> list[events.Event]:
        """The events that wait to be read, taken out; for a caller that does not iterate."""
        waiting = []
        while not self._outbox.empty():
            if (event := self._outbox.get_nowait()) is not None:
                waiting.append(event)
        return waiting

    async def _put(self, item: _Input) -> None:
        self._check_begun()
        if self._task is not None and self._task.done():
            raise TextProError("this session has ended: its last event says why; open a new one")
        await self._inbox.put(item)

    def _check_begun(self) -> None:
        if self._task is None:
            raise TextProError("this session has not begun: open it by `async with runtime.session() as session`")

    def _wake(self) -> None:
        """Look at the reply again; a full inbox does so anyway."""
        if not self._inbox.full():
            self._inbox.put_nowait("check")

    def _say(self, kind: str, /, **values: object) -> None:
        if self._echo is not None:
            self._echo.note(kind, values)
        stamp = {"t_ms": self._now_ms, "turn_id": self._user.turn_id, "revision": self._user.revision}
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

    def _fail_all(self, error: Exception) -> None:
        """A reply failed, and with it the session."""
        self._fail(error)
        if self._task is not None:
            self._task.cancel()

    @property
    def _beside_turn(self) -> int:
        """Entries that a turn needs beside its words: its frame, and the reply."""
        return self._settings.max_reply_tokens + FRAME_ENTRIES

    async def _handle(self, item: _Input) -> None:
        needed = 0
        if isinstance(item, _Typed):
            needed = len(item.ids) + self._beside_turn
            if self._context.room < needed:
                await self._floor.give_way()
        if self._floor.is_free and self._desk.rests:
            dropped = await make_room(self._engine, self._context, self._checkpoint.chat, self._history_start, needed)
            if dropped is not None:
                self._desk.keep_history()
                self._say("HistoryDropped", turns=dropped.turns, entries=dropped.entries)
        match item:
            case _Sound():
                self._waiting_ms -= item.duration_ms
                await self._hear(item)
            case _Typed():
                await self._floor.typed(item.text, item.ids)
            case _Decided():
                if (waiting := self._calls.waiting) is not None and waiting.run.call_id == item.call_id:
                    waiting.decision = item.accepted
            case _Interrupted():
                reply = self._desk.reply
                if item.turn_id is None or (reply is not None and reply.turn_id == item.turn_id):
                    await self._floor.interrupt()
            case _Played() if self._echo is not None:
                self._echo.played(item.total_ms, item.sent_samples)
            case "commit" | "end_audio":
                if item == "end_audio" and self._resampler is not None:
                    await self._advance(self._resampler.flush())
                    self._resampler = None
                if self._echo is not None:
                    await self._listen(self._echo.flush())
                await self._floor.end_now()
            case "greet":
                self._floor.speak_up(self._settings.greeting or "")
            case "respond":
                await self._floor.respond()
            case "check" | _Played():
                pass
        await self._desk.finish()
        await self._floor.carry_out()

    async def _hear(self, sound: _Sound) -> None:
        if self._resampler is not None and self._resampler.input_rate != sound.sample_rate:
            await self._advance(self._resampler.flush())
            self._resampler = None
        if self._resampler is None:
            self._resampler = ResampleStream(sound.sample_rate)
        await self._advance(self._resampler.push(sound.samples))

    async def _advance(self, samples: NDArray[np.float32]) -> None:
        await self._listen(samples if self._echo is None else self._echo.push(samples))

    async def _listen(self, samples: NDArray[np.float32]) -> None:
        behind_ms = self._settings.behind_ms
        for heard in self._listener.listen(samples):
            self._now_ms = heard.now_samples // SAMPLES_PER_MS
            self._say("VoiceActivity", probability=heard.probability, speaking=heard.speaking)
            waiting_ms = self._waiting_ms + heard.waiting_samples / SAMPLES_PER_MS
            await self._floor.hear(heard, behind=behind_ms is not None and waiting_ms > behind_ms)
