"""The agent's side of a conversation: the reply that runs, if any, from its draft to its end.

One reply at a time. It is drafted at a soft end or begun at the end of a turn, heard and finished, cut off by the user, or, as
long as nobody knows of it, taken back without a trace. Called by the session's one task only; `fail` ends the session.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from ..engine import Context, Engine, Truncate
from ..models.checkpoint import Checkpoint
from ..streaming.synthesis import AS_SET, Manner, Synthesizer
from .gate import DraftCounts, Gate, Say
from .late_results import LateResults
from .reply import Reply
from .session_settings import SessionSettings
from .tool_calls import ToolCalls, ToolRun, Waiting
from .turns import Agent


class ReplyDesk:
    """Of one session. `say` takes an event's name and fields, `wake` makes the session look at the reply again."""

    def __init__(
        self,
        engine: Engine,
        context: Context,
        checkpoint: Checkpoint,
        calls: ToolCalls,
        synthesizer: Synthesizer | None,
        settings: SessionSettings,
        say: Say,
        wake: Callable[[], None],
        fail: Callable[[Exception], None],
    ) -> None:
        self._engine, self._context, self._checkpoint, self._calls = engine, context, checkpoint, calls
        self._synthesizer, self._settings = synthesizer, settings
        self._say, self._wake, self._fail = say, wake, fail
        self._late = LateResults(engine, context, checkpoint.chat, calls)
        self._task: asyncio.Task[None] | None = None
        self._reply: Reply | None = None
        self._error: Exception | None = None
        self._is_spoken = False
        self._realtime_factor: float | None = None
        self._ducked = self._is_draft = False
        self.counts = DraftCounts()
        self.skipped_ticks = 0
        """Told with the metrics."""
        self.history_end = context.length
        """Where the user's next turn begins in the context."""

    @property
    def task(self) -> asyncio.Task[None] | None:
        """The work on the last reply."""
        return self._task

    @property
    def reply(self) -> Reply | None:
        """The reply that is given; None while there is none or only a draft."""
        return None if self.draft else self._reply

    @property
    def draft(self) -> Reply | None:
        """The reply that waits for its turn to be accepted."""
        return self._reply if self._reply is not None and not self._reply.gate.opened.is_set() else None

    @property
    def stance(self) -> Agent:
        """Where the reply stands for whoever speaks now."""
        reply = self.reply
        if reply is None:
            return Agent.SILENT
        assumed = self._settings.playback == "assumed" and reply.ledger.audio_ms > 0
        taken = reply.is_heard or assumed or reply.has_called or not self._is_spoken
        return Agent.SPEAKING if taken else Agent.PENDING

    @property
    def rest_ms(self) -> float:
        """How much is left to play of a reply whose end is known; endless before that."""
        reply = self.reply
        return reply.ledger.rest_ms if reply is not None and reply.generated and reply.synthesized else float("inf")

    @property
    def rests(self) -> bool:
        """Whether nothing of it holds a place in the context."""
        return self._reply is None and self._late.open is None

    @property
    def owes_results(self) -> bool:
        """Whether results of tools came that stand in front of the next turn that is answered."""
        return self._late.is_due

    async def place_results(self) -> None:
        """Write them behind all that is in the context. If there are any, the user's turn must not be in it yet."""
        if self._late.is_due:
            await self._late.place(self.history_end)
            self.history_end = self._context.length
        self._late.open = None

    def start(
        self,
        turn_id: int,
        revision: int,
        *,
        listening: dict[str, float] | None = None,
        realtime_factor: float | None = None,
        begins: ToolRun | Waiting | str | None = None,
        behind_user: bool = True,
        is_spoken: bool = False,
        manner: Manner = AS_SET,
    ) -> None:
        """Begin a reply behind what is in the context, as a draft. `is_spoken`: its turn may be reopened."""
        reply = Reply(
            self._engine,
            self._context,
            self._checkpoint.chat,
            self._calls,
            self._synthesizer,
            Gate(partial(self._say, turn_id=turn_id, revision=revision)),
            turn_id,
            self._settings.max_reply_tokens,
            self._settings.sampling,
            listening or {},
            begins=begins,
            behind_user=behind_user,
            manner=manner,
        )
        self._reply, self._error, self._ducked, self._is_draft = reply, None, False, False
        self._is_spoken, self._realtime_factor = is_spoken, realtime_factor
        reply.gate.say("ReplyStart", context_tokens=self._context.length)
        self._task = asyncio.create_task(self._run(reply))

    def expect(self) -> None:
        """The reply that was begun is a draft: its turn may go on."""
        self._is_draft = True

    def accept(self) -> None:
        """The reply's turn is over: what was held back is said."""
        assert self._reply is not None
        self._reply.gate.open()
        if self._is_draft:
            self._is_draft = False
            self.counts.accepted += 1
            self.counts.saved_ms += self._reply.gate.saved_ms
        if self._error is not None:
            raise self._error
        self._wake()

    async def take_back(self) -> None:
        """Undo a reply that nobody knows of: the context is as it was, no tool has run."""
        reply, is_draft = self._reply, self._is_draft
        if reply is None:
            return
        await self._stop()
        await self._engine.run(Truncate(self._context, reply.base))
        self.counts.wasted += is_draft

    async def take_back_draft(self) -> None:
        """The same, unless the reply is given already."""
        if self.draft is not None:
            await self.take_back()

    async def interrupt(self) -> None:
        """Cut the reply off: silence first, then make the context hold what was heard."""
        reply = self.reply
        if reply is None:
            return
        self._calls.interrupt()
        await self._stop()
        if self._settings.playback == "assumed":
            reply.ledger.played(reply.ledger.audio_ms, estimated=True)
        heard = reply.heard_text()
        await reply.cut_off(heard)
        self._late.open, self.history_end = reply.left_open, self._context.length
        estimated = reply.ledger.is_estimate
        reply.gate.say("Interrupt", heard_text=heard, estimated=estimated)
        reply.gate.say("ReplyDone", text=reply.text, heard_text=heard, interrupted=True, estimated=estimated)
        self._measure(reply)

    async def finish(self) -> bool:
        """Say that the reply is over once all of it was generated, spoken and played; whether it is."""
        reply = self.reply
        if reply is None or not (reply.generated and reply.synthesized and reply.ledger.is_played):
            return False
        self._reply, self.history_end = None, self._context.length
        estimated = reply.ledger.is_estimate
        reply.gate.say("ReplyDone", text=reply.text, heard_text=reply.text, interrupted=False, estimated=estimated)
        self._measure(reply)
        return True

    def duck(self) -> None:
        """The user speaks over it."""
        if self.reply is not None and not self._ducked:
            self._ducked = True
            self.reply.gate.say("Duck")

    def unduck(self) -> None:
        """It goes on."""
        if self.reply is not None and self._ducked:
            self._ducked = False
            self.reply.gate.say("Unduck")

    def keep_history(self) -> None:
        """All that is in the context is history: nothing of it can be taken back."""
        self.history_end = self._context.length

    async def settled(self) -> None:
        """Wait until no model or voice is at work on the reply; a draft rests once it can go no further."""
        if self._task is None:
            return
        if (draft := self.draft) is None:
            await asyncio.wait([self._task])
            return
        rests = asyncio.ensure_future(draft.at_rest.wait())
        await asyncio.wait([self._task, rests], return_when=asyncio.FIRST_COMPLETED)
        rests.cancel()

    async def aclose(self) -> None:
        """The session ends."""
        await self._cancel()

    async def _stop(self) -> None:
        self._reply = None
        if self._synthesizer is not None:
            self._synthesizer.cancel()
        await self._cancel()

    async def _cancel(self) -> None:
        """End the work on the reply. Who waits here and is cancelled meanwhile, as by the session's end, stays cancelled."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _run(self, reply: Reply) -> None:
        try:
            await reply.run()
            await reply.gate.opened.wait()
            reply.gate.say("ReplySpoken", tokens=reply.tokens)
            if self._settings.playback == "assumed":
                reply.ledger.played(reply.ledger.audio_ms, estimated=True)
            self._wake()
        except Exception as error:
            if reply.gate.opened.is_set():
                self._fail(error)
            else:
                self._error = error

    def _measure(self, reply: Reply) -> None:
        first_ms, counts = reply.gate.first_ms, self.counts
        reply.gate.say(
            "Metrics",
            stages_ms={name: round(seconds * 1000, 2) for name, seconds in reply.seconds.items()},
            first_text_ms=first_ms.get("ReplyDelta"),
            first_audio_ms=first_ms.get("Audio"),
            realtime_factor=self._realtime_factor,
            drafts_accepted=counts.accepted,
            drafts_wasted=counts.wasted,
            drafts_saved_ms=round(counts.saved_ms, 1),
            skipped_ticks=self.skipped_ticks,
        )
