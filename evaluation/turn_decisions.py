"""Every silence of a user's turn as a decision: what did the model hear by then, and how likely does the turn end there?

A turn goes through the session's own ears (`Listener`) and into the backbone's context as a session brings it there
(`Interleaver`, `Append` with a probe), with nothing after the moment of the decision, 200 ms into the silence. P(end) is
asked three times: with prosody, from the recognized words alone (as if typed), and, where somebody wrote the words down, from
those as they were said, which tells the recognizer's mistakes from the backbone's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..agent.listener import Listener
from ..agent.runtime import Runtime
from ..engine import Append, Context, Entry, Fork
from ..models.chat import ChatFormat
from ..streaming.clock import ms_to_samples
from ..streaming.interleaver import Interleaver
from ..streaming.vad import SILERO_CHUNK_SAMPLES
from .turn_sets import Message, SpokenTurn
from .turn_sweep import SCORE_MS, Scored

SHORTEST_MS = 100
"""A shorter silence is no decision."""
MAX_HISTORY_TOKENS = 512
TICK_SAMPLES = 8 * 16 * SILERO_CHUNK_SAMPLES
"""About 4 s: what is heard does not depend on ticks, but a turn longer than the window is cut in one."""
PROSODY, TEXT, SAID = "prosody", "text", "said"
WAYS = (TEXT, PROSODY, SAID)
"""How P(end) was asked for."""

Done = Callable[[int], None]
"""Told how many turns more are done."""


@dataclass(frozen=True, slots=True)
class Decision:
    """Silence `index` of a turn. `heard` are the words recognized by then, `said` those spoken (None: not known); a P(end) is
    None where the silence was over sooner, nothing was heard, or the model has no prosody."""

    turn: str
    source: str
    index: int
    is_end: bool
    silence_ms: float
    heard: str
    said: str | None
    p_text: float | None
    p_prosody: float | None
    p_said: float | None

    def p_end(self, way: str) -> float | None:
        """By one of `WAYS`."""
        return {TEXT: self.p_text, PROSODY: self.p_prosody, SAID: self.p_said}[way]


def scored(decisions: Sequence[Decision], way: str) -> list[Scored]:
    """The decisions as `turn_sweep` takes them, with P(end) by one of `WAYS`."""
    return [Scored(one.is_end, one.silence_ms, one.p_end(way)) for one in decisions]


async def judge_turns(runtime: Runtime, turns: Sequence[SpokenTurn], done: Done) -> list[Decision]:
    """The decisions of all turns, in order. EngineError or CapacityError where the engine cannot go on."""
    decisions: list[Decision] = []
    for turn in turns:
        decisions += await judge_turn(runtime, turn)
        done(1)
    return decisions


async def judge_turn(runtime: Runtime, turn: SpokenTurn) -> list[Decision]:
    """The decisions of one turn, which needs three slots of the engine."""
    engine, checkpoint = runtime.engine, runtime.checkpoint
    contexts: list[Context] = [engine.open_context()]
    try:
        for ids in history_ids(checkpoint.chat, turn.history):
            await engine.run(Append(contexts[0], tuple(Entry(token) for token in ids)))
        while len(contexts) < len(WAYS):
            contexts.append((await engine.run(Fork(contexts[0]))).context)
        minds = dict(zip(WAYS, (Interleaver(engine, one, checkpoint.chat, checkpoint.fusion) for one in contexts), strict=True))
        return await _judge(runtime, turn, minds)
    finally:
        for context in contexts:
            engine.close_context(context)


async def _judge(runtime: Runtime, turn: SpokenTurn, minds: dict[str, Interleaver]) -> list[Decision]:
    chat = runtime.checkpoint.chat
    listener = Listener(runtime.engine, runtime.checkpoint, True)
    decisions, at = [], 0
    for index, silence in enumerate(turn.silences):
        if silence.ms < SHORTEST_MS:
            continue
        found: dict[str, float | None] = dict.fromkeys(WAYS)
        heard, said = "", turn.said_until(silence.start_samples)
        is_end = index == len(turn.silences) - 1
        if silence.ms >= SCORE_MS or is_end:
            now = (silence.start_samples + ms_to_samples(SCORE_MS)) // SILERO_CHUNK_SAMPLES * SILERO_CHUNK_SAMPLES
            if at:
                listener.resume()
            for chunk in listener.listen(turn.samples[at:now]):
                if not listener.is_open:
                    listener.open(0)
                if chunk.now_samples % TICK_SAMPLES == 0:
                    await listener.tick()
            at = now
            await listener.finish()
            tokens, vectors, heard = listener.tokens, listener.vectors, listener.text
            if tokens:
                found[TEXT] = (await minds[TEXT].complete(tokens, None)).p_end
            if tokens and vectors is not None:
                found[PROSODY] = (await minds[PROSODY].complete(tokens, vectors)).p_end
            if said:
                found[SAID] = (await minds[SAID].complete(chat.words(said), None)).p_end
        probabilities = (found[TEXT], found[PROSODY], found[SAID])
        decisions.append(Decision(turn.id, turn.source, index, is_end, silence.ms, heard, said, *probabilities))
    return decisions


def history_ids(chat: ChatFormat, history: Sequence[Message]) -> list[tuple[int, ...]]:
    """What was said before as closed turns, the last of them that fit `MAX_HISTORY_TOKENS`.

    Words of the assistant that answer nobody, and of the user that nobody answered, are left out: the chat has no place for
    them in front of the user's turn.
    """
    system = [chat.system(one.text) for one in history[:1] if one.role == "system" and one.text.strip()]
    exchanges: list[tuple[int, ...]] = []
    asked: tuple[int, ...] = ()
    for message in history:
        if message.role == "user":
            asked = chat.words(message.text)
        elif message.role == "assistant" and asked:
            exchanges.append((*chat.user_open(), *asked, *chat.reply_open(), *chat.reply(message.text), *chat.reply_close()))
            asked = ()
    kept: list[tuple[int, ...]] = []
    room = MAX_HISTORY_TOKENS - sum(len(ids) for ids in system)
    for ids in reversed(exchanges):
        room -= len(ids)
        if room < 0:
            break
        kept.insert(0, ids)
    return [*system, *kept]
