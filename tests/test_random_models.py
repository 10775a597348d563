"""Models of real shapes without weights: their sizes, what they are made to say, and that none is begun that does not fit."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
import torch

from textpro.agent import events
from textpro.agent.runtime import Runtime
from textpro.models import random_models
from textpro.models.backbone import ATTENTION_NAME
from textpro.models.checkpoint import Checkpoint
from textpro.models.errors import DeviceError, InputError
from textpro.models.presets import PRESETS
from textpro.models.random_models import MODELS, REPLY, SAID, WORDS_PER_SECOND, needed_bytes, open_random
from textpro.models.whisper_decoding import Transcribe


@pytest.fixture(scope="module")
def mini() -> Checkpoint:
    return open_random("random:mini", device="cpu")


def noise(seconds: float) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(round(16_000 * seconds)).astype(np.float32) * np.float32(0.1)


@pytest.mark.parametrize(("name", "preset"), [("random:3b", "textpro-3b"), ("random:7b", "textpro-7b")])
def test_a_model_has_the_parameters_of_the_released_one_and_an_output_layer_of_its_own(name: str, preset: str) -> None:
    shapes = MODELS[name]
    untied = shapes.speech_vocab * shapes.d_model
    if name == "random:3b":  # whose own output layer is its embedding
        untied += shapes.backbone["vocab_size"] * shapes.backbone["hidden_size"]
    assert needed_bytes(name, torch.bfloat16, torch.bfloat16) == 2 * (PRESETS[preset].parameters + untied)


@pytest.mark.parametrize("seconds", [0.2, 1, 7])
def test_a_transcript_is_as_long_as_the_sound_asks_for(mini: Checkpoint, seconds: float) -> None:
    done = mini.speech.transcribe(Transcribe(object(), noise(seconds), prosody=True))
    count = max(1, round(WORDS_PER_SECOND * seconds))
    assert mini.speech_text(done.tokens).split() == SAID.split()[:count]
    assert done.vectors.shape == (count, mini.speech.feature_dim) and np.isfinite(done.vectors).all()


def test_the_end_of_the_turn_is_likely_behind_each_word_and_a_reply_is_the_fixed_one(mini: Checkpoint) -> None:
    async def ask() -> tuple[float, str]:
        async with Runtime(mini, speak=False, slots=1, context_length=512) as runtime, runtime.session() as session:
            await session.send_text("please tell me")
            p_end, text = 0.0, ""
            async for event in session:
                match event:
                    case events.TurnEnd():
                        p_end = event.p_end
                    case events.ReplyDone():
                        return p_end, event.text
        return p_end, text

    p_end, text = asyncio.run(ask())
    assert p_end > 0.5 and text.strip() == REPLY.strip()


def test_plain_transformers_give_the_same_reply(mini: Checkpoint) -> None:
    chat, model = mini.chat, mini.backbone.model
    ids = torch.tensor([[*chat.user_open(), *chat.words("in our town"), *chat.reply_open()]])
    model.set_attn_implementation("sdpa")
    try:
        with torch.inference_mode():
            out = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=100)
    finally:
        model.set_attn_implementation(ATTENTION_NAME)
    said = out[0, ids.shape[1] :].tolist()
    assert said[-1] == chat.turn_end_id and chat.text(said) == REPLY


def test_one_seed_gives_one_model_and_another_seed_another_one_that_says_the_same(mini: Checkpoint) -> None:
    again, other = open_random("random:mini", device="cpu"), open_random("random:mini", device="cpu", seed=1)
    layer = mini.backbone.model.model.layers[1].mlp.up_proj.weight
    assert torch.equal(layer, again.backbone.model.model.layers[1].mlp.up_proj.weight)
    assert not torch.equal(layer, other.backbone.model.model.layers[1].mlp.up_proj.weight)
    heard = [one.speech.transcribe(Transcribe(object(), noise(3))).tokens for one in (mini, other)]
    assert heard[0] == heard[1] and len(heard[0]) == 3 * WORDS_PER_SECOND


def test_in_bfloat16_it_says_the_same() -> None:
    half = open_random("random:mini", device="cpu", dtype=torch.bfloat16, speech_dtype=torch.bfloat16)
    heard = half.speech.transcribe(Transcribe(object(), noise(2)))
    assert half.speech_text(heard.tokens).split() == SAID.split()[: 2 * WORDS_PER_SECOND]


def test_a_model_that_does_not_fit_is_refused_before_anything_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random_models, "free_bytes", lambda device: 8_000_000_000)
    monkeypatch.setattr(random_models, "_fill", lambda *_: pytest.fail("it was begun"))
    with pytest.raises(DeviceError, match=r"random:7b has 37\.0 GB of weights .* 8\.0 GB of memory are free: .*random:3b"):
        open_random("random:7b", device="cpu")


def test_an_unknown_name_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(InputError, match=r"no random model 'random:70b': expected one of random:mini, random:0\.5b, random:3b"):
        open_random("random:70b")
