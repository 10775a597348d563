"""Ticks change nothing: for any pieces, skipped ticks, soft ends and resumes, the final pass is that from scratch."""

import asyncio

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conversation import spoken
from textpro.models.checkpoint import load_checkpoint
from textpro.models.named import model_folder
from textpro.models.speech_stream import StreamingWhisperPro
from textpro.models.whisperpro import WhisperPro, WhisperProConfig
from textpro.streaming.recognizer import Recognizer

CONFIG = WhisperProConfig(
    vocab_size=40, d_model=32, encoder_layers=2, decoder_layers=3, ffn_dim=48, block_frames=4, max_frames=64, max_tokens=30
)  # fmt: skip
STARTS_WORD = [index % 3 != 0 for index in range(40)]


@pytest.fixture(scope="module")
def speech() -> StreamingWhisperPro:
    torch.manual_seed(5)
    model = WhisperPro(CONFIG)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.15)
    with torch.no_grad():  # a CTC head that says blank now and then, so that words get times
        model.ctc.bias[CONFIG.pad] = 1.5
    return StreamingWhisperPro(model)


def recognizer(speech: StreamingWhisperPro, starts_word: list[bool] = STARTS_WORD) -> Recognizer:
    async def run(item):
        with torch.inference_mode():
            result = speech.run([item])[0]
        if isinstance(result, Exception):
            raise result
        return result

    return Recognizer(run, speech.config, starts_word)


def from_scratch(speech: StreamingWhisperPro, samples: np.ndarray) -> Recognizer:
    fresh = recognizer(speech)
    fresh.feed(samples)
    asyncio.run(fresh.finish())
    return fresh


def audio(seed: int, n: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(n) * np.repeat(rng.random(n // 1000 + 1), 1000)[:n]).astype(np.float32)


steps = st.lists(st.tuples(st.integers(1, 9000), st.sampled_from(["tick", "skip", "soft end"])), min_size=1, max_size=8)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 50), plan=steps)
def test_any_schedule_ends_with_the_tokens_and_vectors_of_decoding_once(speech, seed, plan):
    n = min(sum(size for size, _ in plan), (CONFIG.max_frames - 1) * CONFIG.frame_samples)
    samples = audio(seed, n)
    streamed, at, replayed = recognizer(speech), 0, []

    def replay(change):
        if change.retracted_to is not None:
            del replayed[change.retracted_to :]
        replayed.extend(commit.token for commit in change.committed)
        assert tuple(replayed) == streamed.log.tokens

    async def play():
        nonlocal at
        for size, what in plan:
            piece = samples[at : at + size]
            streamed.feed(piece)
            at += len(piece)
            if what == "tick":
                replay(await streamed.tick())
            elif what == "soft end":
                replay(await streamed.finish())
                once = from_scratch_async(samples[:at])
                assert streamed.log.tokens == (await once).log.tokens
                replay(streamed.resume())
        replay(await streamed.finish())

    async def from_scratch_async(part):
        fresh = recognizer(speech)
        fresh.feed(part)
        await fresh.finish()
        return fresh

    asyncio.run(play())
    once = from_scratch(speech, samples)
    assert streamed.log.tokens == once.log.tokens
    assert streamed.log.visible == once.log.visible
    if len(once.log):
        np.testing.assert_allclose(np.stack(streamed.log.vectors), np.stack(once.log.vectors), atol=1e-4)


def test_the_bundled_model_commits_whole_words_while_speech_goes_on_and_their_vectors_are_final():
    checkpoint = load_checkpoint(model_folder("tiny"))
    pieces = checkpoint.tokenizer.convert_ids_to_tokens(list(range(len(checkpoint.tokenizer))))
    starts_word = [piece.startswith("\u0120") for piece in pieces]
    samples = spoken("what is twenty plus thirty please and what is the capital of france")
    streamed = recognizer(checkpoint.speech, starts_word)
    committed: list[tuple[int, np.ndarray]] = []

    async def play():
        for at in range(0, len(samples), 5_120):
            streamed.feed(samples[at : at + 5_120])
            change = await streamed.tick()
            assert change.retracted_to is None
            committed.extend((commit.token, commit.vector) for commit in change.committed)
            if change.committed and change.tentative:
                assert starts_word[change.tentative[0]]
        return await streamed.finish()

    last = asyncio.run(play())
    assert len(committed) >= 5
    assert last.retracted_to is None
    for (token, vector), final_token, final in zip(committed, streamed.log.tokens, streamed.log.vectors, strict=False):
        assert token == final_token
        np.testing.assert_array_equal(vector, final)


def test_audio_shorter_than_one_frame_gives_no_tokens(speech):
    assert from_scratch(speech, np.zeros(0, np.float32)).log.tokens == ()
