"""Sessions share passes: what a stream or a context gives is the same alone and among fifteen others, as plain transformers
has it, and what fails in a common pass fails alone."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from engine_runs import BACKBONE, ORACLE, Encode, ScriptedSpeech, assert_probabilities, entered, read, with_engine
from random_speech import CONFIG, STARTS_WORD, noise, offline, random_speech
from textpro.engine import Append, Decode, Engine
from textpro.engine import step as engine_step
from textpro.models import backbone, speech_stream
from textpro.models.errors import CapacityError, EngineError
from textpro.models.speech_stream import Encode as EncodeMel
from textpro.models.speech_stream import Extend, Extended, Prosody, SpeechStream, Verified, Verify
from textpro.streaming.recognizer import Recognizer
from tiny_backbone import make_entries

SESSIONS = 16


def mel_of(frames: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((frames, CONFIG.n_mels)).astype(np.float32)


def work_of(stream: SpeechStream, seed: int) -> list[object]:
    """A turn's work, of a length of its own."""
    frames = 10 + 5 * seed
    prefix, tokens = (CONFIG.start_of_transcript,), tuple(5 + (seed + index) % 30 for index in range(1 + seed % 5))
    return [
        EncodeMel(stream, mel_of(frames, seed)),
        EncodeMel(stream, mel_of(7, 50 + seed)[: 7 - seed % 3], None if seed % 2 else mel_of(3, 90 + seed)),
        Verify(stream, prefix, tokens),
        Extend(stream, 1, 5 + seed, 1 + seed % 4),
        Prosody(stream, 0, prefix, (4,)),
        Prosody(stream, 1, tokens, tuple(4 + 4 * (index // 2) for index in range(len(tokens)))),
    ]


def assert_same(one: object, other: object) -> None:
    """Verified or Extended: the same tokens, with probabilities but for rounding."""
    numbers = {"probabilities": (), "no_speech": 0.0}
    if isinstance(one, Verified | Extended) and isinstance(other, Verified | Extended):
        np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-5)
        changed = [{name: value for name, value in numbers.items() if hasattr(each, name)} for each in (one, other)]
        one, other = replace(one, **changed[0]), replace(other, **changed[1])
    assert one == other


@torch.inference_mode()
def test_streams_worked_on_together_come_out_as_each_alone() -> None:
    speech = random_speech()
    together, alone = [[speech.open_stream() for _ in range(SESSIONS)] for _ in range(2)]
    plans = [work_of(stream, seed) for seed, stream in enumerate(together)]
    for step, row in enumerate(zip(*plans, strict=True)):
        shared = speech.run(row)
        for seed, (stream, result) in enumerate(zip(alone, shared, strict=True)):
            (expected,) = speech.run([work_of(stream, seed)[step]])
            assert not isinstance(result, Exception), result
            if isinstance(expected, np.ndarray):
                np.testing.assert_allclose(result, expected, atol=1e-5)
            else:
                assert_same(result, expected)
    for one, other in zip(together, alone, strict=True):
        assert (one.frames, one.final_frames, one.path()) == (other.frames, other.final_frames, other.path())
        torch.testing.assert_close(one.cross_keys[:, :, : one.frames], other.cross_keys[:, :, : one.frames], atol=1e-5, rtol=0)


@torch.inference_mode()
def test_kinds_of_work_may_be_mixed_in_one_call() -> None:
    speech = random_speech()
    streams = [speech.open_stream() for _ in range(4)]
    for seed, stream in enumerate(streams):
        speech.run([EncodeMel(stream, mel_of(40, seed))])
    prefix = (CONFIG.start_of_transcript,)
    items = [
        Verify(streams[0], prefix, (7, 8)), EncodeMel(streams[1], mel_of(8, 9)), "noise", Extend(streams[2], 1, 6, 2),
        Prosody(streams[3], 0, prefix, (4,)),
    ]  # fmt: skip
    verified, frames, wrong, extended, vectors = speech.run(items)
    assert frames == 24
    assert_same(verified, speech.verify(items[0]))
    assert_same(extended, speech.extend(items[3]))
    assert isinstance(wrong, EngineError) and "str is no work" in str(wrong)
    assert vectors.shape == (1, CONFIG.d_model)


@torch.inference_mode()
def test_work_that_cannot_be_done_fails_alone() -> None:
    speech = random_speech()
    full, early, well = (speech.open_stream() for _ in range(3))
    results = speech.run([EncodeMel(full, mel_of(2 * CONFIG.max_frames + 2, 1)), EncodeMel(well, mel_of(16, 2))])
    assert isinstance(results[0], CapacityError) and results[1] == 8
    prefix = (CONFIG.start_of_transcript,)
    results = speech.run([Prosody(early, 5, (6,), (4,)), Prosody(well, 0, prefix, (4,))])
    assert isinstance(results[0], EngineError) and results[1].shape == (1, CONFIG.d_model)


@torch.inference_mode()
def test_a_pass_that_fails_for_one_stream_is_done_for_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    speech = random_speech()
    streams = [speech.open_stream() for _ in range(3)]
    plain = speech_stream.encode_pass

    def encode_pass(model, ends) -> None:
        if any(stream is streams[1] and end > 8 for stream, end in ends):
            raise torch.OutOfMemoryError("no memory for these frames")
        plain(model, ends)

    monkeypatch.setattr(speech_stream, "encode_pass", encode_pass)
    results = speech.run([EncodeMel(stream, mel_of(40, seed)) for seed, stream in enumerate(streams)])
    assert results[0] == results[2] == 20 and isinstance(results[1], torch.OutOfMemoryError)
    other = speech.open_stream()
    speech.run([EncodeMel(other, mel_of(40, 2))])
    torch.testing.assert_close(streams[2].cross_keys[:, :, :20], other.cross_keys[:, :, :20], atol=1e-5, rtol=0)


def test_sixteen_turns_at_once_are_recognized_as_offline() -> None:
    speech = random_speech()
    turns = [noise(seed, 9_600 + 700 * seed) for seed in range(SESSIONS)]

    async def body(engine: Engine) -> None:
        async def run(item: object) -> object:
            return (await engine.run(item)).value

        async def recognize(samples: np.ndarray) -> Recognizer:
            ears = Recognizer(run, CONFIG, STARTS_WORD)
            for piece in np.split(samples, range(5_120, len(samples), 5_120)):
                ears.feed(piece)
                if ears.block_ready:
                    await ears.tick()
            await ears.finish()
            return ears

        heard = await asyncio.gather(*map(recognize, turns))
        stats = engine.stats()
        assert stats.speech_batches * 4 < stats.speech_items
        for samples, ears in zip(turns, heard, strict=True):
            tokens, vectors = offline(samples)
            assert ears.log.tokens == tokens
            np.testing.assert_allclose(np.array(ears.log.vectors).reshape(vectors.shape), vectors, atol=1e-4)

    with_engine(body, speech=speech)


@pytest.mark.parametrize("row_by_row", [False, True])
def test_a_greedy_reply_is_the_same_alone_and_among_fifteen_others(row_by_row: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if row_by_row:  # as on a GPU
        monkeypatch.setattr(engine_step, "takes_triton", lambda tensor: True)

    async def body(engine: Engine) -> None:
        contexts = [engine.open_context() for _ in range(SESSIONS)]
        prompts = [make_entries(8 + 2 * seed, seed=seed) for seed in range(SESSIONS)]

        async def answer(index: int) -> list[int]:
            await engine.run(Append(contexts[index], prompts[index]))
            return [token.id for token in await read(engine, Decode(contexts[index], 16))]

        replies = await asyncio.gather(*map(answer, range(SESSIONS)))
        assert replies == [ORACLE.greedy(prompt, 16) for prompt in prompts]
        stats = engine.stats()
        assert stats.rows > 4 * stats.steps

    with_engine(body, slots=SESSIONS)


def test_the_prosody_of_all_appends_of_a_step_is_fused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    plain = backbone.fuse_prosody

    def fuse_prosody(features: torch.Tensor, *rest: object) -> torch.Tensor:
        calls.append(len(features))
        return plain(features, *rest)

    monkeypatch.setattr(backbone, "fuse_prosody", fuse_prosody)
    speech = ScriptedSpeech()
    speech.gate.clear()

    async def body(engine: Engine) -> None:
        waiting = asyncio.create_task(engine.run(Encode("a", 1)))
        await entered(speech)
        contexts = [engine.open_context() for _ in range(5)]
        prompts = [make_entries(8, seed=seed) for seed in range(5)]
        appends = [engine.run(Append(*pair, tuple(range(97)))) for pair in zip(contexts, prompts, strict=True)]
        appended = asyncio.gather(*appends)
        await asyncio.sleep(0)
        speech.gate.set()
        for answer, prompt in zip(await appended, prompts, strict=True):
            assert_probabilities(answer.probabilities, prompt)
        await waiting
        assert calls == [10]

    with_engine(body, speech=speech, slots=5)


def test_a_kernel_that_fails_ends_the_work_of_its_session_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    poison = make_entries(1, seed=77)[0]
    plain = backbone.fuse_prosody

    def fuse_prosody(features: torch.Tensor, *rest: object) -> torch.Tensor:
        if any(np.array_equal(row, poison.vector) for row in features.numpy()):
            raise RuntimeError("Triton error: invalid argument")
        return plain(features, *rest)

    monkeypatch.setattr(backbone, "fuse_prosody", fuse_prosody)

    async def body(engine: Engine) -> None:
        prompts: list[Sequence] = [(*make_entries(5), poison), make_entries(9, seed=1), make_entries(7, seed=2)]
        appends = [engine.run(Append(engine.open_context(), tuple(prompt), tuple(range(97)))) for prompt in prompts]
        bad, *good = await asyncio.gather(*appends, return_exceptions=True)
        assert isinstance(bad, EngineError) and "invalid argument" in str(bad)
        for answer, prompt in zip(good, prompts[1:], strict=True):
            assert_probabilities(answer.probabilities, prompt)

    assert BACKBONE.projector is not None
    with_engine(body)
