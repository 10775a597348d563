"""A full encoder's ticks are guesses that keep to a share of the time; only the final pass commits."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest

from textpro.engine import SpeechDone
from textpro.models.fusion import Fusion, enough_vectors, user_rows
from textpro.models.whisper_decoding import Transcribe
from textpro.models.whisper_full import Transcribed
from textpro.streaming.full_recognizer import FullRecognizer


class Script:
    """An engine that answers with the next tokens and takes `seconds` for each."""

    def __init__(self, hypotheses: Sequence[tuple[int, ...]], seconds: float = 0.01) -> None:
        self.hypotheses, self.seconds = list(hypotheses), seconds
        self.items: list[Transcribe] = []

    async def __call__(self, item: Transcribe) -> SpeechDone:
        self.items.append(item)
        tokens = self.hypotheses.pop(0)
        vectors = np.ones((len(tokens), 3 if item.prosody else 0), np.float32)
        return SpeechDone(Transcribed(tokens, vectors), self.seconds)


def sound(ms: int) -> np.ndarray:
    return np.arange(ms * 16, dtype=np.float32)


def test_ticks_commit_nothing_and_the_final_pass_commits_the_turn():
    script = Script([(1, 2), (1, 2, 3), (1, 2, 4)])
    turn = FullRecognizer(script, 160_000, prosody=True)

    async def play():
        for expected in ((1, 2), (1, 2, 3)):
            turn.feed(sound(320))
            change = await turn.tick()
            assert (change.committed, change.retracted_to, change.tentative) == ((), None, expected)
            assert len(turn.log) == 0
        assert turn.likely == (1, 2), "the tokens on which two ticks agree"
        return await turn.finish()

    change = asyncio.run(play())
    assert turn.log.tokens == turn.likely == (1, 2, 4) == tuple(commit.token for commit in change.committed)
    assert change.retracted_to is None and turn.log.vectors[0].shape == (3,)
    assert turn.log.end_samples == 640 * 16 and set(turn.log.visible) == {32}
    assert [item.prosody for item in script.items] == [False, False, True]
    np.testing.assert_array_equal(script.items[-1].samples, np.concatenate([sound(320), sound(320)]))


def test_speech_that_goes_on_takes_all_of_it_back():
    script = Script([(1, 2), (1, 2, 3)])
    turn = FullRecognizer(script, 160_000, prosody=False)

    async def play():
        turn.feed(sound(500))
        await turn.finish()
        change = turn.resume()
        assert (change.committed, change.retracted_to, change.tentative) == ((), 0, (1, 2))
        turn.feed(sound(500))
        return await turn.finish()

    change = asyncio.run(play())
    assert change.retracted_to is None and turn.log.tokens == (1, 2, 3)
    assert script.items[0].stream is script.items[1].stream
    turn.start()
    assert turn.log.tokens == () and not turn.block_ready


@pytest.mark.parametrize(("seconds", "wait_ms"), [(0.01, 320), (0.5, 1000)])
def test_a_tick_waits_for_new_audio_and_longer_the_more_the_last_one_cost(seconds, wait_ms):
    turn = FullRecognizer(Script([(1,)], seconds), 160_000, prosody=False)
    turn.feed(sound(319))
    assert not turn.block_ready
    turn.feed(sound(1))
    assert turn.block_ready
    asyncio.run(turn.tick())
    turn.feed(sound(wait_ms - 1))
    assert not turn.block_ready
    turn.feed(sound(1))
    assert turn.block_ready


def test_groups_beyond_the_recognizer_s_tokens_repeat_a_vector():
    fusion = Fusion(ratio=1, grouping="array_split")
    vectors = np.arange(2, dtype=np.float32)[:, None]
    enough = enough_vectors(vectors, 5, fusion)
    assert [float(row.vector[0]) for row in user_rows(range(5), enough, fusion) if row.vector is not None] == [0, 0, 0, 1, 1]
    for other in (Fusion("global"), Fusion(grouping="array_split"), Fusion(ratio=1)):
        assert enough_vectors(vectors, 5, other) is vectors
