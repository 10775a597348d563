"""Who has the floor? What the turn machine decides is done here, in order, by the user's side and the agent's.

The user's words lead: a soft end may draft a reply, the end of the turn accepts it, speech over the reply ducks it and cuts it
off or lets it go on. Called by the session's one task, chunk by chunk of audio; it holds no queue and no clock of its own.
"""

from __future__ import annotations

from functools import partial

from ..engine import Engine
from ..streaming.clock import SAMPLES_PER_MS
from ..streaming.reply_prosody import manner_of_reply
from ..streaming.synthesis import AS_SET
from .gate import Say
from .listener import Heard, Listener
from .phrases import is_hold
from .reply_desk import ReplyDesk
from .session_settings import SessionSettings
from .tool_calls import ToolCalls
from .turns import Decision, TurnMachine, TurnState
from .user_turn import UserTurn


class Floor:
    """Of one session."""

    def __init__(
        self,
        listener: Listener,
        user: UserTurn,
        desk: ReplyDesk,
        calls: ToolCalls,
        machine: TurnMachine,
        settings: SessionSettings,
        say: Say,
        engine: Engine,
    ) -> None:
        self._listener, self._user, self._desk, self._calls = listener, user, desk, calls
        self._machine, self._settings, self._say, self._engine = machine, settings, say, engine
        self._now_ms = self._quiet_since_ms = 0
        self._prompts_said = 0
        self._onset_samples = 0

    @property
    def is_free(self) -> bool:
        """Whether the user speaks no turn."""
        return self._machine.state in (TurnState.IDLE, TurnState.STARTING)

    async def hear(self, heard: Heard, *, behind: bool = False) -> None:
        """The next chunk of audio. `behind`: more is waiting than may wait, so what can be left out is."""
        machine, self._now_ms = self._machine, heard.now_samples // SAMPLES_PER_MS
        machine.agent = self._desk.stance
        machine.voice(self._now_ms, heard.probability)
        self._onset_samples = heard.now_samples if heard.speech_start is None else heard.speech_start
        if heard.speech_start is not None:
            await self._act(machine.speech_started(heard.speech_start // SAMPLES_PER_MS))
        if heard.speech_end is not None:
            machine.speech_ended(heard.speech_end // SAMPLES_PER_MS)
        while decision := machine.advance(self._now_ms):
            await self._act(decision)
            machine.agent = self._desk.stance
        if machine.state in (TurnState.SPEAKING, TurnState.OVERLAP) and self._listener.block_ready:
            if behind:
                self._listener.skip_tick()
                self._desk.skipped_ticks = self._listener.skipped_ticks
            else:
                await self._tick()
        if self._settings.behind_ms is not None:
            self._desk.skipped_ticks = self._listener.skipped_ticks
        self._prompt()

    async def _act(self, decision: Decision | None) -> None:
        match decision:
            case Decision.START | Decision.OVERLAP:
                self._prompts_said = 0
                self._user.begin()
                self._user.open(self._onset_samples, over_reply=decision is Decision.OVERLAP)
            case Decision.SOFT_END:
                await self._soft_end()
            case Decision.RESUME:
                await self._desk.take_back_draft()
                self._user.resume()
            case Decision.REOPEN:
                await self._desk.take_back()
                self._user.reopen()
            case Decision.END:
                await self._end_turn()
            case Decision.DUCK:
                self._desk.duck()
            case Decision.CANCEL:
                await self.interrupt()
            case Decision.JUDGE:
                await self._user.finish()
                rest_ms = 0.0 if self._calls.waiting is not None else self._desk.rest_ms
                await self._act(self._machine.judge_overlap(self._user.words, rest_ms=rest_ms))
            case Decision.BACKCHANNEL:
                self._say("Backchannel", text=self._user.text)
                await self._user.drop("a backchannel over the reply")
                self._desk.unduck()
            case Decision.FALSE_ALARM:
                await self._user.drop("no words were recognized")
                self._desk.unduck()

    async def _tick(self) -> None:
        """Recognize what is new; bring complete groups into the context unless the agent is speaking."""
        await self._user.tick()
        if self._desk.reply is None:
            await self._user.stream()
        else:
            await self._act(self._machine.heard_words(self._user.words))

    async def _soft_end(self) -> None:
        user, desk = self._user, self._desk
        if not await user.finish():
            return
        await self.interrupt()
        await user.complete()
        user.say_eager()
        self._machine.judged(user.p_end)
        if is_hold(user.text):
            self._machine.hold()
        elif self._may_draft():
            self._begin_reply()
            desk.expect()

    def _may_draft(self) -> bool:
        """Whether a reply may be made ready, of which nothing is known before the turn ends."""
        if not self._settings.auto_reply or self._calls.waiting is not None or self._desk.owes_results:
            return False
        return self._settings.drafts.allow(self._user.p_end, self._machine.settings, self._engine.stats)

    async def _end_turn(self) -> None:
        user, desk = self._user, self._desk
        text = user.text
        if not user.end():
            await desk.take_back_draft()
            await user.drop("no words were recognized")
            return
        if not self._settings.auto_reply:
            await self._leave_unanswered()
            return
        if desk.draft is not None and not desk.owes_results:
            desk.accept()
            return
        await desk.take_back_draft()
        if desk.owes_results:
            await user.take_out()
            await desk.place_results()
            await user.complete()
        self._begin_reply(text)
        desk.accept()

    async def _leave_unanswered(self) -> None:
        await self._user.close()
        self._desk.keep_history()

    def _begin_reply(self, words: str | None = None) -> None:
        """Answer the spoken turn, which decides on a waiting call with `words`."""
        user, listener = self._user, self._listener
        manner = manner_of_reply(*listener.tone) if self._settings.follow_tone else AS_SET
        say = partial(self._say, turn_id=user.turn_id, revision=user.revision)
        begins = self._calls.answer(words, user.turn_id, say) if words is not None else None
        self._desk.start(
            user.turn_id,
            user.revision,
            begins=begins,
            is_spoken=True,
            manner=manner,
            listening=listener.stages,
            realtime_factor=listener.realtime_factor,
        )

    async def end_now(self) -> None:
        """End the turn that is being spoken, if there is one."""
        for decision in self._machine.force_end():
            await self._act(decision)

    async def give_way(self) -> None:
        """A spoken turn ends, with its words, and what would answer it does not."""
        await self._desk.take_back_draft()
        await self.end_now()
        await self.interrupt()

    async def typed(self, text: str, ids: tuple[int, ...]) -> None:
        """A typed turn came, with its tokens. A spoken one ends first, with its words, and what would answer it gives way."""
        await self.give_way()
        self._prompts_said = 0
        self._user.begin()
        await self._desk.place_results()
        await self._user.write(ids)
        if self._settings.auto_reply:
            self._answer(text)
        else:
            await self._leave_unanswered()

    async def respond(self) -> None:
        """Speak on what is in the context, unless somebody speaks already."""
        if self._desk.reply is not None or not self.is_free:
            return
        await self._desk.place_results()
        self._desk.start(self._user.turn_id, self._user.revision, behind_user=False)
        self._desk.accept()

    async def carry_out(self) -> None:
        """Once the client has decided on a waiting call and nobody speaks a turn: answer without a turn of the user."""
        waiting = self._calls.waiting
        if waiting is not None and waiting.decision is not None and self.is_free:
            await self.interrupt()
            await self._desk.place_results()
            self._answer(None)

    def _answer(self, words: str | None) -> None:
        """Reply to a typed turn, or with None to a decision of the client."""
        user = self._user
        say = partial(self._say, turn_id=user.turn_id, revision=user.revision)
        begins = self._calls.answer(words, user.turn_id, say)
        self._desk.start(user.turn_id, user.revision, begins=begins, behind_user=words is not None)
        self._desk.accept()

    def speak_up(self, text: str) -> None:
        """Say something by itself."""
        self._desk.start(self._user.turn_id, self._user.revision, begins=text, behind_user=False)
        self._desk.accept()

    def _prompt(self) -> None:
        """When nobody has spoken for long, say the next of the idle prompts."""
        busy = self._desk.reply is not None or self._desk.draft is not None or self._calls.waiting is not None
        if busy or self._machine.state is not TurnState.IDLE:
            self._quiet_since_ms = self._now_ms
            return
        prompts = self._settings.idle_prompts
        due = self._now_ms - self._quiet_since_ms >= self._settings.idle_after_ms
        if due and self._prompts_said < len(prompts):
            self._user.turn_id, self._user.revision = self._user.turn_id + 1, 0
            self.speak_up(prompts[self._prompts_said])
            self._prompts_said += 1

    async def interrupt(self) -> None:
        """Cut the reply off."""
        if self._desk.reply is not None:
            await self._desk.interrupt()
            self._machine.floor_taken()
