"""Long speech is cut in a gap and stays one turn, equal to decoding each segment from scratch behind its prompt."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from random_speech import CONFIG, STARTS_WORD, noise, offline, recognizer
from textpro.engine import SpeechDone
from textpro.models.fusion import Fusion, turn_vectors, user_rows
from textpro.models.whisper_decoding import Transcribe
from textpro.models.whisper_full import Transcribed
from textpro.streaming.full_recognizer import FullRecognizer
from textpro.streaming.recognizer import Gap
from textpro.streaming.segments import LongTurn, quietest

WINDOW = CONFIG.max_frames * CONFIG.frame_samples


def long_turn(**options) -> LongTurn:
    return LongTurn(recognizer(**options), CONFIG.max_prompt, STARTS_WORD.__getitem__)


def check_against_offline(turn: LongTurn, samples: np.ndarray) -> None:
    """Each closed segment and the open one, by plain layers."""
    at, start, prompt = 0, 0, ()
    parts = turn.segment_vectors
    for segment, vectors in zip(turn.segments, parts, strict=False):
        start = segment.start_samples
        tokens, expected = offline(samples[start : segment.end_samples], segment.prompt)
        assert turn.log.tokens[at : at + segment.n_tokens] == tokens[: segment.n_tokens]
        if vectors:
            np.testing.assert_allclose(np.stack(vectors), expected[: segment.n_tokens], atol=1e-4)
        assert prompt == segment.prompt
        at += segment.n_tokens
        prompt = turn.log.tokens[:at][-CONFIG.max_prompt :]
        while prompt and not STARTS_WORD[prompt[0]] and any(STARTS_WORD[token] for token in prompt):
            prompt = prompt[1:]
    start = turn.open_start_samples
    tokens, expected = offline(samples[start:], prompt)
    assert turn.log.tokens[at:] == tokens
    if tokens:
        np.testing.assert_allclose(np.stack(parts[-1]), expected, atol=1e-4)


@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.explicit, Phase.generate])
@given(seed=st.integers(0, 50), seconds=st.integers(3, 7), plan=st.lists(st.sampled_from(["tick", "skip", "end"]), min_size=3))
def test_a_turn_of_several_windows_is_its_segments_decoded_from_scratch(seed, seconds, plan):
    samples = noise(seed, seconds * 16_000 + 77)
    turn, replayed, heard = long_turn(), [], 0

    def replay(change):
        if change.retracted_to is not None:
            assert change.retracted_to < len(replayed)
            del replayed[change.retracted_to :]
        replayed.extend(change.committed)
        assert tuple(replayed) == turn.log.commits

    async def play():
        nonlocal heard
        for index in range(len(samples) // 5_000 + 1):
            turn.feed(samples[heard : heard + 5_000])
            heard = min(heard + 5_000, len(samples))
            match plan[index % len(plan)]:
                case "tick":
                    replay(await turn.tick())
                case "end":
                    replay(await turn.finish())
                    replay(turn.resume())
        replay(await turn.finish())

    asyncio.run(play())
    assert turn.segments and turn.segments[-1].end_samples <= len(samples)
    assert all(segment.end_samples - segment.start_samples <= WINDOW for segment in turn.segments)
    check_against_offline(turn, samples)


def test_a_long_segment_is_closed_at_a_soft_end_and_nothing_is_taken_back():
    samples, turn = noise(1, WINDOW), long_turn()

    async def play():
        turn.feed(samples[: WINDOW * 5 // 8])
        await turn.finish()
        said = turn.log.commits
        turn.feed(samples[WINDOW * 5 // 8 : WINDOW * 6 // 8])
        change = turn.resume()
        assert (change.retracted_to, change.committed, turn.log.commits) == (None, (), said)
        await turn.finish()
        assert turn.log.commits[: len(said)] == said

    asyncio.run(play())
    (segment,) = turn.segments
    assert segment.end_samples == WINDOW * 5 // 8 and turn.open_start_samples == segment.end_samples - 1_600
    check_against_offline(turn, samples[: WINDOW * 6 // 8])
    turn.start()
    assert (turn.segments, turn.log.tokens, turn.block_ready) == ([], (), False)


@pytest.mark.parametrize(("pause_ms", "closed"), [(None, 1), (200, 1), (199, 0)])
def test_a_segment_is_closed_between_phrases_and_not_inside_a_word(pause_ms, closed):
    samples, turn = noise(1, WINDOW * 6 // 8), long_turn()

    async def play():
        turn.feed(samples[: WINDOW * 5 // 8])
        await turn.finish()
        turn.feed(samples[WINDOW * 5 // 8 :])
        turn.resume(None if pause_ms is None else 16 * pause_ms)
        await turn.finish()

    asyncio.run(play())
    assert len(turn.segments) == closed
    check_against_offline(turn, samples)


def test_memory_stays_flat_however_long_the_turn():
    turn = long_turn()

    async def play():
        for second in range(12):
            turn.feed(noise(second, 16_000))
            await turn.tick()
            assert sum(len(piece) for piece in turn._audio) <= WINDOW
            assert turn.recognizer.stream.frames <= CONFIG.max_frames

    asyncio.run(play())
    assert len(turn.segments) >= 12 * 16_000 // WINDOW


class Script:
    """A full recognizer's engine that hears one word in each second of sound."""

    def __init__(self) -> None:
        self.items: list[Transcribe] = []

    async def __call__(self, item: Transcribe) -> SpeechDone:
        self.items.append(item)
        tokens = tuple(round(float(value)) for value in item.samples[8_000::16_000])
        return SpeechDone(Transcribed(tokens, np.full((len(tokens), 2), tokens[-1] if tokens else 0, np.float32)), 0.0)


