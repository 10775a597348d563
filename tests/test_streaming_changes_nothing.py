"""Promise 1 on the bundled model: streamed tokens, prosody vectors and replies equal the offline ones, by plain transformers."""

import asyncio
import os
import random
from pathlib import Path

import numpy as np
import pytest

from conversation import converse, spoken
from oracle import Offline
from textpro.agent.events import EagerTurnEnd, ReplyDone, TurnEnd, TurnStart
from textpro.agent.runtime import Runtime
from textpro.models.named import model_folder
from textpro.training.skills import sample_dialogue

MODEL = Path(os.environ.get("TEXTPRO_TEST_MODEL") or model_folder("tiny"))
UTTERANCES = 20


def single_questions(count: int) -> list[str]:
    """User words of one-turn dialogues without a tool call."""
    rng, found = random.Random(7), list[str]()
    while len(found) < count:
        turns = sample_dialogue(rng, "train").turns
        if len(turns) == 1 and turns[0].call is None:
            found.append(turns[0].user)
    return found


@pytest.fixture(scope="module")
def offline() -> Offline:
    return Offline(MODEL)


def test_streamed_tokens_vectors_and_replies_equal_the_offline_ones(offline, record_property):
    rng = random.Random(11)
    near_ties = turns = 0

    async def run() -> None:
        nonlocal near_ties, turns
        async with Runtime(MODEL, speak=False) as runtime:
            for index, text in enumerate(single_questions(UTTERANCES)):
                audio = spoken(text, seed=index)
                async with runtime.session() as session:
                    events = await converse(session, audio, lambda: rng.choice((16, 160, 320, 777, 5_000, 20_000)))
                    entries = session.entries
                start = next(event for event in events if isinstance(event, TurnStart))
                ends = [event for event in events if isinstance(event, TurnEnd)]
                if len(ends) != 1:
                    continue
                eager = [e for e in events if isinstance(e, EagerTurnEnd) and e.turn_id == ends[0].turn_id][-1]
                turns += 1
                turn = offline.recognize(audio[start.start_ms * 16 : eager.t_ms * 16])
                rows = entries[len(offline.chat.user_open()) :]
                streamed = rows[: len(turn.tokens) + -(-len(turn.tokens) // 5)]
                tokens = tuple(entry.token_id for entry in streamed if entry.vector is None)
                assert tokens == turn.tokens
                vectors = [entry.vector for entry in streamed if entry.vector is not None]
                assert len(vectors) == -(-len(tokens) // 5)
                for group, vector in enumerate(vectors):
                    expected = turn.vectors[5 * group : 5 * group + 5].mean(0)
                    assert np.abs(vector - expected).max() <= 1e-4
                reply, gap = offline.reply(turn, 160)
                done = next(event for event in events if isinstance(event, ReplyDone))
                if gap < 1e-3:
                    near_ties += 1
                else:
                    assert done.text == offline.chat.text(reply)

    asyncio.run(run())
    record_property("turns", turns)
    record_property("near_ties", near_ties)
    assert turns >= UTTERANCES * 0.9
    assert near_ties <= UTTERANCES * 0.1, "else the replies were hardly compared"
