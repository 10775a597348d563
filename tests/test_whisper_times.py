"""Token times are those that `generate` gives, and where the checkpoint names no heads there are none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from small_pair import PlainWhisper, example_audio, write_whisper
from textpro.models.pair import load_full_whisper
from textpro.models.whisper_full import FullSettings, Transcribe
from textpro.models.whisper_times import knows_times, token_ends

HAPPY = example_audio("lost_keys_happy.wav")
HEADS = [[0, 1], [1, 0], [1, 1]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("whisper")
    write_whisper(place)
    return place


def test_ends_are_the_starts_of_the_next_tokens_by_generate(folder: Path) -> None:
    plain = PlainWhisper(folder)
    plain.model.generation_config.alignment_heads = HEADS
    speech = load_full_whisper(folder, FullSettings("en"))
    speech.model.generation_config.alignment_heads = HEADS
    tokens = speech.transcribe(Transcribe(object(), HAPPY)).tokens
    inputs = plain.extractor(HAPPY, sampling_rate=16_000, return_tensors="pt", return_attention_mask=True)
    out = plain.model.generate(
        inputs.input_features, attention_mask=inputs.attention_mask, language="en", task="transcribe", do_sample=False,
        return_token_timestamps=True, max_new_tokens=speech.token_limit(len(HAPPY)), force_unique_generate_call=True,
    )  # fmt: skip
    ids = out["sequences"][0].tolist()
    prompt = ids[: len(ids) - len(tokens) - 1]
    assert tuple(ids[len(prompt) : -1]) == tokens and len(tokens) > 5, "it ended by itself"
    features = plain.extractor(HAPPY, sampling_rate=16_000, return_tensors="pt").input_features
    states = speech.model.model.encoder(features).last_hidden_state
    ends = token_ends(speech.model, states, prompt, tokens, len(HAPPY))
    starts = out["token_timestamps"][0].double().numpy()[len(prompt) :]
    expected = np.round(starts[1 : len(tokens)] * 16_000)
    np.testing.assert_allclose(ends[:-1], expected, atol=321)
    assert ends[-1] == len(HAPPY) and (np.diff(ends) >= 0).all()
    assert speech.model.config._attn_implementation != "eager"
    assert speech.transcribe(Transcribe(object(), HAPPY)).tokens == tokens


def test_a_checkpoint_without_heads_has_no_times_and_no_tokens_have_none(folder: Path) -> None:
    speech = load_full_whisper(folder)
    assert not knows_times(speech.model)
    speech.model.generation_config.alignment_heads = HEADS
    assert knows_times(speech.model)
    assert token_ends(speech.model, torch.zeros(1, 500, 32), (1,), (), 16_000).shape == (0,)
