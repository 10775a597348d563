"""Speech longer than the bundled recognizer's window stays one turn, and equals its segments decoded from scratch. Three minutes
without a stop, half a minute of work, are `make long`'s."""

from __future__ import annotations

import asyncio
import os
import resource
import sys

import numpy as np
import pytest

from conversation import spoken
from random_speech import offline, recognizer
from textpro.agent.runtime import Runtime
from textpro.evaluation.local_agreement import OneShot
from textpro.evaluation.streaming_bench import decode_turns
from textpro.evaluation.streaming_run import Design, hear
from textpro.evaluation.streaming_trace import Pace, Spoken
from textpro.models.checkpoint import load_checkpoint
from textpro.models.named import model_folder
from textpro.streaming.guards import word_starts
from textpro.streaming.segments import LongTurn

SAID = (
    "what is twenty plus thirty please and what is the capital of france",
    "turn on the lights in the kitchen and set a timer for ten minutes",
    "i lost my keys today and i am very sad about it",
    "what is the weather like in london and is it going to rain",
    "please turn off the lights and tell me what is seven times eight",
)

CARRIED = 4


def test_a_long_turn_of_the_bundled_model_is_its_segments_behind_their_prompts():
    checkpoint = load_checkpoint(model_folder("tiny"))
    starts_word = word_starts(checkpoint.tokenizer.convert_ids_to_tokens(list(range(len(checkpoint.tokenizer)))))
    pieces = [spoken(text, seed=3, before_ms=40, after_ms=80) for text in SAID]
    samples = np.concatenate(pieces)
    turn = LongTurn(recognizer(checkpoint.speech, starts_word), CARRIED, starts_word.__getitem__)

    async def play():
        for at in range(0, len(samples), 5_120):
            turn.feed(samples[at : at + 5_120])
            await turn.tick()
        await turn.finish()

    asyncio.run(play())
    assert len(samples) > turn.recognizer.capacity_samples and turn.segments
    at, prompt = 0, ()
    for segment in turn.segments:
        tokens, vectors = offline(
            samples[segment.start_samples : segment.end_samples], segment.prompt, checkpoint.speech, starts_word
        )
        assert turn.log.tokens[at : at + segment.n_tokens] == tokens[: segment.n_tokens]
        np.testing.assert_allclose(np.stack(turn.log.vectors[at : at + segment.n_tokens]), vectors[: segment.n_tokens], atol=1e-4)
        at += segment.n_tokens
    prompt = turn.log.tokens[:at][-CARRIED:]
    while not starts_word[prompt[0]]:
        prompt = prompt[1:]
    tokens, _ = offline(samples[turn.open_start_samples :], prompt, checkpoint.speech, starts_word)
    assert turn.log.tokens[at:] == tokens
    assert tokens and len(turn.log) > at


MINUTE = 60 * 16_000
PAUSE = 1_280
"""80 ms between sentences: too short for a soft end."""
FLAT_MB = 40


def talk(n_samples: int) -> np.ndarray:
    """So much speech of several voices in a quiet room, without a stop."""
    pieces = [spoken(text, seed=index, before_ms=0, after_ms=0) for index, text in enumerate(SAID * 2)]
    voiced = [piece[: int(np.flatnonzero(np.abs(piece) > 0.01)[-1]) + PAUSE] for piece in pieces]
    once = np.concatenate(voiced)
    found = np.tile(once, -(-n_samples // len(once)))[:n_samples]
    return np.concatenate([found, np.zeros(MINUTE // 60, np.float32)])


def peak_mb() -> float:
    """The most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


@pytest.mark.skipif(os.environ.get("TEXTPRO_LONG") != "1", reason="half a minute of work: make long (TEXTPRO_LONG=1)")
def test_three_minutes_without_a_stop_are_one_turn_equal_to_offline_and_need_no_more_memory_than_one():
    samples = talk(3 * MINUTE)

    async def run() -> None:
        async with Runtime("tiny", speak=False) as runtime:
            for minutes in (1, 3):
                heard = samples[: minutes * MINUTE]
                before = peak_mb()
                trace = await hear(runtime, heard, Design("both"), Pace.UNAWARE)
                grown = peak_mb() - before
            (turn,) = trace.turns
            assert len(turn.parts) >= 3 * 60 / 16 and turn.end_samples - turn.start_samples > 2.9 * MINUTE
            assert max(part.end_samples - part.start_samples for part in turn.parts) <= OneShot(runtime.checkpoint).window_samples
            (words,) = await decode_turns(runtime, OneShot(runtime.checkpoint), Spoken(heard, (), (), ()), trace)
            assert turn.words == words and len(words) > 200
            assert grown <= FLAT_MB, f"three minutes needed {grown:.0f} MB more than one"

    asyncio.run(run())