def words_with_pauses(n: int) -> np.ndarray:
    """`n` seconds, each its number as a constant sound, with 100 ms of silence at its end."""
    sound = np.repeat(np.arange(1, n + 1, dtype=np.float32), 16_000)
    sound[np.arange(len(sound)) % 16_000 >= 14_400] = 0
    return sound


def test_a_full_recognizer_commits_what_was_said_before_the_cut_and_goes_on_with_a_prompt():
    script, samples = Script(), words_with_pauses(70)
    turn = LongTurn(FullRecognizer(script, 480_000, prosody=True), 3, lambda token: True)

    async def play():
        for at in range(0, len(samples), 8_000):
            turn.feed(samples[at : at + 8_000])
            if turn.block_ready and at % 24_000:
                await turn.tick()
        return await turn.finish()

    asyncio.run(play())
    assert turn.log.tokens == tuple(range(1, 71)), "no word is lost or doubled at a cut"
    assert len(turn.segments) == 2 and turn.log.end_samples == len(samples)
    assert all(len(item.samples) <= 480_000 for item in script.items)

    last = sum(segment.n_tokens for segment in turn.segments)
    assert script.items[-1].prompt == turn.log.tokens[last - 3 : last]


def test_a_turn_that_was_never_ticked_is_cut_at_its_end():
    script, samples = Script(), words_with_pauses(70)
    turn = LongTurn(FullRecognizer(script, 480_000, prosody=True), 3, lambda token: True)
    for at in range(0, len(samples), 8_000):
        turn.feed(samples[at : at + 8_000])
    asyncio.run(turn.finish())
    assert turn.log.tokens == tuple(range(1, 71)) and len(turn.segments) == 2


def test_global_fusion_reads_the_mean_of_the_segments_means():
    one, other = [np.full(2, value, np.float32) for value in (1, 3)], [np.full(2, 8, np.float32)]
    (row,) = [row for row in user_rows(range(3), np.stack(turn_vectors([one, other, []], Fusion("global"))), Fusion("global"))
              if row.vector is not None]  # fmt: skip
    np.testing.assert_array_equal(row.vector, [5, 5])
    assert len(turn_vectors([one, other, []], Fusion())) == 3


@pytest.mark.parametrize("pause", [(20_000, 24_000), (30_000, 33_000)])
def test_the_cut_lies_in_the_quietest_gap(pause):
    samples = np.ones(48_000, np.float32)
    samples[slice(*pause)] = 0.01
    gaps = [Gap(16_000, 28_000, 1), Gap(28_000, 40_000, 2)]
    gap, at = quietest(samples, gaps)
    assert gap.n_tokens == 1 + (pause[0] > 28_000) and pause[0] <= at < pause[1]
