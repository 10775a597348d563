"""A full recognizer behind a prompt writes what `generate` does, keeps a language once it is sure, shows no half characters."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
import torch

from small_pair import PlainWhisper, example_audio, write_whisper
from textpro.engine import SpeechDone
from textpro.models.errors import CheckpointError
from textpro.models.pair import load_full_whisper
from textpro.models.whisper_decoding import Transcribe
from textpro.models.whisper_full import FullSettings, Transcribed
from textpro.streaming.full_recognizer import LOCK_SAMPLES, FullRecognizer

SAD, HAPPY = example_audio("lost_keys_sad.wav"), example_audio("lost_keys_happy.wav")


def test_tokens_and_vectors_behind_a_prompt_are_those_of_generate(tmp_path):
    write_whisper(tmp_path)
    plain, speech = PlainWhisper(tmp_path), load_full_whisper(tmp_path, FullSettings("en", 1))
    prompt = tuple(plain.tokenizer.encode("I lost my keys.", add_special_tokens=False))
    marker = plain.tokenizer.convert_tokens_to_ids("<|startofprev|>")
    plain.model.generation_config.prev_sot_token_id = marker
    for samples in (SAD, HAPPY):
        limit = speech.token_limit(len(samples), 1 + len(prompt))
        expected, states = plain.generate(
            samples, limit, 1, language="en", task="transcribe", prompt_ids=torch.tensor([marker, *prompt])
        )
        (found,) = speech.run([Transcribe(object(), samples, True, prompt)])
        assert isinstance(found, Transcribed) and list(found.tokens) == expected and expected
        np.testing.assert_allclose(found.vectors, states, atol=1e-4)
        (without,) = speech.run([Transcribe(object(), samples, True)])
        assert without.vectors.shape != found.vectors.shape or np.abs(without.vectors - found.vectors).max() > 1e-3


def test_a_language_is_wanted_by_name_or_found(tmp_path):
    write_whisper(tmp_path)
    speech = load_full_whisper(tmp_path)
    english, german = speech.language_id("English"), speech.language_id("de")
    for wanted in (english, german):
        (found,) = speech.run([Transcribe(object(), SAD, language=wanted)])
        (named,) = load_full_whisper(tmp_path, FullSettings("en" if wanted == english else "de")).run([Transcribe(1, SAD)])
        assert found.tokens == named.tokens and found.language == wanted == named.language
    (found,) = speech.run([Transcribe(object(), SAD)])
    assert found.language in (english, german) and 0.5 <= found.language_probability <= 1
    with pytest.raises(CheckpointError, match="does not know the language 'xx'"):
        speech.language_id("xx")


class Script:
    """Answers with one token in the language it thinks it hears, so surely."""

    def __init__(self, language: int, probability: float) -> None:
        self.language, self.probability = language, probability
        self.wanted: list[int | None] = []

    async def __call__(self, item: Transcribe) -> SpeechDone:
        self.wanted.append(item.language)
        return SpeechDone(Transcribed((1,), np.ones((1, 0), np.float32), self.language, self.probability), 0.0)


@pytest.mark.parametrize(
    ("probability", "n_samples", "kept"), [(0.9, LOCK_SAMPLES, 7), (0.7, LOCK_SAMPLES, None), (0.9, LOCK_SAMPLES - 1, None)]
)
def test_a_language_that_was_surely_heard_is_kept_from_the_next_turn_on(probability, n_samples, kept):
    script = Script(7, probability)
    turn = FullRecognizer(script, 480_000, prosody=False)

    async def play():
        for _ in range(2):
            turn.feed(np.zeros(n_samples, np.float32))
            await turn.tick()
            await turn.finish()
            turn.resume()
            await turn.finish()
            turn.start()

    asyncio.run(play())
    assert script.wanted == [None] * 3 + [kept] * 3, "within a turn nothing changes"
    fixed = FullRecognizer(script, 480_000, prosody=False, language=9)
    asyncio.run(fixed.tick())
    assert script.wanted[-1] == 9


def test_half_a_character_is_held_back():
    async def script(item: Transcribe) -> SpeechDone:
        tokens = (0xE4, 0xBD, 0xA0, 0xE5) if len(item.samples) < 16_000 else (0xE4, 0xBD, 0xA0, 0xE5, 0xA5, 0xBD)
        return SpeechDone(Transcribed(tokens, np.ones((len(tokens), 2), np.float32)), 0.0)

    turn = FullRecognizer(script, 480_000, prosody=True, text=lambda tokens: bytes(tokens).decode("utf-8", "replace"))

    async def play():
        turn.feed(np.zeros(8_000, np.float32))
        assert (await turn.tick()).tentative == (0xE4, 0xBD, 0xA0)
        assert len((await turn.finish()).committed) == 3
        turn.resume()
        turn.feed(np.zeros(8_000, np.float32))
        assert len((await turn.finish()).committed) == 6

    asyncio.run(play())
