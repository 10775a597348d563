"""The bundled model in a larger body computes what it does by itself: same scores, same answers, at the cost of that size."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from textpro.agent import events
from textpro.agent.runtime import Runtime
from textpro.engine import Append, Engine, Entry
from textpro.models import random_models
from textpro.models.backbone import ATTENTION_NAME
from textpro.models.checkpoint import Checkpoint
from textpro.models.errors import DeviceError, InputError
from textpro.models.named import model_files, open_model
from textpro.models.padded_models import BODIES, pad_checkpoint, pad_model

WIDE_HEADS = {"vocab_size": 1500, "hidden_size": 768, "intermediate_size": 1100, "num_hidden_layers": 7,
              "num_attention_heads": 6, "num_key_value_heads": 2}  # fmt: skip
"""Heads of 128 where the bundled model has 64, as the Qwen2.5 of 3B and more."""


@pytest.fixture(scope="module")
def tiny() -> Checkpoint:
    return open_model("tiny")


@pytest.fixture(scope="module")
def padded() -> Checkpoint:
    return open_model("padded:135m")


@torch.inference_mode()
def plain_logits(model: PreTrainedModel, ids: Tensor) -> Tensor:
    """By transformers' own attention."""
    model.set_attn_implementation("sdpa")
    try:
        logits: Tensor = model(ids).logits
        return logits
    finally:
        model.set_attn_implementation(ATTENTION_NAME)


def test_plain_transformers_find_the_bundled_scores_and_no_other_token(tiny: Checkpoint, padded: Checkpoint) -> None:
    ids = torch.randint(10, 1200, (2, 90), generator=torch.Generator().manual_seed(0))
    wide = pad_model(tiny.backbone.model, WIDE_HEADS, torch.device("cpu"), torch.float32, 0, lambda count: None)
    wanted = plain_logits(tiny.backbone.model, ids)
    for model in (padded.backbone.model, wide):
        found = plain_logits(model, ids)
        assert found.shape[-1] == model.config.vocab_size
        torch.testing.assert_close(found[..., : wanted.shape[-1]], wanted, atol=2e-3, rtol=0)
        assert float(found[..., wanted.shape[-1] :].max()) < -100


def test_it_has_the_sizes_of_its_name(padded: Checkpoint) -> None:
    parameters = sum(one.numel() for one in padded.backbone.model.parameters())
    assert 134e6 < parameters - padded.backbone.embedding.numel() < 136e6  # the output layer is a matrix of its own
    assert (padded.backbone.layers, padded.backbone.hidden_size, padded.config["name"]) == (30, 576, "padded:135m")


def test_prosody_reaches_its_context_as_it_reaches_the_bundled_one(tiny: Checkpoint, padded: Checkpoint) -> None:
    vectors = np.random.default_rng(0).standard_normal((4, tiny.backbone.feature_dim or 0)).astype(np.float32)
    words = tiny.chat.words("i lost my keys")
    entries = (*map(Entry, tiny.chat.user_open()), *(Entry(None, one) for one in vectors), *map(Entry, words))
    asked = tuple(range(tiny.backbone.vocab_size))

    async def next_token(checkpoint: Checkpoint) -> dict[int, float]:
        async with Engine(checkpoint.backbone, slots=1, slot_len=64) as engine:
            return dict((await engine.run(Append(engine.open_context(), entries, probe=asked))).probabilities)

    wanted, found = asyncio.run(next_token(tiny)), asyncio.run(next_token(padded))
    assert found == pytest.approx(wanted, abs=1e-4)
    assert sum(found.values()) == pytest.approx(1, abs=1e-4)


def test_a_conversation_with_it_is_the_same(tiny: Checkpoint, padded: Checkpoint) -> None:
    async def talk(checkpoint: Checkpoint) -> list[Any]:
        said = []
        async with Runtime(checkpoint, speak=False, slots=1, context_length=512) as runtime, runtime.session() as session:
            for text in ("my name is anna", "what is my name", "turn on the kitchen light"):
                await session.send_text(text)
                async for event in session:
                    match event:
                        case events.ToolCall():
                            said.append((event.name, event.arguments))
                        case events.ReplyDone():
                            said.append(event.text)
                            break
        return said

    found = asyncio.run(talk(padded))
    assert found == asyncio.run(talk(tiny))


def test_what_does_not_fit_is_refused(tiny: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="no padded model 'padded:1b': expected one of padded:135m"):
        open_model("padded:1b")
    with pytest.raises(InputError, match="has no files"):
        model_files("padded:135m")
    monkeypatch.setattr(random_models, "free_bytes", lambda device: 8_000_000_000)
    with pytest.raises(DeviceError, match=r"padded:7b has 30\.\d GB of weights .* another of padded:135m, .*padded:3b"):
        pad_checkpoint(tiny, "padded:7b", device="cpu")
    for change, message in (
        ({"hidden_size": 256, "num_attention_heads": 4}, "hidden_size 256 does not fit into one with 256"),
        ({"num_hidden_layers": 5}, "num_hidden_layers 6 does not fit"),
        ({"num_attention_heads": 8, "num_key_value_heads": 8}, "do not fit among heads"),
    ):
        body = {**BODIES["padded:135m"], **change}
        with pytest.raises(InputError, match=message):
            pad_model(tiny.backbone.model, body, torch.device("cpu"), torch.float32, 0, lambda count: None)
