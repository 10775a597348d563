"""Where the recognizer thinks it possible enough that nothing was said, nothing is: alike for streaming and offline, and not
where somebody speaks."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conversation import spoken
from oracle import Offline
from random_speech import CONFIG, noise, random_speech, recognizer
from textpro.evaluation.noises import babble
from textpro.models.named import model_folder
from textpro.models.speech_stream import Encode, StreamingWhisperPro, Verify
from textpro.models.whisperpro import WhisperPro
from textpro.streaming.guards import word_starts
from textpro.streaming.mel import MelStream
from textpro.streaming.recognizer import Recognizer


def no_speech(speech: StreamingWhisperPro, samples: np.ndarray) -> float:
    mel, stream = MelStream(CONFIG.n_mels), speech.open_stream()
    with torch.inference_mode():
        speech.encode(Encode(stream, mel.push(samples), mel.tail()))
        return speech.verify(Verify(stream, (CONFIG.start_of_transcript,), ())).no_speech


@pytest.fixture(scope="module")
def doubting() -> StreamingWhisperPro:
    """Random weights that take about half of all noises for no speech."""
    usual = np.median([no_speech(random_speech(), noise(seed, 16_000)) for seed in range(9)])
    model = WhisperPro(replace(CONFIG, no_speech_threshold=float(usual)))
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


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 200), seconds=st.sampled_from([0.5, 1.0, 2.0]), step=st.sampled_from([2_000, 5_120, 9_999]))
def test_ticks_do_not_change_whether_anything_was_said(doubting, seed, seconds, step):
    samples = noise(seed, round(seconds * 16_000))
    streamed, once, undoubting = recognizer(doubting), recognizer(doubting), recognizer()
    asyncio.run(stream(streamed, samples, step))
    asyncio.run(stream(once, samples, len(samples)))
    asyncio.run(stream(undoubting, samples, len(samples)))
    nothing = no_speech(doubting, samples) >= doubting.config.no_speech_threshold
    assert streamed.log.tokens == once.log.tokens == (() if nothing else undoubting.log.tokens)


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
