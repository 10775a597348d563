"""The user's side of a conversation: the running turn from its first sound to its end, in words and in the context.

What is recognized is told as events; what is committed goes into the context behind the history, except while the agent
speaks, when it stays in the recognizer's log. Until the next turn begins, the last one can be opened again.
"""

from __future__ import annotations

from ..engine import Append, Context, Engine, Entry
from ..models.checkpoint import Checkpoint
from ..streaming.clock import SAMPLES_PER_MS
from ..streaming.interleaver import Interleaver
from .gate import Say
from .listener import Listener, Report
from .phrases import words_of


class UserTurn:
    """Of one session; `turn_id` counts from 1, `revision` counts how often the turn went on after a soft end."""

    def __init__(self, engine: Engine, context: Context, checkpoint: Checkpoint, listener: Listener, say: Say) -> None:
        self._engine, self._context, self._chat = engine, context, checkpoint.chat
        self._listener, self._say = listener, say
        self._interleaver = Interleaver(engine, context, checkpoint.chat, checkpoint.fusion)
        self._is_eager = False
        self.turn_id = self.revision = 0
        self.p_end = 0.0

    @property
    def text(self) -> str:
        """Committed words."""
        return self._listener.text

    @property
    def words(self) -> list[str]:
        """Words that will most likely stay, in lower case and without punctuation."""
        return words_of(" ".join(self._listener.words))

    def begin(self) -> None:
        """A new turn: what is in the context stays in it."""
        self._interleaver.close()
        self.turn_id, self.revision, self._is_eager = self.turn_id + 1, 0, False

    def open(self, onset_samples: int, *, over_reply: bool) -> None:
        """It is spoken: listen to it."""
        self._listener.open(onset_samples)
        self._say("TurnStart", start_ms=self._listener.start_samples // SAMPLES_PER_MS, over_reply=over_reply)

    async def tick(self) -> None:
        """Recognize what is new."""
        self._tell(await self._listener.tick())

    async def stream(self) -> None:
        """Bring what is committed for good into the context."""
        if self._listener.tokens:
            await self._interleaver.stream(self._listener.tokens, self._listener.vectors)

    async def finish(self) -> bool:
        """The final pass; whether there are words."""
        self._tell(await self._listener.finish())
        self._is_eager = bool(self._listener.tokens)
        return self._is_eager

    async def complete(self) -> None:
        """Make the context hold exactly the whole turn, and read P(end)."""
        synced = await self._interleaver.complete(self._listener.tokens, self._listener.vectors)
        self._listener.stages["interleave"] += synced.seconds
        self.p_end = synced.p_end or 0.0

    def say_eager(self) -> None:
        """The turn may be over."""
        self._say("EagerTurnEnd", text=self.text, p_end=self.p_end)

    def resume(self) -> None:
        """Speech goes on."""
        if self._is_eager:  # a soft end without words was never said
            self.revision += 1
            self._say("TurnResumed")
        self._tell(self._listener.resume())

    def reopen(self) -> None:
        """Speech goes on after the turn's end. The next `stream` or `complete` puts the context right."""
        self._listener.is_open = True
        self._is_eager = True
        self.resume()

    def end(self) -> bool:
        """The turn is over; False if it was none, for want of words: then `drop` it."""
        if not self._listener.tokens:
            return False
        self._say("TurnEnd", text=self.text, p_end=self.p_end)
        self._listener.close()
        return True

    async def close(self) -> None:
        """Nobody answers the turn: it is part of the history."""
        self._interleaver.close()
        await self._engine.run(Append(self._context, tuple(Entry(token) for token in self._chat.reply_close())))

    async def drop(self, reason: str) -> None:
        """It was no turn."""
        await self._interleaver.drop()
        self._listener.close()
        self._say("TurnDropped", reason=reason)

    async def take_out(self) -> None:
        """Take the turn out of the context for something to be put before it; `complete` brings it back."""
        await self._interleaver.drop()

    async def write(self, ids: tuple[int, ...]) -> None:
        """A whole turn, typed, as the chat format's `words` of it; after `begin`."""
        await self._interleaver.open()
        synced = await self._interleaver.complete(ids, None)
        self._say("TurnEnd", text=self._chat.text(ids).strip(), p_end=synced.p_end or 0.0)

    def _tell(self, report: Report) -> None:
        for name, values in report:
            self._say(name, **values)
