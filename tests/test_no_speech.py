"""Where the recognizer thinks it possible enough that nothing was said, nothing is: alike for streaming and offline, and not
where somebody speaks."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conversation import spoken
from oracle import Offline
from random_speech import CONFIG, noise, offline, random_speech, recognizer
from textpro.evaluation.noises import babble
from textpro.models.named import model_folder
from textpro.models.speech_stream import StreamingWhisperPro
from textpro.models.whisperpro import WhisperPro
from textpro.streaming.guards import is_noise, word_starts
from textpro.streaming.recognizer import Recognizer

THRESHOLD = 20_840.0
"""By which random weights, sure of nothing, take some noises for speech and others not."""


@pytest.fixture(scope="module")
def doubting() -> StreamingWhisperPro:
    model = WhisperPro(replace(CONFIG, no_speech_threshold=THRESHOLD))
    model.load_state_dict(random_speech().model.state_dict())
    return StreamingWhisperPro(model)


async def stream(ears: Recognizer, samples: np.ndarray, step: int = 5_120) -> int:
    """How many tokens the ticks commit; the final pass follows."""
    committed = 0
    for at in range(0, len(samples), step):
        ears.feed(samples[at : at + step])
        committed += len((await ears.tick()).committed)
    await ears.finish()
    return committed


def test_the_rule_compares_saying_nothing_with_a_share_of_the_tokens():
    assert not is_noise(0.5, [0.9], None)
    assert is_noise(0.04, [1.0], 0.03) and not is_noise(0.02, [1.0], 0.03)
    assert is_noise(0.01, [0.5] * 20, 0.03) and not is_noise(0.01, [0.5], 0.03), "one unclear word is no noise"
    assert is_noise(0.01, [0.5] * 30, 0.03) == is_noise(0.01, [0.5] * 300, 0.03)
    assert is_noise(1.0, [0.0], 0.03) and not is_noise(0.0, [1.0], 0.03) and not is_noise(1.0, [], 0.03)


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 200), seconds=st.sampled_from([0.5, 1.0, 2.0]), step=st.sampled_from([2_000, 5_120, 9_999]))
def test_ticks_do_not_change_whether_anything_was_said(doubting, seed, seconds, step):
    samples, ears = noise(seed, round(seconds * 16_000)), recognizer(doubting)
    asyncio.run(stream(ears, samples, step))
    assert ears.log.tokens == offline(samples, speech=doubting)[0]


def test_the_random_weights_doubt_some_noises_and_not_all(doubting):
    said = [bool(offline(noise(seed, 16_000), speech=doubting)[0]) for seed in range(12)]
    assert 2 <= sum(said) <= 10


@pytest.fixture(scope="module")
def plain() -> Offline:
    return Offline(model_folder("tiny"))


def ears_of(plain: Offline) -> Recognizer:
    pieces = plain.tokenizer.convert_ids_to_tokens(list(range(len(plain.tokenizer))))
    return recognizer(StreamingWhisperPro(plain.speech), word_starts(pieces))


@pytest.mark.parametrize("seed", [1, 2])
def test_babble_gives_no_words_and_neither_do_plain_transformers(plain, seed):
    samples, ears = babble(6, seed), ears_of(plain)
    assert asyncio.run(stream(ears, samples)) == 0
    assert ears.log.tokens == plain.recognize(samples).tokens == ()


def test_what_somebody_says_is_committed_while_it_is_said(plain):
    samples, ears = spoken("what is twenty plus thirty please and what is the capital of france"), ears_of(plain)
    assert asyncio.run(stream(ears, samples)) > 5
    assert ears.log.tokens == plain.recognize(samples).tokens
