"""Speech longer than the bundled recognizer's window stays one turn, and equals its segments decoded from scratch."""

from __future__ import annotations

import asyncio

import numpy as np

from conversation import spoken
from random_speech import offline, recognizer
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
